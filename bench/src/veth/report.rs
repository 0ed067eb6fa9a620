//! The figures of a comparison: medians of runs, as they stand in JSON.

use std::collections::BTreeMap;
use std::{fmt, fs};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::search::Found;
use super::stand::Run;
use super::{Config, Forwarder, Pace, Shape, Work};
use crate::load::Latency;

/// All figures of one comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Where it was measured.
    pub machine: Machine,
    /// How, in one sentence each.
    pub method: Vec<String>,
    /// What could not be compared.
    pub notes: Vec<String>,
    /// CPU and delay at given rates.
    pub measured: Vec<Measured>,
    /// Highest rates without loss.
    pub highest: Vec<Highest>,
    /// CPU and memory with more and more calls.
    pub grown: Vec<Grown>,
}

/// The machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// The mitigation that makes every return dearer, in the kernel and in BPF programs, in the kernel's words.
    #[serde(default)]
    pub returns: Option<String>,
    /// CPU model.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: usize,
}

/// CPU and delay of one forwarder at one work, shape and pace: medians over the rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What was done.
    pub work: Work,
    /// By whom.
    pub forwarder: Forwarder,
    /// Streams and payload.
    pub shape: Shape,
    /// Packets per second that were to be sent.
    pub pps: f64,
    /// Packets that came at once.
    pub burst: usize,
    /// Runs.
    pub runs: usize,
    /// Nanoseconds of CPU per packet, process and receive threads together.
    pub cpu_ns: f64,
    /// Least and most of it.
    pub cpu_ns_range: [f64; 2],
    /// Of it, the process.
    pub process_ns: f64,
    /// Of it, the device's receive threads.
    pub receive_ns: f64,
    /// All that the device's CPU did meanwhile, whoever did it, per packet: a cross-check, meaningful on a quiet machine only.
    pub busy_ns: f64,
    /// Lost or late packets in percent.
    pub loss_percent: f64,
    /// One-way delay through the device and both veth pairs.
    pub latency: Latency,
}

/// The highest rate of one forwarder at one work with less than 0.1 % lost or later than 200 ms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Highest {
    /// What was done.
    pub work: Work,
    /// By whom.
    pub forwarder: Forwarder,
    /// Packets per second; `None` where even the lowest rate lost.
    pub pps: Option<f64>,
    /// Whether the feed or the search was at its end, and not the device.
    pub at_least: bool,
    /// CPU per packet at that rate, nanoseconds.
    pub cpu_ns: Option<f64>,
    /// Delay at 70 % of the rate, packets coming one by one.
    pub at_70_percent: Option<Latency>,
}

/// CPU and memory with a number of calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grown {
    /// What was done.
    pub work: Work,
    /// By whom.
    pub forwarder: Forwarder,
    /// Calls.
    pub calls: usize,
    /// Packets per second of all of them.
    pub pps: f64,
    /// Nanoseconds of CPU per packet.
    pub cpu_ns: f64,
    /// Lost or late packets in percent.
    pub loss_percent: f64,
    /// Resident memory of the process, and its BPF maps.
    pub memory_bytes: u64,
}

impl Highest {
    pub(super) fn new(work: Work, forwarder: Forwarder, found: &Found) -> Self {
        let run = found.run.as_ref();
        Self {
            work,
            forwarder,
            pps: run.map(|run| run.load.sent_pps),
            at_least: found.at_least && run.is_some(),
            cpu_ns: run.map(Run::cpu_ns),
            at_70_percent: None,
        }
    }
}

impl Grown {
    pub(super) fn new(
        work: Work,
        forwarder: Forwarder,
        calls: usize,
        pace: Pace,
        memory_bytes: u64,
        runs: &[Run],
    ) -> Self {
        Self {
            work,
            forwarder,
            calls,
            pps: pace.pps,
            cpu_ns: median(runs.iter().map(Run::cpu_ns).collect()),
            loss_percent: median(runs.iter().map(|run| run.load.loss_percent).collect()),
            memory_bytes,
        }
    }
}

impl Comparison {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            machine: Machine::here(),
            method: method(config),
            notes: Vec::new(),
            measured: Vec::new(),
            highest: Vec::new(),
            grown: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// CPU per packet at the highest rate measured, 10 us where none was.
    pub(super) fn cpu_ns(&self, work: Work, forwarder: Forwarder) -> f64 {
        let rows = self.measured.iter();
        rows.filter(|row| (row.work, row.forwarder) == (work, forwarder))
            .max_by(|one, other| one.pps.total_cmp(&other.pps))
            .map_or(10_000.0, |row| row.cpu_ns.max(100.0))
    }

    /// The row of a forwarder at a rate of packets of a size.
    pub fn at(
        &self,
        work: Work,
        forwarder: Forwarder,
        payload_bytes: usize,
        pps: f64,
    ) -> Option<&Measured> {
        self.measured.iter().find(|row| {
            (row.work, row.forwarder) == (work, forwarder)
                && row.shape.payload_bytes == payload_bytes
                && (row.pps - pps).abs() < 1.0
        })
    }

    /// Highest rate of a forwarder.
    pub fn highest(&self, work: Work, forwarder: Forwarder) -> Option<&Highest> {
        let mut rows = self.highest.iter();
        rows.find(|row| (row.work, row.forwarder) == (work, forwarder))
    }

    /// Bytes of memory that each further call takes, from the least to the most calls measured.
    pub fn memory_per_call(&self, work: Work, forwarder: Forwarder) -> Option<f64> {
        let rows = self.grown.iter();
        let rows = rows.filter(|row| (row.work, row.forwarder) == (work, forwarder));
        let least = rows.clone().min_by_key(|row| row.calls)?;
        let most = rows.max_by_key(|row| row.calls)?;
        let calls = most.calls - least.calls;
        let bytes = most.memory_bytes.saturating_sub(least.memory_bytes);
        (calls > 0).then(|| bytes as f64 / calls as f64)
    }
}

fn method(config: &Config) -> Vec<String> {
    vec![
        format!(
            "{} streams of {} byte payloads where nothing else is said, {} round(s), medians; device on CPU {}, feed and sink on {}",
            config.shape.streams,
            config.shape.payload_bytes,
            config.rounds,
            config.device_cpu,
            config.load_cpu
        ),
        "CPU = run time (schedstat) of the device's process and of the receive threads of its two veth ends (threaded NAPI), over \
         all packets; CPU all = whatever kept that CPU from idling, a cross-check on a quiet machine"
            .into(),
        "the device gets XDP frames, as from a driver (live frames of BPF_PROG_TEST_RUN, each packet at its time), and an XDP \
         program at the other end counts, times and drops what comes out: neither costs the device anything"
            .into(),
        "SRTP = AES_CM_128_HMAC_SHA1_80, GCM = AEAD_AES_128_GCM; our keys of the client's side are split from a DTLS export, those of \
         the SIP side (SRTP -> SRTP, which leaves as AES_CM_128_HMAC_SHA1_32) are SDES's, rtpengine has SDES on both; a sample of \
         the packets is checked byte by byte"
            .into(),
        "loss-free = less than 0.1 % lost or later than 200 ms in the middle one of ten parts of a run, and less than 2 % in all of \
         it; a veth end holds 256 frames, so a CPU that the host takes away for a moment costs XDP packets, where sockets have queues"
            .into(),
    ]
}

/// What a run measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    work: Work,
    forwarder: Forwarder,
    shape: Shape,
    pps: u64,
    burst: usize,
}

/// Runs by what they measured, whose medians are the rows.
#[derive(Default)]
pub(super) struct Median {
    runs: BTreeMap<Case, Vec<Run>>,
}

impl Median {
    pub(super) fn add(
        &mut self,
        work: Work,
        forwarder: Forwarder,
        shape: Shape,
        pace: Pace,
        run: Run,
    ) -> anyhow::Result<()> {
        ensure!(
            run.load.corrupt == 0,
            "{} of {} checked packets are not what was sent",
            run.load.corrupt,
            run.load.checked
        );
        let case = Case {
            work,
            forwarder,
            shape,
            pps: pace.pps as u64,
            burst: pace.burst,
        };
        self.runs.entry(case).or_default().push(run);
        Ok(())
    }

    pub(super) fn rows(&self) -> Vec<Measured> {
        let rows = self.runs.iter();
        rows.map(|(case, runs)| Measured::of(case, runs)).collect()
    }
}

impl Measured {
    fn of(case: &Case, runs: &[Run]) -> Self {
        let of = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
        let all = runs.iter().map(Run::cpu_ns);
        Self {
            work: case.work,
            forwarder: case.forwarder,
            shape: case.shape,
            pps: case.pps as f64,
            burst: case.burst,
            runs: runs.len(),
            cpu_ns: of(Run::cpu_ns),
            cpu_ns_range: [
                all.clone().fold(f64::INFINITY, f64::min),
                all.fold(0.0, f64::max),
            ],
            process_ns: of(|run| run.process_ns),
            receive_ns: of(|run| run.receive_ns),
            busy_ns: of(|run| run.busy_ns),
            loss_percent: of(|run| run.load.loss_percent),
            latency: Latency {
                p50_us: of(|run| run.load.latency.p50_us),
                p90_us: of(|run| run.load.latency.p90_us),
                p99_us: of(|run| run.load.latency.p99_us),
                p999_us: of(|run| run.load.latency.p999_us),
                max_us: of(|run| run.load.latency.max_us),
            },
        }
    }
}

/// The middle value, the upper one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Machine {
    fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(':'));
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            returns: dear_returns(),
            cpu: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}, Linux {}", self.cpus, self.cpu, self.kernel)?;
        match &self.returns {
            Some(returns) => write!(f, " ({returns})"),
            None => Ok(()),
        }
    }
}

/// Of what the kernel does against SRSO and Retbleed: whether returns go through thunks.
fn dear_returns() -> Option<String> {
    ["spec_rstack_overflow", "retbleed"]
        .into_iter()
        .find_map(|name| {
            let path = format!("/sys/devices/system/cpu/vulnerabilities/{name}");
            let words = fs::read_to_string(path).unwrap_or_default();
            let dear = ["Safe RET", "return thunk", "Stuffing"];
            let is_dear = dear.iter().any(|word| words.contains(word));
            is_dear.then(|| format!("{name}: {}", words.trim()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_middle_values() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![2.0, 1.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }
}
