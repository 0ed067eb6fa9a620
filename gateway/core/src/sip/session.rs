//! Answered calls: ACK and BYE; changes are in `reinvite` and `update`, other requests in `in_dialog`.
//!
//! 1. A 2xx of ours is repeated from T1 up to T2 until its ACK; after 64*T1 without one the call ends with BYE.
//! 2. BYE of either side ends it. A called party's BYE waits for the ACK (RFC 3261 section 15).

use std::time::{Duration, Instant};

use super::auth::Auth;
use super::call::{Call, Leaving};
use super::config::Peer;
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::exchange::{Change, Exchange};
use super::io::Io;
use super::message::{Headers, Method, Request, Response, sdp_of};
use super::outbox::Outbox;
use super::outgoing::{Outgoing, Owner};
use super::reason::Cause;
use super::refer::{Referral, Transfer};
use super::refresh::Refresh;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;

/// How long the peer of a call that another one took the place of may take to end it.
const RETIRE: Duration = Duration::from_secs(5);

pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) auth: Auth,
    /// Whether the Call-ID is ours, which decides who waits longer after glare.
    pub(super) caller: bool,
    pub(super) answer: Option<Answer>,
    pub(super) exchange: Exchange,
    /// Which of the forks of our INVITE it is.
    pub(super) fork: usize,
    pub(super) refresh: Option<Refresh>,
    /// The least interval that a peer of this call puts up with.
    pub(super) min_expires: Duration,
    /// A reliable response of ours that had no PRACK when the 2xx went.
    pub(super) late_prack: Option<u32>,
    pub(super) outbox: Outbox,
    pub(super) transfer: Option<Transfer>,
    pub(super) referral: Option<Referral>,
    /// For our BYE.
    pub(super) cause: Option<Cause>,
    retire: Option<TimerId>,
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
    pub(super) fn new(dialog: Dialog, exchange: Exchange, auth: Auth, caller: bool) -> Self {
        Self {
            dialog,
            auth,
            caller,
            answer: None,
            exchange,
            fork: 0,
            refresh: None,
            min_expires: Duration::ZERO,
            late_prack: None,
            outbox: Outbox::default(),
            transfer: None,
            referral: None,
            cause: None,
            retire: None,
            ending: Ending::No,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.ending != Ending::No
    }

    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        self.take_answer(io);
        self.exchange.cancel_timers(io);
        self.cancel_transfer_timers(io);
        if let Some(refresh) = &mut self.refresh {
            refresh.cancel_timers(io);
        }
        io.timers.cancel(&mut self.retire);
    }

    pub(super) fn take_answer(&mut self, io: &mut Io) -> Option<Answer> {
        let mut answer = self.answer.take()?;
        io.timers.cancel(&mut answer.repeat);
        io.timers.cancel(&mut answer.give_up);
        Some(answer)
    }
}

impl Stack {
    /// The same, and says why.
    pub fn hang_up_for(&mut self, now: Instant, call: CallHandle, cause: Cause) {
        match self.calls.get_mut(&call) {
            Some(Call::Calling(calling)) => calling.cause = Some(cause),
            Some(Call::Established(session)) => session.cause = Some(cause),
            Some(Call::Ringing(_)) | None => {}
        }
        self.hang_up(now, call);
    }

    /// Another call has taken the place of this one: its peer, which knows, is given time to end it.
    pub fn retire(&mut self, now: Instant, call: CallHandle) {
        if let Some(Call::Established(session)) = self.calls.get_mut(&call) {
            self.io.timers.cancel(&mut session.retire);
            let deadline = Deadline::Call(call, CallTimer::Retire);
            session.retire = Some(self.io.timers.set(now + RETIRE, deadline));
        }
    }

    /// Ends a call in whatever state it is: CANCEL, 480, or BYE.
    pub fn hang_up(&mut self, now: Instant, call: CallHandle) {
        match self.calls.get_mut(&call) {
            Some(Call::Calling(_)) => self.take_back(now, call, Leaving::HungUp),
            Some(Call::Ringing(_)) => self.reject(now, call, 480, ""),
            Some(Call::Established(session)) => {
                if session.is_leaving() {
                    return;
                }
                let ack_due = matches!(session.exchange.change, Change::Offered { .. });
                match &session.answer {
                    Some(answer) if answer.initial => session.ending = Ending::AfterAck,
                    _ if ack_due => self.ack_overdue(now, call),
                    _ => self.send_bye(now, call, "hung up"),
                }
            }
            None => {}
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
            if sdp.is_some() {
                session.exchange.remote.clone_from(&sdp);
            }
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
            CallTimer::Reliable => self.repeat_reliable(now, call),
            CallTimer::NoPrack => self.no_prack(now, call),
            CallTimer::AckDue => self.ack_overdue(now, call),
            CallTimer::Refresh => self.refresh(now, call),
            CallTimer::Transfer => self.transfer_timeout(call),
            CallTimer::Referral => self.referral_timeout(now, call),
            CallTimer::Retire => self.hang_up(now, call),
            CallTimer::Expire => self.send_bye(now, call, "the session was not refreshed"),
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

    pub(super) fn handle_bye(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        headers: &Headers,
    ) {
        let causes = Cause::all(headers);
        match self.calls.get_mut(&call) {
            Some(Call::Established(session)) => {
                let (leaving, incoming) = (session.is_leaving(), session.exchange.incoming.take());
                self.respond(now, id, 200, &[]);
                if let Some(incoming) = incoming {
                    self.refuse_invite(now, call, incoming.transaction, 487, "");
                }
                let reason = if leaving {
                    "hung up"
                } else {
                    "the peer hung up"
                };
                let event = Event::Ended {
                    call,
                    by_peer: !leaving,
                    reason: reason.to_owned(),
                    causes,
                };
                self.end_call(call, event);
            }
            Some(Call::Ringing(ringing)) => {
                let invite = ringing.transaction;
                self.respond(now, id, 200, &[]);
                self.refuse_invite(now, call, invite, 487, "");
                self.end_call(call, Event::Cancelled { call, causes });
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
        let incoming = session.exchange.incoming.take();
        let mut bye = session.dialog.request(Method::Bye);
        bye.headers
            .push("User-Agent", self.io.config.user_agent.clone());
        if let Some(cause) = session.cause.take() {
            bye.headers.push("Reason", cause.to_string());
        }
        session.auth.apply(&mut bye);
        if let Some(incoming) = incoming {
            self.refuse_invite(now, call, incoming.transaction, 487, "");
        }
        self.send(now, Outgoing::new(Owner::Bye(call), bye, None, true));
    }
}
