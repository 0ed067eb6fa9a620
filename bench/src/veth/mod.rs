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
mod memory;
mod report;
mod search;
mod stand;
mod table;

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use flow::Suite;
use serde::{Deserialize, Serialize};

pub use report::{Comparison, Grown, Highest, Machine, Measured};

pub(crate) use cpu::run_time_ns;
pub(crate) use memory::of as memory_bytes;

use device::Device;
use report::Median;
use stand::{Aim, Stand};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// RTP to RTP, client to SIP side.
    Plain,
    /// RTP to SRTP, SIP side to client.
    Protect,
    /// SRTP to RTP, client to SIP side.
    Unprotect,
    /// RTP to SRTP by AES-GCM, SIP side to client.
    ProtectGcm,
    /// SRTP by AES-GCM to RTP, client to SIP side.
    UnprotectGcm,
    /// SRTP to SRTP under other keys, client to SIP side.
    Transcrypt,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Protect,
        Self::Unprotect,
        Self::ProtectGcm,
        Self::UnprotectGcm,
        Self::Transcrypt,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "RTP -> RTP",
            Self::Protect => "RTP -> SRTP",
            Self::Unprotect => "SRTP -> RTP",
            Self::ProtectGcm => "RTP -> SRTP, GCM",
            Self::UnprotectGcm => "SRTP, GCM -> RTP",
            Self::Transcrypt => "SRTP -> SRTP",
        }
    }

    /// Whether packets go from the SIP side to the client.
    fn is_towards_client(self) -> bool {
        matches!(self, Self::Protect | Self::ProtectGcm)
    }

    /// What the client speaks: keys of ours as from DTLS, of rtpengine by SDES.
    fn browser_suite(self) -> Option<Suite> {
        match self {
            Self::Plain => None,
            Self::Protect | Self::Unprotect | Self::Transcrypt => Some(Suite::AesCm128HmacSha1_80),
            Self::ProtectGcm | Self::UnprotectGcm => Some(Suite::AeadAes128Gcm),
        }
    }

    /// What the SIP side speaks, keyed by SDES. Under the client's suite rtpengine would hand packets and keys through as they come.
    fn sip_suite(self) -> Option<Suite> {
        (self == Self::Transcrypt).then_some(Suite::AesCm128HmacSha1_32)
    }

    /// Whether it is measured where packets come in bursts only, in one round less, and its highest rate less closely: the run must end
    /// some time.
    pub fn is_short(self) -> bool {
        matches!(
            self,
            Self::ProtectGcm | Self::UnprotectGcm | Self::Transcrypt
        )
    }
}

/// What a device is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Streams, each a call of its own.
    pub streams: usize,
    /// Payload bytes of every packet.
    pub payload_bytes: usize,
}

/// How packets come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Packets per second of all streams.
    pub pps: f64,
    /// Packets that come at once.
    pub burst: usize,
    /// Length of a run.
    pub seconds: f64,
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
    /// Streams and payload of all but what is said below.
    pub shape: Shape,
    /// CPU and delay are measured at each of these paces.
    pub paces: Vec<Pace>,
    /// Rounds of that.
    pub rounds: usize,
    /// CPU and delay are measured with these payloads too.
    pub sizes: Vec<usize>,
    /// And at this pace.
    pub size_pace: Pace,
    /// CPU and memory are measured with so many calls, the least first.
    pub calls: Vec<usize>,
    /// And at these paces; those after the first in XDP only.
    pub growth_paces: Vec<Pace>,
    /// Rates tried for each highest loss-free rate; 0 leaves the search out.
    pub search_steps: usize,
    /// Seconds of a run of the search.
    pub search_seconds: f64,
    /// Runs of a rate before it counts as too high.
    pub tries: usize,
    /// Packets of G.711 recorded for a device; at high rates it is started anew behind them.
    pub tape_packets: usize,
    /// Most memory for keystream made ahead of time in XDP, MiB; 0 = none.
    pub keystream_mib: u32,
    /// CPUs that our flows in XDP are spread over; none = they stay on the device's.
    pub spread: Vec<u32>,
    /// CPU of the device under test.
    pub device_cpu: usize,
    /// CPU of feed and sink.
    pub load_cpu: usize,
}

/// Locked while it is measured.
const LOCK: &str = "/run/causeway-bench.lock";
/// The most calls that rtpengine has room for under this machine's limit of open files: four sockets each.
const RTPENGINE_CALLS: usize = 4000;

impl Config {
    /// About ten minutes.
    pub fn new(daemon: PathBuf, object: PathBuf) -> Self {
        let pace = |pps, burst, seconds| Pace {
            pps,
            burst,
            seconds,
        };
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
            shape: Shape {
                streams: 400,
                payload_bytes: 160,
            },
            paces: vec![
                pace(1_000.0, 1, 2.5),
                pace(10_000.0, 1, 1.5),
                pace(20_000.0, 20, 1.0),
                pace(50_000.0, 20, 1.0),
            ],
            rounds: 3,
            sizes: vec![80, 1100],
            size_pace: pace(20_000.0, 20, 1.0),
            calls: vec![100, 1_000, 10_000],
            growth_paces: vec![pace(50_000.0, 20, 1.0), pace(250_000.0, 20, 0.5)],
            search_steps: 12,
            search_seconds: 1.0,
            tries: 3,
            tape_packets: 2_000_000,
            keystream_mib: 64,
            spread: Vec::new(),
            device_cpu: 0,
            load_cpu: 1,
        }
    }

    /// Under two minutes, for a look: CPU at one rate, and a coarse search.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.shape.streams = 200;
        self.paces = vec![Pace {
            pps: 20_000.0,
            burst: 20,
            seconds: 0.7,
        }];
        self.rounds = 1;
        self.sizes = Vec::new();
        self.calls = Vec::new();
        self.tries = 2;
        self.search_steps = 3;
        self.search_seconds = 0.4;
        self.tape_packets = 600_000;
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
    // What is fed alike comes one after the other: recording it anew takes seconds.
    let mut works = config.works.clone();
    works.sort_by_key(|work| work.arriving_key().map(|key| key.suite() as u8));
    let _alone = alone(&mut progress)?;
    cpu::weigh_heavily();
    let mut session = Session {
        stand: Stand::new(config)?,
        pairs: works
            .iter()
            .flat_map(|work| forwarders.iter().map(|forwarder| (*work, *forwarder)))
            .filter(|(work, forwarder)| forwarder.does(*work))
            .collect(),
        comparison,
        progress: &mut progress,
    };
    session.paces()?;
    session.sizes()?;
    session.highest()?;
    session.growth()?;
    Ok(session.comparison)
}

/// Waits until no other comparison runs on this machine: two at once would measure each other. Held until it is dropped.
fn alone(progress: &mut impl FnMut(&str)) -> anyhow::Result<File> {
    let file = File::create(LOCK).with_context(|| LOCK.to_owned())?;
    if file.try_lock().is_err() {
        progress("another comparison runs on this machine: waiting for its end");
        file.lock()?;
    }
    Ok(file)
}

/// Deletes the namespaces of this process, where it is about to be ended by a signal.
///
/// # Errors
/// `ip` fails.
pub fn clean_up() -> anyhow::Result<()> {
    bed::remove_own()
}

/// A comparison while it is made.
struct Session<'a> {
    stand: Stand<'a>,
    /// What is done by whom, in the order of a round.
    pairs: Vec<(Work, Forwarder)>,
    comparison: Comparison,
    progress: &'a mut dyn FnMut(&str),
}

impl Session<'_> {
    /// CPU and delay at several paces, in rounds.
    fn paces(&mut self) -> anyhow::Result<()> {
        let config = self.stand.config;
        let mut medians = Median::default();
        for round in 1..=config.rounds {
            for (work, forwarder) in self.pairs.clone() {
                if work.is_short() && round > 1 && round == config.rounds {
                    continue;
                }
                self.say(
                    &format!("round {round} of {}", config.rounds),
                    work,
                    forwarder,
                );
                self.with_device(work, forwarder, config.shape, |this, device| {
                    for &pace in &config.paces {
                        if work.is_short() && pace.burst == 1 && config.paces.len() > 1 {
                            continue;
                        }
                        let run = this.stand.measure(device, pace, Aim::Delay)?;
                        medians.add(work, forwarder, config.shape, pace, run)?;
                    }
                    Ok(())
                })?;
            }
            self.comparison.measured = medians.rows();
        }
        Ok(())
    }

    /// CPU and delay with other payloads, in one round less.
    fn sizes(&mut self) -> anyhow::Result<()> {
        let config = self.stand.config;
        let mut medians = Median::default();
        let rounds = config.rounds.saturating_sub(1).max(1);
        for round in 1..=rounds {
            for &payload_bytes in &config.sizes {
                let shape = Shape {
                    payload_bytes,
                    ..config.shape
                };
                for (work, forwarder) in self.pairs.clone() {
                    if work.is_short() && round > 1 {
                        continue;
                    }
                    let what = format!("{payload_bytes} bytes, round {round} of {rounds}");
                    self.say(&what, work, forwarder);
                    self.with_device(work, forwarder, shape, |this, device| {
                        let run = this.stand.measure(device, config.size_pace, Aim::Delay)?;
                        medians.add(work, forwarder, shape, config.size_pace, run)
                    })?;
                }
            }
        }
        self.comparison.measured.extend(medians.rows());
        Ok(())
    }

    /// The highest rates without loss, and the delay at 70 % of them.
    fn highest(&mut self) -> anyhow::Result<()> {
        let config = self.stand.config;
        if config.search_steps == 0 {
            return Ok(());
        }
        for (work, forwarder) in self.pairs.clone() {
            self.say("highest loss-free rate", work, forwarder);
            let cpu_ns = self.comparison.cpu_ns(work, forwarder);
            self.with_device(work, forwarder, config.shape, |this, device| {
                let highest = search::highest(&mut this.stand, device, cpu_ns, this.progress)?;
                let mut row = Highest::new(work, forwarder, &highest);
                if let Some(run) = &highest.run {
                    let pace = Pace {
                        pps: 0.7 * run.load.sent_pps,
                        burst: 1,
                        seconds: config.search_seconds.min(0.5),
                    };
                    // Behind a loss queues may be full of old packets.
                    this.stand.restart(device)?;
                    row.at_70_percent =
                        Some(this.stand.measure(device, pace, Aim::Delay)?.load.latency);
                }
                this.comparison.highest.push(row);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// CPU and memory with more and more calls. Towards the SIP side, where our calls need no port each to receive on.
    fn growth(&mut self) -> anyhow::Result<()> {
        let config = self.stand.config;
        for &calls in &config.calls {
            for (work, forwarder) in self.pairs.clone() {
                if forwarder == Forwarder::Kernel || !matches!(work, Work::Plain | Work::Unprotect)
                {
                    continue;
                }
                let streams = match forwarder {
                    Forwarder::Rtpengine => calls.min(RTPENGINE_CALLS),
                    _ => calls,
                };
                let shape = Shape {
                    streams,
                    ..config.shape
                };
                self.say(&format!("{streams} calls"), work, forwarder);
                self.with_device(work, forwarder, shape, |this, device| {
                    for (place, &pace) in config.growth_paces.iter().enumerate() {
                        if place > 0 && forwarder != Forwarder::XdpNative {
                            continue;
                        }
                        let mut runs = Vec::new();
                        for _ in 0..config.tries {
                            runs.push(this.stand.measure(device, pace, Aim::Rate)?);
                        }
                        let memory = device.memory_bytes();
                        let row = Grown::new(work, forwarder, streams, pace, memory, &runs);
                        this.comparison.grown.push(row);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Starts a device, lets it be measured and ends it.
    fn with_device(
        &mut self,
        work: Work,
        forwarder: Forwarder,
        shape: Shape,
        measure: impl FnOnce(&mut Self, &mut Device) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let name = || format!("{} {}", forwarder.name(), work.name());
        let mut device = self
            .stand
            .start(forwarder, work, shape)
            .with_context(name)?;
        measure(self, &mut device).with_context(name)?;
        device.stop().with_context(name)
    }

    fn say(&mut self, what: &str, work: Work, forwarder: Forwarder) {
        (self.progress)(&format!("{what}: {} {}", forwarder.name(), work.name()));
    }
}
