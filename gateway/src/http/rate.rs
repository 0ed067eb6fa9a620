//! Requests per source address: a token bucket for each, in a bounded table.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are told apart; beyond it, new ones share one bucket until others have been idle.
const ADDRESSES: usize = 16_384;

/// See the module.
pub(super) struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimit {
    /// `per_second` 0 admits everything.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let buckets = Mutex::new(HashMap::new());
        Self {
            per_second: per_second.into(),
            burst: burst.max(1).into(),
            buckets,
        }
    }

    /// Admits a request, or says how long to wait.
    pub(super) fn admit(&self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut source = prefix(source);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&source) {
            let full_again = Duration::from_secs_f64(self.burst / self.per_second);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.filled) < full_again);
            if buckets.len() >= ADDRESSES {
                source = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let bucket = buckets.entry(source).or_insert(Bucket {
            tokens: self.burst,
            filled: now,
        });
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * self.per_second).min(self.burst);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64(
                (1.0 - bucket.tokens) / self.per_second,
            ))
        }
    }
}

/// Whom the limit holds: an IPv4 address, or the /64 that one IPv6 host has for itself.
fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(last: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last).into()
    }

    #[test]
    fn a_burst_then_the_rate_and_every_source_for_itself() {
        let limit = RateLimit::new(10, 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limit.admit(v6(1), start), Ok(()));
        }
        // The same /64, so the same host.
        assert_eq!(limit.admit(v6(2), start), Err(Duration::from_millis(100)));
        assert_eq!(limit.admit([192, 0, 2, 1].into(), start), Ok(()));
        let later = start + Duration::from_millis(100);
        assert_eq!(limit.admit(v6(1), later), Ok(()));
        assert!(limit.admit(v6(1), later).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_zero_is_no_limit() {
        let limit = RateLimit::new(1, 1);
        let start = Instant::now();
        for number in 0..20_000_u32 {
            let _ = limit.admit(number.to_be_bytes().into(), start);
        }
        assert!(limit.buckets.lock().unwrap().len() <= ADDRESSES + 1);
        let later = start + Duration::from_secs(2);
        assert_eq!(limit.admit([203, 0, 113, 9].into(), later), Ok(()));
        assert!(limit.buckets.lock().unwrap().len() < 10);
        let free = RateLimit::new(0, 1);
        assert!((0..1000).all(|_| free.admit(v6(1), start).is_ok()));
    }
}
