//! The XDP object: `setup`, and building `ebpf/` into `target/bpf/causeway-xdp`.
//!
//! The daemon's build script embeds the file that `CAUSEWAY_BPF_OBJECT` names. Without a toolchain there is no such
//! file and the daemon is built for userspace only, which it says itself when it starts.

use crate::clients;
use crate::host::{self, execute};
use crate::packages;
use crate::toolchain::Route;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The environment variable that `gateway/build.rs` and the kernel tests read.
pub(crate) const VARIABLE: &str = "CAUSEWAY_BPF_OBJECT";

/// File name of the daemon's object.
const OBJECT: &str = "causeway-xdp";

/// `cargo xtask setup`.
pub(crate) fn setup(tests: bool) -> Result<ExitCode> {
    match Route::find(true) {
        Ok(route) => println!("the XDP program is built by {}", route.about),
        Err(gap) => println!("no XDP: {gap:#}. Everything else builds, media stays in userspace."),
    }
    if tests {
        packages::install_peers();
        clients::install();
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the object, setting its toolchain up where needed. `None`, after saying why, where this host cannot.
pub(crate) fn build() -> Result<Option<PathBuf>> {
    let route = match Route::find(true) {
        Ok(route) => route,
        Err(gap) => {
            println!("no XDP program: {gap:#}. Building for userspace only.");
            return Ok(None);
        }
    };
    let ebpf = host::root().join("ebpf");
    let mut cargo = route.cargo(&ebpf);
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--target=bpfel-unknown-none",
        "-Zbuild-std=core",
    ]);
    execute(&mut cargo)
        .with_context(|| format!("the XDP program did not build with {}", route.about))?;
    let built = ebpf.join("target/bpfel-unknown-none/release");
    let objects = host::own_target().join("bpf");
    // The bench looks for its own beside the daemon's.
    for name in [OBJECT, "causeway-bed"] {
        copy_if_changed(&built.join(name), &objects.join(name))?;
    }
    Ok(Some(objects.join(OBJECT)))
}

/// An unchanged object keeps its time stamp, or cargo would build the daemon anew.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let directory = to.parent().expect("the object lies in a directory");
    fs::create_dir_all(directory)?;
    fs::write(to, new).with_context(|| format!("writing {}", to.display()))
}
