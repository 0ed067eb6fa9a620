//! The command line.

use crate::config::{self, Config};
use crate::{check, daemon, datapath, flows, logging, media_only};
use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// WebRTC to SIP gateway with media in XDP.
#[derive(Parser)]
#[command(
    name = "causeway",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: ConfigFile,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway (also without any command).
    Run(ConfigFile),
    /// Says what this host can do for the configuration: datapath modes, privileges, memory.
    Check(ConfigFile),
    /// Prints each flow with its counters and its path.
    Flows {
        /// The admin listener of the running gateway.
        #[arg(long, default_value = "http://127.0.0.1:9090", value_name = "URL")]
        admin: String,
        /// Prints JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Runs the media plane alone, with the flows that standard input describes.
    #[command(hide = true)]
    Media,
    /// Prints the commented example configuration, or checks a file.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Config {
        /// Prints the example, in which every key has its default.
        #[arg(long, group = "what")]
        example: bool,
        /// Reads a file and says what is wrong with it.
        #[arg(long, group = "what", value_name = "FILE")]
        check: Option<PathBuf>,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// Configuration; without it every key has its default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
pub(crate) fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(file) => run(&file),
        Command::Check(file) => check(&file),
        Command::Media => media_only::run(),
        Command::Flows { admin, json } => flows::print(&admin, json),
        Command::Config {
            check: Some(file), ..
        } => {
            Config::load(Some(&file))?;
            println!("{}: good", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Config { .. } => {
            print!("{}", config::EXAMPLE);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Succeeds when the configured datapath mode can be had.
fn check(file: &ConfigFile) -> Result<ExitCode> {
    let config = Config::load(file.config.as_deref())?;
    let media = config.media();
    let addresses = datapath::media_addresses(&media.web_listen, &media.rtp_addresses);
    let report = check::run(&config.datapath, &addresses, config.limits.calls);
    println!("{report}");
    for trunk in &config.trunks {
        println!("{}", config::summary(trunk));
    }
    Ok(if report.path.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(file: &ConfigFile) -> Result<ExitCode> {
    let config = Config::load(file.config.as_deref())?;
    logging::start(&config.log)?;
    let configuration = file
        .config
        .as_ref()
        .map_or_else(|| "defaults".into(), |file| file.display().to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        flow_abi = flow::ABI,
        configuration,
        "causeway"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("causeway")
        .build()
        .context("starting the runtime")?;
    runtime.block_on(daemon::run(config))?;
    Ok(ExitCode::SUCCESS)
}
