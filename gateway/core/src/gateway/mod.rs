//! The gateway: all sessions and calls, routing of every input to the one it belongs to, limits, and the earliest deadline.
//!
//! Called by the daemon's event loop: `handle` one input, drain `poll_output`, sleep until `poll_timeout`.

mod config;
mod deadlines;
mod hub;
mod isolation;
mod media;
mod messages;
mod phones;
mod requests;
mod sip_events;

pub use config::{Config, Latching, Limits, Web};
pub(crate) use hub::Hub;

use crate::Random;
use crate::api::{
    CallId, CallState, Event, PathView, Problem, Reply, Request, SessionId, TrunkView,
};
use crate::call::{By, Call};
use crate::session::{Session, Standing};
use crate::sip;
use crate::webrtc::Certificate;
use deadlines::{Deadlines, Owner};
use flow::{FlowEvent, FlowSnapshot, FlowSpec};
use requests::Reading;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Names a request of the HTTP shell, so that its reply finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// Names a flow (one direction of a call's media) towards the datapath; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowId(pub u64);

/// The SIP side's sockets of one medium of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MediaPorts {
    /// RTP socket: even port.
    pub rtp: SocketAddr,
    /// RTCP socket: the next port (RFC 3550 section 11).
    pub rtcp: SocketAddr,
}

/// Why no ports could be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortsError {
    /// Every pair of the configured range is in use.
    Exhausted,
    /// The system refused (file descriptor limit, address gone).
    Refused,
}

/// What happened, in the order in which the daemon learnt of it.
pub enum Input<'a> {
    /// A request of a page or of the admin side.
    Request(RequestId, Request),
    /// Bytes of a SIP datagram.
    SipDatagram(sip::Peer, &'a [u8]),
    /// Bytes of a SIP connection, as they came.
    SipStream(sip::Peer, &'a [u8]),
    /// A SIP connection ended.
    SipClosed(sip::ConnectionId),
    /// A SIP peer cannot be reached (ICMP, connection refused).
    SipUnreachable(sip::Transport, SocketAddr),
    /// Answer to [`Output::SipResolve`].
    SipResolved(
        sip::QueryId,
        Result<Vec<(sip::Transport, SocketAddr)>, String>,
    ),
    /// A media datagram that the datapath did not forward: STUN, DTLS, RTCP, RTP without a flow.
    Datagram {
        /// Our socket's address.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// UDP payload.
        bytes: &'a [u8],
    },
    /// Answer to [`Output::OpenPorts`].
    PortsOpened(CallId, Result<Vec<MediaPorts>, PortsError>),
    /// Answer to [`Output::InstallFlow`], and again whenever the path changes later.
    FlowPath(FlowId, PathView),
    /// Answer to [`Output::ReadFlow`]; `None` when the datapath does not have it.
    FlowCounters {
        /// The flow.
        flow: FlowId,
        /// Its counters.
        snapshot: Option<FlowSnapshot>,
        /// CLOCK_MONOTONIC nanoseconds at the time of reading.
        monotonic_ns: u64,
    },
    /// The datapath saw something in a flow that is told once.
    FlowEvent(FlowId, FlowEvent),
    /// The page of this session is alive: a poll, an open event stream (sent at least every 10 s while one is open).
    SessionAlive(SessionId),
    /// The operator drains the gateway: no new calls or sessions from now on.
    Drain,
    /// A deadline may have passed.
    Timeout,
}

/// What the daemon has to do, in this order.
pub enum Output {
    /// Answer a request.
    Reply(RequestId, Result<Reply, Problem>),
    /// Tell a page.
    Event(SessionId, Event),
    /// The session is gone: forget its token after delivering what is queued.
    SessionClosed(SessionId),
    /// Send SIP bytes.
    SipTransmit(sip::Transmit),
    /// Look up a SIP host (RFC 3263).
    SipResolve(sip::Resolve),
    /// Close a SIP connection.
    SipClose(sip::ConnectionId),
    /// Send a media-side datagram (STUN, DTLS, RTCP, or RTP that came up) from one of our sockets.
    Transmit {
        /// Our socket.
        local: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// UDP payload.
        bytes: Vec<u8>,
    },
    /// Bind an RTP and an RTCP socket for each medium of the call in the address family given by `ipv6`: all or none.
    OpenPorts {
        /// The call.
        call: CallId,
        /// Pairs wanted: 1, or 2 with video.
        media: u8,
        /// Address family of the SIP leg.
        ipv6: bool,
    },
    /// Close one such pair.
    ClosePorts(MediaPorts),
    /// Install a flow, or replace the one with this id (its counters and SRTP state go on).
    InstallFlow(FlowId, Box<FlowSpec>),
    /// Remove a flow and zero its keys.
    RemoveFlow(FlowId),
    /// Read a flow's counters.
    ReadFlow(FlowId),
}

/// See the module.
pub struct Gateway {
    hub: Hub,
    sessions: HashMap<SessionId, Session>,
    calls: HashMap<CallId, Call>,
    registrations: HashMap<sip::RegistrationHandle, SessionId>,
    /// Requests that wait for the answer to a message.
    messages: HashMap<sip::MessageHandle, RequestId>,
    /// REGISTERs of pages' own user agents that wait for their answer.
    phones: HashMap<sip::RelayHandle, phones::Registering>,
    /// Contact users, so that an incoming call finds its page.
    contacts: HashMap<String, SessionId>,
    /// Users without a host, so that a call of a trunk for a number finds its page: whoever signed in last.
    users: HashMap<String, SessionId>,
    deadlines: Deadlines,
    /// Requests that wait for flow counters.
    readings: Vec<Reading>,
    /// CLOCK_MONOTONIC nanoseconds of the newest counters.
    monotonic_ns: u64,
    draining: bool,
    panics: u64,
}

impl Gateway {
    /// A gateway without sessions and calls; `wall` is the time of day at `now`, for RTCP.
    pub fn new(
        config: Config,
        mut random: Random,
        certificate: Arc<Certificate>,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let stack = sip::Stack::new(config.sip.clone(), random.fork());
        Self {
            hub: Hub::new(config, stack, random, certificate, now, wall),
            sessions: HashMap::new(),
            calls: HashMap::new(),
            registrations: HashMap::new(),
            messages: HashMap::new(),
            phones: HashMap::new(),
            contacts: HashMap::new(),
            users: HashMap::new(),
            deadlines: Deadlines::default(),
            readings: Vec::new(),
            monotonic_ns: 0,
            draining: false,
            panics: 0,
        }
    }

    fn dispatch(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Request(id, request) => self.handle_request(now, id, request),
            Input::SipDatagram(peer, bytes) => self.hub.stack.handle_datagram(now, peer, bytes),
            Input::SipStream(peer, bytes) => self.hub.stack.handle_stream(now, peer, bytes),
            Input::SipClosed(connection) => self.hub.stack.handle_closed(now, connection),
            Input::SipUnreachable(transport, remote) => {
                self.hub.stack.handle_unreachable(now, remote, transport)
            }
            Input::SipResolved(query, targets) => {
                self.hub.stack.handle_resolved(now, query, targets)
            }
            Input::Datagram {
                local,
                remote,
                bytes,
            } => self.handle_datagram(now, local, remote, bytes),
            Input::PortsOpened(call, ports) => self.handle_ports(now, &call, ports),
            Input::FlowPath(flow, path) => self.handle_flow_path(now, flow, path),
            Input::FlowCounters {
                flow,
                snapshot,
                monotonic_ns,
            } => {
                self.handle_flow_counters(now, flow, snapshot, monotonic_ns);
            }
            Input::FlowEvent(flow, event) => self.handle_flow_event(now, flow, event),
            Input::SessionAlive(session) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.alive = now;
                }
            }
            Input::Drain => self.draining = true,
            Input::Timeout => self.handle_timeout(now),
        }
    }

    /// The next thing to do, in order; `None` when there is nothing left until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.hub.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is wanted at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.deadlines.earliest(), self.hub.stack.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends every call and session, as when the operator stops the gateway: BYE and unregister go out.
    pub fn shut_down(&mut self, now: Instant) {
        self.draining = true;
        let sessions: Vec<SessionId> = self.sessions.keys().cloned().collect();
        for session in sessions {
            self.guarded(now, |gateway| {
                gateway.end_session(now, &session, By::Gateway, "the gateway stops");
            });
        }
        self.drain(now);
    }

    /// Whether every dialog and registration has been taken down.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.registrations.is_empty()
    }

    /// Calls that are not over, by state of the API; for metrics.
    pub fn calls(&self) -> impl Iterator<Item = CallState> + '_ {
        self.calls.values().map(Call::state)
    }

    /// Entries of the routing tables of all calls, and requests that wait for counters or the SIP side: none when no call is left.
    pub fn route_count(&self) -> usize {
        self.hub.routes.len() + self.readings.len() + self.messages.len()
    }

    /// The trunks, for metrics and the admin side.
    pub fn trunks(&self) -> Vec<TrunkView> {
        self.hub.trunks.views()
    }

    /// SIP requests that were refused before anybody was asked, by reason; for metrics.
    pub fn sip_refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.hub.stack.refused()
    }

    /// Number of sessions; for metrics.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.hub.stack.handle_timeout(now);
        // Each owner once: a deadline that is not cleared by its own step must not hold up the others.
        let due: Vec<Owner> = std::iter::from_fn(|| self.deadlines.pop_due(now)).collect();
        for owner in due {
            // Each by itself: the others have no deadline any more that would come again.
            self.guarded(now, |gateway| match owner {
                Owner::Call(call) => {
                    gateway.with_call(now, &call, |call, hub| call.handle_timeout(hub, now));
                }
                Owner::Session(session) => gateway.session_timeout(now, &session),
            });
        }
    }

    fn session_timeout(&mut self, now: Instant, id: &SessionId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let until = session.ends_at(self.hub.config.limits.session_idle);
        if until <= now {
            self.end_session(now, id, By::Gateway, "the page was not heard of any more");
        } else {
            self.deadlines.set(Owner::Session(id.clone()), Some(until));
        }
    }

    fn handle_ports(
        &mut self,
        now: Instant,
        call: &CallId,
        ports: Result<Vec<MediaPorts>, PortsError>,
    ) {
        if self.calls.contains_key(call) {
            self.with_call(now, call, |call, hub| call.handle_ports(hub, now, ports));
        } else if let Ok(ports) = ports {
            self.hub.close_ports(ports);
        }
    }

    /// A call is over and out of its table.
    fn forget_call(&mut self, now: Instant, call: Call) {
        self.hub.trunks.release(&call.trunk);
        if let Some(session) = self.sessions.get_mut(&call.session) {
            session.forget(&call.id);
        }
        self.answer_readings_without(now, &call.id);
    }

    fn end_call(&mut self, now: Instant, id: &CallId, by: By, status: Option<u16>, reason: &str) {
        self.with_call(now, id, |call, hub| call.end(hub, now, by, status, reason));
    }

    fn end_session(&mut self, now: Instant, id: &SessionId, by: By, reason: &str) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let calls: Vec<CallId> = session.calls.iter().cloned().collect();
        for call in calls {
            self.end_call(now, &call, by, None, reason);
        }
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        self.deadlines.set(Owner::Session(id.clone()), None);
        self.contacts.remove(&session.contact);
        if self.users.get(session.user()) == Some(id) {
            self.users.remove(session.user());
        }
        if let Standing::Registering { request, .. } = &session.standing {
            let problem = Problem::new(503, "session-ended", "The session ended", reason);
            self.hub.reply(*request, Err(problem));
        }
        if let Some(registration) = session.registration() {
            self.hub.stack.unregister(now, registration);
        }
        self.hub.event(
            id,
            Event::SessionEnded {
                reason: reason.into(),
            },
        );
        self.hub
            .outputs
            .push_back(Output::SessionClosed(id.clone()));
    }
}
