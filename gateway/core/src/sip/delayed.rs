//! Our INVITE without an offer: the peer offers in its 2xx, and the ACK answers (RFC 3261 section 13.2.1).
//!
//! The ACK waits for the call logic, at most half of the time for which the peer repeats its 2xx.

use std::time::Instant;

use super::call::Call;
use super::event::{CallHandle, Event};
use super::exchange::Change;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline};
use super::transaction::TransactionId;

impl Stack {
    /// Answers `Event::Offered`: SDP, or a status to end the call with; an offer in a response cannot be refused otherwise.
    pub fn answer_offer(&mut self, now: Instant, call: CallHandle, answer: Result<String, u16>) {
        if self.answer_by_prack(now, call, &answer) {
            return;
        }
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if !matches!(session.exchange.change, Change::Offered { .. }) {
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
                    Event::Answered { call, sdp: None }
                } else {
                    Event::ReinviteAnswered { call, sdp: None }
                };
                self.io.event(event);
            }
            Err(_) => {
                self.acknowledge(now, invite, &dialog, None);
                self.send_bye(now, call, "no common description");
            }
        }
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
                session.exchange.remote = Some(sdp.clone());
                self.io.event(Event::Offered { call, sdp });
            }
            // RFC 3261 section 13.2.1: the 2xx must have it.
            None => self.answer_offer(now, call, Err(488)),
        }
    }
}
