//! A REFER of the SIP side, which its trunk's policy lets us follow: the other party gives its place to another one, and the page's media
//! goes over. Nothing changes for the browser.
//!
//! 1. `ask_page`, where the page decides; 20 s without its word are a no.
//! 2. `follow`: an INVITE to the new party, with the ports of this call, while the old party is still heard. The old one is told how
//!    it goes, and may hang up at once.
//! 3. The new party answers: its description takes the place of the old one. It does not: all stays, or the call ends if the
//!    old party has gone.

use super::super::refused;
use super::*;
use crate::sdp::Crypto;
use std::time::Duration;

/// How long the page may think: less than the SIP side waits for an answer to its REFER.
const ASK: Duration = Duration::from_secs(20);

/// Whom the SIP side wants to have called.
#[derive(Clone, Debug)]
pub(crate) struct Referral {
    pub(crate) to: String,
    /// Value of Replaces.
    pub(crate) replaces: Option<String>,
    pub(crate) referred_by: Option<String>,
}

/// See the module.
pub(super) enum Moving {
    /// The page is asked.
    Asked { referral: Referral, until: Instant },
    /// The new party is called.
    Calling(Box<Calling>),
}

pub(super) struct Calling {
    pub(super) sip: sip::CallHandle,
    peer: String,
    /// Keys of our offers before, in case it comes to nothing.
    crypto: Vec<Crypto>,
    /// The old party has hung up.
    alone: bool,
}

impl Moving {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::Asked { until, .. } => Some(*until),
            Self::Calling(_) => None,
        }
    }
}

impl Call {
    /// The SIP side's REFER: the page decides.
    pub(crate) fn ask_page(&mut self, hub: &mut Hub, now: Instant, referral: Referral) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let (to, referred_by) = (referral.to.clone(), referral.referred_by.clone());
        let attended = referral.replaces.is_some();
        let until = now + ASK;
        active.moving = Some(Moving::Asked { referral, until });
        self.tell(hub, |call| Event::Refer {
            call,
            to,
            referred_by,
            attended,
        });
    }

    /// What the page was asked, if it was.
    pub(crate) fn take_asked(&mut self) -> Result<Referral, Problem> {
        if let State::Active(active) = &mut self.state {
            match active.moving.take() {
                Some(Moving::Asked { referral, .. }) => return Ok(referral),
                other => active.moving = other,
            }
        }
        Err(self.wrong_state("the SIP side does not ask for anything"))
    }

    /// Answers the REFER with a refusal.
    pub(crate) fn refuse_referral(&mut self, hub: &mut Hub, now: Instant, status: u16) {
        if let State::Active(active) = &self.state {
            hub.stack.answer_refer(now, active.agreed.sip, Err(status));
        }
    }

    /// Calls the new party; `invite` is complete but for the offer.
    pub(crate) fn follow(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        mut invite: sip::Invite,
        peer: String,
    ) -> Result<(), Problem> {
        let busy = self.wrong_state("another change is under way");
        let State::Active(active) = &mut self.state else {
            return Err(busy);
        };
        if active.moving.is_some() || active.adding.is_some() {
            return Err(busy);
        }
        let agreed = &mut active.agreed;
        let crypto = agreed.local.sip_crypto.clone();
        agreed.local.renew_crypto(hub);
        let local = agreed.local.sip(&agreed.ports, Some(&agreed.web));
        let offer = sdp::sip_reoffer(&agreed.peer, &agreed.negotiated, None, &local);
        let offer = offer.map_err(|error| {
            Problem::new(422, "no-offer", "Offer cannot be made", error.to_string())
        });
        let placed = offer.and_then(|offer| {
            invite.sdp = Some(offer);
            let placed = hub.stack.invite(now, invite);
            placed.map_err(|error| refused(&error))
        });
        match placed {
            Ok(sip) => {
                hub.routes.sip.insert(sip, self.id.clone());
                hub.stack.answer_refer(now, agreed.sip, Ok(()));
                active.moving = Some(Moving::Calling(Box::new(Calling {
                    sip,
                    peer,
                    crypto,
                    alone: false,
                })));
                Ok(())
            }
            Err(problem) => {
                agreed.local.sip_crypto = crypto;
                Err(problem)
            }
        }
    }

    /// Takes what concerns the new party, and the end of the old one while the new one is called; gives all else back.
    pub(in crate::call) fn handle_moving(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        handle: sip::CallHandle,
        event: sip::Event,
    ) -> Option<sip::Event> {
        let State::Active(active) = &mut self.state else {
            return Some(event);
        };
        let Some(Moving::Calling(calling)) = &mut active.moving else {
            return Some(event);
        };
        let old = active.agreed.sip;
        if handle == old {
            if !matches!(event, sip::Event::Ended { .. }) {
                return Some(event);
            }
            calling.alone = true;
            hub.routes.sip.remove(&old);
            return None;
        }
        match event {
            sip::Event::Provisional { status, .. } => {
                let reason = sip::message::reason_phrase(status);
                hub.stack.refer_progress(now, old, status, &reason);
            }
            sip::Event::Answered { sdp, .. } => self.moved(hub, now, sdp.as_deref()),
            sip::Event::Rejected { status, reason, .. } => {
                self.not_moved(hub, now, status, &reason);
            }
            sip::Event::Ended { reason, .. } => self.not_moved(hub, now, 487, &reason),
            // The INVITE had an offer.
            sip::Event::Offered { call, fork, .. } => {
                hub.stack.answer_offer(now, call, fork, Err(488));
            }
            _ => {}
        }
        None
    }

    /// The new party picked up.
    fn moved(&mut self, hub: &mut Hub, now: Instant, sdp: Option<&str>) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(Moving::Calling(calling)) = active.moving.take() else {
            return;
        };
        let was_held = active.remotes[0].held();
        let answered = match sdp {
            Some(_) => active.answered(hub, now, &self.id, sdp),
            None => Err(SdpError::not_acceptable("an answer without a description")),
        };
        if let Err(error) = answered {
            let cause = sip::Cause::sip(488, &error.to_string());
            hub.stack.hang_up_for(now, calling.sip, cause);
            active.moving = Some(Moving::Calling(calling));
            return self.not_moved(hub, now, 488, "Not Acceptable Here");
        }
        let old = std::mem::replace(&mut active.agreed.sip, calling.sip);
        hub.routes.sip.remove(&old);
        hub.stack.refer_progress(now, old, 200, "OK");
        hub.stack.retire(now, old);
        self.peer = calling.peer;
        self.tell_party(hub, was_held, None);
    }

    /// The new party did not take the call.
    fn not_moved(&mut self, hub: &mut Hub, now: Instant, status: u16, reason: &str) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let Some(Moving::Calling(calling)) = active.moving.take() else {
            return;
        };
        hub.routes.sip.remove(&calling.sip);
        if calling.alone {
            return self.end(hub, now, By::Sip, Some(status), reason);
        }
        active.agreed.local.sip_crypto = calling.crypto;
        let old = active.agreed.sip;
        hub.stack.refer_progress(now, old, status, reason);
    }

    pub(super) fn tell_party(&self, hub: &mut Hub, was_held: bool, name: Option<String>) {
        let State::Active(active) = &self.state else {
            return;
        };
        let (peer, held) = (self.peer.clone(), active.remotes[0].held());
        self.tell(hub, |call| Event::Party { call, peer, name });
        if held != was_held {
            self.tell(hub, |call| Event::Held { call, held });
        }
    }
}

impl Active {
    /// The page has not decided: that is a no.
    pub(super) fn moving_timeout(&mut self, hub: &mut Hub, now: Instant) {
        if self
            .moving
            .as_ref()
            .and_then(Moving::due)
            .is_some_and(|due| due <= now)
        {
            self.moving = None;
            hub.stack.answer_refer(now, self.agreed.sip, Err(603));
        }
    }

    /// The call ends: so does the one to the new party.
    pub(super) fn stop_moving(&mut self, hub: &mut Hub, now: Instant) {
        if let Some(Moving::Calling(calling)) = self.moving.take() {
            hub.routes.sip.remove(&calling.sip);
            hub.stack.hang_up(now, calling.sip);
        }
    }
}
