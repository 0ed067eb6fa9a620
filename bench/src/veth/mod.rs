//! `causeway-bench veth`: our XDP datapath, our userspace datapath and rtpengine's userspace one, one after the other on one bed.
//!
//! The bed is three namespaces, client | device under test | SIP side, with a veth pair between neighbours. Every veth end receives in
//! a kernel thread of its own (threaded NAPI): the device's two ends and its process on one CPU, all of the rest on another, so that
//! what is measured is the whole forwarder on one core, as on a real network card, and not the sender's softirq. Packets come from
//! [`crate::feed`]: the device gets frames like from a driver, and what it sends is counted and timed by an XDP program. CPU per packet is
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
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

pub use report::{Comparison, Highest, Machine, Measured};

use crate::feed::{Feed, Play, Played, Recording};
use crate::load::MasterKey;
use bed::Bed;
use device::Device;

/// Room on the tape for each packet.
const TAPE_PACKET: usize = 192;
/// Packets of a stream: SRTP is tried under one rollover counter.
const MOST_PER_STREAM: usize = 30_000;

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
    /// The object with the feed's programs.
    pub object: PathBuf,
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
    /// Packets recorded for a device; at high rates it is started anew behind them.
    pub tape_packets: usize,
    /// Packets that are sent at once.
    pub burst: usize,
    /// CPU of the device under test; generator and sink take the other one.
    pub device_cpu: usize,
    /// CPU of generator and sink.
    pub load_cpu: usize,
}

impl Config {
    /// About five minutes.
    pub fn new(daemon: PathBuf, object: PathBuf) -> Self {
        Self {
            daemon,
            object,
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
            search_seconds: 0.5,
            tape_packets: 2_000_000,
            burst: 20,
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
        self.search_seconds = 0.3;
        self.tape_packets = 600_000;
        self
    }
}

/// Bed, feed and what is measured on them.
struct Stand<'a> {
    config: &'a Config,
    bed: Bed,
    feed: Feed,
    /// The feed's numbers of the client's and of the SIP side's device.
    client: u32,
    sip: u32,
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
    let mut stand = Stand::new(config)?;
    for round in 1..=config.rounds {
        for &work in &config.works {
            for &forwarder in forwarders.iter().filter(|forwarder| forwarder.does(work)) {
                let name = format!("{} {}", forwarder.name(), work.name());
                progress(&format!("round {round} of {}: {name}", config.rounds));
                let mut device = stand.start(forwarder, work).with_context(|| name.clone())?;
                let run = stand.measure(&mut device, config.pps, config.seconds)?;
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
                let mut device = stand.start(forwarder, work).with_context(|| name.clone())?;
                let cpu_ns = comparison.cpu_ns(forwarder, work);
                let highest = search::highest(&mut stand, &mut device, cpu_ns, &mut progress)?;
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
    pub(crate) load: Played,
    /// CPU time of the device's process, nanoseconds per packet.
    pub(crate) process_ns: f64,
    /// CPU time of the device's receive threads, nanoseconds per packet.
    pub(crate) receive_ns: f64,
    /// All that the device's CPU did meanwhile, whoever did it, nanoseconds per packet: it says whether the two above miss something.
    pub(crate) busy_ns: f64,
}

impl<'a> Stand<'a> {
    fn new(config: &'a Config) -> anyhow::Result<Self> {
        let bed = Bed::new(config.device_cpu, config.load_cpu)?;
        let tape_bytes = config.tape_packets * TAPE_PACKET;
        let mut feed = Feed::load(&config.object, tape_bytes, config.tape_packets)?;
        feed.keep_ready(&bed.client.path(), bed::SPARE)?;
        Ok(Self {
            client: feed.attach(&bed.client.path(), bed::CLIENT_DEVICE)?,
            sip: feed.attach(&bed.sip.path(), bed::SIP_DEVICE)?,
            config,
            bed,
            feed,
        })
    }

    /// Starts a device; what it will be sent is recorded.
    fn start(&mut self, forwarder: Forwarder, work: Work) -> anyhow::Result<Device> {
        self.feed.record(&Recording {
            streams: self.config.streams,
            per_stream: self.per_stream(),
            payload_bytes: 160,
            payload_type: 0,
            key: (work == Work::Unprotect).then_some(MasterKey::MEASUREMENT),
            first_ssrc: device::FIRST_SSRC,
            first_sequence: device::FIRST_SEQUENCE,
        })?;
        let device = Device::start(&self.bed, self.config, forwarder, work)?;
        self.feed.address(&device.fronts()?, &device.receive_keys)?;
        Ok(device)
    }

    /// Ends a device and starts another one of its kind, which is sent the recording from its beginning.
    fn restart(&mut self, device: &mut Device) -> anyhow::Result<()> {
        device.restart(&self.bed, self.config)?;
        self.feed.address(&device.fronts()?, &device.receive_keys)
    }

    /// Recorded packets of each stream.
    fn per_stream(&self) -> usize {
        (self.config.tape_packets / self.config.streams).min(MOST_PER_STREAM)
    }

    /// Sends at a rate through a device, anew from the recording's beginning where not enough of it is left.
    fn measure(&mut self, device: &mut Device, pps: f64, seconds: f64) -> anyhow::Result<Run> {
        let per_stream = (pps * seconds) as usize / self.config.streams;
        let per_stream = per_stream.clamp(1, self.per_stream());
        if device.played + per_stream > self.per_stream() {
            self.restart(device)?;
        }
        let play = Play {
            first: device.played,
            per_stream,
            pps,
            burst: self.config.burst,
            warm_up: 0.25,
            device: if device.work.is_towards_client() {
                self.sip
            } else {
                self.client
            },
            late: Duration::from_millis(200),
        };
        device.advance(per_stream);
        cpu::wait_until_quiet();
        let processes = device.processes();
        let before = self.cpu_times(&processes);
        let load = on_cpu(self.config.load_cpu, || self.feed.play(&play))?;
        let after = self.cpu_times(&processes);
        let per_packet =
            |place: usize| (after[place].saturating_sub(before[place])) as f64 / load.total as f64;
        Ok(Run {
            process_ns: per_packet(0),
            receive_ns: per_packet(1),
            busy_ns: per_packet(2),
            load,
        })
    }

    /// CPU times so far, in nanoseconds: the processes', the device's receive threads', and all that its CPU did.
    fn cpu_times(&self, processes: &[i32]) -> [u64; 3] {
        [
            cpu::run_time_ns(processes),
            self.bed.receive_time_ns(),
            cpu::busy_ns(self.config.device_cpu),
        ]
    }
}

/// Does something in a thread on a CPU.
fn on_cpu<T: Send>(
    cpu: usize,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut set = CpuSet::new();
            set.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("CPU {cpu}"))?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
