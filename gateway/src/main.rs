//! `causeway`: a gateway between browsers (WebRTC) and SIP whose media runs in XDP.
//!
//! Here are the shells around `gateway-core`: HTTP, SIP transports, media sockets and datapath, configuration, metrics.
//! `daemon::event_loop` is where they meet the core.

mod certificate;
pub mod check;
mod cli;
mod config;
mod daemon;
pub mod datapath;
mod flows;
mod http;
mod ice_tcp;
mod logging;
pub mod media;
mod media_only;
mod metrics;
mod resolver;
mod sip;
mod tls;

use gateway_core::Random;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("causeway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Randomness of the operating system.
fn system_random() -> Random {
    Random::new(|bytes| getrandom::fill(bytes).expect("Linux has getrandom since 3.17"))
}
