//! Keystream ahead of time: which flow has which ring of the KEYSTREAM map, and the thread that keeps the rings full.
//!
//! Why a thread of its own: the media thread must not wait for it, and what it does costs packets nothing but speed when it is late or
//! gone. It learns how far a stream is from the STATS map in its memory, makes the keystream of the next packets by the CPU's AES
//! instructions, and never touches a cell that a packet has. What a cell is and why no keystream is used twice: `flow::keystream`.

mod cipher;
mod filler;

use super::mapped::Mapped;
use cipher::Cipher;
use filler::{Command, Filler, Work};
use flow::{ActionSpec, FlowEntry, FlowSpec, FlowStats, KeystreamRing};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What rings were good for.
#[derive(Default)]
pub(crate) struct Uses {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Uses {
    /// Packets of flows with a ring that found their keystream there, and those that did not.
    pub(crate) fn read(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.hits), load(&self.misses))
    }

    fn add(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }
}

/// The hold on the filling thread; dropping it ends the thread, which zeroes all rings.
pub(crate) struct Keystreams {
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
    /// Rings that no flow has.
    free: Vec<u32>,
    /// By slot.
    given: HashMap<u32, u32>,
    /// Number of the last set of keys.
    epoch: u32,
    uses: Arc<Uses>,
}

impl Keystreams {
    /// Starts the thread for all rings of the map.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        rings: Mapped<KeystreamRing>,
        stats: Arc<Mapped<FlowStats>>,
    ) -> anyhow::Result<Self> {
        let (commands, queue) = mpsc::channel();
        let uses = Arc::new(Uses::default());
        let free = (0..rings.len()).rev().collect();
        let filler = Filler::new(rings, stats, uses.clone());
        let thread = std::thread::Builder::new()
            .name("keystream".into())
            .spawn(move || filler.run(&queue))?;
        Ok(Self {
            commands,
            thread: Some(thread),
            free,
            given: HashMap::new(),
            epoch: 0,
            uses,
        })
    }

    /// What rings were good for so far.
    pub(crate) fn uses(&self) -> Arc<Uses> {
        self.uses.clone()
    }

    /// Gives the flow that is about to stand in a slot a ring, or the one that the slot has under a new number, so that nothing made
    /// for keys before can be used. Without a free ring the packet path computes.
    pub(crate) fn give(&mut self, slot: u32, spec: &FlowSpec, entry: &mut FlowEntry) {
        let (keys, protects) = match &spec.action {
            ActionSpec::Unprotect(keys) => (keys, false),
            // A ring is for one set of keys: from SRTP to SRTP those of the leaving side.
            ActionSpec::Protect(keys) | ActionSpec::Transcrypt { protect: keys, .. } => {
                (keys, true)
            }
            ActionSpec::Relay => return self.take_back(slot),
        };
        let Some(ring) = self.given.get(&slot).copied().or_else(|| self.free.pop()) else {
            return;
        };
        self.given.insert(slot, ring);
        // Zero means no ring; a number comes back after four thousand million flows.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        entry.head.use_keystream(ring, self.epoch);
        self.send(Command::Fill {
            ring,
            work: Box::new(Work::new(
                slot,
                self.epoch,
                protects,
                Cipher::new(keys),
                spec,
            )),
        });
    }

    /// The flow of a slot is gone: its ring is zeroed.
    pub(crate) fn take_back(&mut self, slot: u32) {
        if let Some(ring) = self.given.remove(&slot) {
            self.send(Command::Clear(ring));
            self.free.push(ring);
        }
    }

    fn send(&self, command: Command) {
        // Fails only if the thread has panicked, which the hook has reported; packets are computed in the kernel then.
        let _ = self.commands.send(command);
    }
}

impl Drop for Keystreams {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
