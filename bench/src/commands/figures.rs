//! `causeway-bench all` and `causeway-bench figures`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bench::figures::Figures;
use bench::testrun;
use bench::veth::compare;

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
        testrun: testrun::measure(&testrun_command::object(None)?)?,
        veth: compare(&config, |line| eprintln!("{line}"))?,
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

/// Shows again what was measured before.
pub(crate) fn figures(options: &FiguresOptions) -> anyhow::Result<ExitCode> {
    Figures::republish(&options.root)?;
    Ok(ExitCode::SUCCESS)
}
