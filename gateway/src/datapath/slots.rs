//! Which place of the slot arrays (entries, states, statistics) a flow gets in XDP.
//!
//! A slot that was given back rests before it is given out again, and then under a new generation number: a program run that
//! looked its flow up just before the removal finds a zeroed entry, and one that is later still another generation, but never
//! the keys of another call.

use super::FLOWS_PER_CALL;
use flow::FlowRef;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After the zeroing, which itself waits: both longer than any run of the XDP program can last.
const REST: Duration = Duration::from_millis(500);

/// The slots that no flow has.
pub(crate) struct Slots {
    unused: VecDeque<(Instant, FlowRef)>,
}

impl Slots {
    /// How many slots the arrays need for a number of calls: with audio and video, and a reserve for slots at rest.
    pub(crate) fn capacity(calls: usize) -> u32 {
        let flows = u32::try_from(calls.saturating_mul(FLOWS_PER_CALL)).unwrap_or(u32::MAX / 2);
        flows.saturating_add((flows / 8).max(16))
    }

    /// All slots free, each with generation 1.
    pub(crate) fn new(capacity: u32, now: Instant) -> Self {
        let all = (0..capacity).map(|slot| {
            let generation = 1;
            (now, FlowRef { slot, generation })
        });
        Self {
            unused: all.collect(),
        }
    }

    /// A slot with its generation, or `None` when all are in use or at rest.
    pub(crate) fn take(&mut self, now: Instant) -> Option<FlowRef> {
        let (usable_from, place) = *self.unused.front()?;
        if usable_from > now {
            return None;
        }
        self.unused.pop_front();
        Some(place)
    }

    /// The flow is gone: its slot rests, under the next generation.
    pub(crate) fn give_back(&mut self, place: FlowRef, now: Instant) {
        // Zero is what an unused entry shows, so the numbers wrap around it.
        let generation = place.generation.checked_add(1).unwrap_or(1);
        let slot = place.slot;
        self.unused
            .push_back((now + REST, FlowRef { slot, generation }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_rests_and_comes_back_under_the_next_generation() {
        let now = Instant::now();
        let mut slots = Slots::new(1, now);
        let first = slots.take(now).unwrap();
        assert_eq!((first.slot, first.generation), (0, 1));
        assert!(slots.take(now).is_none());
        slots.give_back(first, now);
        assert!(slots.take(now + REST / 2).is_none());
        let second = slots.take(now + REST).unwrap();
        assert_eq!((second.slot, second.generation), (0, 2));
    }

    #[test]
    fn generation_zero_is_never_given_out() {
        let now = Instant::now();
        let mut slots = Slots::new(1, now);
        slots.take(now).unwrap();
        slots.give_back(
            FlowRef {
                slot: 0,
                generation: u32::MAX,
            },
            now,
        );
        assert_eq!(slots.take(now + REST).unwrap().generation, 1);
    }

    #[test]
    fn a_thousand_calls_have_three_thousand_slots_and_a_reserve() {
        assert_eq!(Slots::capacity(1000), 3375);
        assert_eq!(Slots::capacity(1), 19);
    }
}
