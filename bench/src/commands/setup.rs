//! `causeway-bench setup`.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::setup::{Config, measure};
use bench::webrtc::Transport;

use super::veth;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The daemon; without it the one that CAUSEWAY_BIN names, else `causeway` beside this program.
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Calls placed per second, one rate after the other until one is not reached.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "50,100,150,200,300,400,500,600,800"
    )]
    rates: Vec<f64>,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Calls that stand at once while memory is measured.
    #[arg(long, default_value_t = 400)]
    idle_calls: usize,
    /// How pages reach the gateway.
    #[arg(long, value_enum, default_value_t = Transport::WebSocket)]
    transport: Transport,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = Config {
        daemon: veth::daemon(options.daemon.as_ref())?,
        rates: options.rates.clone(),
        seconds: options.seconds,
        idle_calls: options.idle_calls,
        transport: options.transport,
    };
    let report = measure(&config, |line| eprintln!("{line}"))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
