//! The SIP user agent stack.

use std::net::SocketAddr;

/// Transport of a SIP message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// RFC 3261 section 18 over UDP.
    Udp,
    /// Over TCP.
    Tcp,
}

/// A TCP connection, numbered by the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// A name look-up in progress.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueryId(pub u64);

/// Who a message comes from or goes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Transport.
    pub transport: Transport,
    /// Our listening address.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// The TCP connection; `None` with TCP asks the daemon to open one or reuse one to `remote`.
    pub connection: Option<ConnectionId>,
}

/// Bytes to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub peer: Peer,
    /// One whole SIP message.
    pub bytes: Vec<u8>,
}

/// A name to look up (RFC 3263): SRV when no port is given, then addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolve {
    /// Names the answer.
    pub query: QueryId,
    /// Host name.
    pub host: String,
    /// Port, where the URI has one.
    pub port: Option<u16>,
    /// Transport, where the URI or configuration names one.
    pub transport: Option<Transport>,
}

/// Settings of the stack (its owner lays it out).
pub struct Config;
