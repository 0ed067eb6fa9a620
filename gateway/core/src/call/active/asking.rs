//! The SIP side adds video to a call: the page is asked by an offer of ours, if it said at sign-in that it takes such.
//!
//! 1. `ask_page_for_video`: the re-INVITE has video that the call has not; a port is asked for, and the re-INVITE waits.
//! 2. `offer_video`: the page has our offer (`call.offer`).
//! 3. `handle_video_answer`: its answer says whether there is video; the re-INVITE is answered with it or without. Without a word of
//!    the page it is answered without after [`PATIENCE`]: the SIP side waits no longer than its transaction does.
//!
//! Who sends is the page's decision: it may take the video and show none.

use super::*;
use crate::sdp::{Kind, Medium, OfferedMedium, WebSession};
use std::time::Duration;

/// How long the page may take: less than Timer B of the SIP side (RFC 3261 section 17.1.1.2).
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module.
pub(super) struct Asking {
    /// The SIP side's offer, settled.
    offer: SipSession,
    video: OfferedMedium,
    /// None until it is open.
    ports: Vec<MediaPorts>,
    /// `None` until the page was asked.
    until: Option<Instant>,
}

impl Asking {
    pub(super) fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Gives up what it holds.
    pub(super) fn close(self, hub: &mut Hub) {
        hub.close_ports(self.ports);
    }
}

impl Active {
    /// True if the offer of a re-INVITE has video for which the page is asked now.
    pub(super) fn ask_page_for_video(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        sdp: Option<&str>,
    ) -> bool {
        let busy = self.asking.is_some() || self.adding.is_some() || self.moving.is_some();
        let none = self.agreed.negotiated.video().is_none() && self.sip_leg.is_none();
        let Some(Ok(mut offer)) = sdp.filter(|_| none && !busy).map(SipSession::parse) else {
            return false;
        };
        let agreed = &self.agreed;
        let before = self.remotes[0].srtp.as_ref();
        settle_offer(hub, &agreed.local.trunk.srtp, &mut offer, before);
        let Some(video) = self.video_in(&offer) else {
            return false;
        };
        self.asking = Some(Asking {
            offer,
            video,
            ports: Vec::new(),
            until: None,
        });
        hub.open_ports(call.clone(), 1);
        true
    }

    /// Video of the offer that a page could take, if the audio can go on with it.
    fn video_in(&self, offer: &SipSession) -> Option<OfferedMedium> {
        let described = offer.described().ok()?;
        self.agreed.negotiated.reoffered_by_sip(&described).ok()?;
        let video = described.iter().find(|medium| medium.kind == Kind::Video)?;
        let policy = &self.agreed.local.trunk.codecs;
        OfferedMedium::added_by_sip(video, policy, &self.agreed.negotiated, &self.agreed.web).ok()
    }

    /// Our offer to the page.
    fn offer_with_video(&mut self, hub: &Hub) -> Option<String> {
        let asking = self.asking.as_ref()?;
        let candidates = hub.candidates();
        let agreed = &mut self.agreed;
        let local = agreed
            .local
            .web(hub, &candidates, Setup::Actpass, Some(&asking.offer));
        Some(sdp::web_reoffer(
            &agreed.web,
            &agreed.negotiated,
            &asking.video,
            &local,
        ))
    }

    /// Our answer to the re-INVITE, with the page's video if it has taken it.
    fn reanswer_asked(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        asking: Asking,
        video: Option<Medium>,
    ) -> Result<String, SdpError> {
        let Asking { offer, ports, .. } = asking;
        let described = offer.described()?;
        let mut negotiated = self.agreed.negotiated.reoffered_by_sip(&described)?;
        match video {
            Some(video) => {
                negotiated.media.push(video);
                self.agreed.ports.extend(ports);
            }
            None => hub.close_ports(ports),
        }
        let agreed = &mut self.agreed;
        let local = agreed.local.sip(&agreed.ports, Some(&agreed.web));
        let answer = sdp::sip_answer(&offer, &negotiated, &local);
        self.adopt(hub, call, negotiated, offer);
        self.agreed.settle();
        Ok(answer)
    }
}

impl Call {
    /// The port for the SIP side's video is open, or there is none.
    pub(super) fn offer_video(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        ports: Result<Vec<MediaPorts>, PortsError>,
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(asking) = &mut active.asking else {
            return;
        };
        let Ok(ports) = ports else {
            return self.answer_asked(hub, now, None);
        };
        for address in ports.iter().flat_map(|ports| [ports.rtp, ports.rtcp]) {
            hub.routes.port.insert(address, self.id.clone());
        }
        asking.ports = ports;
        asking.until = Some(now + PATIENCE);
        if let Some(offer) = active.offer_with_video(hub) {
            let early = false;
            self.tell(hub, |call| Event::Offer { call, early, offer });
        }
    }

    /// The page's answer to our offer within the call.
    pub(crate) fn handle_video_answer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        answer: &str,
    ) -> Result<(), Problem> {
        let wrong = self.wrong_state(
            "only a call that rings at the page, or whose offer waits for it, can be answered",
        );
        let State::Active(active) = &mut self.state else {
            return Err(wrong);
        };
        let Some(asking) = active
            .asking
            .as_ref()
            .filter(|asking| asking.until.is_some())
        else {
            return Err(wrong);
        };
        let bad = |error: SdpError| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        };
        let web = WebSession::parse(answer).map_err(bad)?;
        let described = web.described();
        let negotiated = active.agreed.negotiated.reoffered_by_web(&described);
        let negotiated = negotiated.map_err(bad)?;
        let video = described.iter().find(|medium| medium.kind == Kind::Video);
        let video = video.and_then(|video| asking.video.answered(video).ok());
        active.agreed.negotiated = negotiated;
        active.agreed.web = web;
        self.answer_asked(hub, now, video);
        self.pump(hub, now);
        Ok(())
    }

    /// The page has said nothing for so long.
    pub(super) fn asking_timeout(&mut self, hub: &mut Hub, now: Instant) {
        let State::Active(active) = &self.state else {
            return;
        };
        let due = active.asking.as_ref().and_then(Asking::due);
        if due.is_some_and(|due| due <= now) {
            self.answer_asked(hub, now, None);
        }
    }

    fn answer_asked(&mut self, hub: &mut Hub, now: Instant, video: Option<Medium>) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(asking) = active.asking.take() else {
            return;
        };
        let (sip, was_held) = (active.agreed.sip, active.remotes[0].held());
        let answer = active.reanswer_asked(hub, &self.id, asking, video);
        let answer = answer.map_err(|error| error.status());
        hub.stack.answer_reinvite(now, sip, answer);
        let held = active.remotes[0].held();
        if held != was_held {
            self.tell(hub, |call| Event::Held { call, held });
        }
    }
}
