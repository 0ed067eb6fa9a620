//! Waiting for something to become true, with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Limits are those of an idle machine; a busy one gets so many times as long.
const BUSY: u32 = 3;

/// Tries until there is a value; panics with `what` where a busy machine, too, would have it by now.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let limit = limit * BUSY;
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
        sleep(Duration::from_millis(20));
    }
}
