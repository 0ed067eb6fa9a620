//! Changes of the page that the SIP side has to know of: a re-INVITE of ours tells it.
//!
//! Hold and video that is gone are told, and the page has its answer at once. Video that is added needs the SIP side's word:
//! 1. `ask_for_video`: ports are asked for, the page's request waits.
//! 2. `ports_for_video`: a re-INVITE goes out with both media.
//! 3. `handle_reinvite_answered`: the SIP side has it or not, and the page is answered with or without it.

use super::*;
use crate::sdp::{Direction, Kind, OfferedMedium};

/// See the module.
pub(super) struct Adding {
    /// The page's, which waits for its answer.
    pub(super) request: RequestId,
    offered: OfferedMedium,
    /// None until they are open; then one pair.
    pub(super) ports: Vec<MediaPorts>,
}

impl Active {
    /// New ICE credentials of the page restart ICE.
    pub(super) fn follow_ice(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        web: &WebSession,
    ) {
        if web.ice == self.agreed.web.ice {
            return;
        }
        hub.routes.ufrag.remove(&self.agreed.local.ice.ufrag);
        self.agreed.local.ice = new_ice(hub);
        hub.routes
            .ufrag
            .insert(self.agreed.local.ice.ufrag.clone(), call.clone());
        self.leg.restart_ice(now, &self.agreed.local.ice, &web.ice);
    }

    /// What the SIP side is told of the page: which media, and which way.
    pub(super) fn shape(&self) -> Vec<(Kind, Option<Direction>)> {
        let media = self.agreed.negotiated.media.iter();
        let direction = |kind| Some(self.agreed.web.medium(kind)?.direction);
        media
            .map(|medium| (medium.kind, direction(medium.kind)))
            .collect()
    }

    /// Our answer to the page's last offer.
    pub(super) fn answer_page(&mut self, hub: &Hub) -> String {
        // RFC 8842 section 5.5: the association stays, and with it the roles.
        let setup = match self.role {
            DtlsRole::Active => Setup::Active,
            DtlsRole::Passive => Setup::Passive,
        };
        let candidates = hub.candidates();
        let agreed = &mut self.agreed;
        let local = agreed
            .local
            .web(hub, &candidates, setup, Some(&agreed.peer));
        sdp::web_answer(&agreed.web, &agreed.negotiated, &local)
    }

    /// True if the page's last offer has video that the SIP side is asked for now.
    pub(super) fn ask_for_video(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        request: RequestId,
    ) -> bool {
        let ringing = self.agreed.ringing_until.is_some();
        if self.agreed.negotiated.video().is_some() || ringing || self.sip_leg.is_some() {
            return false;
        }
        let described = self.agreed.web.described();
        let offered = described
            .iter()
            .find(|medium| medium.kind == Kind::Video)
            .and_then(|video| OfferedMedium::by_web(video, &self.agreed.local.trunk.codecs).ok());
        let Some(offered) = offered else {
            return false;
        };
        self.adding = Some(Adding {
            request,
            offered,
            ports: Vec::new(),
        });
        hub.open_ports(call.clone(), 1);
        true
    }

    /// A re-INVITE with what the page's last offer left, and with the video that is being added.
    pub(super) fn tell_sip(&mut self, hub: &mut Hub, now: Instant, adding: Option<&Adding>) {
        let agreed = &mut self.agreed;
        let mut ports = agreed.ports.clone();
        ports.extend(adding.iter().flat_map(|adding| &adding.ports));
        let local = agreed.local.sip(&ports, Some(&agreed.web));
        let added = adding.map(|adding| &adding.offered);
        match sdp::sip_reoffer(&agreed.peer, &agreed.negotiated, added, &local) {
            Ok(offer) => hub.stack.reinvite(now, agreed.sip, offer),
            Err(error) => tracing::debug!(%error, "no offer for a re-INVITE"),
        }
    }

    /// The video that was asked for is agreed on, or not; the page gets its answer.
    fn added(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        adding: Adding,
        peer: Option<SipSession>,
    ) -> Result<(), SdpError> {
        let Adding {
            request,
            offered,
            ports,
        } = adding;
        let adopted = match peer {
            Some(peer) => self.adopt_added(hub, call, &offered, &ports, peer),
            None => Ok(false),
        };
        if !matches!(adopted, Ok(true)) {
            hub.close_ports(ports);
        }
        let answer = self.answer_page(hub);
        hub.reply(request, Ok(Reply::Answered(Answered { answer })));
        adopted.map(drop)
    }

    /// Takes the SIP side's answer in; true if it has the video.
    fn adopt_added(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        offered: &OfferedMedium,
        ports: &[MediaPorts],
        peer: SipSession,
    ) -> Result<bool, SdpError> {
        self.check_sip_leg(&peer)?;
        let described = peer.described()?;
        let mut negotiated = self.agreed.negotiated.answered_by_sip(&described)?;
        let video = described
            .iter()
            .find(|medium| medium.kind == Kind::Video)
            .and_then(|video| offered.answered(video).ok());
        let has_video = video.is_some();
        if let Some(video) = video {
            negotiated.media.push(video);
            self.agreed.ports.extend(ports);
        }
        self.adopt(hub, call, negotiated, peer);
        Ok(has_video)
    }
}

impl Call {
    /// The ports for added video are open, or there are none.
    pub(crate) fn ports_for_video(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        ports: Result<Vec<MediaPorts>, PortsError>,
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        if active.asking.is_some() {
            return self.offer_video(hub, now, ports);
        }
        match (active.adding.take(), ports) {
            (Some(mut adding), Ok(ports)) if adding.ports.is_empty() => {
                for address in ports.iter().flat_map(|ports| [ports.rtp, ports.rtcp]) {
                    hub.routes.port.insert(address, self.id.clone());
                }
                adding.ports = ports;
                active.tell_sip(hub, now, Some(&adding));
                active.adding = Some(adding);
            }
            (Some(adding), Err(_)) => {
                // Nothing was asked of the SIP side, so nothing can be wrong with its answer.
                let _unchanged = active.added(hub, &self.id, adding, None);
            }
            (adding, ports) => {
                active.adding = adding;
                hub.close_ports(ports.into_iter().flatten());
            }
        }
    }

    /// The SIP side has taken our re-INVITE.
    pub(crate) fn handle_reinvite_answered(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        sdp: Option<&str>,
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let was_held = active.remotes[0].held();
        let result = match active.adding.take_if(|adding| !adding.ports.is_empty()) {
            None => active.answered(hub, now, &self.id, sdp),
            Some(adding) => match sdp.map(SipSession::parse).transpose() {
                Ok(mut peer) => {
                    if let Some(peer) = &mut peer {
                        active.agreed.local.settle_answer(peer);
                    }
                    active.added(hub, &self.id, adding, peer)
                }
                Err(error) => active.added(hub, &self.id, adding, None).and(Err(error)),
            },
        };
        if let Err(error) = result {
            self.end(hub, now, By::Gateway, Some(488), &error.to_string());
            return;
        }
        let held = active.remotes[0].held();
        if held != was_held {
            self.tell(hub, |call| Event::Held { call, held });
        }
    }

    /// The SIP side has refused it: the session goes on as it was, without the video that was to be added.
    pub(crate) fn handle_reinvite_failed(&mut self, hub: &mut Hub, _now: Instant, status: u16) {
        tracing::debug!(status, "re-INVITE failed");
        if let State::Active(active) = &mut self.state
            && let Some(adding) = active.adding.take_if(|adding| !adding.ports.is_empty())
        {
            let _unchanged = active.added(hub, &self.id, adding, None);
        }
    }
}
