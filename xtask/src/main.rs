//! `cargo xtask`: everything that one does with this repository, as Rust instead of shell scripts.
//!
//! Each command finds by itself what it needs (`toolchain`, `object`, `packages`) and says in one sentence what it
//! could not have and what follows from that. Called by people, and by `.ci/run` (`cargo xtask test`).
#![forbid(unsafe_code)]

mod aiortc;
mod bench;
mod ci;
mod cli;
mod clients;
mod demo;
mod fuzz;
mod host;
mod lanes;
mod levels;
mod needs;
mod object;
mod packages;
mod run;
mod runner;
mod test;
mod tidy;
mod toolchain;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup { tests } => object::setup(tests),
        Command::Build { release } => run::build(release).map(|_| ExitCode::SUCCESS),
        Command::Run { release, args } => run::daemon(release, &args),
        Command::Check { args } => run::check(&args),
        Command::Demo(options) => demo::run(&options),
        Command::Test { list: true, .. } => Ok(test::list()),
        Command::Test { levels, .. } => test::run(&levels),
        Command::Ci => ci::run(),
        Command::Tidy => tidy::run(),
        Command::Fuzz { packets, seed } => fuzz::run(packets, seed),
        Command::Bench { args } => bench::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
