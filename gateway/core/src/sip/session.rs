//! Answered calls: ACK, BYE, and whatever else comes inside a dialog; re-INVITE is in `reinvite`.
//!
//! 1. A 2xx of ours is repeated from T1 up to T2 until its ACK; after 64*T1 without one the call ends with BYE.
//! 2. BYE of either side ends it. A called party's BYE waits for the ACK (RFC 3261 section 15).

use std::time::{Duration, Instant};

use super::auth::Auth;
use super::call::{Call, Leaving};
use super::config::Peer;
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::io::Io;
use super::message::{Method, Request, Response, sdp_of};
use super::outgoing::{Outgoing, Owner};
use super::receive::{ALLOW, required};
use super::reinvite::Offer;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;

pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) auth: Auth,
    /// Whether the Call-ID is ours, which decides who waits longer after glare.
    pub(super) caller: bool,
    pub(super) answer: Option<Answer>,
    /// The peer's re-INVITE that has no final response, and whether it had an offer.
    pub(super) incoming: Option<(TransactionId, bool)>,
    pub(super) offer: Offer,
    ending: Ending,
}

/// Our 2xx without ACK.
pub(super) struct Answer {
    number: u32,
    invite: TransactionId,
    peer: Peer,
    bytes: Vec<u8>,
    /// Whether it carries an offer, which the ACK answers.
    pub(super) offers: bool,
    /// Whether it made the call, rather than changed it.
    pub(super) initial: bool,
    interval: Duration,
    repeat: Option<TimerId>,
    give_up: Option<TimerId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// BYE goes when the ACK has come.
    AfterAck,
    Bye {
        reason: &'static str,
    },
}

impl Session {
    pub(super) fn new(dialog: Dialog, auth: Auth, caller: bool) -> Self {
        Self {
            dialog,
            auth,
            caller,
            answer: None,
            incoming: None,
            offer: Offer::None,
            ending: Ending::No,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.ending != Ending::No
    }

    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        self.take_answer(io);
        if let Offer::Waiting { timer, .. } = &mut self.offer {
            io.timers.cancel(timer);
        }
    }

    pub(super) fn forget_incoming(&mut self, id: TransactionId) {
        self.incoming = self.incoming.filter(|(incoming, _)| *incoming != id);
    }

    pub(super) fn take_answer(&mut self, io: &mut Io) -> Option<Answer> {
        let mut answer = self.answer.take()?;
        io.timers.cancel(&mut answer.repeat);
        io.timers.cancel(&mut answer.give_up);
        Some(answer)
    }
}

impl Stack {
    /// Ends a call in whatever state it is: CANCEL, 480, or BYE.
    pub fn hang_up(&mut self, now: Instant, call: CallHandle) {
        match self.calls.get_mut(&call) {
            Some(Call::Calling(_)) => self.take_back(now, call, Leaving::HungUp),
            Some(Call::Ringing(_)) => self.reject(now, call, 480, ""),
            Some(Call::Established(session)) => {
                if session.is_leaving() {
                    return;
                }
                match &session.answer {
                    Some(answer) if answer.initial => session.ending = Ending::AfterAck,
                    _ => self.send_bye(now, call, "hung up"),
                }
            }
            None => {}
        }
    }

    /// A request with our tag, of a dialog that we know.
    pub(super) fn handle_in_dialog(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let number = request.headers.cseq().map_or(0, |(number, _)| number);
        let in_order = match self.calls.get_mut(&call) {
            Some(Call::Ringing(ringing)) => ringing.dialog.accept_cseq(number),
            Some(Call::Established(session)) => session.dialog.accept_cseq(number),
            Some(Call::Calling(_)) | None => true,
        };
        if !in_order {
            return self.respond(now, id, 500, &[]);
        }
        let tags = required(&request.headers).filter(|_| request.method != Method::Bye);
        if let Some(tags) = tags {
            return self.respond(now, id, 420, &[("Unsupported", &tags)]);
        }
        match &request.method {
            Method::Invite => self.handle_reinvite(now, id, call, request),
            Method::Bye => self.handle_bye(now, id, call),
            Method::Options => self.respond_options(now, id),
            Method::Info => match request.headers.get("Info-Package") {
                Some(_) => self.respond(now, id, 469, &[("Recv-Info", "")]),
                None if request.body.is_empty() => self.respond(now, id, 200, &[]),
                None => self.respond(now, id, 415, &[("Accept", "")]),
            },
            Method::Notify => self.respond(now, id, 489, &[]),
            _ => self.respond(now, id, 405, &[("Allow", ALLOW)]),
        }
    }

    /// ACK for a 2xx.
    pub(super) fn handle_ack(&mut self, now: Instant, request: &Request) {
        let call = request
            .headers
            .to_tag()
            .and_then(|tag| self.tags.get(tag).copied());
        let Some((call, (number, _))) = call.zip(request.headers.cseq()) else {
            return;
        };
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let from = request.headers.from_tag().unwrap_or_default();
        let ours = session.dialog.call_id == request.headers.call_id()
            && session.dialog.remote_tag == from;
        if !ours
            || session
                .answer
                .as_ref()
                .is_none_or(|answer| answer.number != number)
        {
            return;
        }
        let Some(answer) = session.take_answer(&mut self.io) else {
            return;
        };
        if session.ending == Ending::AfterAck {
            return self.send_bye(now, call, "hung up");
        }
        if answer.initial || answer.offers {
            let sdp = sdp_of(&request.headers, &request.body)
                .unwrap_or_default()
                .filter(|_| answer.offers);
            self.io.event(Event::Confirmed { call, sdp });
        }
    }

    /// Sends a 2xx to an INVITE and repeats it until ACK.
    pub(super) fn send_answer(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
        offers: bool,
        initial: bool,
    ) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        server.respond(now, response, &mut self.io);
        let peer = server.peer;
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let interval = self.io.config.t1;
        let give_up = now + self.io.config.give_up();
        session.answer = Some(Answer {
            number: response.headers.cseq().map_or(0, |(number, _)| number),
            invite: id,
            peer,
            bytes: response.to_bytes(),
            offers,
            initial,
            interval,
            repeat: Some(
                self.io
                    .timers
                    .set(now + interval, Deadline::Call(call, CallTimer::Answer)),
            ),
            give_up: Some(
                self.io
                    .timers
                    .set(give_up, Deadline::Call(call, CallTimer::NoAck)),
            ),
        });
    }

    pub(super) fn call_timeout(&mut self, now: Instant, call: CallHandle, timer: CallTimer) {
        match timer {
            CallTimer::Ring => self.ring_timeout(now, call),
            CallTimer::Provisional => self.repeat_provisional(now, call),
            CallTimer::Answer => self.repeat_answer(now, call),
            CallTimer::NoAck => self.send_bye(now, call, "no ACK"),
            CallTimer::Glare => self.reinvite_again(now, call),
        }
    }

    /// Our BYE has its final response, or will never get one.
    pub(super) fn bye_done(&mut self, call: CallHandle, otherwise: &str) {
        let Some(Call::Established(session)) = self.calls.get(&call) else {
            return;
        };
        let reason = match session.ending {
            Ending::Bye { reason } => reason,
            Ending::No | Ending::AfterAck => otherwise,
        };
        self.ended(call, false, reason);
    }

    fn handle_bye(&mut self, now: Instant, id: TransactionId, call: CallHandle) {
        match self.calls.get_mut(&call) {
            Some(Call::Established(session)) => {
                let (leaving, incoming) = (session.is_leaving(), session.incoming.take());
                self.respond(now, id, 200, &[]);
                if let Some((incoming, _)) = incoming {
                    self.refuse_invite(now, call, incoming, 487, "");
                }
                self.ended(
                    call,
                    !leaving,
                    if leaving {
                        "hung up"
                    } else {
                        "the peer hung up"
                    },
                );
            }
            Some(Call::Ringing(ringing)) => {
                let invite = ringing.transaction;
                self.respond(now, id, 200, &[]);
                self.refuse_invite(now, call, invite, 487, "");
                self.end_call(call, Event::Cancelled { call });
            }
            // A called party cannot end an early dialog with BYE (RFC 3261 section 15).
            Some(Call::Calling(_)) | None => self.respond(now, id, 481, &[]),
        }
    }

    fn repeat_answer(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(answer) = &mut session.answer else {
            return;
        };
        answer.interval = (answer.interval * 2).min(self.io.config.t2);
        let deadline = Deadline::Call(call, CallTimer::Answer);
        answer.repeat = Some(self.io.timers.set(now + answer.interval, deadline));
        // The transaction knows if the connection has gone meanwhile.
        let peer = self
            .servers
            .get(&answer.invite)
            .map_or(answer.peer, |server| server.peer);
        self.io.transmit(peer, answer.bytes.clone());
    }

    pub(super) fn send_bye(&mut self, now: Instant, call: CallHandle, reason: &'static str) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        session.cancel_timers(&mut self.io);
        session.ending = Ending::Bye { reason };
        let incoming = session.incoming.take();
        let mut bye = session.dialog.request(Method::Bye);
        bye.headers
            .push("User-Agent", self.io.config.user_agent.clone());
        session.auth.apply(&mut bye);
        if let Some((incoming, _)) = incoming {
            self.refuse_invite(now, call, incoming, 487, "");
        }
        self.send(now, Outgoing::new(Owner::Bye(call), bye, None, true));
    }
}
