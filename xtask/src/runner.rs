//! Runs one `cargo test`, shows its output as it comes, and counts from what the test binaries themselves print.

use crate::host;
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Tests by outcome.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Counts {
    /// Tests that ran.
    pub(crate) fn ran(self) -> u32 {
        self.passed + self.failed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the command to its end or to its time limit. A run that fails without a failed test (it did not build, it was
/// killed) counts as one failure.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Counts> {
    println!("$ {}", host::show(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own, so that a time limit also ends the peers that a test has started.
        .process_group(0)
        .spawn()
        .context("starting cargo test")?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("process id")?);
    let stdout = child
        .stdout
        .take()
        .context("standard output of cargo test")?;
    let (sender, lines) = channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let end = Instant::now() + limit;
    let mut counts = Counts::default();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                counts += parse(&line).unwrap_or_default();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("killed: not done after {} s", limit.as_secs());
                // The group may be gone in this very moment.
                let _ = killpg(group, Signal::SIGKILL);
                break;
            }
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    drop(lines);
    let _ = reader.join();
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

/// `test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 5 filtered out; finished in 0.01s`. Ignored tests
/// belong to another level and are counted there.
fn parse(line: &str) -> Option<Counts> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let number = |unit: &str| -> Option<u32> {
        let (before, _) = rest.split_once(unit)?;
        before
            .rsplit([' ', '.', ';'])
            .find(|word| !word.is_empty())?
            .parse()
            .ok()
    };
    Some(Counts {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: 0,
    })
}

/// How many tests a command would run, by `--list`; 0 where it cannot be said.
pub(crate) fn count(command: &mut Command) -> u32 {
    let listed = host::output(command).unwrap_or_default();
    let tests = listed
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count();
    u32::try_from(tests).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_libtest_prints() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 5 filtered out; finished in 0.01s";
        let counts = parse(line).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (12, 1, 0));
        assert_eq!(parse("test netns::x ... ok"), None);
    }

    #[test]
    fn a_run_that_prints_no_result_is_a_failure() {
        let counts = run(&mut Command::new("false"), Duration::from_secs(5)).unwrap();
        assert_eq!(counts.failed, 1);
    }

    #[test]
    fn a_run_over_its_time_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]);
        let started = Instant::now();
        let counts = run(&mut command, Duration::from_millis(100)).unwrap();
        assert_eq!(counts.failed, 1);
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
