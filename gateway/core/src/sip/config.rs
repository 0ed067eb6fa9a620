//! What the shell tells the stack before it starts: addresses, next hop, timer base values and limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a message travels (RFC 3261 section 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// One message per datagram; the transactions retransmit.
    Udp,
    /// Messages framed by Content-Length; nothing is retransmitted hop by hop.
    Tcp,
    /// The same over TLS (RFC 3261 section 26.2.1); the shell checks certificates.
    Tls,
}

impl Transport {
    /// Whether the transport itself repairs loss, which switches the retransmission timers off.
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// The token of Via (`UDP`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The port where nothing says one (RFC 3261 section 19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }

    /// Reads a token of Via or of a `transport` parameter, in any case; `None` if it is not one of ours.
    pub fn from_token(token: &str) -> Option<Self> {
        match token {
            token if token.eq_ignore_ascii_case("udp") => Some(Self::Udp),
            token if token.eq_ignore_ascii_case("tcp") => Some(Self::Tcp),
            token if token.eq_ignore_ascii_case("tls") => Some(Self::Tls),
            _ => None,
        }
    }
}

/// A TCP or TLS connection, numbered by the shell; a number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Where bytes came from or shall go.
///
/// With a connected transport and no connection the shell reuses an open connection to `remote` or opens one, and
/// reports a failure (refused, timed out, closed before the first byte) with
/// [`Stack::handle_unreachable`](super::Stack::handle_unreachable).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The transport.
    pub transport: Transport,
    /// Our address: one of [`Config::listen`].
    pub local: SocketAddr,
    /// The other side's address.
    pub remote: SocketAddr,
    /// The connection, if it is one that the shell has already named.
    pub connection: Option<ConnectionId>,
}

/// One address that the shell listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The transport.
    pub transport: Transport,
    /// The bound address; one entry for each address family.
    pub addr: SocketAddr,
    /// Host and port for Via and Contact where peers see another address than the bound one. Needed when `addr` is
    /// a wildcard.
    pub advertised: Option<(String, u16)>,
}

impl Listen {
    /// Host and port as they stand in Via and Contact; IPv6 literals come in brackets.
    pub fn sent_by(&self) -> String {
        match &self.advertised {
            Some((host, port)) if host.contains(':') && !host.starts_with('[') => {
                format!("[{host}]:{port}")
            }
            Some((host, port)) => format!("{host}:{port}"),
            None => self.addr.to_string(),
        }
    }
}

/// A fixed next hop of requests outside of dialogs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundProxy {
    /// Name or IP literal (IPv6 with or without brackets).
    pub host: String,
    /// Port; without it that of the transport or what SRV says.
    pub port: Option<u16>,
    /// Transport; without it UDP or what NAPTR/SRV says.
    pub transport: Option<Transport>,
}

/// The next hops of a request outside of a dialog, the one to try first in front; without any the host of its URI.
pub type Proxies = Arc<[OutboundProxy]>;

/// Set-up of a [`Stack`](super::Stack).
#[derive(Debug, Clone)]
pub struct Config {
    /// User-Agent and Server header.
    pub user_agent: String,
    /// What the shell listens on; the first entry of a transport and address family is the one to send from.
    pub listen: Vec<Listen>,
    /// Round trip estimate (RFC 3261 section 17.1.1.1).
    pub t1: Duration,
    /// Largest interval between retransmissions of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// Longest time that a message stays in the network.
    pub t4: Duration,
    /// How long a target may be silent while there are others to try; 64*T1 for the last one.
    pub failover: Duration,
    /// How often a connection behind which users are registered is asked for a sign of life (RFC 5626 section 4.4.1), at most.
    pub ping: Duration,
    /// How long an INVITE of ours may ring before the stack cancels it and reports 408.
    pub max_ring: Duration,
    /// Whether reliable provisional responses (RFC 3262) are offered, and sent where the caller supports them.
    pub reliable_provisional: bool,
    /// Whether a registrar is asked for a GRUU, which is then the Contact (RFC 5627 section 4.3). A proxy that gives them out has to
    /// look them up in requests within dialogs, too; not every one does.
    pub gruu: bool,
    /// The session interval to ask for (RFC 4028); without one only a peer's wish starts a session timer.
    pub session_expires: Option<Duration>,
    /// The shortest session interval that is granted, 90 s at least.
    pub min_session_expires: Duration,
    /// How many targets of redirections a call may try; none: a redirection is a refusal.
    pub max_redirects: usize,
    /// Media types of INFO bodies that are taken.
    pub info_types: Vec<String>,
    /// New requests outside of dialogs that one source may send in a second; 0: any number. More are refused, or dropped over UDP.
    pub requests_per_second: u32,
    /// Largest message in bytes, head and body.
    pub max_message_bytes: usize,
    /// Most header lines of a message.
    pub max_headers: usize,
    /// Most client and server transactions together; a quarter more is kept for requests inside dialogs.
    pub max_transactions: usize,
    /// Most calls, ringing or answered.
    pub max_dialogs: usize,
}

/// Digits, data of call centres, and requests of video receivers (RFC 5168).
const INFO_TYPES: [&str; 5] = [
    "application/dtmf-relay",
    "application/dtmf",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "application/media_control+xml",
];

impl Default for Config {
    fn default() -> Self {
        Self {
            user_agent: "Causeway".into(),
            listen: Vec::new(),
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            failover: Duration::from_secs(4),
            ping: Duration::from_secs(120),
            max_ring: Duration::from_secs(180),
            reliable_provisional: true,
            gruu: true,
            session_expires: Some(Duration::from_secs(1800)),
            min_session_expires: Duration::from_secs(90),
            max_redirects: 5,
            info_types: INFO_TYPES.map(str::to_owned).to_vec(),
            requests_per_second: 0,
            max_message_bytes: 65_535,
            max_headers: 128,
            max_transactions: 100_000,
            max_dialogs: 10_000,
        }
    }
}

impl Config {
    /// 64*T1: timers B, F, H, J, L and M.
    pub(super) fn give_up(&self) -> Duration {
        self.t1 * 64
    }
}
