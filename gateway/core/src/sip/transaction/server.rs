//! Server transactions.
//!
//! INVITE: Proceeding -300..699-> Completed (timers G, H) -ACK-> Confirmed (timer I) -> gone
//!         Proceeding -2xx-> Accepted (timer L: repeated INVITEs are absorbed, the call repeats the 2xx) -> gone
//! others: Trying, Proceeding -200..699-> Completed (timer J: repeated requests get the response again) -> gone

use std::time::{Duration, Instant};

use super::TransactionId;
use crate::sip::config::{ConnectionId, Peer};
use crate::sip::event::CallHandle;
use crate::sip::io::Io;
use crate::sip::message::{Method, Request, Response};
use crate::sip::timers::{Deadline, TimerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
}

/// A request of a peer.
pub(in crate::sip) struct Server {
    pub(in crate::sip) id: TransactionId,
    /// Under which it stands in the tables.
    pub(in crate::sip) key: String,
    pub(in crate::sip) merge_key: Option<String>,
    pub(in crate::sip) request: Request,
    /// The call that an INVITE is for.
    pub(in crate::sip) call: Option<CallHandle>,
    /// Where responses go.
    pub(in crate::sip) peer: Peer,
    state: State,
    last: Option<Vec<u8>>,
    interval: Duration,
    retransmit: Option<TimerId>,
    end: Option<TimerId>,
}

impl Server {
    /// A request that is no INVITE is forgotten after 64*T1, answered or not: its sender has given up by then.
    pub(in crate::sip) fn new(
        now: Instant,
        request: Request,
        peer: Peer,
        key: String,
        io: &mut Io,
    ) -> Self {
        let id = TransactionId(io.number());
        let bounded = request.method != Method::Invite;
        let end = bounded.then(|| {
            io.timers
                .set(now + io.config.give_up(), Deadline::ServerEnd(id))
        });
        Self {
            id,
            key,
            merge_key: merge_key(&request),
            request,
            call: None,
            peer,
            state: State::Proceeding,
            last: None,
            interval: io.config.t1,
            retransmit: None,
            end,
        }
    }

    pub(in crate::sip) fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    /// Whether no final response was sent.
    pub(in crate::sip) fn is_open(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Sends a response; a second final one is not sent.
    pub(in crate::sip) fn respond(&mut self, now: Instant, response: &Response, io: &mut Io) {
        if !self.is_open() {
            return;
        }
        let bytes = response.to_bytes();
        io.transmit(self.peer, bytes.clone());
        self.last = Some(bytes);
        if response.status < 200 {
            return;
        }
        self.slim();
        let reliable = self.peer.transport.is_reliable();
        let linger = match (self.is_invite(), response.status) {
            (true, 200..300) => {
                self.state = State::Accepted;
                self.last = None;
                io.config.give_up()
            }
            (true, _) => {
                self.state = State::Completed;
                if !reliable {
                    self.retransmit = Some(
                        io.timers
                            .set(now + self.interval, Deadline::ServerRetransmit(self.id)),
                    );
                }
                io.config.give_up()
            }
            (false, _) => {
                self.state = State::Completed;
                if reliable {
                    Duration::ZERO
                } else {
                    io.config.give_up()
                }
            }
        };
        io.timers.cancel(&mut self.end);
        self.end = Some(io.timers.set(now + linger, Deadline::ServerEnd(self.id)));
    }

    /// After the final response only its bytes are needed, and the port of Via; most transactions of a busy stack only
    /// linger.
    fn slim(&mut self) {
        self.request.body = Vec::new();
        self.request.headers.keep_only("Via");
    }

    /// The same request again.
    pub(in crate::sip) fn handle_again(&self, io: &mut Io) {
        if let (State::Proceeding | State::Completed, Some(last)) = (self.state, &self.last) {
            io.transmit(self.peer, last.clone());
        }
    }

    /// ACK with the branch of this INVITE. Whether it was for a refusal, and so ends here.
    pub(in crate::sip) fn handle_ack(&mut self, now: Instant, io: &mut Io) -> bool {
        if self.state == State::Completed {
            self.state = State::Confirmed;
            io.timers.cancel(&mut self.retransmit);
            io.timers.cancel(&mut self.end);
            let linger = if self.peer.transport.is_reliable() {
                Duration::ZERO
            } else {
                io.config.t4
            };
            self.end = Some(io.timers.set(now + linger, Deadline::ServerEnd(self.id)));
        }
        self.state != State::Accepted
    }

    /// Timer G.
    pub(in crate::sip) fn handle_retransmit(&mut self, now: Instant, io: &mut Io) {
        self.retransmit = None;
        if self.state != State::Completed {
            return;
        }
        self.handle_again(io);
        self.interval = (self.interval * 2).min(io.config.t2);
        self.retransmit = Some(
            io.timers
                .set(now + self.interval, Deadline::ServerRetransmit(self.id)),
        );
    }

    /// The connection that the request came on is closed: responses go to its sent-by (RFC 3261 section 18.2.2).
    pub(in crate::sip) fn leave_connection(&mut self, connection: ConnectionId) {
        if self.peer.connection == Some(connection) {
            let port = self
                .request
                .headers
                .via()
                .and_then(|via| via.port)
                .unwrap_or(5060);
            self.peer.connection = None;
            self.peer.remote.set_port(port);
        }
    }

    /// Takes the timers back: the transaction is about to go.
    pub(in crate::sip) fn finish(mut self, io: &mut Io) {
        io.timers.cancel(&mut self.retransmit);
        io.timers.cancel(&mut self.end);
    }
}

/// Under what a request and its repetitions are found (RFC 3261 section 17.2.3); ACK finds its INVITE, and with
/// `method` CANCEL does too.
pub(in crate::sip) fn server_key(request: &Request, method: &Method) -> String {
    let method = if *method == Method::Ack {
        &Method::Invite
    } else {
        method
    };
    let headers = &request.headers;
    let via = headers.get("Via").unwrap_or_default();
    let parsed = headers.via();
    match parsed.as_ref().map(|via| (via.branch(), via)) {
        Some((branch, via)) if branch.len() > 7 && branch.starts_with("z9hG4bK") => {
            format!(
                "{branch}|{}|{}|{method}",
                via.host.to_ascii_lowercase(),
                via.port.unwrap_or(5060)
            )
        }
        _ => {
            let (tag, number) = (
                headers.from_tag().unwrap_or_default(),
                headers.cseq().map_or(0, |(number, _)| number),
            );
            format!(
                "{}|{tag}|{}|{number}|{via}|{method}",
                request.uri,
                headers.call_id()
            )
        }
    }
}

/// Under what the same request over another path is found (RFC 3261 section 8.2.2.2). The Request-URI belongs to it,
/// because each Contact user behind our one port is a user agent of its own and a proxy may fork to several.
pub(in crate::sip) fn merge_key(request: &Request) -> Option<String> {
    let headers = &request.headers;
    if headers.to_tag().is_some() {
        return None;
    }
    let (number, method) = headers.cseq()?;
    let tag = headers.from_tag().unwrap_or_default();
    Some(format!(
        "{}|{tag}|{}|{number}|{method}",
        request.uri,
        headers.call_id()
    ))
}
