//! How many calls a second the gateway sets up and tears down: daemon, SIP peer and pages on the loopback of a namespace of their own.
//!
//! Each call is a page's whole life: sign in, offer, INVITE to the SIP peer's `echo`, ICE, DTLS, a moment of talk, BYE, sign out. Beside
//! the daemon's CPU time stands that of the other two, which run in this process on the same machine: they bound the rate as well.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::load::clock;
use crate::signalling::{self, Signalling};
use crate::sip_peer::{self, SipPeer};
use crate::veth::{memory_bytes, run_time_ns};
use crate::webrtc::{CallConfig, LoadConfig, LoadReport, Transport, load};

const HTTP: &str = "127.0.0.1:8080";
const ADMIN: &str = "127.0.0.1:9090";
const GATEWAY_SIP: &str = "127.0.0.1:5062";
const PEER_SIP: &str = "127.0.0.1:5060";
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Talk of the calls whose rate is measured.
const MOMENT_S: f64 = 0.1;
/// A rate is reached where calls are connected within this time.
const SETUP_LIMIT_US: u64 = 1_000_000;
const WARM_UP_CALLS: usize = 20;
/// Pages that place calls without media, and for how long: no longer than the ports of ended calls rest.
const PAGES: usize = 16;
const SIGNALLING: Duration = Duration::from_secs(2);
/// The gateway keeps ports of ended calls back for 5 s; the calls that follow are to find them.
const PORT_REST: Duration = Duration::from_secs(6);
/// Talk of the calls whose memory is measured.
const IDLE_S: f64 = 6.0;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon.
    pub daemon: PathBuf,
    /// Calls placed per second, one after the other until one is not reached.
    pub rates: Vec<f64>,
    /// Seconds of each rate.
    pub seconds: f64,
    /// Calls that stand at once while memory is measured.
    pub idle_calls: usize,
    /// How pages reach the gateway.
    pub transport: Transport,
}

/// The figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// By rate.
    pub rates: Vec<Row>,
    /// Resident memory of the daemon for each call that stands, bytes: its session, its dialog, its DTLS, its flows and ports.
    pub memory_per_call: f64,
    /// What of it is of the page alone, signed in and waiting for events: its session and its connection.
    #[serde(default)]
    pub memory_per_page: Option<f64>,
    /// The same of a page that polls.
    #[serde(default)]
    pub memory_per_polling_page: Option<f64>,
    /// How the pages of all other figures reach the gateway.
    #[serde(default)]
    pub transport: Transport,
    /// Calls that end before their media begin.
    pub signalling: Option<Signalling>,
}

/// One rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Calls that were to be placed per second.
    pub rate: f64,
    /// Calls placed.
    pub calls: usize,
    /// Calls that were connected and hung up.
    pub completed: usize,
    /// CPU time of the daemon per call, milliseconds.
    pub daemon_ms: f64,
    /// CPU time of SIP peer and pages per call, milliseconds.
    pub peers_ms: f64,
    /// Median time from the request to `call.connected`, milliseconds.
    pub p50_ms: f64,
    /// And its 99th percentile.
    pub p99_ms: f64,
}

impl Row {
    /// Whether all calls were connected in time.
    pub fn is_reached(&self) -> bool {
        self.completed == self.calls && self.p99_ms * 1000.0 <= SETUP_LIMIT_US as f64
    }
}

impl Report {
    /// The highest rate that was reached.
    pub fn highest(&self) -> Option<&Row> {
        self.rates.iter().rev().find(|row| row.is_reached())
    }

    /// Calls per second that the daemon alone could set up with all of so many CPUs.
    pub fn daemon_alone(&self, cpus: usize) -> Option<f64> {
        Some(cpus as f64 * 1000.0 / self.highest()?.daemon_ms)
    }
}

/// The daemon; stopped on drop.
struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Measures; moves the calling thread, which must be the only one, into a network namespace of its own.
///
/// # Errors
/// Not root, no daemon, or one that does not come up.
pub fn measure(config: &Config, mut progress: impl FnMut(&str)) -> anyhow::Result<Report> {
    ensure!(
        config.daemon.is_file(),
        "no daemon at {}",
        config.daemon.display()
    );
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")?;
    let up = Command::new("ip")
        .args(["link", "set", "dev", "lo", "up"])
        .status();
    ensure!(up.is_ok_and(|status| status.success()), "no loopback");
    let mut peer = sip_peer::Config::new(PEER_SIP.parse()?);
    peer.answer_after = Duration::ZERO;
    let _peer = SipPeer::start(peer)?;
    let memory_per_polling_page = pages_alone(config, Transport::Http)?;
    let memory_per_page = pages_alone(config, config.transport)?;
    let (_daemon, gateway) = start(config)?;
    let memory_per_call = idle_memory(config, gateway)?;
    let signalling = without_media(config.transport, gateway)?;
    std::thread::sleep(PORT_REST);
    progress(&format!(
        "{:.0} calls/s without media",
        signalling.per_second()
    ));
    let mut rates = Vec::new();
    for &rate in &config.rates {
        let calls = (rate * config.seconds).max(1.0) as usize;
        let before = (run_time_ns(&[gateway]), own_time_ns()?);
        let placed = place(config.transport, calls, rate, MOMENT_S)?;
        // What is left of the calls when the last page is gone.
        std::thread::sleep(Duration::from_millis(300));
        let after = (run_time_ns(&[gateway]), own_time_ns()?);
        let row = row(rate, &placed, before, after);
        progress(&format!(
            "{rate:.0} calls/s: {} of {} connected, p99 {:.0} ms, daemon {:.2} ms of CPU a call",
            row.completed, row.calls, row.p99_ms, row.daemon_ms
        ));
        for (reason, count) in &placed.failures {
            progress(&format!("  {count} failed: {reason}"));
        }
        let reached = row.is_reached();
        rates.push(row);
        if !reached {
            break;
        }
    }
    Ok(Report {
        rates,
        memory_per_call,
        memory_per_page: Some(memory_per_page),
        memory_per_polling_page: Some(memory_per_polling_page),
        transport: config.transport,
        signalling: Some(signalling),
    })
}

/// Set-up and teardown alone.
fn without_media(transport: Transport, gateway: i32) -> anyhow::Result<Signalling> {
    let before = (run_time_ns(&[gateway]), own_time_ns()?);
    let (calls, seconds) =
        signalling::place(&format!("http://{HTTP}"), transport, PAGES, SIGNALLING)?;
    let after = (run_time_ns(&[gateway]), own_time_ns()?);
    let per_call =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e6 / calls as f64;
    Ok(Signalling {
        pages: PAGES,
        calls,
        seconds,
        daemon_ms: per_call(before.0, after.0),
        peers_ms: per_call(before.1, after.1),
    })
}

/// CPU time of this process, threads that have ended too.
fn own_time_ns() -> anyhow::Result<u64> {
    Ok(clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?)
}

fn row(rate: f64, placed: &LoadReport, before: (u64, u64), after: (u64, u64)) -> Row {
    let per_call =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e6 / placed.calls as f64;
    let setup = placed.setup.as_ref();
    Row {
        rate,
        calls: placed.calls,
        completed: placed.completed,
        daemon_ms: per_call(before.0, after.0),
        peers_ms: per_call(before.1, after.1),
        p50_ms: setup.map_or(0.0, |times| times.p50_us as f64 / 1000.0),
        p99_ms: setup.map_or(0.0, |times| times.p99_us as f64 / 1000.0),
    }
}

fn place(
    transport: Transport,
    calls: usize,
    rate_per_s: f64,
    talk_s: f64,
) -> anyhow::Result<LoadReport> {
    load(&LoadConfig {
        call: CallConfig {
            gateway: format!("http://{HTTP}"),
            transport,
            talk_s,
            ..CallConfig::default()
        },
        calls,
        rate_per_s,
        engines: 1,
    })
}

/// Resident memory of a fresh daemon for each page that is signed in.
fn pages_alone(config: &Config, transport: Transport) -> anyhow::Result<f64> {
    let (_daemon, gateway) = start(config)?;
    let url = format!("http://{HTTP}");
    let before = memory_bytes(&[gateway]);
    let during = signalling::while_signed_in(&url, transport, config.idle_calls, || {
        memory_bytes(&[gateway])
    })?;
    Ok(during.saturating_sub(before) as f64 / config.idle_calls as f64)
}

/// Resident memory for each standing call: looked at while all of them talk, over what it was before.
fn idle_memory(config: &Config, gateway: i32) -> anyhow::Result<f64> {
    let before = memory_bytes(&[gateway]);
    let rate = config.rates.first().copied().unwrap_or(50.0);
    let placing = Duration::from_secs_f64(config.idle_calls as f64 / rate + 1.0);
    let calls = config.idle_calls;
    let talk_s = placing.as_secs_f64() + IDLE_S;
    let placed = std::thread::scope(|scope| {
        let placed = scope.spawn(|| place(config.transport, calls, rate, talk_s));
        std::thread::sleep(placing + Duration::from_secs(1));
        let during = memory_bytes(&[gateway]);
        let placed = placed
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((during, placed.completed))
    })?;
    let (during, completed) = placed;
    ensure!(completed > 0, "no call stood while memory was looked at");
    Ok(during.saturating_sub(before) as f64 / completed as f64)
}

/// A fresh daemon that has set up some calls: the first ones pay for what all later ones share.
fn start(config: &Config) -> anyhow::Result<(Daemon, i32)> {
    let daemon = launch(&config.daemon)?;
    let gateway = i32::try_from(daemon.child.id())?;
    place(config.transport, WARM_UP_CALLS, 20.0, MOMENT_S)?;
    Ok((daemon, gateway))
}

fn launch(program: &Path) -> anyhow::Result<Daemon> {
    let directory = std::env::temp_dir().join(format!("causeway-setup-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let file = directory.join("causeway.toml");
    fs::write(
        &file,
        format!(
            "[http]\nlisten = \"{HTTP}\"\nadmin_listen = \"{ADMIN}\"\n\n[web]\nlisten = [\"127.0.0.1:40000\"]\n\n\
             [sip]\nlisten_udp = \"{GATEWAY_SIP}\"\nlisten_tcp = \"{GATEWAY_SIP}\"\ndomain = \"localhost\"\n\
             outbound_proxy = \"{PEER_SIP}\"\n\n[rtp]\naddress = \"127.0.0.1\"\nports = \"12000-31999\"\n\n[datapath]\nmode = \"userspace\"\n\n\
             [limits]\ncalls = 4000\nsessions = 8000\nrequests_per_second = 100000\nrequest_burst = 100000\n"
        ),
    )?;
    let child = Command::new(program)
        .args(["run", "--config"])
        .arg(&file)
        .env("RUST_LOG", "error")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the daemon")?;
    let mut daemon = Daemon { child, directory };
    let deadline = Instant::now() + READY_LIMIT;
    while ureq::get(format!("http://{ADMIN}/ready")).call().is_err() {
        ensure!(
            daemon.child.try_wait()?.is_none() && Instant::now() < deadline,
            "the daemon did not come up"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(daemon)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>6} {:>10} {:>14} {:>13} {:>8} {:>8}",
            "calls/s", "calls", "completed", "daemon ms/call", "peers ms/call", "p50 ms", "p99 ms"
        )?;
        for row in &self.rates {
            writeln!(
                f,
                "{:>8.0} {:>6} {:>10} {:>14.2} {:>13.2} {:>8.1} {:>8.1}",
                row.rate,
                row.calls,
                row.completed,
                row.daemon_ms,
                row.peers_ms,
                row.p50_ms,
                row.p99_ms
            )?;
        }
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if let (Some(row), Some(alone)) = (self.highest(), self.daemon_alone(cpus)) {
            writeln!(
                f,
                "reached {:.0} calls/s, with pages and SIP peer on the same {cpus} CPUs; by its CPU time the daemon alone would \
                 reach {alone:.0} (target 500, DTLS included)",
                row.rate
            )?;
        }
        if let Some(signalling) = &self.signalling {
            writeln!(
                f,
                "without media (no ICE, no DTLS): {:.0} calls/s, daemon {:.2} ms of CPU a call, pages and SIP peer {:.2} ms; by its CPU \
                 time the daemon alone would reach {:.0} (target 1000)",
                signalling.per_second(),
                signalling.daemon_ms,
                signalling.peers_ms,
                signalling.daemon_alone(cpus)
            )?;
        }
        writeln!(
            f,
            "memory for each standing call: {:.1} KiB (target 64)",
            self.memory_per_call / 1024.0
        )?;
        let by = match self.transport {
            Transport::Http => "polls",
            Transport::WebSocket => "one WebSocket",
        };
        if let Some(page) = self.memory_per_page {
            writeln!(f, "of which its page, by {by}: {:.1} KiB", page / 1024.0)?;
        }
        if let Some(page) = self.memory_per_polling_page {
            writeln!(f, "a page that polls: {:.1} KiB", page / 1024.0)?;
        }
        Ok(())
    }
}
