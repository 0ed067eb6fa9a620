//! A flow's highest packet rate: what a medium of it may send through us, by what was negotiated.
//!
//! Why: a peer that sends a thousand times what it negotiated, or somebody who has its address on the plain side, must not take the
//! path of all others. Charged by [`crate::forward()`] under the state's lock, behind authentication; the algorithm is that of
//! [`crate::Budgets`].

/// Packets of so much time may come at once: what a network has held back arrives in a burst.
const BURST_NS: u64 = 1_000_000_000;

/// The moment at which the bucket of a medium is full again, CLOCK_MONOTONIC nanoseconds.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl Rate {
    /// Nothing was sent yet.
    pub(crate) const FULL: Self = Self(0);

    /// After one more packet, each worth `packet_ns`; `None` where that is too many.
    #[inline(always)]
    pub(crate) fn after(self, packet_ns: u32, now_ns: u64) -> Option<Self> {
        let from = if self.0 > now_ns { self.0 } else { now_ns };
        let full_ns = from.wrapping_add(u64::from(packet_ns));
        (packet_ns == 0 || full_ns.wrapping_sub(now_ns) <= BURST_NS).then_some(Self(full_ns))
    }
}

/// Nanoseconds that each packet is worth at so many a second; 0 = no limit.
pub(crate) const fn packet_ns(packets_per_s: u32) -> u32 {
    match packets_per_s {
        0 => 0,
        // A rate that is finer than nanoseconds is none.
        rate => (BURST_NS / rate as u64) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `packets` that come every `every_ns` are let through.
    fn passed(packets_per_s: u32, packets: u64, every_ns: u64) -> u64 {
        let (mut rate, mut passed) = (Rate::FULL, 0);
        for number in 0..packets {
            let now_ns = 1_000_000_000_000 + number * every_ns;
            if let Some(after) = rate.after(packet_ns(packets_per_s), now_ns) {
                rate = after;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_second_at_once_and_the_rate_afterwards() {
        // Ten seconds at ten times the rate.
        let passed_of = passed(50, 5000, 2_000_000);
        assert!((50 + 499..=50 + 500).contains(&passed_of), "{passed_of}");
        assert_eq!(passed(50, 200, 0), 50);
    }

    #[test]
    fn what_keeps_to_the_rate_or_has_none_passes() {
        assert_eq!(passed(50, 100_000, 20_000_000), 100_000);
        assert_eq!(passed(0, 100_000, 0), 100_000);
        assert_eq!(passed(u32::MAX, 1000, 0), 1000);
    }
}
