//! Runs one `cargo test`, shows its output as it comes, and counts from what the test binaries themselves print.
//! Called by `test` for each run of a level.

use crate::host;
use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Write};
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

/// What came of one `cargo test`.
#[derive(Default, Debug)]
pub(crate) struct Ran {
    pub(crate) counts: Counts,
    /// The tests that failed, by name; empty where a run failed without one.
    pub(crate) failures: Vec<String>,
}

/// Runs the command to its end or to its time limit, and writes what it prints to `shown`. A run that fails without a
/// failed test (it did not build, it was killed) counts as one failure.
pub(crate) fn run(command: &mut Command, limit: Duration, shown: &mut dyn Write) -> Result<Ran> {
    writeln!(shown, "$ {}", host::show(command))?;
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
    let mut ran = Ran::default();
    let mut listed = Vec::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(shown, "{line}")?;
                if let Some(counts) = parse(&line) {
                    ran.counts += counts;
                    ran.failures.append(&mut listed);
                }
                follow_failures(&line, &mut listed);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                writeln!(shown, "killed: not done after {} s", limit.as_secs())?;
                // The group may be gone in this very moment.
                let _ = killpg(group, Signal::SIGKILL);
                break;
            }
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    drop(lines);
    let _ = reader.join();
    if !status.success() && ran.counts.failed == 0 {
        ran.counts.failed = 1;
    }
    Ok(ran)
}

/// Test binaries print `failures:` twice: before what the failed tests printed, and before their names, which are indented by four. The
/// second list ends with the result.
fn follow_failures(line: &str, listed: &mut Vec<String>) {
    if line == "failures:" {
        listed.clear();
    } else if let Some(name) = line.strip_prefix("    ")
        && !name.is_empty()
        && !name.contains(' ')
    {
        listed.push(name.to_owned());
    }
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
    use std::io::sink;

    #[test]
    fn failed_tests_are_known_by_name() {
        let printed = "test a::one ... FAILED\\ntest two ... ok\\n\\nfailures:\\n\\n---- a::one stdout ----\\n    indented\\n\\n\\n\
                       failures:\\n    a::one\\n\\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\\n";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("printf '{printed}'; exit 101")]);
        let mut shown = Vec::new();
        let ran = run(&mut command, Duration::from_secs(60), &mut shown).unwrap();
        assert_eq!(ran.failures, ["a::one"]);
        assert_eq!((ran.counts.passed, ran.counts.failed), (1, 1));
        assert!(
            String::from_utf8(shown)
                .unwrap()
                .contains("test two ... ok")
        );
    }

    #[test]
    fn counts_what_libtest_prints() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 5 filtered out; finished in 0.01s";
        let counts = parse(line).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (12, 1, 0));
        assert_eq!(parse("test netns::x ... ok"), None);
    }

    #[test]
    fn a_run_that_prints_no_result_is_a_failure() {
        let ran = run(
            &mut Command::new("false"),
            Duration::from_secs(5),
            &mut sink(),
        )
        .unwrap();
        assert_eq!((ran.counts.failed, ran.failures.len()), (1, 0));
    }

    #[test]
    fn a_run_over_its_time_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]);
        let started = Instant::now();
        let ran = run(&mut command, Duration::from_millis(100), &mut sink()).unwrap();
        assert_eq!(ran.counts.failed, 1);
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
