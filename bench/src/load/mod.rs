//! The RTP and SRTP generator and its sink: many paced streams through something that forwards them, and what came of them.
//!
//! All packets are made beforehand (SRTP really encrypted, by the `flow` crate), so that the sender only sends. It notes the time of
//! each packet; the sink takes the kernel's receive timestamp, so latency does not contain the sink's own waking up. A sample of the
//! packets is checked byte by byte, decrypted where they come as SRTP. Sender and sink are threads, each in a namespace
//! and on a CPU of its own if wanted.

mod packets;
mod report;
mod sender;
mod sink;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

pub use packets::MasterKey;
pub(crate) use packets::{Crypt, Packets};
pub use report::{Latency, LoadReport};
pub(crate) use sender::clock;

/// Most memory for the packets made beforehand.
const MAX_BYTES: usize = 1 << 30;
/// Packets of one stream: their sequence numbers must not repeat.
const MAX_PER_STREAM: usize = 60_000;
/// What is on its way at the end gets so long to arrive.
const DRAIN: Duration = Duration::from_millis(500);

/// One end of the path.
#[derive(Clone, Debug)]
pub struct Side {
    /// Network namespace, as a file; `None` is our own.
    pub namespace: Option<PathBuf>,
    /// Address and first port.
    pub address: SocketAddr,
    /// CPU to run on.
    pub cpu: Option<usize>,
}

impl Side {
    /// An address in our own namespace, on any CPU.
    pub fn here(address: SocketAddr) -> Self {
        Self {
            namespace: None,
            address,
            cpu: None,
        }
    }
}

/// A load.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// How many streams, each with an SSRC of its own.
    pub streams: usize,
    /// Packets per second of all streams.
    pub pps: f64,
    /// Length, the warm-up included.
    pub seconds: f64,
    /// Packets of so many seconds at the beginning are not counted.
    pub warm_up_s: f64,
    /// Payload bytes of a packet.
    pub payload_bytes: usize,
    /// RTP payload type.
    pub payload_type: u8,
    /// Packets that are sent at once.
    pub burst: usize,
    /// What arrives later than this counts as late and not as received.
    pub late: Duration,
    /// The sender.
    pub source: Side,
    /// Whether every stream leaves from a port of its own (source port + 2 * stream), or all from one.
    pub source_port_per_stream: bool,
    /// Where each stream goes; one for all, or one per stream.
    pub targets: Vec<SocketAddr>,
    /// The sink: one socket.
    pub sink: Side,
    /// Sends SRTP under this master key.
    pub send_key: Option<MasterKey>,
    /// What arrives is SRTP under these master keys: one for all streams or one for each; none where RTP arrives.
    pub receive_keys: Vec<MasterKey>,
    /// First SSRC.
    pub first_ssrc: u32,
    /// First sequence number: low where SRTP is involved, so that a receiver cannot miss the first rollover.
    pub first_sequence: u16,
}

impl LoadConfig {
    /// G.711 at 20 ms a packet: 50 packets per second and stream, for 5 s, the first second of which warms up.
    pub fn g711(streams: usize, source: Side, targets: Vec<SocketAddr>, sink: Side) -> Self {
        Self {
            streams,
            pps: 50.0 * streams as f64,
            seconds: 5.0,
            warm_up_s: 1.0,
            payload_bytes: 160,
            payload_type: 0,
            burst: 16,
            late: Duration::from_millis(200),
            source,
            source_port_per_stream: false,
            targets,
            sink,
            send_key: None,
            receive_keys: Vec::new(),
            first_ssrc: 0x1000_0000,
            first_sequence: 1000,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.streams > 0 && self.burst > 0, "nothing to send");
        ensure!(
            self.pps > 0.0 && self.seconds > 0.0 && self.warm_up_s >= 0.0,
            "rate and length must be above zero"
        );
        ensure!(
            self.warm_up_s < self.seconds,
            "the warm-up is as long as all"
        );
        ensure!(
            self.targets.len() == 1 || self.targets.len() == self.streams,
            "{} targets for {} streams",
            self.targets.len(),
            self.streams
        );
        ensure!(
            (4..=1400).contains(&self.payload_bytes),
            "a payload is 4 to 1400 bytes here"
        );
        ensure!(
            [0, 1, self.streams].contains(&self.receive_keys.len()),
            "{} keys for {} streams",
            self.receive_keys.len(),
            self.streams
        );
        ensure!(self.payload_type < 128, "payload types end at 127");
        let total = self.total();
        ensure!(
            total / self.streams <= MAX_PER_STREAM,
            "{} packets per stream, more than {MAX_PER_STREAM}: more streams, or less time",
            total / self.streams
        );
        ensure!(
            total.saturating_mul(self.payload_bytes + 32) <= MAX_BYTES,
            "the packets of this load take more than 1 GiB: less rate, or less time"
        );
        Ok(())
    }

    /// Packets of each stream.
    pub fn per_stream(&self) -> usize {
        self.total() / self.streams
    }

    /// Packets of all streams, a whole number for each.
    fn total(&self) -> usize {
        ((self.pps * self.seconds) as usize / self.streams).max(1) * self.streams
    }

    /// The first packet that counts.
    fn first_counted(&self) -> usize {
        ((self.pps * self.warm_up_s) as usize).min(self.total() - 1)
    }
}

/// What sender and sink share.
struct Shared {
    packets: Packets,
    /// When each packet was sent: CLOCK_REALTIME nanoseconds, the clock of the receive timestamps.
    sent_at: Box<[AtomicU64]>,
    done: AtomicBool,
}

/// Runs a load to its end.
///
/// # Errors
/// The load makes no sense, or sockets, namespaces or threads cannot be had.
pub fn run(config: &LoadConfig) -> anyhow::Result<LoadReport> {
    run_while(config, || ())
}

/// Runs a load, and calls `started` just before its first packet.
///
/// # Errors
/// As [`run`].
pub fn run_while(config: &LoadConfig, started: impl FnOnce()) -> anyhow::Result<LoadReport> {
    config.check()?;
    let total = config.total();
    let shared = Arc::new(Shared {
        packets: Packets::new(config, total)?,
        sent_at: (0..total).map(|_| AtomicU64::new(0)).collect(),
        done: AtomicBool::new(false),
    });
    std::thread::scope(|scope| {
        // Sockets first: nothing may be sent before the sink is there.
        let (ready, is_ready) = std::sync::mpsc::channel();
        let sink = scope.spawn({
            let shared = shared.clone();
            move || {
                place(&config.sink)?;
                let sink = sink::Sink::open(config, shared)?;
                // The other end waits for it below.
                let _ = ready.send(());
                sink.run()
            }
        });
        if is_ready.recv().is_err() {
            let failed = sink
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            failed.context("the sink did not start")?;
            anyhow::bail!("the sink ended before it began");
        }
        started();
        let sender = scope.spawn({
            let shared = shared.clone();
            move || {
                place(&config.source)?;
                sender::Sender::open(config)?.run(config, &shared)
            }
        });
        let sent = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        std::thread::sleep(DRAIN);
        shared.done.store(true, Ordering::Release);
        let received = sink
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(LoadReport::new(config, &sent?, &received?))
    })
}

/// Enters a side's namespace and CPU with the calling thread.
fn place(side: &Side) -> anyhow::Result<()> {
    if let Some(path) = &side.namespace {
        enter(path)?;
    }
    if let Some(cpu) = side.cpu {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("CPU {cpu}"))?;
    }
    Ok(())
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("namespace {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("entering namespace {}", path.display()))
}
