//! What a datapath counts for a flow: the layout that it writes, and what the daemon reads from it
//! for RTCP reports, statistics and media time-outs.
//!
//! Why apart from [`crate::FlowState`]: a map with a lock cannot be memory-mapped, this one can.
//! Written by the datapath while it holds the state's lock, read by the daemon without.

use crate::STREAMS;
use crate::scratch::Work;

/// Of so many packets in a row that are not authentic one is tried under a second index: what a forger can add to our work.
const TRIED_OF: u32 = 4;
const _: () = assert!(TRIED_OF.is_power_of_two());
/// Most rollovers that a sender may be ahead of the estimate: five hours at 50 packets a second.
const MAX_ROLLOVERS: u32 = 16;

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
    /// Packets whose keystream was made ahead of time.
    pub keystream_hits: u64,
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
    /// First extended sequence number that arrived (RFC 3550 A.3). Where a new SSRC took the stream
    /// over it is set so that `highest_sequence - first_sequence + 1` (modulo 2^32) still counts
    /// all packets expected so far.
    pub first_sequence: u32,
    /// Extended highest sequence number that arrived (RFC 3550 section 6.4.1).
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP clock units, RFC 3550 A.8 (already divided by 16).
    pub jitter: u32,
    /// Sequence number under which the packet of `highest_sequence` left.
    pub sequence_out: u16,
    /// RTP timestamp of the newest packet that left; of a telephone-event how far it was.
    pub timestamp_out: u32,
    /// CLOCK_MONOTONIC nanoseconds of that packet.
    pub last_seen_ns: u64,
}

/// How far a stream is: what the daemon makes keystream ahead by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets forwarded; 0 = the stream is not there.
    pub packets: u64,
    /// RTP payload octets forwarded.
    pub octets: u64,
    /// SRTP index of the newest protected packet.
    pub index: u64,
    /// SSRC as it arrives.
    pub ssrc_in: u32,
    /// SSRC as it leaves.
    pub ssrc_out: u32,
}

impl StreamSnapshot {
    /// Sequence number that leaves less the one that arrives, modulo 2^16.
    pub fn sequence_offset(&self) -> u16 {
        // Both are of the packet with the highest sequence number.
        self.sequence_out.wrapping_sub(self.highest_sequence as u16)
    }
}

/// Counters of a flow as they stand in the map.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowStats {
    packets: u64,
    octets: u64,
    dropped: u64,
    last_seen_ns: u64,
    /// Packets whose keystream was made ahead of time.
    keystream_hits: u64,
    /// By stream, packets in a row that were not authentic.
    unauthentic: [u32; STREAMS],
    reserved: u64,
    streams: [StreamStats; STREAMS],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StreamStats {
    packets: u64,
    octets: u64,
    last_seen_ns: u64,
    /// SRTP index of the newest protected packet.
    index: u64,
    ssrc_in: u32,
    ssrc_out: u32,
    first_sequence: u32,
    highest_sequence: u32,
    /// Jitter times 16, as RFC 3550 A.8 carries it.
    jitter: u32,
    /// Arrival less RTP timestamp of the packet before, in clock units.
    transit: u32,
    sequence_out: u32,
    timestamp_out: u32,
}

// A stream each cache line.
const _: () = assert!(size_of::<StreamStats>() == 64);
const _: () = assert!(size_of::<FlowStats>() == 64 + STREAMS * 64 && align_of::<FlowStats>() == 8);

impl FlowStats {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        let stream = StreamStats {
            packets: 0,
            octets: 0,
            last_seen_ns: 0,
            index: 0,
            ssrc_in: 0,
            ssrc_out: 0,
            first_sequence: 0,
            highest_sequence: 0,
            jitter: 0,
            transit: 0,
            sequence_out: 0,
            timestamp_out: 0,
        };
        Self {
            packets: 0,
            octets: 0,
            dropped: 0,
            last_seen_ns: 0,
            keystream_hits: 0,
            unauthentic: [0; STREAMS],
            reserved: 0,
            streams: [stream; STREAMS],
        }
    }

    /// The counters as the daemon reads them.
    pub fn snapshot(&self) -> FlowSnapshot {
        FlowSnapshot {
            packets: self.packets,
            octets: self.octets,
            dropped: self.dropped,
            last_seen_ns: self.last_seen_ns,
            keystream_hits: self.keystream_hits,
            streams: self
                .streams
                .map(|stream| (stream.packets > 0).then(|| stream.snapshot())),
        }
    }

    /// How far the stream at `place` is, read where the datapath writes.
    ///
    /// # Safety
    /// `stats` points to counters that stay there meanwhile.
    pub unsafe fn progress(stats: *const Self, place: usize) -> Progress {
        // SAFETY: in bounds by the mask; volatile, because the datapath writes it; numbers read one by one may be of two packets.
        unsafe {
            let stream = &raw const (*stats).streams[place & (STREAMS - 1)];
            Progress {
                packets: (&raw const (*stream).packets).read_volatile(),
                octets: (&raw const (*stream).octets).read_volatile(),
                index: (&raw const (*stream).index).read_volatile(),
                ssrc_in: (&raw const (*stream).ssrc_in).read_volatile(),
                ssrc_out: (&raw const (*stream).ssrc_out).read_volatile(),
            }
        }
    }

    /// Packets forwarded, and how many of them had their keystream made ahead of time, read where the datapath writes.
    ///
    /// # Safety
    /// `stats` points to counters that stay there meanwhile.
    pub unsafe fn keystream_use(stats: *const Self) -> (u64, u64) {
        // SAFETY: the fields of what the caller vouches for.
        unsafe {
            (
                (&raw const (*stats).packets).read_volatile(),
                (&raw const (*stats).keystream_hits).read_volatile(),
            )
        }
    }

    /// Counts a packet whose keystream was made ahead of time.
    #[inline(always)]
    pub(crate) fn count_keystream(&mut self) {
        self.keystream_hits = self.keystream_hits.wrapping_add(1);
    }

    /// Counts a packet that is dropped.
    #[inline(always)]
    pub(crate) fn count_drop(&mut self) {
        self.dropped = self.dropped.wrapping_add(1);
    }

    /// Counts a packet that is not authentic under the estimated index, or would be too old by it; how many rollovers later it is
    /// worth a second trial, if it is: of many such packets in a row every fourth, each other time one rollover more.
    #[inline(always)]
    pub(crate) fn doubt(&mut self, stream: usize) -> Option<u32> {
        let unauthentic = &mut self.unauthentic[stream & (STREAMS - 1)];
        let before = *unauthentic;
        *unauthentic = before.wrapping_add(1);
        let trial = before / TRIED_OF;
        let rollovers = if trial & 1 == 0 {
            1
        } else {
            2 + trial / 2 % (MAX_ROLLOVERS - 1)
        };
        (before & (TRIED_OF - 1) == 0).then_some(rollovers)
    }

    /// Notes that a packet of the stream is authentic.
    #[inline(always)]
    pub(crate) fn trust(&mut self, stream: usize) {
        let unauthentic = &mut self.unauthentic[stream & (STREAMS - 1)];
        if *unauthentic != 0 {
            *unauthentic = 0;
        }
    }

    /// Counts a packet that leaves; `first` if it is the first of its source.
    #[inline(always)]
    pub(crate) fn count(&mut self, work: &Work, ssrc_out: u32, clock_hz: u32, first: bool) {
        let octets = u64::from(work.octets);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(octets);
        self.last_seen_ns = work.now_ns;
        let stream = &mut self.streams[work.stream as usize & (STREAMS - 1)];
        // Arrival in clock units: microseconds times 90 000 stay below 2^64 for six years of uptime.
        let arrival = ((work.now_ns / 1000).wrapping_mul(u64::from(clock_hz)) / 1_000_000) as u32;
        let mut transit = arrival.wrapping_sub(work.timestamp);
        if work.event != 0 && !first {
            // All packets of an event have one timestamp: they say nothing of jitter.
            transit = stream.transit;
        }
        if first || stream.packets == 0 {
            stream.start(work);
            stream.sequence_out = work.sequence_out;
        } else {
            let step = work.sequence.wrapping_sub(stream.highest_sequence) as u16;
            if step < 0x8000 {
                stream.highest_sequence = stream.highest_sequence.wrapping_add(u32::from(step));
                stream.sequence_out = work.sequence_out;
            }
            let difference = transit.wrapping_sub(stream.transit);
            let distance = if difference < 0x8000_0000 {
                difference
            } else {
                difference.wrapping_neg()
            };
            // RFC 3550 A.8; the rounded sixteenth never exceeds the jitter itself.
            stream.jitter = stream
                .jitter
                .wrapping_add(distance)
                .wrapping_sub((stream.jitter.wrapping_add(8)) >> 4);
        }
        let position = work.timestamp_out.wrapping_add(work.ahead);
        let newest = position.wrapping_sub(stream.timestamp_out) < 0x8000_0000;
        if newest || first {
            stream.timestamp_out = position;
            stream.index = work.index;
        }
        stream.transit = transit;
        stream.ssrc_in = work.ssrc;
        stream.ssrc_out = ssrc_out;
        stream.packets = stream.packets.wrapping_add(1);
        stream.octets = stream.octets.wrapping_add(octets);
        stream.last_seen_ns = work.now_ns;
    }
}

impl Default for FlowStats {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamStats {
    /// Begins the sequence numbers of a new source, the packets expected so far kept.
    #[inline(always)]
    fn start(&mut self, work: &Work) {
        let expected = if self.packets == 0 {
            0
        } else {
            self.highest_sequence
                .wrapping_sub(self.first_sequence)
                .wrapping_add(1)
        };
        self.first_sequence = work.sequence.wrapping_sub(expected);
        self.highest_sequence = work.sequence;
    }

    fn snapshot(&self) -> StreamSnapshot {
        StreamSnapshot {
            ssrc_in: self.ssrc_in,
            ssrc_out: self.ssrc_out,
            packets: self.packets,
            octets: self.octets,
            first_sequence: self.first_sequence,
            highest_sequence: self.highest_sequence,
            jitter: self.jitter >> 4,
            sequence_out: self.sequence_out as u16,
            timestamp_out: self.timestamp_out,
            last_seen_ns: self.last_seen_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scratch;

    /// Counts a packet of an 8 kHz stream that arrives at `now_ms`.
    fn count(
        stats: &mut FlowStats,
        ssrc: u32,
        sequence: u32,
        timestamp: u32,
        now_ms: u64,
        first: bool,
    ) {
        let mut work = Scratch::new().work;
        work.ssrc = ssrc;
        work.sequence = sequence;
        work.timestamp = timestamp;
        work.timestamp_out = timestamp;
        work.sequence_out = sequence;
        work.now_ns = now_ms * 1_000_000;
        work.octets = 160;
        stats.count(&work, 99, 8000, first);
    }

    #[test]
    fn jitter_follows_rfc_3550_a8() {
        let mut stats = FlowStats::new();
        // Late by 0, 10, 0, 10 ms...: |D| is 80 clock units each time, and J converges to it.
        for k in 0..200 {
            count(
                &mut stats,
                1,
                k,
                160 * k,
                1000 + 20 * u64::from(k) + 10 * u64::from(k % 2),
                k == 0,
            );
        }
        let jitter = stats.snapshot().streams[0].unwrap().jitter;
        assert!((78..=80).contains(&jitter), "{jitter}");
    }

    #[test]
    fn the_first_steps_of_jitter() {
        let mut stats = FlowStats::new();
        count(&mut stats, 1, 0, 0, 1000, true);
        // 100 ms late: D = 800, J = 800 / 16 = 50.
        count(&mut stats, 1, 1, 160, 1120, false);
        assert_eq!(stats.snapshot().streams[0].unwrap().jitter, 50);
    }

    #[test]
    fn sequence_numbers_extend_over_the_wrap_and_ignore_reordering() {
        let mut stats = FlowStats::new();
        for (k, sequence) in [65_534, 65_535, 1, 0, 2].into_iter().enumerate() {
            count(&mut stats, 1, sequence, 160, 1000, k == 0);
        }
        let stream = stats.snapshot().streams[0].unwrap();
        assert_eq!(
            (stream.first_sequence, stream.highest_sequence),
            (65_534, 65_538)
        );
        assert_eq!((stream.packets, stream.octets), (5, 800));
    }

    #[test]
    fn a_new_source_keeps_the_packets_expected_so_far() {
        let mut stats = FlowStats::new();
        for sequence in [10, 11, 13] {
            count(&mut stats, 1, sequence, 160, 1000, sequence == 10);
        }
        for sequence in [50_000, 50_001] {
            count(&mut stats, 2, sequence, 160, 1000, sequence == 50_000);
        }
        let stream = stats.snapshot().streams[0].unwrap();
        let expected = stream
            .highest_sequence
            .wrapping_sub(stream.first_sequence)
            .wrapping_add(1);
        assert_eq!((expected, stream.packets, stream.ssrc_in), (4 + 2, 5, 2));
    }
}
