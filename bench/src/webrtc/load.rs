//! Many pages at once: calls are placed at a rate, each talks for its time, and everything is added up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::engine::Engine;
use super::heard::{RoundTrip, histogram};
use super::page::{CallConfig, CallReport, run_call};

/// Stack of a control thread: it only waits for HTTP.
const STACK_BYTES: usize = 512 * 1024;

/// A load.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// What each page does.
    pub call: CallConfig,
    /// How many pages.
    pub calls: usize,
    /// Calls placed per second.
    pub rate_per_s: f64,
    /// Threads that move media.
    pub engines: usize,
}

/// What came out of a load.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Calls placed.
    pub calls: usize,
    /// Calls that were connected and hung up by us.
    pub completed: usize,
    /// Reasons of the others with their numbers.
    pub failures: BTreeMap<String, usize>,
    /// Request to `call.connected`, as microseconds.
    pub setup: Option<RoundTrip>,
    /// End of DTLS to the first packet heard, as microseconds.
    pub first_packet: Option<RoundTrip>,
    /// Medians of the round trips of the calls, as microseconds: how they spread over calls.
    pub round_trip_medians: Option<RoundTrip>,
    /// Longest 99th percentile of the round trips of any call, microseconds.
    pub worst_p99_us: Option<u64>,
    /// Packets sent.
    pub sent: u64,
    /// Packets heard.
    pub received: u64,
    /// Packets missing in what was heard.
    pub lost: i64,
    /// Packets that came back to the page that had sent them (against an echo).
    pub echoed: u64,
    /// Packets that this process was too late to send.
    pub skipped: u64,
    /// Paths by name, of both directions, with their numbers.
    pub paths: BTreeMap<String, usize>,
    /// Wall clock of the run in seconds.
    pub seconds: f64,
}

/// Runs the load to its end.
pub fn load(config: &LoadConfig) -> Result<LoadReport> {
    ensure!(config.calls > 0 && config.engines > 0, "nothing to do");
    ensure!(
        config.rate_per_s.is_finite() && config.rate_per_s > 0.0,
        "a rate above zero is needed"
    );
    let engines: Vec<Arc<Engine>> = (0..config.engines)
        .map(|_| Ok(Arc::new(Engine::start()?)))
        .collect::<Result<_>>()?;
    let (results, inbox) = mpsc::channel();
    let start = Instant::now();
    for index in 0..config.calls {
        let at = start + Duration::from_secs_f64(index as f64 / config.rate_per_s);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let (engine, call, results) = (
            Arc::clone(&engines[index % engines.len()]),
            config.call.clone(),
            results.clone(),
        );
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // The receiver lives until all senders are gone.
                let _ = results.send(run_call(&engine, &call));
            })
            .context("thread of a page")?;
    }
    drop(results);
    let mut sum = Sum::default();
    for result in inbox {
        sum.add(result);
    }
    Ok(sum.report(config.calls, start.elapsed()))
}

struct Sum {
    completed: usize,
    failures: BTreeMap<String, usize>,
    setup: Histogram<u64>,
    first_packet: Histogram<u64>,
    medians: Histogram<u64>,
    worst_p99_us: Option<u64>,
    sent: u64,
    received: u64,
    lost: i64,
    echoed: u64,
    skipped: u64,
    paths: BTreeMap<String, usize>,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            completed: 0,
            failures: BTreeMap::new(),
            setup: histogram(),
            first_packet: histogram(),
            medians: histogram(),
            worst_p99_us: None,
            sent: 0,
            received: 0,
            lost: 0,
            echoed: 0,
            skipped: 0,
            paths: BTreeMap::new(),
        }
    }
}

impl Sum {
    fn add(&mut self, result: Result<CallReport>) {
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                *self.failures.entry(format!("{error:#}")).or_default() += 1;
                return;
            }
        };
        match report.ended {
            None => self.completed += 1,
            Some(reason) => {
                *self
                    .failures
                    .entry(format!("cut off: {reason}"))
                    .or_default() += 1
            }
        }
        self.setup
            .saturating_record((report.connected_ms * 1000.0) as u64);
        let media = report.media;
        if let Some(first) = media.first_packet_ms {
            self.first_packet.saturating_record((first * 1000.0) as u64);
        }
        if let Some(round_trip) = media.round_trip {
            self.medians.saturating_record(round_trip.p50_us);
            self.worst_p99_us = self.worst_p99_us.max(Some(round_trip.p99_us));
            self.echoed += round_trip.count;
        }
        self.sent += media.sent;
        self.received += media.received;
        self.lost += media.lost;
        self.skipped += media.skipped;
        for (direction, view) in [("to_sip", report.to_sip), ("to_browser", report.to_browser)] {
            *self
                .paths
                .entry(format!("{direction} {:?}", view.path))
                .or_default() += 1;
        }
    }

    fn report(self, calls: usize, elapsed: Duration) -> LoadReport {
        LoadReport {
            calls,
            completed: self.completed,
            failures: self.failures,
            setup: RoundTrip::of(&self.setup),
            first_packet: RoundTrip::of(&self.first_packet),
            round_trip_medians: RoundTrip::of(&self.medians),
            worst_p99_us: self.worst_p99_us,
            sent: self.sent,
            received: self.received,
            lost: self.lost,
            echoed: self.echoed,
            skipped: self.skipped,
            paths: self.paths,
            seconds: elapsed.as_secs_f64(),
        }
    }
}
