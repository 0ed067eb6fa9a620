//! Other phones that ring for a call without an offer of ours: each makes an offer in its early dialog, and each has to be answered.
//!
//! The page has answered the first one. What the others offer is answered by the same agreement, as a change of the first one's would be,
//! and kept until one of them picks up: then its description takes the place of the first one's. What cannot be answered so is refused, and
//! ends the call only if it is that phone which picks up.

use super::super::offerless::Made;
use super::*;

/// See the module.
pub(super) struct Forks {
    /// The one that the page hears.
    current: usize,
    others: Vec<Other>,
}

/// Answered, but not heard.
struct Other {
    fork: usize,
    /// Settled.
    offer: SipSession,
    negotiated: Negotiated,
}

impl Active {
    /// The page has answered the offer of that fork.
    pub(in crate::call) fn begin_forks(&mut self, fork: usize) {
        self.forks = Some(Box::new(Forks {
            current: fork,
            others: Vec::new(),
        }));
    }

    /// Our answer to an early offer of another fork.
    fn answer_fork(&mut self, hub: &mut Hub, made: &Made) -> Result<String, SdpError> {
        let agreed = &mut self.agreed;
        let mut offer = SipSession::parse(&made.sdp)?;
        settle_offer(hub, &agreed.local.trunk.srtp, &mut offer, None);
        if self.sip_leg.is_some() || offer.audio()?.dtls.is_some() {
            let detail = "of several phones with DTLS-SRTP one is heard";
            return Err(SdpError::not_acceptable(detail));
        }
        let negotiated = agreed.negotiated.reoffered_by_sip(&offer.described()?)?;
        let local = agreed.local.sip(&agreed.ports, Some(&agreed.web));
        let answer = sdp::sip_answer(&offer, &negotiated, &local);
        if let Some(forks) = &mut self.forks {
            forks.others.push(Other {
                fork: made.fork,
                offer,
                negotiated,
            });
        }
        Ok(answer)
    }

    /// That fork picked up: what it offered holds.
    pub(in crate::call) fn win(
        &mut self,
        hub: &mut Hub,
        call: &CallId,
        fork: usize,
    ) -> Result<(), SdpError> {
        let Some(forks) = self.forks.take() else {
            return Ok(());
        };
        if forks.current == fork {
            return Ok(());
        }
        let mut others = forks.others.into_iter();
        let Some(other) = others.find(|other| other.fork == fork) else {
            let detail = "who picked up made an offer that cannot be used";
            return Err(SdpError::not_acceptable(detail));
        };
        self.adopt(hub, call, other.negotiated, other.offer);
        Ok(())
    }
}

impl Call {
    /// An offer of another fork than the one that the page has answered.
    pub(in crate::call) fn handle_fork(&mut self, hub: &mut Hub, now: Instant, made: Made) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let (sip, fork) = (active.agreed.sip, made.fork);
        let answer = if made.early {
            let answer = active.answer_fork(hub, &made).ok();
            // To refuse it by a status would be the end of all of them.
            let refusal = || sdp::sip_refusal(&made.sdp, active.agreed.local.session_id);
            answer.or_else(refusal).ok_or(488)
        } else {
            let answer = active.reanswer(hub, now, &self.id, Some(&made.sdp));
            if answer.is_ok() {
                active.begin_forks(fork);
            }
            answer.map_err(|error| error.status())
        };
        hub.stack.answer_offer(now, sip, fork, answer);
    }
}
