//! Telephone-events (RFC 4733): what the path does to their packets, and what the daemon is told of them.
//!
//! 1. All packets of an event leave with one timestamp on the stream's own timeline. Where events arrive in the stream's clock that
//!    is the one that arrived, moved like every other; where they do not, the peer's timestamps may count anything, and the event is
//!    put where its first packet arrived.
//! 2. Durations are scaled from the clock that arrives to the one that leaves. What gets longer than the field holds is sent as
//!    segments (RFC 4733 section 2.5.1.3): one packet leaves for each that arrives, so the packet that comes to the limit reports it
//!    without the end bit, and the next begins the new segment. An end keeps its bit in any case; a limit that only an end packet
//!    reaches is not reported. Segments that arrive are one event.
//! 3. Once per event a [`FlowEvent`] is left in the scratch memory: at its end, or, where no end arrived, at the next event or at the
//!    first packet after [`LOST_NS`].
//!
//! Called by [`crate::forward()`] under the state's lock.

use crate::FlowHead;
use crate::Why;
use crate::payload::EventClocks;
use crate::scratch::{Scratch, Work};
use crate::state::Numbers;

/// Longest duration that a packet can report.
const LONGEST: u32 = 0xffff;
/// An event of which no packet came for so long is over.
const LOST_NS: u64 = 3_000_000_000;
const END: u32 = 1 << 23;
/// Nobody presses a key for longer; keeps sums in range.
const LONGEST_EVENT: u32 = 1 << 30;

const OPEN: u8 = 1;
const TOLD: u8 = 2;

/// [`FlowEvent::kind`] of a telephone-event that is over.
const KIND_DIGIT: u32 = 1;

/// What the packet path tells the daemon, by ring buffer or with the packet that it returns.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowEvent {
    /// CLOCK_MONOTONIC nanoseconds.
    pub now_ns: u64,
    /// 0 = nothing to tell, 1 = a telephone-event is over.
    kind: u32,
    /// Slot of the flow; 0 in userspace.
    pub slot: u32,
    /// Generation of the flow.
    pub generation: u32,
    /// Event code (RFC 4733 section 3.2: 0..=9, 10 = `*`, 11 = `#`, 12..=15 = A..D).
    pub code: u32,
    /// How long it was.
    pub duration_ms: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<FlowEvent>() == 32);

/// Bytes of the ring buffer: room for 1600 events, more than a thousand callers dial in a second.
pub const EVENT_RING_BYTES: usize = 1 << 16;

impl FlowEvent {
    pub(crate) const NONE: Self = Self {
        now_ns: 0,
        kind: 0,
        slot: 0,
        generation: 0,
        code: 0,
        duration_ms: 0,
        reserved: 0,
    };

    /// From the ring buffer; `None` for what is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else {
            return None;
        };
        let [low, high, words @ ..] = words else {
            return None;
        };
        let [kind, slot, generation, code, duration_ms, reserved] =
            <[_; 6]>::try_from(words).ok()?.map(u32::from_ne_bytes);
        let [a, b, c, d] = *low;
        let [e, f, g, h] = *high;
        let event = Self {
            now_ns: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            kind,
            slot,
            generation,
            code,
            duration_ms,
            reserved,
        };
        (kind == KIND_DIGIT && code <= 255).then_some(event)
    }

    /// The key of DTMF; `None` for other events (RFC 4733 section 3.2).
    pub fn digit(&self) -> Option<char> {
        "0123456789*#ABCD".chars().nth(self.code as usize)
    }

    /// Whether there is something to tell.
    #[inline(always)]
    pub(crate) fn is_some(&self) -> bool {
        self.kind != 0
    }
}

/// The newest event of a stream.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventState {
    /// Timestamp that its newest segment arrives with.
    timestamp_in: u32,
    /// Timestamp that its first segment leaves with.
    timestamp_out: u32,
    /// Duration of the segments that arrived before the newest.
    earlier: u32,
    /// Of all of it so far; both in the clock of arrival.
    duration: u32,
    clock_hz: u32,
    code: u8,
    /// 0 = there is none.
    phase: u8,
    /// Segments that left and are full.
    segments: u16,
}

impl EventState {
    pub(crate) const NONE: Self = Self {
        timestamp_in: 0,
        timestamp_out: 0,
        earlier: 0,
        duration: 0,
        clock_hz: 0,
        code: 0,
        phase: 0,
        segments: 0,
    };

    /// Settles timestamp and report of an event packet whose other numbers are settled. `stream_hz` is the clock of the stream,
    /// `anchor` its position at this moment.
    #[inline(always)]
    pub(crate) fn advance(
        &mut self,
        clocks: EventClocks,
        stream_hz: u32,
        anchor: u32,
        numbers: &Numbers,
        work: &mut Work,
        tell: &mut FlowEvent,
    ) {
        let word = work.event_word;
        let reported = word & LONGEST;
        let code = (word >> 24) as u8;
        let known = self.phase != 0 && !numbers.first && self.code == code;
        let step = work.timestamp.wrapping_sub(self.timestamp_in);
        let full = scale(LONGEST, clocks.in_hz, stream_hz);
        if !(known && step == 0) {
            if !numbers.newest {
                // Of an event before: nothing is known of it any more.
                work.event_word =
                    (word & !LONGEST) | scale(reported, clocks.in_hz, clocks.out_hz).min(LONGEST);
                return;
            }
            if known && self.phase == OPEN && (step == LONGEST || step == full) {
                self.earlier = self.earlier.wrapping_add(LONGEST).min(LONGEST_EVENT);
            } else {
                self.tell(tell);
                *self = Self {
                    timestamp_out: if clocks.in_hz == stream_hz {
                        numbers.timestamp
                    } else {
                        anchor
                    },
                    clock_hz: clocks.in_hz,
                    code,
                    phase: OPEN,
                    ..Self::NONE
                };
            }
            self.timestamp_in = work.timestamp;
        }
        let arrived = self.earlier.wrapping_add(reported);
        self.duration = self.duration.max(arrived);
        let (segment, left) =
            self.segment(scale(arrived, clocks.in_hz, clocks.out_hz), word & END != 0);
        work.event_word = (word & !LONGEST) | left;
        work.timestamp_out = self.timestamp_out.wrapping_add(segment.wrapping_mul(scale(
            LONGEST,
            clocks.out_hz,
            stream_hz,
        )));
        work.ahead = scale(left, clocks.out_hz, stream_hz);
        // The event before may be what is told; then an end packet that is repeated tells of this one.
        if word & END != 0 && !tell.is_some() {
            self.tell(tell);
        }
    }

    /// In which segment a packet leaves, and what it reports of it, for all of the event so far in the clock that leaves.
    #[inline(always)]
    fn segment(&mut self, total: u32, ends: bool) -> (u32, u32) {
        let own = total.saturating_sub(1) / LONGEST;
        let closed = u32::from(self.segments);
        if ends || own < closed {
            self.segments = own.max(closed) as u16;
            return (own, total.wrapping_sub(own.wrapping_mul(LONGEST)));
        }
        let left = total.wrapping_sub(closed.wrapping_mul(LONGEST));
        if left < LONGEST {
            return (closed, left);
        }
        self.segments = self.segments.wrapping_add(1);
        (closed, LONGEST)
    }

    /// The event is over, if there is one that the daemon was not told of.
    #[inline(always)]
    fn tell(&mut self, tell: &mut FlowEvent) {
        if self.phase == OPEN {
            self.phase = TOLD;
            tell.kind = KIND_DIGIT;
            tell.code = u32::from(self.code);
            tell.duration_ms = scale(self.duration, self.clock_hz, 1000);
        }
    }

    /// For a packet that is no event, `idle_ns` after the one before it.
    #[inline(always)]
    pub(crate) fn pass(&mut self, idle_ns: u64, tell: &mut FlowEvent) {
        if self.phase == OPEN && idle_ns > LOST_NS {
            self.tell(tell);
        }
    }
}

/// Reads the report of an event packet; the packet is plain and its padding read.
#[inline(always)]
pub(crate) fn read(scratch: &mut Scratch) -> Result<(), Why> {
    scratch.event.kind = 0;
    scratch.work.ahead = 0;
    if scratch.work.event == 0 {
        return Ok(());
    }
    if scratch.work.octets < 4 {
        return Err(Why::BadRtp);
    }
    scratch.work.event_word = scratch.word(scratch.work.payload_word());
    Ok(())
}

/// Completes what the daemon is told, if it is told something.
#[inline(always)]
pub(crate) fn address(entry: &FlowHead, scratch: &mut Scratch) {
    let Work { now_ns, slot, .. } = scratch.work;
    scratch.event.now_ns = now_ns;
    scratch.event.slot = slot;
    scratch.event.generation = entry.generation();
}

/// A duration in another clock.
#[inline(always)]
fn scale(duration: u32, from_hz: u32, to_hz: u32) -> u32 {
    if from_hz == to_hz {
        return duration;
    }
    (u64::from(duration) * u64::from(to_hz) / u64::from(from_hz.max(1))) as u32
}
