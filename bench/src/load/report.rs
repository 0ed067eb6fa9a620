//! What came of a load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LoadConfig;
use super::sender::Sent;
use super::sink::Received;

/// One-way delay from the sending system call to the kernel's receive timestamp, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
}

impl Latency {
    /// Of single delays in nanoseconds, which are sorted for it.
    pub(crate) fn of(delays_ns: &mut [u64]) -> Self {
        delays_ns.sort_unstable();
        let at = |quantile: f64| {
            let place = (delays_ns.len() as f64 * quantile) as usize;
            let place = place.min(delays_ns.len().saturating_sub(1));
            delays_ns.get(place).copied().unwrap_or(0) as f64 / 1000.0
        };
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }
    }
}

/// The numbers of a load; packets of the warm-up are not in them.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Streams.
    pub streams: usize,
    /// Rate that was asked for.
    pub offered_pps: f64,
    /// Rate that was sent.
    pub sent_pps: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the sending system call refused.
    pub send_errors: u64,
    /// Bursts that left more than 10 ms after their time.
    pub slips: u64,
    /// Packets that arrived in time.
    pub received: u64,
    /// Packets that arrived too late.
    pub late: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Datagrams that are none of ours.
    pub foreign: u64,
    /// Datagrams that the sink's socket had no room for; they are in `lost` too.
    pub sink_overflow: u32,
    /// Packets whose content was checked.
    pub checked: u64,
    /// Of these, the ones that were not what was sent.
    pub corrupt: u64,
    /// Lost or late, of those sent, in percent.
    pub loss_percent: f64,
    /// Mean bytes of an arriving packet.
    pub bytes_received: f64,
    /// One-way delay.
    pub latency: Latency,
    /// CPU time of the sender per packet, nanoseconds.
    pub sender_ns: u64,
    /// CPU time of the sink per packet, nanoseconds.
    pub sink_ns: u64,
    /// All packets, those of the warm-up too: what a forwarder's CPU time is divided by.
    pub total: u64,
}

impl LoadReport {
    pub(super) fn new(config: &LoadConfig, sent: &Sent, received: &Received) -> Self {
        let arrived = received.in_time + received.late;
        let us = |quantile| received.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let per = |sum: u64, count: u64| sum.checked_div(count).unwrap_or(0);
        Self {
            streams: config.streams,
            offered_pps: config.pps,
            sent_pps: sent.packets as f64 / sent.seconds.max(1e-9),
            sent: sent.packets,
            send_errors: sent.errors,
            slips: sent.slips,
            received: received.in_time,
            late: received.late,
            lost: sent.packets.saturating_sub(arrived),
            duplicates: received.duplicates,
            foreign: received.foreign,
            sink_overflow: received.overflow,
            checked: received.checked,
            corrupt: received.corrupt,
            loss_percent: 100.0 * sent.packets.saturating_sub(received.in_time) as f64
                / (sent.packets as f64).max(1.0),
            bytes_received: received.octets as f64 / (arrived as f64).max(1.0),
            latency: Latency {
                p50_us: us(0.5),
                p90_us: us(0.9),
                p99_us: us(0.99),
                p999_us: us(0.999),
                max_us: received.latency_ns.max() as f64 / 1000.0,
            },
            sender_ns: per(sent.cpu_ns, sent.all),
            sink_ns: per(received.cpu_ns, received.all),
            total: sent.all,
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} streams, {:.0} pps offered, {:.0} pps sent",
            self.streams, self.offered_pps, self.sent_pps
        )?;
        writeln!(
            f,
            "sent {}  received {}  lost {}  late {}  duplicates {}  foreign {}  ({:.4} % lost or late)",
            self.sent,
            self.received,
            self.lost,
            self.late,
            self.duplicates,
            self.foreign,
            self.loss_percent
        )?;
        writeln!(
            f,
            "content: {} checked, {} wrong; {:.1} bytes a packet; send errors {}, slips {}, sink overflow {}",
            self.checked,
            self.corrupt,
            self.bytes_received,
            self.send_errors,
            self.slips,
            self.sink_overflow
        )?;
        let latency = &self.latency;
        write!(
            f,
            "delay us: p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
            latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us
        )
    }
}
