//! `causeway-bench veth`: our XDP datapath, our userspace datapath and rtpengine's userspace one, one after the other on one bed.
//!
//! The bed is three namespaces, client | device under test | SIP side, with a veth pair between neighbours. Every veth end receives in
//! a kernel thread of its own (threaded NAPI): the device's two ends and its process on one CPU, all of the rest on another, so that
//! what is measured is the whole forwarder on one core, as on a real network card, and not the sender's softirq. CPU per packet is
//! the run time of the device's process and of its two receive threads (`/proc/*/schedstat`) over the packets sent. Rounds are paired:
//! each visits every device in turn, so that a slow minute of the machine hits all. Figures are medians.

mod bed;
mod cpu;
mod device;
mod report;
mod search;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

pub use report::{Comparison, Highest, Machine, Measured};

use crate::load::{LoadConfig, LoadReport, MasterKey, Side, run_while};
use bed::Bed;
use device::Device;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarder {
    /// The kernel's own IP forwarding: what the bed itself costs.
    Kernel,
    /// Our datapath in XDP, in the driver.
    XdpNative,
    /// Our datapath in XDP, on socket buffers.
    XdpGeneric,
    /// Our datapath over sockets.
    Userspace,
    /// rtpengine's userspace forwarding.
    Rtpengine,
}

impl Forwarder {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel forwarding (floor)",
            Self::XdpNative => "causeway XDP native",
            Self::XdpGeneric => "causeway XDP generic",
            Self::Userspace => "causeway userspace",
            Self::Rtpengine => "rtpengine userspace",
        }
    }

    fn does(self, work: Work) -> bool {
        self != Self::Kernel || work == Work::Plain
    }
}

/// What is done to the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// RTP to RTP, client to SIP side.
    Plain,
    /// RTP to SRTP, SIP side to client.
    Protect,
    /// SRTP to RTP, client to SIP side.
    Unprotect,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Protect, Self::Unprotect];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "RTP -> RTP",
            Self::Protect => "RTP -> SRTP",
            Self::Unprotect => "SRTP -> RTP",
        }
    }

    /// Whether packets go from the SIP side to the client.
    fn is_towards_client(self) -> bool {
        self == Self::Protect
    }
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon, built with the XDP object.
    pub daemon: PathBuf,
    /// Which forwarders; rtpengine is left out, and named, where it is not installed.
    pub forwarders: Vec<Forwarder>,
    /// Which kinds of work.
    pub works: Vec<Work>,
    /// Streams.
    pub streams: usize,
    /// Rate at which CPU and delay are measured.
    pub pps: f64,
    /// Seconds of a run, a quarter of which warms up.
    pub seconds: f64,
    /// Rounds of CPU and delay.
    pub rounds: usize,
    /// Runs of a rate before it counts as too high.
    pub tries: usize,
    /// Rates tried for each highest loss-free rate; 0 leaves the search out.
    pub search_steps: usize,
    /// Seconds of a run of the search.
    pub search_seconds: f64,
    /// CPU of the device under test; generator and sink take the other one.
    pub device_cpu: usize,
    /// CPU of generator and sink.
    pub load_cpu: usize,
}

impl Config {
    /// About five minutes.
    pub fn new(daemon: PathBuf) -> Self {
        Self {
            daemon,
            forwarders: vec![
                Forwarder::Kernel,
                Forwarder::XdpNative,
                Forwarder::Userspace,
                Forwarder::Rtpengine,
            ],
            works: Work::ALL.to_vec(),
            streams: 400,
            pps: 20_000.0,
            seconds: 2.0,
            rounds: 3,
            tries: 3,
            search_steps: 4,
            search_seconds: 1.25,
            device_cpu: 0,
            load_cpu: 1,
        }
    }

    /// About a minute, for a look.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.streams = 200;
        self.pps = 10_000.0;
        self.seconds = 1.5;
        self.rounds = 1;
        self.tries = 2;
        self.search_steps = 3;
        self.search_seconds = 1.0;
        self
    }
}

/// Measures everything; `progress` gets a line per step.
///
/// # Errors
/// Not root, fewer than two CPUs, no daemon, or a device that does not forward.
pub fn compare(config: &Config, mut progress: impl FnMut(&str)) -> anyhow::Result<Comparison> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "namespaces, veth pairs and XDP need root"
    );
    ensure!(
        config.daemon.is_file(),
        "no daemon at {}",
        config.daemon.display()
    );
    let mut comparison = Comparison::new(config);
    let mut forwarders = config.forwarders.clone();
    if crate::rtpengine::program().is_none() {
        forwarders.retain(|forwarder| *forwarder != Forwarder::Rtpengine);
        comparison.note("rtpengine is not installed (Debian: rtpengine-daemon): not compared");
    }
    cpu::weigh_heavily();
    let bed = Bed::new(config.device_cpu, config.load_cpu)?;
    for round in 1..=config.rounds {
        for &work in &config.works {
            for &forwarder in forwarders.iter().filter(|forwarder| forwarder.does(work)) {
                let name = format!("{} {}", forwarder.name(), work.name());
                progress(&format!("round {round} of {}: {name}", config.rounds));
                let mut device =
                    Device::start(&bed, config, forwarder, work).with_context(|| name.clone())?;
                let run = measure(&bed, config, &mut device, config.pps, config.seconds)?;
                device.stop().with_context(|| name.clone())?;
                ensure!(
                    run.load.corrupt == 0,
                    "{name}: {} of {} checked packets are not what was sent",
                    run.load.corrupt,
                    run.load.checked
                );
                comparison.add(forwarder, work, run);
            }
        }
    }
    if config.search_steps > 0 {
        for &work in &config.works {
            for &forwarder in forwarders.iter().filter(|forwarder| forwarder.does(work)) {
                let name = format!("{} {}", forwarder.name(), work.name());
                progress(&format!("highest loss-free rate: {name}"));
                let mut device =
                    Device::start(&bed, config, forwarder, work).with_context(|| name.clone())?;
                let highest = search::highest(
                    &bed,
                    config,
                    &mut device,
                    comparison.cpu_ns(forwarder, work),
                    &mut progress,
                )?;
                device.stop().with_context(|| name)?;
                comparison.add_highest(forwarder, work, highest);
            }
        }
    }
    Ok(comparison)
}

/// Deletes the namespaces of this process, where it is about to be ended by a signal.
///
/// # Errors
/// `ip` fails.
pub fn clean_up() -> anyhow::Result<()> {
    bed::remove_own()
}

/// One run with its CPU time.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) load: LoadReport,
    /// CPU time of the device's process, nanoseconds per packet.
    pub(crate) process_ns: f64,
    /// CPU time of the device's receive threads, nanoseconds per packet.
    pub(crate) receive_ns: f64,
}

/// Sends at a rate through a device.
fn measure(
    bed: &Bed,
    config: &Config,
    device: &mut Device,
    pps: f64,
    seconds: f64,
) -> anyhow::Result<Run> {
    cpu::wait_until_quiet();
    let load = load(bed, config, device, pps, seconds);
    device.advance(load.per_stream());
    let processes = device.processes();
    let mut before = (0, 0);
    let report = run_while(&load, || {
        before = (cpu::run_time_ns(&processes), bed.receive_time_ns());
    })?;
    let packets = report.total as f64;
    let per_packet = |before: u64, after: u64| after.saturating_sub(before) as f64 / packets;
    Ok(Run {
        process_ns: per_packet(before.0, cpu::run_time_ns(&processes)),
        receive_ns: per_packet(before.1, bed.receive_time_ns()),
        load: report,
    })
}

fn load(bed: &Bed, config: &Config, device: &Device, pps: f64, seconds: f64) -> LoadConfig {
    let side = |namespace: &bed::Namespace, address| Side {
        namespace: Some(namespace.path()),
        address,
        cpu: Some(config.load_cpu),
    };
    let client = side(&bed.client, bed::CLIENT);
    let sip = side(&bed.sip, bed::SIP);
    let (source, sink) = if device.work.is_towards_client() {
        (sip, client)
    } else {
        (client, sip)
    };
    let mut load = LoadConfig::g711(config.streams, source, device.targets.clone(), sink);
    load.pps = pps;
    load.seconds = seconds;
    load.warm_up_s = seconds / 4.0;
    load.burst = 20;
    load.late = Duration::from_millis(200);
    load.source_port_per_stream = !device.work.is_towards_client();
    load.send_key = (device.work == Work::Unprotect).then_some(MasterKey::MEASUREMENT);
    load.receive_keys.clone_from(&device.receive_keys);
    load.first_ssrc = device::FIRST_SSRC;
    load.first_sequence = device.next_sequence;
    load
}
