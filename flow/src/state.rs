//! What a flow remembers from packet to packet: rollover counters, replay windows, the offsets that
//! keep the leaving stream continuous. Seeded once at install, then written by the datapath only,
//! under the lock.
//!
//! 1. A stream is bound to the SSRC of its first packet (`Learnt`) or to the signalled one, and a
//!    `Learnt` one to another SSRC that takes it over; places without a stream keep what was received
//!    of the SSRCs before. Where packets are authenticated that comes first.
//! 2. Per packet an index is estimated from it without writing (RFC 3711 section 3.3.1), and
//!    written under the lock, after all checks were repeated there: two CPUs can hold packets of
//!    one stream.
//! 3. Where a new SSRC takes a stream over, or a sender starts its numbers afresh (RFC 3550 A.1:
//!    two packets in order after a jump), the leaving sequence and timestamp go on from the last
//!    packet that left.

use crate::event::EventState;
use crate::rate::Rate;
use crate::window::{WINDOW, Window, estimate, estimate_ahead};
use crate::{MEDIA, NewKeys, STREAMS, Why};

/// Largest step forward that is taken for loss and not for a restart (RFC 3550 A.1 MAX_DROPOUT).
const MAX_DROPOUT: i16 = 3000;
/// Most time that a gap in the leaving timestamps makes up for: four hours, less than half a round of timestamps at 90 kHz.
const MAX_GAP_NS: u64 = 4 * 3600 * 1_000_000_000;

/// State of a flow: the value of a map with a `bpf_spin_lock` as its first field.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowState {
    lock: u32,
    reserved: u32,
    /// By medium.
    pub(crate) rates: [Rate; MEDIA],
    pub(crate) streams: [StreamState; STREAMS],
}

/// State of one stream.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// Highest SRTP index that was authenticated on arrival, and which of the indices up to it were.
    received: Window,
    /// Highest extended sequence number that left, and which of the numbers up to it were used.
    sent: Window,
    /// CLOCK_MONOTONIC of the newest packet that left.
    sent_ns: u64,
    pub(crate) ssrc_in: u32,
    /// 1 once `ssrc_in` is known.
    bound: u32,
    /// Leaving less arriving sequence number, modulo 2^16.
    sequence_offset: u32,
    /// Leaving less arriving timestamp.
    timestamp_offset: u32,
    /// Timestamp of the newest packet that left; of an event how far it is.
    timestamp_out: u32,
    /// Timestamp step between the last two packets in order: what a packet takes.
    step: u32,
    /// Sequence number that would confirm a restart (RFC 3550 A.1 bad_seq), plus 1; 0 = none.
    suspect: u32,
    /// Clock of the newest packet that left; 0 = none yet.
    clock_hz: u32,
    pub(crate) event: EventState,
}

const _: () = assert!(size_of::<StreamState>() == 112);
const _: () = assert!(
    size_of::<FlowState>() == 8 + MEDIA * 8 + STREAMS * 112 && align_of::<FlowState>() == 8
);

/// Where a stream goes on that was carried elsewhere before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamSeed {
    /// SSRC of the arriving packets.
    pub ssrc_in: u32,
    /// Highest index (ROC * 2^16 + sequence number) that was received, if any was.
    pub received: Option<u64>,
    /// Highest index that left, if any did. Everything up to it counts as used.
    pub sent: Option<u64>,
    /// Timestamp of the newest packet that left.
    pub timestamp_out: u32,
    /// Sequence number that leaves less the one that arrives.
    pub sequence_offset: u16,
    /// Timestamp that leaves less the one that arrives.
    pub timestamp_offset: u32,
}

/// What a packet that is about to leave leaves with.
pub(crate) struct Numbers {
    /// Extended sequence number; on `Protect` the SRTP index.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    /// Whether the packet is the first of its source.
    pub(crate) first: bool,
    /// Whether none left that comes behind it.
    pub(crate) newest: bool,
}

/// The packet as the state sees it.
#[derive(Clone, Copy)]
pub(crate) struct Arriving {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u32,
    pub(crate) timestamp: u32,
    pub(crate) now_ns: u64,
    pub(crate) clock_hz: u32,
}

impl FlowState {
    /// State of a flow that has not seen a packet. Never for keys that encrypted before: their indices would be used
    /// again; that takes [`FlowState::carried_over`].
    pub const fn new() -> Self {
        Self {
            lock: 0,
            reserved: 0,
            rates: [Rate::FULL; MEDIA],
            streams: [StreamState::NEW; STREAMS],
        }
    }

    /// Starts one stream where it was left elsewhere.
    pub fn seed(&mut self, stream: usize, seed: &StreamSeed) {
        let Some(state) = self.streams.get_mut(stream) else {
            return;
        };
        *state = StreamState {
            received: Window::filled(seed.received),
            sent: Window::filled(seed.sent),
            ssrc_in: seed.ssrc_in,
            bound: 1,
            sequence_offset: u32::from(seed.sequence_offset),
            timestamp_offset: seed.timestamp_offset,
            timestamp_out: seed.timestamp_out,
            ..StreamState::NEW
        };
    }

    /// The state to install where the flow moves to another slot or address under the same keys.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self { lock: 0, ..*self }
    }

    /// The state to install where the flow gets new keys: on the sides that get them indices start at ROC 0 again, sequence
    /// and timestamp go on. Keys that encrypted before go on by [`FlowState::with_leaving_of`], or indices would be used again.
    #[must_use]
    pub fn rekeyed(&self, new: NewKeys) -> Self {
        let mut state = self.carried_over();
        for stream in &mut state.streams {
            if new.arriving && stream.sent.is_empty() {
                // An SSRC whose stream another one has taken over.
                *stream = StreamState::NEW;
            } else if new.arriving {
                stream.received = Window::EMPTY;
            }
            if !new.leaving {
                continue;
            }
            // Below 2^15, or the peer could miss the first wrap (RFC 3711 section 3.3.1).
            let sequence = stream.sent.highest & 0x7fff;
            let moved = (sequence as u32).wrapping_sub(stream.sent.highest as u32) & 0xffff;
            stream.sequence_offset = stream.sequence_offset.wrapping_add(moved) & 0xffff;
            if !stream.sent.is_empty() {
                stream.sent = Window::started(sequence);
            }
        }
        state
    }

    /// The state to go on with where the keys of what arrives come back, which were left in state `former`: what was received under
    /// them is not taken again.
    #[must_use]
    pub fn with_arriving_of(mut self, former: &Self) -> Self {
        let heard = former.streams.iter();
        for was in heard.filter(|was| was.is_bound() && !was.received.is_empty()) {
            let mut places = 0..STREAMS;
            let known = places.find(|&place| self.streams[place].is_bound_to(was.ssrc_in));
            // Places in front are those of media, which their own packets bind.
            let mut shelves = (MEDIA..STREAMS).rev();
            let place = known.or_else(|| shelves.find(|&place| !self.streams[place].is_bound()));
            if let Some(place) = place {
                let stream = &mut self.streams[place];
                (stream.ssrc_in, stream.bound) = (was.ssrc_in, 1);
                stream.received = was.received;
            }
        }
        self
    }

    /// The state to go on with where the keys of what leaves come back, which were left in state `former`: indices go on
    /// there, so that none encrypts a second packet (RFC 3711 section 9.1).
    #[must_use]
    pub fn with_leaving_of(mut self, former: &Self) -> Self {
        for (stream, was) in self.streams.iter_mut().zip(&former.streams) {
            if was.sent.is_empty() {
                continue;
            }
            let moved = (was.sent.highest as u32).wrapping_sub(stream.sent.highest as u32) & 0xffff;
            stream.sequence_offset = stream.sequence_offset.wrapping_add(moved) & 0xffff;
            stream.sent = was.sent;
        }
        self
    }
}

impl FlowState {
    /// An authentic packet of another SSRC is about to take a stream over, under the lock: what was received of the stream's SSRC
    /// changes places with what was of the packet's, which is `heard` (nothing, if it is new). False if another CPU was first.
    #[inline(always)]
    pub(crate) fn bring(&mut self, stream: usize, heard: usize, ssrc: u32, index: u64) -> bool {
        let [before, now] = [self.streams[stream].ssrc_in, self.streams[heard].ssrc_in];
        let known = self.streams[heard].is_bound();
        let received = self.streams[heard].received;
        if before == ssrc || (known && now != ssrc) || received.check(index, Why::Replayed).is_err()
        {
            return false;
        }
        let shelf = &mut self.streams[heard];
        (shelf.ssrc_in, shelf.bound) = (before, 1);
        self.streams[heard].received = self.streams[stream].received;
        self.streams[stream].received = received;
        true
    }
}

impl Default for FlowState {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamState {
    const NEW: Self = Self {
        received: Window::EMPTY,
        sent: Window::EMPTY,
        sent_ns: 0,
        ssrc_in: 0,
        bound: 0,
        sequence_offset: 0,
        timestamp_offset: 0,
        timestamp_out: 0,
        step: 0,
        suspect: 0,
        clock_hz: 0,
        event: EventState::NONE,
    };

    #[inline(always)]
    pub(crate) fn is_bound(&self) -> bool {
        self.bound != 0
    }

    #[inline(always)]
    pub(crate) fn is_bound_to(&self, ssrc: u32) -> bool {
        self.bound != 0 && self.ssrc_in == ssrc
    }

    /// SRTP index of an arriving packet, so many `rollovers` later than it is most likely; nothing written.
    #[inline(always)]
    pub(crate) fn receive_index(
        &self,
        ssrc: u32,
        sequence: u32,
        rollovers: u32,
    ) -> Result<u64, Why> {
        if !self.is_bound_to(ssrc) || self.received.is_empty() {
            return Ok((u64::from(rollovers) << 16) | u64::from(sequence & 0xffff));
        }
        let highest = self.received.highest;
        let index = estimate_ahead(highest, sequence, rollovers).ok_or(Why::TooOld)?;
        self.received.check(index, Why::Replayed)?;
        Ok(index)
    }

    /// Takes an authenticated packet in, under the lock.
    #[inline(always)]
    pub(crate) fn receive(&mut self, packet: &Arriving, index: u64) -> Result<Numbers, Why> {
        self.received.check(index, Why::Replayed)?;
        self.received.insert(index);
        self.relay(packet)
    }

    /// Takes an authenticated packet in that is about to be encrypted again, under the lock.
    #[inline(always)]
    pub(crate) fn transcrypt(&mut self, packet: &Arriving, index: u64) -> Result<Numbers, Why> {
        self.received.check(index, Why::Replayed)?;
        // It has arrived, also where it is taken for a jump and does not leave.
        self.received.insert(index);
        self.send(packet)
    }

    /// Numbers of a packet that leaves plain, under the lock: nothing is refused, the stream is
    /// kept continuous.
    #[inline(always)]
    pub(crate) fn relay(&mut self, packet: &Arriving) -> Result<Numbers, Why> {
        let first = !self.is_bound_to(packet.ssrc);
        if first {
            self.take_over(packet, u32::MAX);
        } else {
            self.follow_clock(packet);
        }
        let sequence = packet.sequence.wrapping_add(self.sequence_offset) & 0xffff;
        let index = if self.sent.is_empty() {
            u64::from(sequence)
        } else {
            estimate(self.sent.highest, sequence).unwrap_or_else(|| u64::from(sequence))
        };
        Ok(self.leave(packet, index, first))
    }

    /// Numbers of a packet that is about to be encrypted, under the lock. An index is never given
    /// out twice: a second packet under one index would be a two-time pad.
    #[inline(always)]
    pub(crate) fn send(&mut self, packet: &Arriving) -> Result<Numbers, Why> {
        let mut first = !self.is_bound_to(packet.ssrc);
        if !first && !self.sent.is_empty() {
            let sequence = packet.sequence.wrapping_add(self.sequence_offset) & 0xffff;
            let step = sequence.wrapping_sub(self.sent.highest as u32) as u16 as i16;
            if step > MAX_DROPOUT || step <= -(WINDOW as i16) {
                if self.suspect != packet.sequence + 1 {
                    self.suspect = (packet.sequence.wrapping_add(1) & 0xffff) + 1;
                    return Err(if step > 0 {
                        Why::SequenceJump
                    } else {
                        Why::TooOld
                    });
                }
                first = true;
            }
        }
        if first {
            // The first number stays below 2^15: a peer that misses it could not tell a wrap (RFC
            // 3711 section 3.3.1).
            self.take_over(packet, 0x7fff);
        } else {
            self.follow_clock(packet);
        }
        let sequence = packet.sequence.wrapping_add(self.sequence_offset) & 0xffff;
        let index = if self.sent.is_empty() {
            u64::from(sequence)
        } else {
            estimate(self.sent.highest, sequence).ok_or(Why::TooOld)?
        };
        self.sent.check(index, Why::IndexReused)?;
        self.suspect = 0;
        Ok(self.leave(packet, index, first))
    }

    /// Binds the stream to the packet's SSRC and sets the offsets so that the leaving stream goes
    /// on without a seam, or starts with the packet's own numbers, the sequence number under
    /// `mask`.
    #[inline(always)]
    fn take_over(&mut self, packet: &Arriving, mask: u32) {
        self.ssrc_in = packet.ssrc;
        self.bound = 1;
        self.suspect = 0;
        if self.sent.is_empty() {
            self.sequence_offset = (packet.sequence & mask).wrapping_sub(packet.sequence) & 0xffff;
            return;
        }
        let sequence = (self.sent.highest as u32).wrapping_add(1);
        self.sequence_offset = sequence.wrapping_sub(packet.sequence) & 0xffff;
        self.timestamp_offset = self.position(packet).wrapping_sub(packet.timestamp);
    }

    /// Where the codec's clock has changed, the timestamps go on from the last one in the new clock, whatever the sender's do.
    #[inline(always)]
    fn follow_clock(&mut self, packet: &Arriving) {
        if self.clock_hz != 0 && self.clock_hz != packet.clock_hz {
            self.step = 0;
            self.timestamp_offset = self.position(packet).wrapping_sub(packet.timestamp);
            self.clock_hz = packet.clock_hz;
        }
    }

    /// Timestamp with which the stream goes on at the packet's arrival, whatever its own timestamp says.
    #[inline(always)]
    pub(crate) fn position(&self, packet: &Arriving) -> u32 {
        if self.sent.is_empty() {
            return packet.timestamp.wrapping_add(self.timestamp_offset);
        }
        let elapsed_us = self.idle_ns(packet).min(MAX_GAP_NS) / 1000;
        let elapsed = (elapsed_us * u64::from(packet.clock_hz) / 1_000_000) as u32;
        // One packet of 20 ms, where no other step was seen in this clock.
        let step = if self.step == 0 || self.clock_hz != packet.clock_hz {
            packet.clock_hz / 50
        } else {
            self.step
        };
        let gap = if self.sent_ns == 0 || elapsed < step {
            step
        } else {
            elapsed
        };
        self.timestamp_out.wrapping_add(gap)
    }

    /// Nanoseconds since a packet left.
    #[inline(always)]
    pub(crate) fn idle_ns(&self, packet: &Arriving) -> u64 {
        packet.now_ns.saturating_sub(self.sent_ns)
    }

    /// The newest packet that left was of an event, which lasts up to this timestamp so far.
    #[inline(always)]
    pub(crate) fn last_until(&mut self, timestamp: u32) {
        self.timestamp_out = timestamp;
    }

    /// Notes that the packet leaves.
    #[inline(always)]
    fn leave(&mut self, packet: &Arriving, index: u64, first: bool) -> Numbers {
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_offset);
        let newest = self.sent.is_empty() || index > self.sent.highest;
        if newest {
            if !first && index == self.sent.highest.wrapping_add(1) {
                let step = timestamp.wrapping_sub(self.timestamp_out);
                // A packet holds 200 ms at most; anything else is a pause or the same frame.
                if step != 0 && step <= packet.clock_hz / 5 {
                    self.step = step;
                }
            }
            self.timestamp_out = timestamp;
            self.sent_ns = packet.now_ns;
            self.clock_hz = packet.clock_hz;
        }
        self.sent.insert(index);
        Numbers {
            index,
            timestamp,
            first,
            newest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 0x1111;

    fn packet(sequence: u32, timestamp: u32) -> Arriving {
        Arriving {
            ssrc: SSRC,
            sequence,
            timestamp,
            now_ns: u64::from(timestamp) * 125_000,
            clock_hz: 8000,
        }
    }

    #[test]
    fn a_repeated_index_is_refused_before_and_after_the_wrap() {
        let mut stream = StreamState::NEW;
        stream.sent = Window::started(0xfffe);
        stream.ssrc_in = SSRC;
        stream.bound = 1;
        assert_eq!(
            stream.send(&packet(0xffff, 160)).ok().map(|n| n.index),
            Some(0xffff)
        );
        assert_eq!(
            stream.send(&packet(1, 480)).ok().map(|n| n.index),
            Some(0x1_0001)
        );
        assert_eq!(
            stream.send(&packet(0, 320)).ok().map(|n| n.index),
            Some(0x1_0000)
        );
        for sequence in [0xfffe, 0xffff, 0, 1] {
            assert_eq!(
                stream.send(&packet(sequence, 320)).err(),
                Some(Why::IndexReused),
                "{sequence}"
            );
        }
        assert_eq!(stream.send(&packet(0xff00, 320)).err(), Some(Why::TooOld));
    }

    #[test]
    fn a_restart_is_taken_after_two_packets_in_order() {
        let mut stream = StreamState::NEW;
        for k in 0..3 {
            stream.send(&packet(100 + k, 160 * k)).ok().unwrap();
        }
        assert_eq!(
            stream.send(&packet(40_000, 9_000_000)).err(),
            Some(Why::TooOld)
        );
        let numbers = stream.send(&packet(40_001, 9_000_160)).ok().unwrap();
        assert_eq!(numbers.index, 103);
        assert!(numbers.first);
        let numbers = stream.send(&packet(40_002, 9_000_320)).ok().unwrap();
        assert_eq!(numbers.index, 104);
    }

    #[test]
    fn a_new_source_goes_on_where_the_old_one_left() {
        let mut stream = StreamState::NEW;
        stream.send(&packet(60_000, 160)).ok().unwrap();
        let last = stream.send(&packet(60_001, 320)).ok().unwrap();
        let mut other = packet(7, 77_000);
        other.ssrc = 9;
        other.now_ns = 20_000_000 + 320 * 125_000;
        let next = stream.send(&other).ok().unwrap();
        assert_eq!((next.index, next.timestamp), (last.index + 1, 480));
    }

    #[test]
    fn a_source_after_a_long_hold_goes_on_by_the_clock_on_the_wall() {
        let mut stream = StreamState::NEW;
        let last = stream.send(&packet(40_000, 320)).ok().unwrap();
        let held_ns = 12 * 60 * 1_000_000_000;
        let mut music = packet(60_000, 77_000);
        (music.ssrc, music.now_ns) = (9, held_ns + 320 * 125_000);
        let next = stream.send(&music).ok().unwrap();
        assert_eq!(next.index, last.index + 1);
        assert_eq!(next.timestamp, 320 + 12 * 60 * 8000);
    }

    #[test]
    fn timestamps_go_on_in_the_clock_of_the_next_codec() {
        let mut stream = StreamState::NEW;
        for k in 0..3 {
            stream.send(&packet(100 + k, 160 * k)).ok().unwrap();
        }
        // The same SSRC, whose codec has another clock from now on: the timestamps that arrive start anywhere.
        let at = |k: u32| Arriving {
            timestamp: 0xfff0_0000_u32.wrapping_add(960 * k),
            now_ns: 2 * 20_000_000 + u64::from(k + 1) * 20_000_000,
            clock_hz: 48_000,
            ..packet(103 + k, 0)
        };
        for k in 0..3 {
            let numbers = stream.send(&at(k)).ok().unwrap();
            assert_eq!(
                (numbers.index, numbers.timestamp),
                (103 + u64::from(k), 320 + 960 * (k + 1))
            );
        }
        // And back, a pause of a second before.
        let back = Arriving {
            now_ns: at(2).now_ns + 1_000_000_000,
            ..packet(106, 5)
        };
        let numbers = stream.relay(&back).ok().unwrap();
        assert_eq!((numbers.index, numbers.timestamp), (106, 320 + 2880 + 8000));
    }

    #[test]
    fn a_carried_state_gives_no_index_out_again() {
        let mut state = FlowState::new();
        for sequence in 100..110 {
            state.streams[0].send(&packet(sequence, 160)).ok().unwrap();
        }
        let mut carried = state.carried_over();
        assert_eq!(
            carried.streams[0].send(&packet(109, 160)).err(),
            Some(Why::IndexReused)
        );
        assert_eq!(
            carried.streams[0]
                .send(&packet(110, 160))
                .ok()
                .map(|numbers| numbers.index),
            Some(110)
        );
    }

    #[test]
    fn new_keys_start_at_rollover_zero_and_go_on_in_sequence() {
        let mut state = FlowState::new();
        state.seed(
            0,
            &StreamSeed {
                ssrc_in: SSRC,
                sent: Some((3 << 16) | 40_000),
                received: Some(7 << 16),
                timestamp_out: 320,
                ..StreamSeed::default()
            },
        );
        let (arriving, leaving) = (true, true);
        let keyed_there = state.rekeyed(NewKeys {
            arriving,
            leaving: false,
        });
        let stream = &keyed_there.streams[0];
        assert_eq!(stream.receive_index(SSRC, 9, 0), Ok(9));
        assert!(stream.sent == state.streams[0].sent);
        let keyed_here = state.rekeyed(NewKeys {
            arriving: false,
            leaving,
        });
        assert!(keyed_here.streams[0].received == state.streams[0].received);
        let mut rekeyed = state.rekeyed(NewKeys { arriving, leaving });
        let stream = &mut rekeyed.streams[0];
        let numbers = stream.send(&packet(40_001, 480)).ok().unwrap();
        // Below 2^15, and next to the number that stands for the last one.
        assert_eq!(numbers.index, 40_001 & 0x7fff);
        assert_eq!(
            stream.send(&packet(40_000, 320)).err(),
            Some(Why::IndexReused)
        );
        assert_eq!(stream.receive_index(SSRC, 9, 0), Ok(9));
    }

    #[test]
    fn keys_that_come_back_go_on_where_they_were_left() {
        let new = NewKeys {
            arriving: true,
            leaving: true,
        };
        let mut first = FlowState::new();
        let seed = StreamSeed {
            ssrc_in: SSRC,
            sent: Some(30_000),
            received: Some(500),
            ..StreamSeed::default()
        };
        first.seed(0, &seed);
        // Under other keys, past 2^15, a source of another SSRC.
        let mut second = first.rekeyed(new);
        let packet = |sequence| Arriving {
            ssrc: SSRC + 1,
            ..packet(sequence, 0)
        };
        for sequence in 30_001..33_000 {
            assert!(second.streams[0].send(&packet(sequence)).is_ok());
        }
        let mut third = second
            .rekeyed(new)
            .with_leaving_of(&first)
            .with_arriving_of(&first);
        let sent = third.streams[0].send(&packet(33_000));
        assert_eq!(sent.ok().map(|numbers| numbers.index), Some(30_001));
        let shelf = third.streams.iter().find(|stream| stream.is_bound_to(SSRC));
        let again = shelf.unwrap().receive_index(SSRC, 500, 0);
        assert_eq!(again, Err(Why::Replayed));
    }
}
