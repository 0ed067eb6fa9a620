//! `causeway-bench testrun`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bench::testrun::measure;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The XDP object; without it the one that CAUSEWAY_BPF_OBJECT names.
    #[arg(long)]
    object: Option<PathBuf>,
    /// Only rows of this many payload bytes; may be given more than once.
    #[arg(long)]
    payload: Vec<usize>,
    /// Only rows of suites whose name has this in it; `none` is the relay.
    #[arg(long, default_value = "")]
    suite: String,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let report = measure(
        &object(options.object.as_ref())?,
        &options.payload,
        &options.suite,
    )?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    print!("{report}");
    Ok(ExitCode::SUCCESS)
}

/// The XDP object: the one given, else the one that xtask names.
pub(crate) fn object(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    given
        .cloned()
        .or_else(|| std::env::var_os("CAUSEWAY_BPF_OBJECT").map(PathBuf::from))
        .context("no XDP object: give --object, or build one with `cargo xtask build`")
}
