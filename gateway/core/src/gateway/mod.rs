//! The gateway: all sessions and calls, routing of every input to the one it belongs to, limits, and the earliest deadline.
//!
//! Called by the daemon's event loop: `handle` one input, drain `poll_output`, sleep until `poll_timeout`.

mod config;

pub use config::{Config, Limits, Web};

use crate::api::{CallId, Event, PathView, Problem, Reply, Request, SessionId};
use crate::sip;
use flow::{FlowSnapshot, FlowSpec};
use std::net::SocketAddr;

/// Names a request of the HTTP shell, so that its reply finds the way back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub u64);

/// Names a flow (one direction of a call's media) towards the datapath; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowId(pub u64);

/// The SIP side's sockets of one call.
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
    PortsOpened(CallId, Result<MediaPorts, PortsError>),
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
    /// Bind an RTP and RTCP socket for the call in the address family given by `ipv6`.
    OpenPorts {
        /// The call.
        call: CallId,
        /// Address family of the SIP leg.
        ipv6: bool,
    },
    /// Close them.
    ClosePorts(MediaPorts),
    /// Install a flow, or replace the one with this id (its counters and SRTP state go on).
    InstallFlow(FlowId, Box<FlowSpec>),
    /// Remove a flow and zero its keys.
    RemoveFlow(FlowId),
    /// Read a flow's counters.
    ReadFlow(FlowId),
}
