//! The thread that keeps keystream rings full.
//!
//! A ring is visited when about half of what was made for it must be used up by the stream's rate, at the earliest a tick later; an idle
//! one ever more rarely, down to a few times a second. So the work is per packet of media and not per ring: a visit makes several
//! packets' keystream. Of a flow's streams the ring serves the one with the most packets that fit a cell: the voice.

use super::Uses;
use super::cipher::Cipher;
use crate::datapath::mapped::Mapped;
use flow::{
    CELL_PAYLOAD_BYTES, CELLS, FlowSpec, FlowStats, KeystreamOf, KeystreamRing, Progress, STREAMS,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Packets ahead of the newest that a ring is filled for. Less than its cells: a packet that was overtaken still finds its own.
const AHEAD: u64 = CELLS as u64 - 2;
/// How exact visits are.
const TICK: Duration = Duration::from_millis(4);
/// Places of the wheel: the longest time between two visits of an idle ring, in ticks.
const TICKS: usize = 64;
/// The same of one with packets.
const LONGEST: usize = 32;

/// What the handle asks.
pub(super) enum Command {
    /// Keeps a ring full from now on, for this flow.
    Fill { ring: u32, work: Box<Work> },
    /// Leaves and zeroes a ring.
    Clear(u32),
    /// Zeroes all and ends.
    Stop,
}

/// The flow that a ring is for.
pub(super) struct Work {
    slot: u32,
    epoch: u32,
    /// Whether the protected packets are the leaving ones.
    protects: bool,
    cipher: Cipher,
    streams: [Option<Progress>; STREAMS],
    /// The stream that the ring serves, its SSRC, and the index that is made next for it.
    chosen: Option<usize>,
    ssrc: u32,
    next: u64,
    /// Ticks from the last visit to the next.
    pause: usize,
    visited: Instant,
    /// Packets and hits of the flow at the last visit.
    counted: Option<(u64, u64)>,
}

impl Work {
    pub(super) fn new(
        slot: u32,
        epoch: u32,
        protects: bool,
        cipher: Cipher,
        spec: &FlowSpec,
    ) -> Self {
        let exists = spec.streams.each_ref().map(Option::is_some);
        Self {
            slot,
            epoch,
            protects,
            cipher,
            streams: exists.map(|exists| exists.then(Progress::default)),
            chosen: None,
            ssrc: 0,
            next: 0,
            pause: 1,
            visited: Instant::now(),
            counted: None,
        }
    }

    /// Notes what the flow's packets found since the last visit.
    fn count(&mut self, stats: &Mapped<FlowStats>, uses: &Uses) {
        let (packets, hits) = stats.keystream_use(self.slot);
        if let Some((packets_before, hits_before)) = self.counted {
            let found = hits.wrapping_sub(hits_before);
            let all = packets.wrapping_sub(packets_before);
            uses.add(found, all.saturating_sub(found));
        }
        self.counted = Some((packets, hits));
    }

    /// Chooses the stream with the most packets that fit a cell since the last visit; how many they were.
    fn choose(&mut self, stats: &Mapped<FlowStats>) -> u64 {
        let mut most = 0;
        for (place, seen) in self.streams.iter_mut().enumerate() {
            let Some(seen) = seen else { continue };
            let progress = stats.progress(self.slot, place);
            let packets = progress.packets.wrapping_sub(seen.packets);
            let octets = progress.octets.wrapping_sub(seen.octets);
            *seen = progress;
            if packets > most && octets <= packets.saturating_mul(CELL_PAYLOAD_BYTES as u64) {
                most = packets;
                self.chosen = Some(place);
            }
        }
        most
    }

    /// Makes what is missing ahead of the newest packet.
    fn fill(&mut self, ring: &KeystreamRing) {
        let Some(newest) = self.chosen.and_then(|place| self.streams[place]) else {
            return;
        };
        let ssrc = if self.protects {
            newest.ssrc_out
        } else {
            newest.ssrc_in
        };
        let wanted = newest.index + 1..=newest.index + AHEAD;
        // Another source, numbers started afresh, or the stream has overtaken us.
        if self.ssrc != ssrc || !wanted.contains(&self.next) {
            let is_done = self.ssrc == ssrc && self.next == newest.index + AHEAD + 1;
            if !is_done {
                (self.ssrc, self.next) = (ssrc, *wanted.start());
            }
        }
        while self.next <= *wanted.end() {
            let (epoch, index) = (self.epoch, self.next);
            // A cell that a packet has just now is left out.
            ring.fill(
                KeystreamOf { epoch, ssrc, index },
                &self.cipher.keystream(ssrc, index),
            );
            self.next += 1;
        }
    }

    /// Settles the next visit after one at which so many packets were new.
    fn settle(&mut self, packets: u64, now: Instant) {
        if packets == 0 {
            self.pause = (2 * self.pause).min(TICKS - 1);
        } else {
            let elapsed = (now - self.visited).as_micros() / TICK.as_micros();
            let half = elapsed * u128::from(AHEAD / 2) / u128::from(packets);
            // Not much longer than before: a stream that has just begun is faster than it looks.
            self.pause = (half as usize).clamp(1, LONGEST.min(4 * self.pause));
        }
        self.visited = now;
    }
}

/// Everything that the thread owns.
pub(super) struct Filler {
    rings: Mapped<KeystreamRing>,
    stats: Arc<Mapped<FlowStats>>,
    work: HashMap<u32, Box<Work>>,
    /// Visits by tick: ring, and the epoch that it has to have still.
    wheel: [Vec<(u32, u32)>; TICKS],
    /// The tick that was served last, and its time.
    tick: usize,
    served: Instant,
    /// Rings of which a packet had a cell when they were to be zeroed.
    unclean: Vec<u32>,
    uses: Arc<Uses>,
}

impl Filler {
    pub(super) fn new(
        rings: Mapped<KeystreamRing>,
        stats: Arc<Mapped<FlowStats>>,
        uses: Arc<Uses>,
    ) -> Self {
        Self {
            rings,
            stats,
            work: HashMap::new(),
            wheel: std::array::from_fn(|_| Vec::new()),
            tick: 0,
            served: Instant::now(),
            unclean: Vec::new(),
            uses,
        }
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match self.patience(Instant::now()) {
                Some(patience) => commands.recv_timeout(patience),
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match command {
                Ok(Command::Fill { ring, work }) => self.take_on(ring, work),
                Ok(Command::Clear(ring)) => self.leave(ring),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.turn(Instant::now());
        }
        for ring in 0..self.rings.len() {
            self.clear(ring);
        }
    }

    /// How long nothing is due; `None` = for ever.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let due = (1..=TICKS).find(|ahead| !self.wheel[(self.tick + ahead) % TICKS].is_empty());
        let retry = (!self.unclean.is_empty()).then_some(1);
        let ticks = due.into_iter().chain(retry).min()?;
        Some((self.served + TICK * ticks as u32).saturating_duration_since(now))
    }

    fn take_on(&mut self, ring: u32, work: Box<Work>) {
        self.leave(ring);
        if self.work.is_empty() {
            self.served = Instant::now();
        }
        self.wheel[(self.tick + 1) % TICKS].push((ring, work.epoch));
        self.work.insert(ring, work);
    }

    fn leave(&mut self, ring: u32) {
        if let Some(mut work) = self.work.remove(&ring) {
            work.count(&self.stats, &self.uses);
            self.clear(ring);
        }
    }

    fn clear(&mut self, ring: u32) {
        if !self.rings.ring(ring).clear() {
            self.unclean.push(ring);
        }
    }

    /// Serves all ticks up to now.
    fn turn(&mut self, now: Instant) {
        // After a time without CPU every ring is due at once, and none twice.
        let longest = TICK * TICKS as u32;
        if now.saturating_duration_since(self.served) > longest {
            self.served = now.checked_sub(longest).unwrap_or(now);
        }
        while self.served + TICK <= now {
            self.served += TICK;
            self.tick = (self.tick + 1) % TICKS;
            for ring in std::mem::take(&mut self.unclean) {
                self.clear(ring);
            }
            let mut due = std::mem::take(&mut self.wheel[self.tick]);
            for (ring, epoch) in due.drain(..) {
                self.visit(ring, epoch, now);
            }
            // Its memory is kept.
            self.wheel[self.tick] = due;
        }
    }

    fn visit(&mut self, ring: u32, epoch: u32, now: Instant) {
        let Some(work) = self.work.get_mut(&ring) else {
            return;
        };
        if work.epoch != epoch {
            return;
        }
        work.count(&self.stats, &self.uses);
        let packets = work.choose(&self.stats);
        work.fill(self.rings.ring(ring));
        work.settle(packets, now);
        self.wheel[(self.tick + work.pause) % TICKS].push((ring, epoch));
    }
}
