//! Log lines on standard error, as text for people or JSON for machines.

use crate::config::Log;
use anyhow::{Result, anyhow};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Libraries that log keys or ICE passwords below this level: no setting opens them.
const DISCREET: [&str; 2] = ["is=info", "dimpl=info"];

/// Starts logging; `RUST_LOG` refines the configured level by module.
pub(crate) fn start(log: &Log) -> Result<()> {
    let mut filter = EnvFilter::builder()
        .with_default_directive(log.level.into())
        .from_env()?;
    for directive in DISCREET {
        filter = filter.add_directive(directive.parse()?);
    }
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if log.json {
        subscriber.json().flatten_event(true).try_init()
    } else {
        subscriber
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init()
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
