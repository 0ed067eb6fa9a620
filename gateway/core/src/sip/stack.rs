//! The user agent stack as its caller sees it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::config::{Config, ConnectionId, Peer, Transport};
use super::event::{CallHandle, Invite, Output, QueryId, Register, RegistrationHandle, SipError};
use crate::Random;

/// A sans-IO SIP user agent: UAC and UAS for many users on shared addresses.
pub struct Stack {
    config: Config,
    random: Random,
    outputs: VecDeque<Output>,
}

impl Stack {
    /// A stack without calls.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            config,
            random,
            outputs: VecDeque::new(),
        }
    }

    /// One UDP datagram.
    pub fn handle_datagram(&mut self, _now: Instant, _peer: Peer, _bytes: &[u8]) {}

    /// Bytes of a TCP connection as they come.
    pub fn handle_stream(&mut self, _now: Instant, _peer: Peer, _bytes: &[u8]) {}

    /// A connection is closed.
    pub fn handle_closed(&mut self, _now: Instant, _connection: ConnectionId) {}

    /// Nothing listens there (ICMP, connection refused or timed out).
    pub fn handle_unreachable(
        &mut self,
        _now: Instant,
        _remote: SocketAddr,
        _transport: Transport,
    ) {
    }

    /// The answer to [`Output::Resolve`], best target first.
    pub fn handle_resolved(
        &mut self,
        _now: Instant,
        _query: QueryId,
        _targets: Result<Vec<(Transport, SocketAddr)>, String>,
    ) {
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do; call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Places a call.
    pub fn invite(&mut self, _now: Instant, invite: Invite) -> Result<CallHandle, SipError> {
        let _ = (&self.config, self.random.u32());
        Err(SipError::BadUri(invite.to))
    }

    /// Answers an incoming call with 101..199.
    pub fn provisional(
        &mut self,
        _now: Instant,
        _call: CallHandle,
        _status: u16,
        _sdp: Option<String>,
    ) {
    }

    /// Answers an incoming call with 200.
    pub fn accept(&mut self, _now: Instant, _call: CallHandle, _sdp: String) {}

    /// Answers an incoming call with 300..699.
    pub fn reject(&mut self, _now: Instant, _call: CallHandle, _status: u16, _reason: &str) {}

    /// Ends a call in whatever state it is.
    pub fn hang_up(&mut self, _now: Instant, _call: CallHandle) {}

    /// Answers `Event::Reinvite`: SDP, or the status of the refusal (488).
    pub fn answer_reinvite(
        &mut self,
        _now: Instant,
        _call: CallHandle,
        _answer: Result<String, u16>,
    ) {
    }

    /// Offers a changed session.
    pub fn reinvite(&mut self, _now: Instant, _call: CallHandle, _sdp: String) {}

    /// Makes a binding and keeps it.
    pub fn register(&mut self, _now: Instant, _register: Register) -> RegistrationHandle {
        RegistrationHandle(0)
    }

    /// Removes a binding.
    pub fn unregister(&mut self, _now: Instant, _registration: RegistrationHandle) {}
}
