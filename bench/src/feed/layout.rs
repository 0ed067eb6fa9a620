//! What the feed's BPF programs (`ebpf/src/bed/main.rs`, which includes this file) and [`super`] agree on: sizes, and what stands where
//! in the maps.

/// Bytes of a map value of the tape and of the times: few system calls for many packets.
pub const VALUE: usize = 1 << 16;
/// Most bytes of a recorded packet; also the room that the last packet of a value leaves behind it.
pub const PACKET: usize = 2048;
/// Ethernet, IPv4 and UDP headers: before each recorded packet, by stream.
pub const HEADERS: usize = 14 + 20 + 8;
/// So much longer than its packet is a frame when the source gets it.
pub const SPARE: i32 = 8;
/// Packets whose two times share a value, as a power of two.
pub const TIMES_BITS: u64 = 12;
/// One packet in so many is kept by the sink for a look at its content: a power of two.
pub const SAMPLE: u64 = 64;
/// Samples that are kept: the last ones.
pub const SAMPLES: u64 = 2048;
/// Where a sample's bytes begin, behind the number of its run (above [`RUN_BITS`]) and its index, and behind its length.
pub const SAMPLE_BYTES: usize = 16;
/// Place of the run's number beside an index.
pub const RUN_BITS: u64 = 40;
/// Most of [`plan::PATIENCE`].
pub const MOST_PATIENCE: u64 = 64;
/// A source that is later than this (its CPU was taken away) goes on from there, or it would make up for the pause in one heap.
pub const SLIP_NS: u64 = 100_000;

/// Places in the plan, which only the bench writes.
pub mod plan {
    /// First packet of this run.
    pub const FIRST: usize = 0;
    /// The packet after its last.
    pub const END: usize = 1;
    /// Streams.
    pub const STREAMS: usize = 2;
    /// Bytes of a recorded packet.
    pub const LENGTH: usize = 3;
    /// Distance of two recorded packets.
    pub const STRIDE: usize = 4;
    /// Packets that leave at once.
    pub const BURST: usize = 5;
    /// Nanoseconds from burst to burst.
    pub const BURST_NS: usize = 6;
    /// SSRC of stream 0.
    pub const FIRST_SSRC: usize = 7;
    /// Sequence number of packet 0 of each stream.
    pub const FIRST_SEQUENCE: usize = 8;
    /// Which of the devices the packets leave by.
    pub const DEVICE: usize = 9;
    /// Number of this run, never 0.
    pub const RUN: usize = 10;
    /// How often the time is read again in a run that comes too early, before it gives up.
    pub const PATIENCE: usize = 11;
    /// Number of places.
    pub const PLACES: usize = 12;
}

/// Places in the source's state.
pub mod source {
    /// The packet that comes next.
    pub const NEXT: usize = 0;
    /// Its stream.
    pub const STREAM: usize = 1;
    /// The tape's value that it lies in.
    pub const VALUE: usize = 2;
    /// And where in it.
    pub const OFFSET: usize = 3;
    /// Packets left of this burst.
    pub const LEFT: usize = 4;
    /// When the next burst is due (CLOCK_MONOTONIC).
    pub const DUE: usize = 5;
    /// Bursts that were too late.
    pub const SLIPS: usize = 6;
    /// Number of places.
    pub const PLACES: usize = 7;
}

/// Places in the sink's state.
pub mod sink {
    /// Packets of this run, each counted once.
    pub const ARRIVED: usize = 0;
    /// Packets that came again.
    pub const AGAIN: usize = 1;
    /// RTP that is none of this run.
    pub const FOREIGN: usize = 2;
    /// Bytes of the RTP packets that arrived.
    pub const BYTES: usize = 3;
    /// Number of places.
    pub const PLACES: usize = 4;
}
