//! Waiting for something to become true, with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Tries until there is a value; panics with `what` after the limit.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            Instant::now() < end,
            "not within {} s: {what}",
            limit.as_secs()
        );
        sleep(Duration::from_millis(50));
    }
}
