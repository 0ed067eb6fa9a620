//! The comparison as tables for a terminal.

use std::fmt;

use super::{Comparison, Work};
use crate::load::Latency;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        for line in self.method.iter().chain(&self.notes) {
            writeln!(f, "{line}")?;
        }
        self.write_measured(f)?;
        self.write_highest(f)?;
        self.write_grown(f)
    }
}

impl Comparison {
    fn write_measured(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16} {:>5} {:>6} {:>5} {:<26} {:>8} {:>15} {:>8} {:>8} {:>8} {:>7} {:>26}",
            "work",
            "bytes",
            "pps",
            "burst",
            "forwarder",
            "CPU ns",
            "[min..max]",
            "process",
            "receive",
            "CPU all",
            "loss %",
            "p50 / p99 / p99.9 us"
        )?;
        let mut rows: Vec<_> = self.measured.iter().collect();
        rows.sort_by(|one, other| {
            let key = |row: &super::Measured| (row.shape.payload_bytes, row.work, row.pps as u64);
            key(one)
                .cmp(&key(other))
                .then(one.forwarder.cmp(&other.forwarder))
        });
        for row in rows {
            let [least, most] = row.cpu_ns_range;
            writeln!(
                f,
                "{:<16} {:>5} {:>6.0} {:>5} {:<26} {:>8.0} {:>15} {:>8.0} {:>8.0} {:>8.0} {:>7.3} {:>26}",
                row.work.name(),
                row.shape.payload_bytes,
                row.pps,
                row.burst,
                row.forwarder.name(),
                row.cpu_ns,
                format!("[{least:.0}..{most:.0}]"),
                row.process_ns,
                row.receive_ns,
                row.busy_ns,
                row.loss_percent,
                delay(Some(&row.latency))
            )?;
        }
        Ok(())
    }

    fn write_highest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.highest.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<16} {:<26} {:>14} {:>13} {:>28}",
            "work", "forwarder", "loss-free pps", "CPU ns there", "at 70 %: p50 / p99 / p99.9"
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
                "{:<16} {:<26} {pps:>14} {cpu:>13} {:>28}",
                row.work.name(),
                row.forwarder.name(),
                delay(row.at_70_percent.as_ref())
            )?;
        }
        writeln!(
            f,
            ">=: the feed was at its end, or the search, and not the forwarder"
        )
    }

    fn write_grown(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.grown.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<16} {:<26} {:>6} {:>7} {:>8} {:>7} {:>10}",
            "work", "forwarder", "calls", "pps", "CPU ns", "loss %", "memory MB"
        )?;
        for row in &self.grown {
            writeln!(
                f,
                "{:<16} {:<26} {:>6} {:>7.0} {:>8.0} {:>7.3} {:>10.1}",
                row.work.name(),
                row.forwarder.name(),
                row.calls,
                row.pps,
                row.cpu_ns,
                row.loss_percent,
                row.memory_bytes as f64 / 1e6
            )?;
        }
        let forwarders: std::collections::BTreeSet<_> =
            self.grown.iter().map(|row| row.forwarder).collect();
        for forwarder in forwarders {
            if let Some(bytes) = self.memory_per_call(Work::Unprotect, forwarder) {
                let name = forwarder.name();
                writeln!(f, "{name}: {:.1} KiB for each further call", bytes / 1024.0)?;
            }
        }
        Ok(())
    }
}

/// Three percentiles in microseconds.
fn delay(latency: Option<&Latency>) -> String {
    latency.map_or_else(
        || "-".into(),
        |us| format!("{:.1} / {:.1} / {:.1}", us.p50_us, us.p99_us, us.p999_us),
    )
}
