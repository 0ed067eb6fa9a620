//! `cargo xtask test`: sets up, builds once, runs the levels, and sums up.
//!
//! Levels that wait more than they work run side by side (`lanes`); a test that fails there is run again alone.
//! A level whose needs are not met is *not run* and says why; it never counts as passed. The last line is
//! `N passed, N failed, N skipped`.

use crate::aiortc;
use crate::clients;
use crate::host;
use crate::lanes;
use crate::levels::{self, LEVELS, Level, Run};
use crate::needs;
use crate::packages;
use crate::run::{self, Built};
use crate::runner::{self, Counts};
use anyhow::{Context as _, Result};
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What became of a level.
pub(crate) struct Outcome {
    level: &'static Level,
    counts: Counts,
    /// Tests that failed, by run and name.
    failures: Vec<(&'static Run, String)>,
    /// Why it did not run, or what is wrong beside failed tests.
    remark: Option<String>,
    took: Duration,
}

/// Prints the levels.
pub(crate) fn list() -> ExitCode {
    for level in LEVELS {
        println!("{:<18} {}", level.name, level.about);
    }
    ExitCode::SUCCESS
}

/// Runs the named levels, or all but those that are to be named.
pub(crate) fn run(names: &[String]) -> Result<ExitCode> {
    let chosen: Vec<&Level> = if names.is_empty() {
        LEVELS.iter().filter(|level| !level.is_long()).collect()
    } else {
        let find = |name: &String| {
            levels::find(name).with_context(|| format!("no level {name}: see --list"))
        };
        names.iter().map(find).collect::<Result<_>>()?
    };
    packages::install_peers();
    clients::install();
    aiortc::install();
    let built = run::build(false)?;
    let xdp = needs::xdp_gap(&built);
    Ok(summarise(&run_all(&chosen, &built, xdp.as_deref())))
}

/// One level after the other, then those that may run beside each other; the outcomes come in the order of `chosen`.
fn run_all(chosen: &[&'static Level], built: &Built, xdp: Option<&str>) -> Vec<Outcome> {
    let several = chosen.iter().filter(|level| level.beside).count() > 1;
    let (beside, alone): (Vec<_>, Vec<_>) =
        chosen.iter().partition(|level| level.beside && several);
    let mut outcomes: Vec<_> = alone
        .into_iter()
        .map(|level| run_level(level, built, xdp, &mut io::stdout()))
        .collect();
    let mut crowded = lanes::run(beside, |level, shown| run_level(level, built, xdp, shown));
    for outcome in &mut crowded {
        run_again(outcome, built);
    }
    outcomes.append(&mut crowded);
    let place = |outcome: &Outcome| {
        chosen
            .iter()
            .position(|level| level.name == outcome.level.name)
    };
    outcomes.sort_by_key(place);
    outcomes
}

fn run_level(
    level: &'static Level,
    built: &Built,
    xdp: Option<&str>,
    shown: &mut dyn Write,
) -> Outcome {
    let started = Instant::now();
    let mut outcome = Outcome::new(level);
    let gaps: Vec<_> = level
        .needs
        .iter()
        .filter_map(|need| need.gap(xdp))
        .collect();
    if gaps.is_empty() {
        // Fails only where nobody reads any more.
        let _ = writeln!(shown, "\n== {}: {}", level.name, level.about);
        for run in level.runs {
            outcome.add(run, &mut cargo_test(run, built, &[]), shown);
        }
        if outcome.counts.ran() == 0 {
            outcome.counts.failed = 1;
            outcome.remark = Some("no test ran: the level is empty".to_owned());
        }
    } else {
        let gaps = gaps.join(", ");
        let _ = writeln!(shown, "\n== {}: NOT RUN: {gaps}", level.name);
        outcome.remark = Some(gaps);
        let listed = level
            .runs
            .iter()
            .map(|run| runner::count(&mut cargo_test(run, built, &["--list"])));
        outcome.counts.skipped = listed.sum::<u32>().max(1);
    }
    outcome.took = started.elapsed();
    outcome
}

/// A test that failed while other levels had the CPUs is run once more, alone: that run counts, and the summary names the test.
fn run_again(outcome: &mut Outcome, built: &Built) {
    let failures = std::mem::take(&mut outcome.failures);
    if failures.is_empty() {
        return;
    }
    let started = Instant::now();
    println!(
        "\n== {}: failed beside other levels, again alone",
        outcome.level.name
    );
    for (run, name) in &failures {
        outcome.counts.failed -= 1;
        let mut command = cargo_test(run, built, &["--exact", name]);
        outcome.add(run, &mut command, &mut io::stdout());
    }
    let names: Vec<_> = failures.iter().map(|(_, name)| name.as_str()).collect();
    outcome.remark = Some(format!(
        "failed beside other levels, run again alone: {}",
        names.join(", ")
    ));
    outcome.took += started.elapsed();
}

impl Outcome {
    /// Of a level that has not run.
    pub(crate) fn new(level: &'static Level) -> Self {
        Self {
            level,
            counts: Counts::default(),
            failures: Vec::new(),
            remark: None,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, run: &'static Run, command: &mut Command, shown: &mut dyn Write) {
        match runner::run(command, Duration::from_secs(self.level.limit_s), shown) {
            Ok(ran) => {
                self.counts += ran.counts;
                let named = ran.failures.into_iter().map(|name| (run, name));
                self.failures.extend(named);
            }
            Err(error) => {
                self.counts.failed += 1;
                self.remark = Some(format!("{error:#}"));
            }
        }
    }
}

fn cargo_test(run: &Run, built: &Built, more: &[&str]) -> Command {
    let mut command = built.cargo();
    command
        .args(["test", "--no-fail-fast"])
        .args(run.cargo)
        .arg("--")
        .args(run.tests)
        .args(more)
        .env("CAUSEWAY_BIN", &built.daemon)
        .env("CAUSEWAY_BENCH_BIN", &built.bench)
        .env(
            "CAUSEWAY_XTASK_BIN",
            std::env::current_exe().unwrap_or_default(),
        )
        .env("CAUSEWAY_ROOT", host::root());
    command
}

fn summarise(outcomes: &[Outcome]) -> ExitCode {
    println!(
        "\n{:<18} {:<8} {:>6} {:>6} {:>7} {:>7}",
        "level", "", "passed", "failed", "skipped", "seconds"
    );
    let mut total = Counts::default();
    for outcome in outcomes {
        let state = match outcome.counts {
            counts if counts.failed > 0 => "FAILED",
            counts if counts.ran() == 0 => "NOT RUN",
            _ => "ok",
        };
        let Counts {
            passed,
            failed,
            skipped,
        } = outcome.counts;
        let line = format!(
            "{:<18} {state:<8} {passed:>6} {failed:>6} {skipped:>7} {:>7.1}  {}",
            outcome.level.name,
            outcome.took.as_secs_f64(),
            outcome.remark.as_deref().unwrap_or_default()
        );
        println!("{}", line.trim_end());
        total += outcome.counts;
    }
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    if total.failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
