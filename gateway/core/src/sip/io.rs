//! What every machine of the stack needs at hand: where outputs go, timers, randomness and the configuration.

use std::collections::{BTreeMap, VecDeque};

use super::config::{Config, Peer};
use super::event::{Event, Output, Transmit};
use super::timers::Timers;
use crate::Random;

pub(super) struct Io {
    pub(super) config: Config,
    pub(super) random: Random,
    pub(super) timers: Timers,
    pub(super) outputs: VecDeque<Output>,
    /// How many requests were refused before anybody was asked, by reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
    numbers: u64,
}

impl Io {
    pub(super) fn new(config: Config, random: Random) -> Self {
        Self {
            config,
            random,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(super) fn transmit(&mut self, peer: Peer, bytes: Vec<u8>) {
        self.outputs
            .push_back(Output::Transmit(Transmit { peer, bytes }));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Counts a refusal.
    pub(super) fn count_refused(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
    }

    /// The next number for a handle; numbers are never used again.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}
