//! What the call logic has to know of the configuration, already checked by the daemon.

use crate::sip;
use crate::trunk::Trunk;
use std::net::{IpAddr, SocketAddr};
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
    /// Where calls go and come from, in the order in which they are asked; the last one takes what no other does.
    pub trunks: Vec<Trunk>,
    /// Where the SIP side's media may come from.
    pub latching: Latching,
    /// Whether the SIP side's media address is IPv6.
    pub sip_media_ipv6: bool,
    /// DSCP code point 0..=63 on media that leaves towards the SIP side.
    pub sip_dscp: u8,
    /// DSCP code point 0..=63 on media that leaves towards browsers.
    pub web_dscp: u8,
    /// How many times the packet rate that was negotiated a medium may have before packets are dropped; 0 = any.
    pub packet_rate_margin: u32,
    /// Headers of an INVITE whose names begin so carry data of the call; the rest of the name is the key.
    pub data_prefix: String,
    /// Registration lifetime that is asked for.
    pub registration_expires: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// Which sources besides the signalled address may be the SIP side's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latching {
    /// Other ports of the signalled host.
    Signalled,
    /// Any host of its /24 (IPv4) or /64 (IPv6).
    Subnet,
    /// Any.
    Symmetric,
}

impl Latching {
    /// Whether media of a peer that signalled one host may come from another one.
    pub(crate) fn admits(self, signalled: IpAddr, source: IpAddr) -> bool {
        match (self, signalled, source) {
            (Self::Symmetric, _, _) => true,
            (Self::Subnet, IpAddr::V4(signalled), IpAddr::V4(source)) => {
                signalled.octets()[..3] == source.octets()[..3]
            }
            (Self::Subnet, IpAddr::V6(signalled), IpAddr::V6(source)) => {
                signalled.segments()[..4] == source.segments()[..4]
            }
            (Self::Signalled | Self::Subnet, signalled, source) => signalled == source,
        }
    }
}

/// The browser side's sockets.
pub struct Web {
    /// Bound addresses (specific ones, one per address family), all browsers share them.
    pub listen: Vec<SocketAddr>,
    /// What pages are told instead, index by index (1:1 NAT, port forwards); empty = the bound ones.
    pub advertised: Vec<SocketAddr>,
    /// Where pages reach the same by ICE over TCP (RFC 6544), as they are told; empty = nowhere.
    pub tcp: Vec<SocketAddr>,
    /// A page that has not connected by ICE after this long loses its call.
    pub connect_timeout: Duration,
    /// SRTP suites that DTLS may agree on, out of [`crate::webrtc::DTLS_SUITES`], the best first.
    pub srtp_suites: Vec<flow::Suite>,
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
    /// An unanswered call ends after this long; a session may ask for less.
    pub no_answer: Duration,
    /// A call whose browser's consent ran out waits this long for the browser to come back.
    pub reconnect: Duration,
    /// A session without any request or open event stream ends after this long.
    pub session_idle: Duration,
}
