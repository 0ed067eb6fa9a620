//! The comparison as JSON and as tables.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::Serialize;

use super::{Config, Forwarder, Run, Work};

/// All figures of one comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where it was measured.
    pub machine: Machine,
    /// How, in one sentence each.
    pub method: Vec<String>,
    /// What could not be compared.
    pub notes: Vec<String>,
    /// CPU and delay at one rate.
    pub measured: Vec<Measured>,
    /// Highest rates without loss.
    pub highest: Vec<Highest>,
    #[serde(skip)]
    runs: BTreeMap<(Work, Forwarder), Vec<Run>>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: usize,
}

/// CPU and delay of one forwarder at one work: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was done.
    pub work: Work,
    /// By whom.
    pub forwarder: Forwarder,
    /// Runs.
    pub runs: usize,
    /// Packets per second sent.
    pub pps: f64,
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
    /// One-way delay through the device and both veth pairs, microseconds.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
}

/// The highest rate of one forwarder at one work with less than 0.1 % lost or later than 200 ms.
#[derive(Clone, Debug, Serialize)]
pub struct Highest {
    /// What was done.
    pub work: Option<Work>,
    /// By whom.
    pub forwarder: Option<Forwarder>,
    /// Packets per second; `None` where even the lowest rate lost.
    pub pps: Option<f64>,
    /// Whether the generator or the ladder ended the search, and not the device.
    pub at_least: bool,
    /// CPU per packet at that rate, nanoseconds.
    pub cpu_ns: Option<f64>,
}

impl Highest {
    pub(super) fn new(run: Option<&Run>, at_least: bool) -> Self {
        Self {
            work: None,
            forwarder: None,
            pps: run.map(|run| run.load.sent_pps),
            at_least: at_least && run.is_some(),
            cpu_ns: run.map(|run| run.process_ns + run.receive_ns),
        }
    }
}

impl Comparison {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            machine: Machine::here(),
            method: vec![
                format!(
                    "{} streams of 160 byte payloads, {} round(s) of {} s, medians; bursts of {}; device on CPU {}, feed and sink on {}",
                    config.streams,
                    config.rounds,
                    config.seconds,
                    config.burst,
                    config.device_cpu,
                    config.load_cpu
                ),
                "CPU = run time (schedstat) of the device's process and of the receive threads of its two veth ends (threaded NAPI, \
                 where XDP runs), over all packets"
                    .into(),
                "SRTP = AES_CM_128_HMAC_SHA1_80 (SDES at rtpengine); a sample of the packets is checked byte by byte".into(),
                "the device gets XDP frames, as from a driver (live frames of BPF_PROG_TEST_RUN, each packet at its time), and an \
                 XDP program at the other end counts, times and drops what comes out: neither costs the device anything"
                    .into(),
                "loss-free = less than 0.1 % lost or later than 200 ms; a veth end holds 256 frames, so a CPU that the host takes \
                 away for a moment costs XDP packets, where sockets have queues"
                    .into(),
            ],
            notes: Vec::new(),
            measured: Vec::new(),
            highest: Vec::new(),
            runs: BTreeMap::new(),
        }
    }

    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(super) fn add(&mut self, forwarder: Forwarder, work: Work, run: Run) {
        self.runs.entry((work, forwarder)).or_default().push(run);
        self.measured = self
            .runs
            .iter()
            .map(|((work, forwarder), runs)| Measured::of(*work, *forwarder, runs))
            .collect();
    }

    /// CPU per packet as measured, 10 us where it was not.
    pub(super) fn cpu_ns(&self, forwarder: Forwarder, work: Work) -> f64 {
        let row = self
            .measured
            .iter()
            .find(|row| (row.forwarder, row.work) == (forwarder, work));
        row.map_or(10_000.0, |row| row.cpu_ns.max(100.0))
    }

    pub(super) fn add_highest(&mut self, forwarder: Forwarder, work: Work, highest: Highest) {
        self.highest.push(Highest {
            work: Some(work),
            forwarder: Some(forwarder),
            ..highest
        });
    }
}

impl Measured {
    fn of(work: Work, forwarder: Forwarder, runs: &[Run]) -> Self {
        let median = |value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
        let cpu = |run: &Run| run.process_ns + run.receive_ns;
        let all = runs.iter().map(cpu);
        Self {
            work,
            forwarder,
            runs: runs.len(),
            pps: median(|run| run.load.sent_pps),
            cpu_ns: median(cpu),
            cpu_ns_range: [
                all.clone().fold(f64::INFINITY, f64::min),
                all.fold(0.0, f64::max),
            ],
            process_ns: median(|run| run.process_ns),
            receive_ns: median(|run| run.receive_ns),
            busy_ns: median(|run| run.busy_ns),
            loss_percent: median(|run| run.load.loss_percent),
            p50_us: median(|run| run.load.latency.p50_us),
            p99_us: median(|run| run.load.latency.p99_us),
            p999_us: median(|run| run.load.latency.p999_us),
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
            cpu: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{} x {}, Linux {}",
            machine.cpus, machine.cpu, machine.kernel
        )?;
        for line in self.method.iter().chain(&self.notes) {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "\n{:<12} {:<26} {:>7} {:>9} {:>15} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>9}",
            "work",
            "forwarder",
            "pps",
            "CPU ns",
            "[min..max]",
            "process",
            "receive",
            "CPU all",
            "loss %",
            "p50 us",
            "p99 us",
            "p99.9 us"
        )?;
        for row in &self.measured {
            let [least, most] = row.cpu_ns_range;
            writeln!(
                f,
                "{:<12} {:<26} {:>7.0} {:>9.0} {:>15} {:>8.0} {:>8.0} {:>8.0} {:>7.3} {:>8.1} {:>8.1} {:>9.1}",
                row.work.name(),
                row.forwarder.name(),
                row.pps,
                row.cpu_ns,
                format!("[{least:.0}..{most:.0}]"),
                row.process_ns,
                row.receive_ns,
                row.busy_ns,
                row.loss_percent,
                row.p50_us,
                row.p99_us,
                row.p999_us
            )?;
        }
        self.write_highest(f)
    }
}

impl Comparison {
    fn write_highest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.highest.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<12} {:<26} {:>16} {:>16}",
            "work", "forwarder", "loss-free pps", "CPU ns there"
        )?;
        for row in &self.highest {
            let pps = match row.pps {
                Some(pps) if row.at_least => format!(">= {pps:.0}"),
                Some(pps) => format!("{pps:.0}"),
                None => "none".into(),
            };
            let cpu = row
                .cpu_ns
                .map_or_else(|| "-".into(), |ns| format!("{ns:.0}"));
            writeln!(
                f,
                "{:<12} {:<26} {pps:>16} {cpu:>16}",
                row.work.map_or("", Work::name),
                row.forwarder.map_or("", Forwarder::name),
            )?;
        }
        writeln!(
            f,
            ">=: the feed was at its end, or the search, and not the forwarder"
        )
    }
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
