//! Browser libraries of others for the tests: fetched by npm as `tests/sip_pages/package-lock.json` pins them, and bundled for a page.

use crate::host::{self, execute};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The bundles, each with the page's name for the library and the module that it is of.
const BUNDLES: &[(&str, &str)] = &[
    ("jssip.js", "window.JsSIP = require('jssip');"),
    ("sip.js", "window.SIP = require('sip.js');"),
    (
        "whip.js",
        "window.WHIPClient = require('@eyevinn/whip-web-client').WHIPClient;",
    ),
];
const MANIFESTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Where the bundles are.
pub(crate) fn directory() -> PathBuf {
    host::own_target().join("clients")
}

/// Fetches and bundles, unless that was done for this lock file. What cannot be had is said, and the level that needs it says so again.
pub(crate) fn install() {
    if is_current() {
        return;
    }
    if let Err(error) = fetch() {
        println!("the browser libraries for tests could not be had: {error:#}");
    }
}

/// Why a level that needs them cannot run.
pub(crate) fn gap() -> Option<String> {
    (!is_current()).then(|| {
        "JsSIP, SIP.js, a WHIP client and TypeScript could not be fetched (npm)".to_owned()
    })
}

fn is_current() -> bool {
    let wanted = fs::read(host::root().join("tests/sip_pages/package-lock.json")).ok();
    let directory = directory();
    wanted.is_some()
        && fs::read(directory.join("fetched.json")).ok() == wanted
        && BUNDLES
            .iter()
            .all(|(name, _)| directory.join(name).exists())
}

fn fetch() -> Result<()> {
    let npm = host::which("npm").context("npm is not installed (Debian: npm)")?;
    let directory = directory();
    println!(
        "fetching browser libraries for tests into {}",
        directory.display()
    );
    fs::create_dir_all(&directory)?;
    for name in MANIFESTS {
        fs::copy(
            host::root().join("tests/sip_pages").join(name),
            directory.join(name),
        )?;
    }
    let mut command = Command::new(npm);
    command.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ]);
    execute(command.current_dir(&directory))?;
    for (name, module) in BUNDLES {
        let entry = directory.join(format!("entry-{name}"));
        fs::write(&entry, module)?;
        let mut bundle = Command::new(directory.join("node_modules/.bin/esbuild"));
        bundle
            .arg(entry)
            .args(["--bundle", "--format=iife", "--log-level=error"]);
        bundle.arg(format!("--outfile={}", directory.join(name).display()));
        execute(bundle.current_dir(&directory))?;
    }
    fs::copy(directory.join(MANIFESTS[1]), directory.join("fetched.json"))?;
    Ok(())
}
