//! `cargo xtask ci`: everything that a change must pass, as it runs on a developer's machine.

use crate::host::{self, cargo, execute};
use crate::{object, test, tidy};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// Formatting, lints, documentation, licences, tidy, then all test levels. The cheap checks all run even if one fails.
pub(crate) fn run() -> Result<ExitCode> {
    let object = object::build()?;
    let with_object = |mut command: Command| {
        if let Some(object) = &object {
            command.env(object::VARIABLE, object);
        }
        command
    };
    let mut failed = Vec::new();
    let mut step = |name: &'static str, command: &mut Command| {
        if let Err(error) = execute(command) {
            println!("{name}: {error:#}");
            failed.push(name);
        }
    };
    step("format", cargo().args(["fmt", "--all", "--check"]));
    step(
        "format of ebpf",
        cargo().args(["fmt", "--manifest-path=ebpf/Cargo.toml", "--check"]),
    );
    step(
        "lints",
        with_object(cargo()).args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    );
    step(
        "documentation",
        with_object(cargo())
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    match host::which("cargo-deny") {
        Some(_) => step(
            "licences",
            cargo().args(["deny", "check", "licenses", "bans", "sources"]),
        ),
        None => println!("licences: NOT RUN: cargo-deny is not installed"),
    }
    if tidy::run()? != ExitCode::SUCCESS {
        failed.push("tidy");
    }
    let tests = test::run(&[])?;
    if failed.is_empty() {
        return Ok(tests);
    }
    println!("failed beside the tests: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}
