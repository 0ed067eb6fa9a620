//! Our INVITE without an offer: the peer offers in its 2xx, and the ACK answers (RFC 3261 section 13.2.1).
//!
//! The ACK waits for the call logic, at most half of the time for which the peer repeats its 2xx. An offer that is not taken gets an
//! answer all the same, one that rejects every medium: an ACK or PRACK without would leave the exchange open (RFC 3264 section 4).

use std::time::Instant;

use super::call::Call;
use super::event::{CallHandle, Event};
use super::exchange::Change;
use super::message::{Response, sdp_of};
use super::stack::Stack;
use super::timers::{CallTimer, Deadline};
use super::transaction::TransactionId;
use crate::sdp::sip_refusal;

impl Stack {
    /// Answers `Event::Offered` of that fork: SDP, or a status to end the call with; an offer in a response cannot be refused otherwise.
    pub fn answer_offer(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        answer: Result<String, u16>,
    ) {
        if self.answer_by_prack(now, call, fork, &answer) {
            return;
        }
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        // An early dialog whose offer was being answered may have lost meanwhile.
        if session.fork != fork || !matches!(session.exchange.change, Change::Offered { .. }) {
            return;
        }
        session.exchange.cancel_timers(&mut self.io);
        let Change::Offered {
            invite, initial, ..
        } = std::mem::take(&mut session.exchange.change)
        else {
            return;
        };
        let dialog = session.dialog.clone();
        match answer {
            Ok(sdp) => {
                session.exchange.local = Some(sdp.clone());
                self.acknowledge(now, invite, &dialog, Some(sdp));
                let event = if initial {
                    let sdp = None;
                    Event::Answered { call, fork, sdp }
                } else {
                    Event::ReinviteAnswered { call, sdp: None }
                };
                self.io.event(event);
            }
            Err(_) => {
                let offer = session.exchange.remote.clone();
                let refusal = offer.and_then(|offer| self.refusal_of(&offer));
                self.acknowledge(now, invite, &dialog, refusal);
                self.send_bye(now, call, "no common description");
            }
        }
    }

    /// There is no answer to the offer in the 2xx, or no offer.
    pub(super) fn ack_overdue(&mut self, now: Instant, call: CallHandle) {
        if let Some(Call::Established(session)) = self.calls.get(&call) {
            let fork = session.fork;
            self.answer_offer(now, call, fork, Err(408));
        }
    }

    /// The answer that takes nothing of an offer; none for what is no description.
    pub(super) fn refusal_of(&mut self, offer: &str) -> Option<String> {
        sip_refusal(offer, self.io.random.u64() >> 2)
    }

    /// The same for the offer in a response.
    pub(super) fn refusal_in(&mut self, response: &Response) -> Option<String> {
        let offer = sdp_of(&response.headers, &response.body).unwrap_or_default();
        self.refusal_of(&offer?)
    }

    /// The 2xx to an INVITE of ours without an offer.
    pub(super) fn offered_in_answer(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        sdp: Option<String>,
        initial: bool,
    ) {
        let give_up = now + self.io.config.give_up() / 2;
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        session.exchange.change = Change::Offered {
            invite: id,
            initial,
            timer: Some(
                self.io
                    .timers
                    .set(give_up, Deadline::Call(call, CallTimer::AckDue)),
            ),
        };
        match sdp {
            Some(sdp) => {
                let (fork, early) = (session.fork, false);
                session.exchange.remote = Some(sdp.clone());
                self.io.event(Event::Offered {
                    call,
                    fork,
                    early,
                    sdp,
                });
            }
            // RFC 3261 section 13.2.1: the 2xx must have it.
            None => self.ack_overdue(now, call),
        }
    }
}
