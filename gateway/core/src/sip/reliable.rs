//! Reliable provisional responses to the peer's INVITE (RFC 3262 section 3).
//!
//! 1. Sent where the peer requires them, and with a description where it supports them; one at a time, the others wait.
//! 2. Repeated from T1 on, doubling, until PRACK; after 64*T1 without one the INVITE is refused with 504.
//! 3. A 200 waits for the PRACK of a response with a description; the description does not come again in it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::call::{Call, Ringing};
use super::event::{CallHandle, Event};
use super::exchange::{By, Incoming, Side};
use super::io::Io;
use super::message::{Headers, Method, Request, sdp_of};
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;

/// More provisional responses do not wait for a PRACK; one without a description is no loss.
const MAX_WAITING: usize = 8;

/// What the caller said of 100rel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    No,
    Supported,
    Required,
}

pub(super) struct Reliable {
    wanted: Wanted,
    rseq: u32,
    unacked: Option<Unacked>,
    waiting: VecDeque<(u16, Option<String>)>,
    /// The description has gone out in a reliable response.
    pub(super) described: bool,
    /// 200 with this description goes when the PRACK has come.
    accepting: Option<String>,
}

struct Unacked {
    rseq: u32,
    described: bool,
    bytes: Vec<u8>,
    interval: Duration,
    repeat: Option<TimerId>,
    give_up: Option<TimerId>,
}

impl Reliable {
    /// By what the INVITE says; the first number is drawn (RFC 3262 section 3).
    pub(super) fn new(invite: &Headers, io: &mut Io) -> Self {
        let wanted = if !io.config.reliable_provisional {
            Wanted::No
        } else if invite.lists("Require", "100rel") {
            Wanted::Required
        } else if invite.lists("Supported", "100rel") {
            Wanted::Supported
        } else {
            Wanted::No
        };
        Self {
            wanted,
            rseq: io.random.u32() >> 2,
            unacked: None,
            waiting: VecDeque::new(),
            described: false,
            accepting: None,
        }
    }

    fn goes_for(&self, described: bool) -> bool {
        match self.wanted {
            Wanted::No => false,
            Wanted::Supported => described,
            Wanted::Required => true,
        }
    }

    /// Number of the response that has no PRACK: one may still come after the 2xx.
    pub(super) fn open_number(&self) -> Option<u32> {
        self.unacked.as_ref().map(|unacked| unacked.rseq)
    }

    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        if let Some(unacked) = &mut self.unacked {
            io.timers.cancel(&mut unacked.repeat);
            io.timers.cancel(&mut unacked.give_up);
        }
    }
}

impl Stack {
    /// Sends 101..199 reliably where that is wanted; `false` if it goes the plain way.
    pub(super) fn provisional_reliably(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        sdp: Option<&str>,
    ) -> bool {
        let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) else {
            return false;
        };
        let Ringing {
            reliable,
            transaction,
            ..
        } = &mut **ringing;
        let sdp = sdp.filter(|_| !reliable.described);
        if !reliable.goes_for(sdp.is_some()) {
            return false;
        }
        if reliable.unacked.is_some() {
            if reliable.waiting.len() < MAX_WAITING {
                reliable.waiting.push_back((status, sdp.map(str::to_owned)));
            }
            return true;
        }
        let id = *transaction;
        self.send_reliably(now, call, id, status, sdp.map(str::to_owned));
        true
    }

    /// The 200 must wait for a PRACK; `true` if it does (RFC 3262 section 3).
    pub(super) fn accept_waits(&mut self, call: CallHandle, sdp: &str) -> bool {
        let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) else {
            return false;
        };
        let reliable = &mut ringing.reliable;
        let waits = reliable
            .unacked
            .as_ref()
            .is_some_and(|unacked| unacked.described);
        if waits {
            reliable.accepting = Some(sdp.to_owned());
        }
        waits
    }

    fn send_reliably(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        status: u16,
        sdp: Option<String>,
    ) {
        let Some(mut response) = self.invite_response(id, call, status, "", sdp.clone()) else {
            return;
        };
        let (interval, give_up) = (self.io.config.t1, now + self.io.config.give_up());
        let (Some(Call::Ringing(ringing)), Some(server)) =
            (self.calls.get_mut(&call), self.servers.get_mut(&id))
        else {
            return;
        };
        ringing.reliable.rseq += 1;
        let rseq = ringing.reliable.rseq;
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
        server.respond(now, &response, &mut self.io);
        let mut set = |at, timer| Some(self.io.timers.set(at, Deadline::Call(call, timer)));
        ringing.reliable.unacked = Some(Unacked {
            rseq,
            described: sdp.is_some(),
            bytes: response.to_bytes(),
            interval,
            repeat: set(now + interval, CallTimer::Reliable),
            give_up: set(give_up, CallTimer::NoPrack),
        });
        if sdp.is_some() {
            ringing.reliable.described = true;
            ringing.exchange.open = (!ringing.offered).then_some(Side::Us);
            ringing.exchange.local = sdp;
        }
        // The next one, a minute later, has no description to repeat.
        response.headers.remove("RSeq");
        response.headers.remove("Require");
        response.headers.remove("Content-Type");
        response.body = Vec::new();
        self.remember_provisional(now, call, response);
    }

    /// PRACK of the caller.
    pub(super) fn handle_prack(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let Some(number) = rack_number(&request.headers) else {
            return self.respond(now, id, 400, &[]);
        };
        let ringing = match self.calls.get_mut(&call) {
            Some(Call::Ringing(ringing)) => ringing,
            Some(Call::Established(session)) if session.late_prack == Some(number.0) => {
                session.late_prack = None;
                return self.respond(now, id, 200, &[]);
            }
            _ => return self.respond(now, id, 481, &[]),
        };
        let (rseq, cseq) = number;
        let invite = self.servers.get(&ringing.transaction);
        let invite = invite.and_then(|server| server.request.headers.cseq());
        let fits = invite.is_some_and(|(number, _)| number == cseq);
        if !fits || ringing.reliable.open_number() != Some(rseq) {
            return self.respond(now, id, 481, &[]);
        }
        let Ok(sdp) = sdp_of(&request.headers, &request.body) else {
            return self.refuse_body(now, id);
        };
        ringing.reliable.cancel_timers(&mut self.io);
        ringing.reliable.unacked = None;
        let answers = ringing.exchange.open == Some(Side::Us);
        match sdp {
            Some(sdp) if answers => {
                ringing.exchange.open = None;
                ringing.exchange.remote = Some(sdp.clone());
                self.respond(now, id, 200, &[]);
                self.io.event(Event::EarlyAnswer { call, sdp });
            }
            Some(sdp) if ringing.exchange.open.is_none() && ringing.exchange.incoming.is_none() => {
                ringing.exchange.incoming = Some(Incoming {
                    transaction: id,
                    by: By::Prack,
                    offered: true,
                });
                self.io.event(Event::Reinvite {
                    call,
                    sdp: Some(sdp),
                });
            }
            Some(_) => self.respond(now, id, 488, &[]),
            None => self.respond(now, id, 200, &[]),
        }
        self.after_prack(now, call);
    }

    /// What waited for the PRACK goes out.
    fn after_prack(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(sdp) = ringing.reliable.accepting.take() {
            return self.accept(now, call, sdp);
        }
        if let Some((status, sdp)) = ringing.reliable.waiting.pop_front() {
            self.provisional(now, call, status, sdp);
        }
    }

    pub(super) fn repeat_reliable(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) else {
            return;
        };
        let id = ringing.transaction;
        let (Some(unacked), Some(server)) = (&mut ringing.reliable.unacked, self.servers.get(&id))
        else {
            return;
        };
        unacked.interval *= 2;
        let deadline = Deadline::Call(call, CallTimer::Reliable);
        unacked.repeat = Some(self.io.timers.set(now + unacked.interval, deadline));
        self.io.transmit(server.peer, unacked.bytes.clone());
    }

    pub(super) fn no_prack(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Ringing(ringing)) = self.calls.get(&call) else {
            return;
        };
        let id = ringing.transaction;
        self.refuse_invite(now, call, id, 504, "No PRACK");
        self.ended(call, false, "no PRACK");
    }
}

/// The numbers of the response and of its INVITE in RAck.
fn rack_number(headers: &Headers) -> Option<(u32, u32)> {
    let mut parts = headers.get("RAck")?.split_ascii_whitespace();
    let numbers = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.next()? == Method::Invite.as_str()).then_some(numbers)
}
