//! `causeway-bench`: the command line over the `bench` library.
#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Peers, load and measurements for Causeway.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a SIP registrar, proxy and answering services with real RTP, until it is interrupted.
    SipPeer(commands::sip::PeerOptions),
    /// Places one SIP call, sends a tone or an echo, and reports what was heard.
    SipCall(commands::sip::CallOptions),
    /// Places many WebRTC calls at a gateway and reports set-up times, loss and round trips.
    Calls(commands::calls::Options),
    /// Sends paced RTP or SRTP through a forwarder to a sink, and reports loss and delay.
    Rtp(commands::rtp::Options),
    /// Times the XDP program per suite, direction and size by BPF_PROG_TEST_RUN.
    Testrun(commands::testrun::Options),
    /// Looks for secrets in the times of packets: constant time, measured.
    Timing(commands::timing::Options),
    /// Compares our datapaths and rtpengine over veth: CPU per packet, delay, highest loss-free rate, memory.
    Veth(commands::veth::Options),
    /// Measures calls per second of set-up and teardown, and memory per call, on loopback.
    Setup(commands::setup::Options),
    /// Testrun and veth, held against the targets.
    All(commands::figures::AllOptions),
    /// Writes README's figures and their picture anew from docs/bench.json.
    Figures(commands::figures::FiguresOptions),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::SipPeer(options) => commands::sip::peer(options),
        Command::SipCall(options) => commands::sip::call(options),
        Command::Calls(options) => commands::calls::run(&options),
        Command::Rtp(options) => commands::rtp::run(&options),
        Command::Testrun(options) => commands::testrun::run(&options),
        Command::Timing(options) => commands::timing::run(&options),
        Command::Veth(options) => commands::veth::run(&options),
        Command::Setup(options) => commands::setup::run(&options),
        Command::All(options) => commands::figures::all(&options),
        Command::Figures(options) => commands::figures::figures(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("causeway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
