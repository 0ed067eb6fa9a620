//! `causeway-bench all` and `causeway-bench figures`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use bench::figures::Figures;
use bench::veth::compare;
use bench::{setup, testrun};

use super::{testrun as testrun_command, veth};

#[derive(clap::Args)]
pub(crate) struct AllOptions {
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The repository whose README, docs/bench.json and docs/bench.svg are to show the figures.
    #[arg(long)]
    write_readme: Option<PathBuf>,
    #[command(flatten)]
    veth: veth::Options,
}

#[derive(clap::Args)]
pub(crate) struct FiguresOptions {
    /// The repository whose README and docs/bench.svg are made anew from its docs/bench.json.
    #[arg(long)]
    root: PathBuf,
}

/// Measures everything and prints it beside the targets.
pub(crate) fn all(options: &AllOptions) -> anyhow::Result<ExitCode> {
    let config = veth::config(&options.veth)?;
    veth::clean_up_on_signals()?;
    eprintln!("the XDP program alone");
    let figures = Figures {
        testrun: testrun::measure(&testrun_command::object(None)?, &[], "")?,
        veth: compare(&config, |line| eprintln!("{line}"))?,
        setup: Some(setup(&config.daemon)?),
    };
    print!("{figures}");
    if let Some(path) = &options.json {
        figures.save(path)?;
    }
    if let Some(root) = &options.write_readme {
        figures
            .publish(root)
            .context("writing the figures into the repository")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// In a process of its own, because it moves into a network namespace.
fn setup(daemon: &Path) -> anyhow::Result<setup::Report> {
    let own = std::env::current_exe().context("where this program is")?;
    let output = Command::new(own)
        .args(["setup", "--json", "--daemon"])
        .arg(daemon)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "calls could not be set up");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Shows again what was measured before.
pub(crate) fn figures(options: &FiguresOptions) -> anyhow::Result<ExitCode> {
    Figures::republish(&options.root)?;
    Ok(ExitCode::SUCCESS)
}
