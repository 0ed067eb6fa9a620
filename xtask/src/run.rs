//! `build`, `run` and `check`: the daemon with the XDP program inside.

use crate::host::{self, execute};
use crate::object;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// What `build` made.
pub(crate) struct Built {
    /// The XDP object, where there is a toolchain for it.
    pub(crate) object: Option<PathBuf>,
    /// The daemon.
    pub(crate) daemon: PathBuf,
    /// Load generator and SIP peer.
    pub(crate) bench: PathBuf,
}

impl Built {
    /// `cargo`, with the object named to the daemon's build script so that nothing is built twice.
    pub(crate) fn cargo(&self) -> Command {
        cargo_with(self.object.as_ref())
    }
}

/// Builds the object, the daemon and the bench tools.
pub(crate) fn build(release: bool) -> Result<Built> {
    let object = object::build()?;
    let mut cargo = cargo_with(object.as_ref());
    cargo.args(["build", "--package=causeway", "--package=causeway-bench"]);
    if release {
        cargo.arg("--release");
    }
    execute(&mut cargo)?;
    let directory = host::target_dir().join(if release { "release" } else { "debug" });
    Ok(Built {
        object,
        daemon: directory.join("causeway"),
        bench: directory.join("causeway-bench"),
    })
}

/// `cargo xtask run`: becomes the daemon.
pub(crate) fn daemon(release: bool, args: &[String]) -> Result<ExitCode> {
    become_daemon(release, "run", args)
}

/// `cargo xtask check`: becomes `causeway check`.
pub(crate) fn check(args: &[String]) -> Result<ExitCode> {
    become_daemon(false, "check", args)
}

/// Replaces this process, so that signals and the exit code are the daemon's own.
fn become_daemon(release: bool, subcommand: &str, args: &[String]) -> Result<ExitCode> {
    let built = build(release)?;
    let error = Command::new(&built.daemon)
        .arg(subcommand)
        .args(args)
        .exec();
    Err(error).with_context(|| format!("starting {}", built.daemon.display()))
}

fn cargo_with(object: Option<&PathBuf>) -> Command {
    let mut cargo = host::cargo();
    match object {
        Some(path) => cargo.env(object::VARIABLE, AsRef::<OsStr>::as_ref(path)),
        None => cargo.env_remove(object::VARIABLE),
    };
    cargo
}
