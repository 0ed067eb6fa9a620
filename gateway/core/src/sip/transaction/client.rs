//! Client transactions.
//!
//! INVITE: Calling -1xx-> Proceeding -300..699-> Completed (ACK, timer D) -> gone
//!         Calling, Proceeding -2xx-> Accepted (timer M; repeats the ACK of each dialog) -> gone
//! others: Calling (Trying) -1xx-> Proceeding -200..699-> Completed (timer K) -> gone
//! Timers B and F, or an unreachable peer, end the first two states without a response.

use std::time::{Duration, Instant};

use super::TransactionId;
use crate::sip::config::Peer;
use crate::sip::io::Io;
use crate::sip::message::{Method, Request, Response};
use crate::sip::outgoing::{Hop, Outgoing, Owner};
use crate::sip::timers::{Deadline, TimerId};

/// Timer D on unreliable transports: at least 32 s.
const TIMER_D_MIN: Duration = Duration::from_secs(32);
/// More dialogs than this from one INVITE are not repeated their ACK.
const MAX_ACKS: usize = 16;

enum State {
    Calling(Box<Outgoing>),
    Proceeding(Box<Outgoing>),
    /// With the ACK to repeat, for INVITE.
    Completed(Option<Vec<u8>>),
    Accepted(Vec<(String, Peer, Vec<u8>)>),
}

/// A request of ours under way.
pub(in crate::sip) struct Client {
    pub(in crate::sip) id: TransactionId,
    pub(in crate::sip) owner: Owner,
    /// As sent: with our Via and Contact.
    pub(in crate::sip) request: Request,
    pub(in crate::sip) peer: Peer,
    /// The target that was tried.
    pub(in crate::sip) hop: Hop,
    bytes: Vec<u8>,
    state: State,
    interval: Duration,
    retransmit: Option<TimerId>,
    end: Option<TimerId>,
}

/// What a response means to the user of the transaction.
pub(in crate::sip) enum Received {
    /// A repetition: done with.
    Absorbed,
    /// 1xx.
    Provisional,
    /// The first final response, with what was sent.
    Final(Box<Outgoing>),
    /// A 2xx of yet another dialog that the INVITE made.
    Forked,
}

/// How a transaction's last timer ended it.
pub(in crate::sip) enum ClientEnd {
    /// No response in time: what was sent comes back.
    TimedOut(Box<Outgoing>),
    /// It had served its time.
    Served,
}

impl Client {
    /// Sends the request.
    pub(in crate::sip) fn start(
        now: Instant,
        outgoing: Outgoing,
        request: Request,
        bytes: Vec<u8>,
        hop: Hop,
        peer: Peer,
        io: &mut Io,
    ) -> Self {
        let id = TransactionId(io.number());
        let mut client = Self {
            id,
            owner: outgoing.owner,
            request,
            peer,
            hop,
            bytes,
            state: State::Calling(Box::new(outgoing)),
            interval: io.config.t1,
            retransmit: None,
            end: None,
        };
        io.transmit(peer, client.bytes.clone());
        if !peer.transport.is_reliable() {
            client.retransmit = Some(
                io.timers
                    .set(now + client.interval, Deadline::ClientRetransmit(id)),
            );
        }
        let others = client.outgoing().is_some_and(Outgoing::has_others);
        let patience = if others {
            io.config.failover.min(io.config.give_up())
        } else {
            io.config.give_up()
        };
        client.end = Some(io.timers.set(now + patience, Deadline::ClientEnd(id)));
        client
    }

    pub(in crate::sip) fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    /// What is being sent, while there is no final response.
    pub(in crate::sip) fn outgoing(&self) -> Option<&Outgoing> {
        match &self.state {
            State::Calling(outgoing) | State::Proceeding(outgoing) => Some(outgoing),
            State::Completed(_) | State::Accepted(_) => None,
        }
    }

    /// Whether a provisional response came and no final one: only then may an INVITE be cancelled.
    pub(in crate::sip) fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding(_))
    }

    pub(in crate::sip) fn handle_response(
        &mut self,
        now: Instant,
        response: &Response,
        io: &mut Io,
    ) -> Received {
        let outgoing = match std::mem::replace(&mut self.state, State::Completed(None)) {
            State::Calling(outgoing) | State::Proceeding(outgoing) => outgoing,
            other => {
                self.state = other;
                return self.handle_again(response, io);
            }
        };
        if response.status < 200 {
            self.state = State::Proceeding(outgoing);
            self.proceed(now, io);
            return Received::Provisional;
        }
        io.timers.cancel(&mut self.retransmit);
        io.timers.cancel(&mut self.end);
        let reliable = self.peer.transport.is_reliable();
        let linger = match (self.is_invite(), response.status) {
            (true, 200..300) => {
                self.state = State::Accepted(Vec::new());
                io.config.give_up()
            }
            (true, _) => {
                let ack = self.ack(response);
                io.transmit(self.peer, ack.clone());
                self.state = State::Completed(Some(ack));
                if reliable {
                    Duration::ZERO
                } else {
                    io.config.give_up().max(TIMER_D_MIN)
                }
            }
            (false, _) if reliable => Duration::ZERO,
            (false, _) => io.config.t4,
        };
        self.end = Some(io.timers.set(now + linger, Deadline::ClientEnd(self.id)));
        Received::Final(outgoing)
    }

    /// Timers A and E.
    pub(in crate::sip) fn handle_retransmit(&mut self, now: Instant, io: &mut Io) {
        self.retransmit = None;
        if self.outgoing().is_none() {
            return;
        }
        io.transmit(self.peer, self.bytes.clone());
        let doubled = self.interval * 2;
        self.interval = match (self.is_invite(), self.is_proceeding()) {
            (true, _) => doubled,
            (false, false) => doubled.min(io.config.t2),
            (false, true) => io.config.t2,
        };
        self.retransmit = Some(
            io.timers
                .set(now + self.interval, Deadline::ClientRetransmit(self.id)),
        );
    }

    /// Ends the transaction: timer, unreachable peer, or its user has no more interest.
    pub(in crate::sip) fn finish(mut self, io: &mut Io) -> ClientEnd {
        io.timers.cancel(&mut self.retransmit);
        io.timers.cancel(&mut self.end);
        match self.state {
            State::Calling(outgoing) | State::Proceeding(outgoing) => ClientEnd::TimedOut(outgoing),
            State::Completed(_) | State::Accepted(_) => ClientEnd::Served,
        }
    }

    /// Remembers the ACK of a dialog, to be repeated with each repeated 2xx.
    pub(in crate::sip) fn keep_ack(&mut self, remote_tag: &str, peer: Peer, bytes: Vec<u8>) {
        if let State::Accepted(acks) = &mut self.state
            && acks.len() < MAX_ACKS
        {
            acks.push((remote_tag.to_owned(), peer, bytes));
        }
    }

    /// CANCEL for this request (RFC 3261 section 9.1): same branch, same target.
    pub(in crate::sip) fn cancel(&self) -> Request {
        let mut cancel = self.hop_by_hop(
            Method::Cancel,
            self.request.headers.get("To").unwrap_or_default(),
        );
        if let Some(reason) = self.request.headers.get("User-Agent") {
            cancel.headers.push("User-Agent", reason);
        }
        cancel
    }

    fn proceed(&mut self, now: Instant, io: &mut Io) {
        if self.is_invite() {
            io.timers.cancel(&mut self.retransmit);
            io.timers.cancel(&mut self.end);
            // The call limits the ringing; this only bounds an INVITE whose call is gone.
            let limit = io.config.max_ring + io.config.give_up() * 2;
            self.end = Some(io.timers.set(now + limit, Deadline::ClientEnd(self.id)));
        } else if self.retransmit.is_some() && self.interval != io.config.t2 {
            io.timers.cancel(&mut self.retransmit);
            self.interval = io.config.t2;
            self.retransmit = Some(
                io.timers
                    .set(now + self.interval, Deadline::ClientRetransmit(self.id)),
            );
        }
    }

    fn handle_again(&mut self, response: &Response, io: &mut Io) -> Received {
        match &self.state {
            State::Completed(Some(ack)) if response.status >= 300 => {
                io.transmit(self.peer, ack.clone());
                Received::Absorbed
            }
            State::Accepted(acks) if (200..300).contains(&response.status) => {
                let tag = response.headers.to_tag().unwrap_or_default();
                match acks.iter().find(|(known, ..)| known == tag) {
                    Some((_, peer, ack)) => {
                        io.transmit(*peer, ack.clone());
                        Received::Absorbed
                    }
                    None if acks.len() < MAX_ACKS => Received::Forked,
                    None => Received::Absorbed,
                }
            }
            _ => Received::Absorbed,
        }
    }

    /// ACK for a final response other than 2xx (RFC 3261 section 17.1.1.3).
    fn ack(&self, response: &Response) -> Vec<u8> {
        self.hop_by_hop(Method::Ack, response.headers.get("To").unwrap_or_default())
            .to_bytes()
    }

    fn hop_by_hop(&self, method: Method, to: &str) -> Request {
        let sent = &self.request.headers;
        let mut request = Request::new(method, self.request.uri.clone());
        let headers = &mut request.headers;
        headers.push("Via", sent.get("Via").unwrap_or_default());
        for route in sent.get_all("Route") {
            headers.push("Route", route);
        }
        headers.push("Max-Forwards", "70");
        headers.push("From", sent.get("From").unwrap_or_default());
        headers.push("To", to);
        headers.push("Call-ID", sent.call_id());
        let number = sent.cseq().map_or(1, |(number, _)| number);
        headers.push("CSeq", format!("{number} {}", request.method));
        request
    }
}
