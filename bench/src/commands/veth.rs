//! `causeway-bench veth`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use bench::veth::{Config, Forwarder, Pace, Work, clean_up, compare};
use nix::sys::signal::{SigSet, Signal};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The daemon; without it the one that CAUSEWAY_BIN names, else `causeway` beside this program.
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// A short look: fewer streams, one round, one try.
    #[arg(long)]
    quick: bool,
    /// Measures generic XDP too.
    #[arg(long)]
    generic: bool,
    /// Leaves the search for the highest rates out.
    #[arg(long)]
    no_search: bool,
    /// Only this work, by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<WorkName>,
    /// Only these forwarders, by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    forwarder: Vec<ForwarderName>,
    /// Leaves the other payloads and the growth of calls out.
    #[arg(long)]
    only_paces: bool,
    /// Measures CPU and delay only at this rate.
    #[arg(long)]
    pps: Option<f64>,
    /// Packets that come at once at that rate.
    #[arg(long, default_value_t = 20)]
    burst: usize,
    /// Payload bytes of a packet.
    #[arg(long)]
    payload: Option<usize>,
    /// Streams.
    #[arg(long)]
    streams: Option<usize>,
    /// Rounds.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of a run at that rate.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Most memory for keystream made ahead of time in XDP, MiB; 0 = none.
    #[arg(long, default_value_t = 64)]
    keystream_mib: u32,
    /// CPUs that our flows in XDP are spread over, by commas; none = they stay on the device's.
    #[arg(long, value_delimiter = ',')]
    spread: Vec<u32>,
    /// CPU of the device under test.
    #[arg(long, default_value_t = 0)]
    device_cpu: usize,
    /// CPU of generator and sink.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Prints JSON instead of tables (`veth` alone).
    #[arg(long)]
    as_json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum WorkName {
    Plain,
    Protect,
    Unprotect,
    ProtectGcm,
    UnprotectGcm,
    Transcrypt,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ForwarderName {
    Kernel,
    Xdp,
    Generic,
    Userspace,
    Rtpengine,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = config(options)?;
    clean_up_on_signals()?;
    let comparison = compare(&config, |line| eprintln!("{line}"))?;
    if options.as_json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        print!("{comparison}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be measured.
pub(crate) fn config(options: &Options) -> anyhow::Result<Config> {
    let mut config = Config::new(daemon(options.daemon.as_ref())?, bed_object()?);
    if options.quick {
        config = config.quick();
    }
    if options.generic {
        config.forwarders.insert(2, Forwarder::XdpGeneric);
    }
    if !options.forwarder.is_empty() {
        let named = options.forwarder.iter().map(|name| match name {
            ForwarderName::Kernel => Forwarder::Kernel,
            ForwarderName::Xdp => Forwarder::XdpNative,
            ForwarderName::Generic => Forwarder::XdpGeneric,
            ForwarderName::Userspace => Forwarder::Userspace,
            ForwarderName::Rtpengine => Forwarder::Rtpengine,
        });
        config.forwarders = named.collect();
    }
    if !options.work.is_empty() {
        let named = options.work.iter().map(|name| match name {
            WorkName::Plain => Work::Plain,
            WorkName::Protect => Work::Protect,
            WorkName::Unprotect => Work::Unprotect,
            WorkName::ProtectGcm => Work::ProtectGcm,
            WorkName::UnprotectGcm => Work::UnprotectGcm,
            WorkName::Transcrypt => Work::Transcrypt,
        });
        config.works = named.collect();
    }
    if options.no_search {
        config.search_steps = 0;
    }
    if options.only_paces {
        config.sizes.clear();
        config.calls.clear();
    }
    if let Some(pps) = options.pps {
        config.paces = vec![Pace {
            pps,
            burst: options.burst,
            seconds: options.seconds,
        }];
    }
    config.shape.payload_bytes = options.payload.unwrap_or(config.shape.payload_bytes);
    config.shape.streams = options.streams.unwrap_or(config.shape.streams);
    config.rounds = options.rounds.unwrap_or(config.rounds);
    config.keystream_mib = options.keystream_mib;
    config.spread.clone_from(&options.spread);
    config.device_cpu = options.device_cpu;
    config.load_cpu = options.load_cpu;
    Ok(config)
}

/// The daemon: the one given, else the one that xtask names, else that beside this program.
pub(crate) fn daemon(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("CAUSEWAY_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("where this program is")?;
    Ok(own.with_file_name("causeway"))
}

/// The feed's object: beside the XDP object.
fn bed_object() -> anyhow::Result<PathBuf> {
    let object = super::testrun::object(None)?.with_file_name("causeway-bed");
    ensure!(
        object.is_file(),
        "no {}: `cargo xtask build`",
        object.display()
    );
    Ok(object)
}

/// Namespaces would stay behind where a signal ends the process.
pub(crate) fn clean_up_on_signals() -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    // Before any thread is started, so that all inherit it.
    signals.thread_block()?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.wait().is_ok()
                && let Err(error) = clean_up()
            {
                eprintln!("causeway-bench: {error:#}");
            }
            std::process::exit(130);
        })?;
    Ok(())
}
