//! The media of the SIP peer: sockets, pacing and measurement of one call's audio, plain RTP.
//!
//! The SIP side ([`crate::sip_peer`]) opens an endpoint when it describes itself, starts it when it knows the other side, and
//! reads the statistics; each endpoint runs as a task of its own.

mod endpoint;
mod packet;
mod reception;

use std::net::SocketAddr;

use serde::Serialize;

pub use endpoint::Endpoint;
pub use packet::RtpHeader;
pub use reception::Reception;

use crate::audio::{G711, Level};

/// What an endpoint sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Every RTP packet that comes, under an SSRC and sequence of its own.
    Echo,
    /// A 440 Hz tone, a packet every 20 ms.
    Tone,
    /// Nothing.
    Nothing,
}

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the peer takes RTP.
    pub rtp: SocketAddr,
    /// Where the peer takes RTCP.
    pub rtcp: SocketAddr,
    /// Payload type of the voice codec.
    pub payload_type: u8,
    /// RTP clock of the voice codec in Hz.
    pub clock_hz: u32,
    /// The voice codec, if it can be decoded here.
    pub codec: Option<G711>,
    /// Payload type of telephone-event.
    pub events: Option<u8>,
    /// What to send.
    pub source: Source,
    /// Whether the direction allows sending.
    pub sends: bool,
}

/// What an endpoint has seen and done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MediaStats {
    /// Voice and event packets received from the peer.
    pub received: ReceptionStats,
    /// RTP packets sent.
    pub sent_packets: u64,
    /// RTP payload octets sent.
    pub sent_octets: u64,
    /// Datagrams that were no RTP of this call: another source, payload type or version.
    pub foreign: u64,
    /// DTMF digits received (RFC 4733), in their order, at most 256.
    pub digits: String,
    /// Reports received.
    pub rtcp: RtcpStats,
    /// The audio, where the codec can be decoded.
    pub audio: Level,
}

/// Reception in the terms of RFC 3550.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReceptionStats {
    /// Packets, duplicates included.
    pub packets: u64,
    /// Payload octets.
    pub octets: u64,
    /// Packets that the sequence numbers promise less those that came; negative with duplicates.
    pub lost: i64,
    /// Packets that came twice, among the last 64.
    pub duplicates: u64,
    /// Packets that came after a newer one.
    pub reordered: u64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f64,
    /// SSRC of the newest packet.
    pub ssrc: u32,
    /// How often the SSRC changed.
    pub ssrc_changes: u64,
}

/// RTCP received and sent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RtcpStats {
    /// Sender reports received.
    pub sender_reports: u64,
    /// Receiver reports received.
    pub receiver_reports: u64,
    /// BYE packets received.
    pub byes: u64,
    /// Datagrams on the RTCP port that cannot be read.
    pub malformed: u64,
    /// Compound packets sent.
    pub sent: u64,
    /// Packets lost on the way from us to the peer, as its newest report says.
    pub peer_lost: Option<i32>,
    /// Round trip in milliseconds by the newest report that allows it.
    pub round_trip_ms: Option<f64>,
}
