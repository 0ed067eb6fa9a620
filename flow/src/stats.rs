//! What a datapath counts for a flow, as the daemon reads it: the source of RTCP reports, statistics and media time-outs.
//!
//! The kernel's own layout (`crate::state`) is read into these by each datapath; the call logic sees only these.

use crate::STREAMS;

/// Counters of one flow since it was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSnapshot {
    /// Packets forwarded.
    pub packets: u64,
    /// RTP payload octets forwarded (RFC 3550 section 6.4.1: without header and padding).
    pub octets: u64,
    /// Packets dropped after the lookup, for any reason.
    pub dropped: u64,
    /// Monotonic clock (CLOCK_MONOTONIC), nanoseconds, of the last packet forwarded; 0 = none yet.
    pub last_seen_ns: u64,
    /// The SSRCs seen; unused places are `None`.
    pub streams: [Option<StreamSnapshot>; STREAMS],
}

/// Counters of one SSRC of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamSnapshot {
    /// SSRC as it arrives.
    pub ssrc_in: u32,
    /// SSRC as it leaves.
    pub ssrc_out: u32,
    /// Packets forwarded.
    pub packets: u64,
    /// RTP payload octets forwarded.
    pub octets: u64,
    /// First extended sequence number that arrived (RFC 3550 A.3).
    pub first_sequence: u32,
    /// Extended highest sequence number that arrived (RFC 3550 section 6.4.1).
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP clock units, RFC 3550 A.8 (already divided by 16).
    pub jitter: u32,
    /// Sequence number of the newest packet that left.
    pub sequence_out: u16,
    /// RTP timestamp of the newest packet that left.
    pub timestamp_out: u32,
    /// CLOCK_MONOTONIC nanoseconds of that packet.
    pub last_seen_ns: u64,
}
