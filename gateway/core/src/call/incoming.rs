//! The SIP side calls: our offer to the page, its answer, the 200.

use super::active::{Active, Agreed};
use super::delayed::{Promised, unprompted};
use super::{By, Call, Local, State, settle_offer};
use crate::api::{Event, Header, Origin, Problem};
use crate::bridge::Pair;
use crate::gateway::{Hub, MediaPorts};
use crate::sdp::{self, Setup, SipSession, WebSession};
use crate::sip;
use crate::webrtc::{DtlsRole, Leg};
use std::time::Instant;

/// A call from the SIP side, before its ports are open.
pub(crate) struct Offered {
    pub(crate) sip: sip::CallHandle,
    pub(crate) from_name: Option<String>,
    pub(crate) origin: Origin,
    /// What the page is shown of the INVITE's headers.
    pub(crate) headers: Vec<Header>,
    /// The caller's offer; without one the page gets ours.
    pub(crate) offer: Option<SipSession>,
}

/// The page has our offer.
pub(crate) struct Incoming {
    pub(crate) sip: sip::CallHandle,
    pub(crate) ports: Vec<MediaPorts>,
    pub(super) offer: Option<SipSession>,
    pub(super) offered: sdp::Offered,
    /// The page has answered a call that had no offer.
    pub(super) promised: Option<Promised>,
    /// Runs already: the page checks as soon as it has made its answer, which may overtake the answer itself.
    pub(crate) leg: Leg,
    pub(crate) local: Local,
    pub(crate) pairs: Vec<Pair>,
    give_up: Instant,
}

impl Incoming {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Some(
            self.leg
                .poll_timeout()
                .map_or(self.give_up, |leg| leg.min(self.give_up)),
        )
    }
}

impl Call {
    /// Ports are open: offer the call to the page.
    pub(crate) fn offer_to_page(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        offered: Offered,
        ports: Vec<MediaPorts>,
    ) {
        let mut local = Local::new(hub, &self.trunk);
        let mut offered = offered;
        if let Some(offer) = &mut offered.offer {
            settle_offer(hub, &self.trunk.srtp, offer, None);
            local.meet(hub, offer);
        }
        let candidates = hub.candidates();
        let policy = self.trunk.codecs.clone();
        let peer = offered.offer.as_ref();
        let web = local.web(hub, &candidates, Setup::Actpass, peer);
        let offer = match peer {
            Some(peer) => sdp::web_offer(peer, &policy, &web),
            None => sdp::web_offer_unprompted(&unprompted(policy), &web),
        };
        let (text, offered_audio) = match offer {
            Ok(offer) => offer,
            Err(error) => {
                hub.stack.reject(now, offered.sip, 488, &error.to_string());
                hub.routes.sip.remove(&offered.sip);
                hub.close_ports(ports);
                return;
            }
        };
        // No wait for the answer's a=setup: the role is set when it comes.
        let leg = hub.new_leg(now, &local.ice, DtlsRole::Active);
        hub.routes
            .ufrag
            .insert(local.ice.ufrag.clone(), self.id.clone());
        hub.stack.provisional(now, offered.sip, 180, None);
        let incoming = Incoming {
            sip: offered.sip,
            ports,
            offer: offered.offer,
            offered: offered_audio,
            promised: None,
            leg,
            local,
            pairs: Vec::new(),
            give_up: now + self.no_answer,
        };
        let without_offer = incoming.offer.is_none();
        self.state = State::Incoming(Box::new(incoming));
        let (from, data) = (self.peer.clone(), self.data.clone());
        self.tell(hub, |call| Event::Incoming {
            call,
            from,
            from_name: offered.from_name,
            origin: offered.origin,
            headers: offered.headers,
            data,
            without_offer,
            offer: text,
        });
    }

    /// The page takes the call.
    pub(crate) fn handle_answer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        answer: &str,
    ) -> Result<(), Problem> {
        let incoming = match &self.state {
            State::Incoming(incoming) if incoming.promised.is_none() => incoming,
            State::Offerless(_) => return self.answer_callee(hub, now, answer),
            _ => return self.handle_video_answer(hub, now, answer),
        };
        let web = WebSession::parse(answer).map_err(|error| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        })?;
        if incoming.offer.is_none() {
            return self.promise(hub, now, web);
        }
        let no_codec = |error: sdp::SdpError| {
            Problem::new(
                422,
                "no-common-codec",
                "Answer cannot be used",
                error.to_string(),
            )
        };
        let negotiated = sdp::negotiate(&incoming.offered, &web.described()).map_err(no_codec)?;
        let State::Incoming(incoming) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        let Incoming {
            sip,
            mut ports,
            offer: Some(peer),
            leg,
            mut local,
            pairs,
            ..
        } = *incoming
        else {
            return Ok(());
        };
        hub.close_ports(ports.drain(negotiated.media.len()..));
        let sip_answer = sdp::sip_answer(&peer, &negotiated, &local.sip(&ports, Some(&web)));
        hub.stack.accept(now, sip, sip_answer);
        let agreed = Agreed {
            sip,
            ports,
            web,
            peer,
            local,
            negotiated,
            ringing_until: None,
        };
        let active = Active::incoming(hub, now, agreed, leg, pairs).map_err(no_codec)?;
        self.state = State::Active(Box::new(active));
        self.pump(hub, now);
        Ok(())
    }

    pub(crate) fn incoming_timeout(&mut self, hub: &mut Hub, now: Instant) {
        let State::Incoming(incoming) = &mut self.state else {
            return;
        };
        if incoming.give_up <= now {
            self.end(hub, now, By::Gateway, Some(480), "no answer");
            return;
        }
        incoming.leg.handle_timeout(now);
        self.pump(hub, now);
    }
}

impl Origin {
    /// At most so many values of a header are shown.
    const MAX: usize = 16;

    /// Reads the headers of an INVITE.
    pub(crate) fn of(headers: &[(String, String)]) -> Self {
        let values = |name: &str| {
            let headers = headers.iter();
            let named = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
            let values = named.flat_map(|(_, value)| sip::message::split_list(value, ','));
            let values = values.filter(|value| !value.is_empty());
            values.take(Self::MAX).map(str::to_owned).collect()
        };
        Self {
            asserted_identity: values("P-Asserted-Identity"),
            diversion: values("Diversion"),
            history_info: values("History-Info"),
        }
    }
}
