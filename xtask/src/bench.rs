//! `cargo xtask bench`: builds optimised and hands over to `causeway-bench`.

use crate::host::execute;
use crate::{object, packages, run};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// Runs the named measurement, or both.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    packages::install_peers();
    let built = run::build(true)?;
    let both = [vec!["testrun".to_owned()], vec!["veth".to_owned()]];
    let runs = if args.is_empty() {
        &both[..]
    } else {
        &[args.to_vec()]
    };
    for run in runs {
        let mut command = Command::new(&built.bench);
        command.args(run).env("CAUSEWAY_BIN", &built.daemon);
        if let Some(object) = &built.object {
            command.env(object::VARIABLE, object);
        }
        execute(&mut command)?;
    }
    Ok(ExitCode::SUCCESS)
}
