//! What one source may ask of us: new requests per second outside of dialogs, so that a flood from one address costs others nothing.
//!
//! Each source (an IPv4 address, an IPv6 /64) has a bucket that holds two seconds' worth. The table is bounded: those that come when it
//! is full share one bucket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// More sources do not get buckets of their own.
const MAX_SOURCES: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct Sources {
    buckets: HashMap<u64, Bucket>,
    others: Option<Bucket>,
}

struct Bucket {
    /// When it would be full again.
    full: Instant,
}

impl Sources {
    /// Takes a request of a source out of its bucket; `false` if there is none left. A rate of 0 is no limit.
    pub(super) fn admit(&mut self, now: Instant, source: IpAddr, per_second: u32) -> bool {
        if per_second == 0 {
            return true;
        }
        let key = match source.to_canonical() {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            // No /64 in use begins with 32 zero bits.
            IpAddr::V6(address) => u64::try_from(u128::from(address) >> 64).unwrap_or(0),
        };
        if !self.buckets.contains_key(&key) && self.buckets.len() >= MAX_SOURCES {
            self.buckets.retain(|_, bucket| bucket.full > now);
        }
        let fresh = || Bucket { full: now };
        let bucket = if self.buckets.contains_key(&key) || self.buckets.len() < MAX_SOURCES {
            self.buckets.entry(key).or_insert_with(fresh)
        } else {
            self.others.get_or_insert_with(fresh)
        };
        let cost = Duration::from_secs(1) / per_second;
        let full = bucket.full.max(now) + cost;
        let admitted = full <= now + Duration::from_secs(2);
        if admitted {
            bucket.full = full;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_source_has_two_seconds_worth_at_once_and_its_rate_from_then_on() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let mut count = |at: Instant, tries: u32| {
            (0..tries)
                .filter(|_| sources.admit(at, address(7), 10))
                .count()
        };
        assert_eq!(count(now, 100), 20);
        assert_eq!(count(now + Duration::from_millis(500), 100), 5);
        assert_eq!(count(now + Duration::from_secs(60), 100), 20);
        assert!(
            sources.admit(now, address(8), 10),
            "another source has its own"
        );
        assert!(
            (0..1000).all(|_| sources.admit(now, address(7), 0)),
            "no limit"
        );
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_quiet() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let admitted = (0..10_000)
            .filter(|number| sources.admit(now, address(*number), 1))
            .count();
        assert_eq!(admitted, MAX_SOURCES + 2, "the others share one bucket");
        assert_eq!(sources.buckets.len(), MAX_SOURCES);
        assert!(sources.admit(now + Duration::from_secs(3), address(20_000), 1));
        assert_eq!(sources.buckets.len(), 1);
    }
}
