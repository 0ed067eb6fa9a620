//! What the call logic has to know of the configuration, already checked by the daemon.

use crate::sip;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of the [`super::Gateway`].
pub struct Config {
    /// The SIP stack's.
    pub sip: sip::Config,
    /// Domain of users and numbers that name none.
    pub domain: String,
    /// Whether pages may sign in without a password.
    pub guests: bool,
    /// Browser side.
    pub web: Web,
    /// Voice codecs that calls may use, in order of preference (`PCMU`, `PCMA`, `G722`, `opus`).
    pub codecs: Vec<String>,
    /// Video codecs that calls may use (`VP8`, `H264`, `VP9`, `AV1`), in order of preference; none = calls have no video.
    pub video_codecs: Vec<String>,
    /// Whether the SIP side's media address is IPv6.
    pub sip_media_ipv6: bool,
    /// DSCP code point 0..=63 on media that leaves towards the SIP side.
    pub sip_dscp: u8,
    /// DSCP code point 0..=63 on media that leaves towards browsers.
    pub web_dscp: u8,
    /// Registration lifetime that is asked for.
    pub registration_expires: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// The browser side's sockets.
pub struct Web {
    /// Bound addresses (specific ones, one per address family), all browsers share them.
    pub listen: Vec<SocketAddr>,
    /// What pages are told instead, index by index (1:1 NAT, port forwards); empty = the bound ones.
    pub advertised: Vec<SocketAddr>,
    /// A page that has not connected by ICE after this long loses its call.
    pub connect_timeout: Duration,
}

/// Bounds of every table.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Calls at once; more get 503.
    pub calls: usize,
    /// Sessions at once; more get 503.
    pub sessions: usize,
    /// Calls of one session at once.
    pub calls_per_session: usize,
    /// An unanswered call ends after this long.
    pub no_answer: Duration,
    /// A session without any request or open event stream ends after this long.
    pub session_idle: Duration,
}
