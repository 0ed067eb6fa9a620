//! `causeway-bench calls`.

use std::net::IpAddr;
use std::process::ExitCode;

use bench::webrtc::{CallConfig, Codec, LoadConfig, RoundTrip, Sound, load};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The gateway's base URL.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    gateway: String,
    /// Whom each page calls.
    #[arg(long, default_value = "echo")]
    to: String,
    /// SIP user of the pages; guests without it.
    #[arg(long)]
    user: Option<String>,
    /// SIP password.
    #[arg(long)]
    password: Option<String>,
    /// Calls.
    #[arg(long, default_value_t = 10)]
    calls: usize,
    /// Calls placed per second.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Seconds of talk.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Codec.
    #[arg(long, value_enum, default_value = "pcmu")]
    codec: CodecName,
    /// Speaks DTLS 1.2 only.
    #[arg(long)]
    dtls12: bool,
    /// Address of the media sockets; by default the one that reaches the gateway.
    #[arg(long)]
    local: Option<IpAddr>,
    /// Threads that move media.
    #[arg(long, default_value_t = 1)]
    engines: usize,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CodecName {
    Pcmu,
    Opus,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let call = CallConfig {
        gateway: options.gateway.clone(),
        user: options.user.clone(),
        password: options.password.clone(),
        to: options.to.clone(),
        codec: match options.codec {
            CodecName::Pcmu => Codec::Pcmu,
            CodecName::Opus => Codec::Opus,
        },
        sound: Sound::Marked,
        dtls13: !options.dtls12,
        local: options.local,
        talk_s: options.seconds,
        ..CallConfig::default()
    };
    let report = load(&LoadConfig {
        call,
        calls: options.calls,
        rate_per_s: options.rate,
        engines: options.engines,
    })?;
    let whole = report.completed == report.calls;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{} calls, {} completed, {:.1} s",
            report.calls, report.completed, report.seconds
        );
        for (reason, count) in &report.failures {
            println!("  {count} failed: {reason}");
        }
        println!(
            "packets: sent {}, heard {}, echoed {}, lost {}, skipped {}",
            report.sent, report.received, report.echoed, report.lost, report.skipped
        );
        for (path, count) in &report.paths {
            println!("  {count} flows {path}");
        }
        print_times("set-up", report.setup);
        print_times("DTLS to first packet", report.first_packet);
        print_times("median round trips", report.round_trip_medians);
        if let Some(worst) = report.worst_p99_us {
            println!("worst 99th percentile of a call: {worst} us");
        }
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_times(name: &str, times: Option<RoundTrip>) {
    if let Some(times) = times {
        println!(
            "{name}: p50 {} us, p99 {} us, max {} us",
            times.p50_us, times.p99_us, times.max_us
        );
    }
}
