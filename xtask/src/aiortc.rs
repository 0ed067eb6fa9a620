//! aiortc for the tests: fetched by pip as `tests/networks/requirements.txt` pins it, into a virtual environment under `target/`.

use crate::host::{self, execute};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const REQUIREMENTS: &str = "tests/networks/requirements.txt";

fn directory() -> PathBuf {
    host::own_target().join("aiortc")
}

/// Fetches it, unless that was done for these requirements. What cannot be had is said, and the level that needs it says so again.
pub(crate) fn install() {
    if is_current() {
        return;
    }
    if let Err(error) = fetch() {
        println!("aiortc could not be had: {error:#}");
    }
}

/// Why a level that needs it cannot run.
pub(crate) fn gap() -> Option<String> {
    (!is_current()).then(|| "aiortc could not be fetched (pip)".to_owned())
}

fn is_current() -> bool {
    let wanted = fs::read(host::root().join(REQUIREMENTS)).ok();
    wanted.is_some() && fs::read(directory().join("fetched.txt")).ok() == wanted
}

fn fetch() -> Result<()> {
    let directory = directory();
    println!("fetching aiortc into {}", directory.display());
    let python = host::which("python3").context("python3 is not installed (Debian: python3)")?;
    execute(
        Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(&directory),
    )?;
    let requirements = host::root().join(REQUIREMENTS);
    execute(
        Command::new(directory.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary=:all:",
                "--requirement",
            ])
            .arg(&requirements),
    )?;
    fs::copy(requirements, directory.join("fetched.txt"))?;
    Ok(())
}
