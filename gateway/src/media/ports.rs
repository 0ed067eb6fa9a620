//! Which RTP port pair a call gets on the SIP side.
//!
//! A pair is an even port and the next (RFC 3550 section 11). Pairs are handed out longest-unused first, and a closed call's pair
//! rests before it can be taken again: a late packet of the old call must not reach the new one. One pool for each address.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The pairs of one address that no call has.
pub(super) struct Ports {
    /// Even ports, the longest-unused first, with the time from which they may be taken.
    unused: VecDeque<(Instant, u16)>,
    rest: Duration,
}

impl Ports {
    /// All pairs that lie wholly within `range` and that are `ours`, told by the even port.
    pub(super) fn new(
        range: &RangeInclusive<u16>,
        ours: impl Fn(u16) -> bool,
        rest: Duration,
        now: Instant,
    ) -> Self {
        let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
        let unused = (first.next_multiple_of(2)..last)
            .step_by(2)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| ours(*port))
            .map(|port| (now, port))
            .collect();
        Self { unused, rest }
    }

    /// How many pairs no call has, at rest or not.
    pub(super) fn len(&self) -> usize {
        self.unused.len()
    }

    /// The even port of a pair, or `None` when all are in use or at rest.
    pub(super) fn take(&mut self, now: Instant) -> Option<u16> {
        let (usable_from, port) = *self.unused.front()?;
        if usable_from > now {
            return None;
        }
        self.unused.pop_front();
        Some(port)
    }

    /// The pair's call is over, or another process holds the pair: it rests from now on.
    pub(super) fn give_back(&mut self, port: u16, now: Instant) {
        self.unused.push_back((now + self.rest, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(5);

    #[test]
    fn pairs_are_even_and_lie_within_the_range() {
        let now = Instant::now();
        let mut ports = Ports::new(&(20001..=20006), |_| true, REST, now);
        assert_eq!(ports.take(now), Some(20002));
        assert_eq!(ports.take(now), Some(20004));
        assert_eq!(ports.take(now), None);
        let mut ports = Ports::new(&(65534..=65535), |_| true, REST, now);
        assert_eq!(ports.take(now), Some(65534));
        assert_eq!(
            Ports::new(&(65535..=65535), |_| true, REST, now).take(now),
            None
        );
    }

    #[test]
    fn a_closed_pair_rests_and_goes_to_the_end_of_the_queue() {
        let now = Instant::now();
        let mut ports = Ports::new(&(20000..=20003), |_| true, REST, now);
        assert_eq!(ports.take(now), Some(20000));
        ports.give_back(20000, now);
        assert_eq!(ports.take(now), Some(20002));
        assert_eq!(ports.take(now + REST / 2), None);
        assert_eq!(ports.take(now + REST), Some(20000));
    }
}
