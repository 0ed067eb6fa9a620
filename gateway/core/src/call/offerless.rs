//! The page calls without an offer (RFC 3261 section 13.2.1): the SIP side makes it, and the page answers.
//!
//! 1. INVITE without a description is out; 18x = ringing.
//! 2. `handle_offered`: the offer came in the 2xx, or in a reliable 18x (RFC 3262). The page gets ours (`call.offer`), its leg runs.
//! 3. `answer_callee`: its answer goes to the SIP side in the ACK, or in the PRACK, and the call is `Active`.
//!
//! The callee waits: a page that says nothing for [`PATIENCE`] loses the call. Whatever ends it, the stack answers what was offered by a
//! description that takes nothing, and hangs up.
//!
//! Of forks that offer early the page is shown the first one's offer; the others are answered by what it said to that (`active/forks.rs`).

use super::active::{Active, Agreed};
use super::{By, Call, Local, State, settle_offer};
use crate::api::{Event, Problem};
use crate::bridge::Pair;
use crate::gateway::{Hub, MediaPorts};
use crate::sdp::{self, SdpError, Setup, SipSession, WebSession};
use crate::sip;
use crate::webrtc::{DtlsRole, Leg};
use std::time::{Duration, Instant};

/// How long the page may take: less than the stack keeps the ACK back.
const PATIENCE: Duration = Duration::from_secs(15);
/// Forks whose offers wait until the page has answered the first one; more are refused.
const FORKS: usize = 16;

/// The INVITE without an offer is out.
pub(crate) struct Offerless {
    pub(crate) sip: sip::CallHandle,
    pub(crate) ports: Vec<MediaPorts>,
    pub(crate) local: Local,
    pub(crate) ringing: bool,
    /// When the call ends for want of an answer.
    pub(crate) give_up: Instant,
    /// The SIP side has offered.
    pub(crate) asked: Option<Box<Asked>>,
}

/// An offer of the SIP side.
pub(crate) struct Made {
    pub(super) fork: usize,
    /// In a provisional response: the callee has not picked up.
    pub(super) early: bool,
    pub(super) sdp: String,
}

/// The page has our offer.
pub(crate) struct Asked {
    made: Made,
    /// The SIP side's offer, settled.
    offer: SipSession,
    offered: sdp::Offered,
    /// Runs already: the page's checks may overtake its answer.
    pub(super) leg: Leg,
    pub(super) pairs: Vec<Pair>,
    until: Instant,
    /// What other forks offer.
    others: Vec<Made>,
}

impl Offerless {
    pub(crate) fn new(
        sip: sip::CallHandle,
        ports: Vec<MediaPorts>,
        local: Local,
        give_up: Instant,
    ) -> Self {
        Self {
            sip,
            ports,
            local,
            ringing: false,
            give_up,
            asked: None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Some(asked) = &self.asked else {
            return Some(self.give_up);
        };
        let leg = asked.leg.poll_timeout();
        [leg, Some(self.due(asked))].into_iter().flatten().min()
    }

    /// When the call ends unless the page answers: who has picked up waits for the page alone.
    fn due(&self, asked: &Asked) -> Instant {
        if asked.made.early {
            asked.until.min(self.give_up)
        } else {
            asked.until
        }
    }

    /// Whether the callee has picked up and waits for the page.
    pub(crate) fn is_picked_up(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| !asked.made.early)
    }

    /// Our offer to the page.
    fn ask(&mut self, hub: &mut Hub, now: Instant, made: Made) -> Result<String, SdpError> {
        let mut offer = SipSession::parse(&made.sdp)?;
        let trunk = self.local.trunk.clone();
        settle_offer(hub, &trunk.srtp, &mut offer, None);
        self.local.meet(hub, &offer);
        let candidates = hub.candidates();
        let web = self
            .local
            .web(hub, &candidates, Setup::Actpass, Some(&offer));
        let (text, offered) = sdp::web_offer(&offer, &trunk.codecs, &web)?;
        self.asked = Some(Box::new(Asked {
            made,
            offer,
            offered,
            // The role is set when the answer says which.
            leg: hub.new_leg(now, &self.local.ice, DtlsRole::Active),
            pairs: Vec::new(),
            until: now + PATIENCE,
            others: Vec::new(),
        }));
        Ok(text)
    }

    /// A further offer, while the page thinks about the first.
    fn keep(&mut self, made: Made) -> Result<(), Made> {
        let Some(asked) = &mut self.asked else {
            return Err(made);
        };
        if made.fork == asked.made.fork {
            // It picked up without waiting for the PRACK; its offer has to be the one that the page sees.
            let same = made.sdp == asked.made.sdp;
            asked.made.early &= made.early;
            return if same { Ok(()) } else { Err(made) };
        }
        if asked.others.len() == FORKS {
            return Err(made);
        }
        asked.others.push(made);
        Ok(())
    }
}

impl Call {
    /// The SIP side makes an offer of its own.
    pub(super) fn handle_offered(&mut self, hub: &mut Hub, now: Instant, made: Made) {
        let calling = match &mut self.state {
            State::Offerless(calling) => calling,
            State::Active(_) => return self.handle_fork(hub, now, made),
            State::Opening(_) | State::Calling(_) | State::Incoming(_) | State::Ended => return,
        };
        if calling.asked.is_some() {
            if let Err(made) = calling.keep(made) {
                let sip = calling.sip;
                hub.stack.answer_offer(now, sip, made.fork, Err(488));
            }
            return;
        }
        let early = made.early;
        match calling.ask(hub, now, made) {
            Ok(offer) => {
                let ufrag = calling.local.ice.ufrag.clone();
                hub.routes.ufrag.insert(ufrag, self.id.clone());
                self.tell(hub, |call| Event::Offer { call, early, offer });
            }
            Err(error) => self.end(hub, now, By::Gateway, Some(488), &error.to_string()),
        }
    }

    /// The page's answer to the callee's offer.
    pub(super) fn answer_callee(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        answer: &str,
    ) -> Result<(), Problem> {
        let wrong = self.wrong_state("the callee has not made an offer yet");
        let State::Offerless(calling) = &mut self.state else {
            return Err(wrong);
        };
        let Some(asked) = &calling.asked else {
            return Err(wrong);
        };
        let web = WebSession::parse(answer).map_err(|error| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        })?;
        let unusable = |error: SdpError| {
            let title = "Answer cannot be used";
            Problem::new(422, "no-common-codec", title, error.to_string())
        };
        let negotiated = sdp::negotiate(&asked.offered, &web.described()).map_err(unusable)?;
        let Some(asked) = calling.asked.take() else {
            return Err(wrong);
        };
        let Asked {
            made, leg, pairs, ..
        } = *asked;
        let (sip, fork) = (calling.sip, made.fork);
        let mut ports = std::mem::take(&mut calling.ports);
        hub.close_ports(ports.drain(negotiated.media.len()..));
        let ringing_until = made.early.then_some(calling.give_up);
        let State::Offerless(calling) = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(wrong);
        };
        let mut local = calling.local;
        let answer = sdp::sip_answer(&asked.offer, &negotiated, &local.sip(&ports, Some(&web)));
        let agreed = Agreed {
            sip,
            ports,
            web,
            peer: asked.offer,
            local,
            negotiated,
            ringing_until,
        };
        let mut active = Active::incoming(hub, now, agreed, leg, pairs).map_err(unusable)?;
        active.begin_forks(fork);
        self.state = State::Active(Box::new(active));
        hub.stack.answer_offer(now, sip, fork, Ok(answer));
        for made in asked.others {
            self.handle_offered(hub, now, made);
        }
        self.pump(hub, now);
        Ok(())
    }

    pub(super) fn offerless_timeout(&mut self, hub: &mut Hub, now: Instant) {
        let State::Offerless(calling) = &mut self.state else {
            return;
        };
        let (due, why) = match &calling.asked {
            None => (calling.give_up, "no answer"),
            Some(asked) => (calling.due(asked), "the page did not answer the offer"),
        };
        if due <= now {
            return self.end(hub, now, By::Gateway, Some(408), why);
        }
        if let Some(asked) = &mut calling.asked {
            asked.leg.handle_timeout(now);
        }
        self.pump(hub, now);
    }
}
