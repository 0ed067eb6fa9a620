//! Levels that wait more than they work, several at a time. Called by `test`.
//!
//! A level here is a list of calls in namespaces of its own: most of its time goes by in rings, timers and browsers that start. Each lane takes
//! the next level when its last is over, those with the longest limit first, and shows what a level printed when it is over.

use crate::levels::Level;
use crate::test::Outcome;
use std::io::Write as _;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Lanes for each two CPUs: more, and a browser no longer gets its CPU in time.
const FOR_TWO_CPUS: usize = 3;
/// More lanes than this make the longest level no shorter.
const MOST: usize = 6;

/// Runs the levels by `one`, which writes what a level prints to the buffer that it is given.
pub(crate) fn run<F>(mut levels: Vec<&'static Level>, one: F) -> Vec<Outcome>
where
    F: Fn(&'static Level, &mut Vec<u8>) -> Outcome + Sync,
{
    levels.sort_by_key(|level| std::cmp::Reverse(level.limit_s));
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let lane = || {
        while let Some(level) = levels.get(next.fetch_add(1, Ordering::Relaxed)) {
            println!("-- {} starts, and is shown when it is over", level.name);
            let mut shown = Vec::new();
            let outcome = one(level, &mut shown);
            // Locked for the whole text: no other level's lines get between.
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(&shown).and_then(|()| stdout.flush());
            outcomes
                .lock()
                .expect("no lane panics with it")
                .push(outcome);
        }
    };
    thread::scope(|scope| {
        for _ in 0..count().min(levels.len()) {
            scope.spawn(lane);
        }
    });
    outcomes.into_inner().expect("no lane panicked")
}

fn count() -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    (cpus * FOR_TWO_CPUS / 2).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::LEVELS;

    #[test]
    fn each_level_runs_once() {
        let ran = Mutex::new(Vec::new());
        let outcomes = run(LEVELS.iter().collect(), |level, _| {
            ran.lock().unwrap().push(level.name);
            Outcome::new(level)
        });
        let mut ran = ran.into_inner().unwrap();
        ran.sort_unstable();
        let mut all: Vec<_> = LEVELS.iter().map(|level| level.name).collect();
        all.sort_unstable();
        assert_eq!(ran, all);
        assert_eq!(outcomes.len(), all.len());
    }
}
