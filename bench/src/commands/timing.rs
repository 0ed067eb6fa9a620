//! `causeway-bench timing`.

use std::process::ExitCode;

use bench::timing::measure;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Packets for each row.
    #[arg(long, default_value_t = 100_000)]
    packets: usize,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let object = super::testrun::object(None).ok();
    let report = measure(object.as_deref(), options.packets)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
