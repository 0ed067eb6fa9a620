//! This machine and this checkout: paths, tools on PATH, who we are, and how a command is run.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace root")
}

/// Where our own build products lie that are no cargo artefacts: always `target/` of the checkout.
pub(crate) fn own_target() -> PathBuf {
    root().join("target")
}

/// The directory that cargo builds the workspace into.
pub(crate) fn target_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))
            .and_then(|json| Ok(serde_json::from_str::<serde_json::Value>(&json)?));
        metadata
            .ok()
            .and_then(|value| Some(PathBuf::from(value.get("target_directory")?.as_str()?)))
            .unwrap_or_else(own_target)
    })
}

/// The cargo that runs us, in the workspace root. Without what cargo tells us of our own package (or a test that runs us of its own):
/// build scripts that look at it would build their packages again whenever another program asks.
pub(crate) fn cargo() -> Command {
    const OF_A_PACKAGE: [&str; 5] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
    ];
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if OF_A_PACKAGE.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// Takes out of `command` what cargo and rustup set for us and what must not reach a cargo of another toolchain.
pub(crate) fn foreign_cargo(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours =
            text.starts_with("CARGO_") && text != "CARGO_HOME" && !text.starts_with("CARGO_NET");
        if ours
            || ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUSTDOC"]
                .contains(&text.as_ref())
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The first file of that name on PATH or in the directories of the system's own tools.
pub(crate) fn which(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
}

/// Runs a command with its output on our terminal; an error names the command.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`{shown}` did not start"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command silently and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let result = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("`{shown}` did not start"))?;
    if !result.status.success() {
        bail!("`{shown}` ended with {}", result.status);
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
