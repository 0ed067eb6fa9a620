//! Bed and feed together: a device is started on them, sent its recording at some pace, and watched.

use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::bed::{self, Bed};
use super::device::{self, Device};
use super::{Config, Forwarder, Pace, Shape, Work, cpu};
use crate::feed::{Feed, Play, Played, Recording, Turns};

/// Room on the tape for each packet of G.711.
const TAPE_PACKET: usize = 192;
/// Bytes of a packet beside its payload: RTP header and the longest tag.
const AROUND_PAYLOAD: usize = 12 + 16;
/// Packets of a stream: SRTP is tried under one rollover counter.
const MOST_PER_STREAM: usize = 30_000;
/// Share of a run's packets that warm up.
const WARM_UP: f64 = 0.25;
const LATE: Duration = Duration::from_millis(200);

/// Up to here the source makes a system call for each burst.
const BURSTS_PER_S: f64 = 3000.0;
/// Up to here each packet may wake the sink up where delays are measured.
const SINGLE_PPS: f64 = 50_000.0;
/// And up to here one each millisecond.
const MILLISECONDS_PPS: f64 = 150_000.0;

/// What a run is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Delays above all.
    Delay,
    /// CPU time and loss.
    Rate,
}

/// Bed, feed and what is measured on them.
pub(super) struct Stand<'a> {
    pub(super) config: &'a Config,
    bed: Bed,
    feed: Feed,
    /// The feed's numbers of the client's and of the SIP side's device.
    client: u32,
    sip: u32,
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

impl Run {
    /// Process and receive threads.
    pub(crate) fn cpu_ns(&self) -> f64 {
        self.process_ns + self.receive_ns
    }
}

impl<'a> Stand<'a> {
    pub(super) fn new(config: &'a Config) -> anyhow::Result<Self> {
        device::remove_leftovers();
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
    pub(super) fn start(
        &mut self,
        forwarder: Forwarder,
        work: Work,
        shape: Shape,
    ) -> anyhow::Result<Device> {
        self.feed.record(&Recording {
            streams: shape.streams,
            per_stream: self.per_stream(shape),
            payload_bytes: shape.payload_bytes,
            payload_type: 0,
            key: work.arriving_key(),
            first_ssrc: device::FIRST_SSRC,
            first_sequence: device::FIRST_SEQUENCE,
        })?;
        let device = Device::start(&self.bed, self.config, forwarder, work, shape)?;
        self.feed.address(&device.fronts()?, &device.receive_keys)?;
        Ok(device)
    }

    /// Ends a device and starts another one of its kind, which is sent the recording from its beginning.
    pub(super) fn restart(&mut self, device: &mut Device) -> anyhow::Result<()> {
        device.restart(&self.bed, self.config)?;
        self.feed.address(&device.fronts()?, &device.receive_keys)
    }

    /// Recorded packets of each stream.
    fn per_stream(&self, shape: Shape) -> usize {
        let packets = self.feed.room(shape.payload_bytes + AROUND_PAYLOAD);
        (packets / shape.streams).clamp(1, MOST_PER_STREAM)
    }

    /// Sends at a pace through a device, anew from the recording's beginning where not enough of it is left.
    pub(super) fn measure(
        &mut self,
        device: &mut Device,
        pace: Pace,
        aim: Aim,
    ) -> anyhow::Result<Run> {
        let recorded = self.per_stream(device.shape);
        let wanted = (pace.pps * pace.seconds) as usize / device.shape.streams;
        let per_stream = wanted.clamp(1, recorded);
        if device.played + per_stream > recorded {
            self.restart(device)?;
        }
        let play = Play {
            first: device.played,
            per_stream,
            pps: pace.pps,
            burst: pace.burst,
            warm_up: WARM_UP,
            device: if device.work.is_towards_client() {
                self.sip
            } else {
                self.client
            },
            turns: turns(pace, aim),
            late: LATE,
        };
        device.advance(per_stream);
        cpu::wait_until_quiet();
        let processes = device.processes();
        let before = self.cpu_times(&processes);
        let load = on_cpu(self.config.load_cpu, || {
            let own = nix::unistd::gettid().as_raw();
            let urgency = match play.turns {
                Turns::Bursts | Turns::Milliseconds => bed::URGENT,
                Turns::Preempted { .. } => bed::URGENT - 1,
            };
            bed::realtime(own, urgency)?;
            self.feed.play(&play)
        })?;
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

/// How source and sink share their CPU at a pace.
fn turns(pace: Pace, aim: Aim) -> Turns {
    if pace.pps / pace.burst as f64 <= BURSTS_PER_S {
        return Turns::Bursts;
    }
    match aim {
        Aim::Delay if pace.pps <= SINGLE_PPS => Turns::Preempted {
            batch: 16,
            patience: 0,
        },
        // Some 10 us of delay more, and not an interrupt for each packet.
        Aim::Delay => Turns::Preempted {
            batch: 64,
            patience: 8,
        },
        Aim::Rate if pace.pps <= MILLISECONDS_PPS => Turns::Milliseconds,
        Aim::Rate => Turns::Preempted {
            batch: 256,
            patience: 16,
        },
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
