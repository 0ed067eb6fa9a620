//! `cargo xtask test`: sets up, builds once, runs the levels, and sums up.
//!
//! A level whose needs are not met is *not run* and says why; it never counts as passed. The last line is
//! `N passed, N failed, N skipped`.

use crate::aiortc;
use crate::clients;
use crate::host;
use crate::levels::{self, LEVELS, Level, Run};
use crate::packages;
use crate::run::{self, Built};
use crate::runner::{self, Counts};
use anyhow::{Context as _, Result};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What became of a level.
struct Outcome {
    level: &'static Level,
    counts: Counts,
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
    let xdp = levels::xdp_gap(&built);
    let outcomes: Vec<_> = chosen
        .into_iter()
        .map(|level| run_level(level, &built, xdp.as_deref()))
        .collect();
    Ok(summarise(&outcomes))
}

fn run_level(level: &'static Level, built: &Built, xdp: Option<&str>) -> Outcome {
    let started = Instant::now();
    let gaps: Vec<_> = level
        .needs
        .iter()
        .filter_map(|need| need.gap(xdp))
        .collect();
    let mut counts = Counts::default();
    let mut remark = None;
    if gaps.is_empty() {
        println!("\n== {}: {}", level.name, level.about);
        for run in level.runs {
            match runner::run(
                &mut cargo_test(run, built, &[]),
                Duration::from_secs(level.limit_s),
            ) {
                Ok(more) => counts += more,
                Err(error) => {
                    counts.failed += 1;
                    remark = Some(format!("{error:#}"));
                }
            }
        }
        if counts.ran() == 0 {
            counts.failed = 1;
            remark = Some("no test ran: the level is empty".to_owned());
        }
    } else {
        println!("\n== {}: NOT RUN: {}", level.name, gaps.join(", "));
        remark = Some(gaps.join(", "));
        let listed = level
            .runs
            .iter()
            .map(|run| runner::count(&mut cargo_test(run, built, &["--list"])));
        counts.skipped = listed.sum::<u32>().max(1);
    }
    Outcome {
        level,
        counts,
        remark,
        took: started.elapsed(),
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
