//! `cargo xtask bench`: builds optimised and hands over to `causeway-bench`.

use crate::host::{self, execute};
use crate::{object, packages, run};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// Runs everything, or the named measurement.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    packages::install_peers();
    let built = run::build(true)?;
    let mut command = Command::new(&built.bench);
    match args.first().map(String::as_str) {
        Some("figures") => command.arg("figures").arg("--root").arg(host::root()),
        Some(name) if !name.starts_with('-') => command.args(args),
        _ => {
            command.args(["all", "--json"]);
            command.arg(host::own_target().join("bench.json"));
            for arg in args {
                command.arg(arg);
                if arg == "--write-readme" {
                    command.arg(host::root());
                }
            }
            &mut command
        }
    };
    command.env("CAUSEWAY_BIN", &built.daemon);
    if let Some(object) = &built.object {
        command.env(object::VARIABLE, object);
    }
    execute(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
