//! What is measured, started and made ready for one kind of work.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use flow::Suite;
use serde::Deserialize;

use super::bed::{Bed, CLIENT, DEVICE_CLIENT, DEVICE_SIP, SIP, URGENT, macs, realtime};
use super::{Config, Forwarder, Shape, Work, cpu, memory};
use crate::feed::Front;
use crate::load::MasterKey;
use crate::rtpengine::{Party, Rtpengine};

/// SSRC of the first stream.
pub(super) const FIRST_SSRC: u32 = 0x1000_0000;
/// First sequence number: low, so that a receiver cannot miss the first rollover.
pub(super) const FIRST_SEQUENCE: u16 = 1000;
/// The daemon's port for all browsers.
const WEB_PORT: u16 = 40_000;
/// RTP ports that the daemon opens; more calls share them, which only where packets go to the SIP side is no matter.
const MOST_PORTS: usize = 4000;
/// Where the daemon pins its maps, before the id of this process.
const PINS: &str = "/sys/fs/bpf/causeway-bench-";

/// A forwarder that runs.
pub(super) struct Device {
    pub(super) work: Work,
    /// Where each stream goes.
    pub(super) targets: Vec<SocketAddr>,
    /// Keys under which it sends.
    pub(super) receive_keys: Vec<MasterKey>,
    /// Packets of each stream that were sent to it: the next ones go on behind them, so that no SRTP index is used twice.
    pub(super) played: usize,
    forwarder: Forwarder,
    kind: Kind,
    /// Packets that were sent through it.
    sent: u64,
    pub(super) shape: Shape,
}

enum Kind {
    Kernel,
    Causeway(Causeway),
    Rtpengine(Rtpengine),
}

/// Our daemon's media plane.
struct Causeway {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The kernel's threads in which other CPUs take packets over.
    taking: Vec<i32>,
}

#[derive(Deserialize)]
struct Ready {
    ports: Vec<u16>,
    paths: std::collections::BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Finished {
    packets: u64,
}

impl Drop for Causeway {
    fn drop(&mut self) {
        // Only where it was not stopped in order; both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Device {
    pub(super) fn start(
        bed: &Bed,
        config: &Config,
        forwarder: Forwarder,
        work: Work,
        shape: Shape,
    ) -> anyhow::Result<Self> {
        let mut device = Self {
            work,
            targets: Vec::new(),
            receive_keys: Vec::new(),
            played: 0,
            forwarder,
            kind: Kind::Kernel,
            sent: 0,
            shape,
        };
        match forwarder {
            // Routed: the destination is the other side itself.
            Forwarder::Kernel => device.targets = vec![SIP],
            Forwarder::XdpNative => device.start_causeway(bed, config, "xdp-native")?,
            Forwarder::XdpGeneric => device.start_causeway(bed, config, "xdp-generic")?,
            Forwarder::Userspace => device.start_causeway(bed, config, "userspace")?,
            Forwarder::Rtpengine => device.start_rtpengine(bed, config)?,
        }
        Ok(device)
    }

    /// Ends it and starts another one of its kind.
    pub(super) fn restart(&mut self, bed: &Bed, config: &Config) -> anyhow::Result<()> {
        // The old one first: both want the same addresses.
        std::mem::replace(&mut self.kind, Kind::Kernel).stop(self.sent)?;
        *self = Self::start(bed, config, self.forwarder, self.work, self.shape)?;
        Ok(())
    }

    fn start_causeway(&mut self, bed: &Bed, config: &Config, mode: &str) -> anyhow::Result<()> {
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", bed.device.path().display()))
            .args(["taskset", "-c", &config.device_cpu.to_string()])
            .arg(&config.daemon)
            .arg("media")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the daemon")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the daemon has no output")?;
        let mut causeway = Causeway {
            child,
            input,
            output: BufReader::new(output),
            taking: Vec::new(),
        };
        let setup = self.setup(config, mode);
        let pipe = causeway.input.as_mut().context("the daemon has no input")?;
        writeln!(pipe, "{setup}").context("the daemon does not listen")?;
        let ready: Ready = causeway.answer()?;
        if !config.spread.is_empty() {
            // As urgent as the receive threads, or the feed starves the one that shares its CPU.
            causeway.taking = cpu::kernel_threads("cpumap/").collect();
            for thread in &causeway.taking {
                realtime(*thread, URGENT)?;
            }
        }
        let wanted = mode.replace('-', "").to_lowercase();
        let elsewhere = ready
            .paths
            .keys()
            .find(|path| !path.to_lowercase().starts_with(&wanted));
        ensure!(
            elsewhere.is_none(),
            "not all flows are in {mode}: {:?}",
            ready.paths
        );
        self.targets = if self.work.is_towards_client() {
            let ports = ready.ports.iter();
            ports
                .map(|port| SocketAddr::new(DEVICE_SIP, *port))
                .collect()
        } else {
            vec![SocketAddr::new(DEVICE_CLIENT, WEB_PORT)]
        };
        self.receive_keys = self.work.leaving_key().into_iter().collect();
        self.kind = Kind::Causeway(causeway);
        Ok(())
    }

    /// The first line that `causeway media` reads.
    fn setup(&self, config: &Config, mode: &str) -> serde_json::Value {
        let browser_suite = self.work.browser_suite();
        let export = browser_suite.map(|suite| {
            serde_json::json!({ "suite": suite.name(), "key": client_key(suite).export(&device_key(suite)) })
        });
        let sdes = self.work.sip_suite().map(
            |suite| serde_json::json!({ "suite": suite.name(), "key": device_key(suite).bytes() }),
        );
        let calls: Vec<_> = (0..self.shape.streams)
            .map(|stream| {
                serde_json::json!({
                    "browser": self.client_of(stream),
                    "sip": SIP,
                    "ssrc": FIRST_SSRC.wrapping_add(stream as u32),
                })
            })
            .collect();
        serde_json::json!({
            "mode": mode,
            "pin_dir": pin_dir(),
            "keystream_mib": config.keystream_mib,
            "cpus": if config.spread.is_empty() { serde_json::json!("off") } else { serde_json::json!(config.spread) },
            "web": SocketAddr::new(DEVICE_CLIENT, WEB_PORT),
            "rtp_address": DEVICE_SIP,
            "rtp_ports": { "start": 20_000, "end": 29_999 },
            "dtls_export": export,
            "sdes": sdes,
            "direction": if self.work.is_towards_client() { "to_browser" } else { "to_sip" },
            "calls": calls,
            "ports": self.shape.streams.min(MOST_PORTS),
        })
    }

    fn start_rtpengine(&mut self, bed: &Bed, config: &Config) -> anyhow::Result<()> {
        let namespace = bed.device.path();
        let mut rtpengine =
            Rtpengine::start(&namespace, config.device_cpu, DEVICE_CLIENT, DEVICE_SIP)?;
        for stream in 0..self.shape.streams {
            let client = Party {
                rtp: self.client_of(stream),
                key: self.work.browser_suite().map(client_key),
                interface: "a",
            };
            let sip = Party {
                rtp: SIP,
                key: self.work.sip_suite().map(sip_key),
                interface: "b",
            };
            if self.work.is_towards_client() {
                let (to_sip, to_client) = rtpengine.call(sip, client)?;
                self.targets.push(SocketAddr::new(DEVICE_SIP, to_sip.port));
                self.receive_keys.extend(to_client.key);
            } else {
                let (to_client, to_sip) = rtpengine.call(client, sip)?;
                ensure!(
                    to_sip.key.is_none() || to_sip.key != client.key,
                    "rtpengine hands SRTP through as it comes"
                );
                self.targets
                    .push(SocketAddr::new(DEVICE_CLIENT, to_client.port));
                self.receive_keys.extend(to_sip.key);
            }
        }
        self.kind = Kind::Rtpengine(rtpengine);
        Ok(())
    }

    /// The client's address in a call: one socket receives all, but each stream sends from its own.
    fn client_of(&self, stream: usize) -> SocketAddr {
        let port = if self.work.is_towards_client() {
            CLIENT.port()
        } else {
            // Bounded by the check of the load: ports end at 65535.
            CLIENT.port().wrapping_add(2 * stream as u16)
        };
        SocketAddr::new(CLIENT.ip(), port)
    }

    /// The way of each stream to it.
    pub(super) fn fronts(&self) -> anyhow::Result<Vec<Front>> {
        let from_sip = self.work.is_towards_client();
        let [source_mac, destination_mac] = macs(!from_sip);
        (0..self.shape.streams)
            .map(|stream| {
                let source = if from_sip {
                    SIP
                } else {
                    self.client_of(stream)
                };
                let destination = self.targets[stream % self.targets.len()];
                let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination)
                else {
                    bail!("the bed is an IPv4 one");
                };
                Ok(Front {
                    source_mac,
                    destination_mac,
                    source,
                    destination,
                })
            })
            .collect()
    }

    /// Its processes, and the kernel's threads for it but those that receive.
    pub(super) fn processes(&self) -> Vec<i32> {
        let (process, taking) = match &self.kind {
            Kind::Kernel => (None, &[][..]),
            Kind::Causeway(causeway) => (Some(causeway.child.id()), &causeway.taking[..]),
            Kind::Rtpengine(rtpengine) => (Some(rtpengine.pid()), &[][..]),
        };
        let process = process.and_then(|id| i32::try_from(id).ok());
        process.into_iter().chain(taking.iter().copied()).collect()
    }

    /// What it takes of memory now.
    pub(super) fn memory_bytes(&self) -> u64 {
        memory::of(&self.processes())
    }

    /// Notes a run of so many packets per stream: the next one goes on behind it.
    pub(super) fn advance(&mut self, per_stream: usize) {
        self.sent += (per_stream * self.shape.streams) as u64;
        self.played += per_stream;
    }

    /// Ends it.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.kind.stop(self.sent)
    }
}

/// Key under which the client sends SRTP.
pub(super) fn client_key(suite: Suite) -> MasterKey {
    MasterKey::known(suite, 1)
}

/// Key under which our device sends SRTP.
fn device_key(suite: Suite) -> MasterKey {
    MasterKey::known(suite, 2)
}

/// Key under which the SIP side would send SRTP.
fn sip_key(suite: Suite) -> MasterKey {
    MasterKey::known(suite, 3)
}

impl Work {
    /// Key under which packets come to the device.
    pub(super) fn arriving_key(self) -> Option<MasterKey> {
        let suite = self.browser_suite().filter(|_| !self.is_towards_client());
        suite.map(client_key)
    }

    /// Key under which our device sends them on.
    fn leaving_key(self) -> Option<MasterKey> {
        let suite = if self.is_towards_client() {
            self.browser_suite()
        } else {
            self.sip_suite()
        };
        suite.map(device_key)
    }
}

fn pin_dir() -> String {
    format!("{PINS}{}", std::process::id())
}

/// Removes the pins of runs that were killed.
pub(super) fn remove_leftovers() {
    for entry in std::fs::read_dir("/sys/fs/bpf")
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        let id = path.to_str().and_then(|path| path.strip_prefix(PINS));
        if id.is_some_and(|id| !std::path::Path::new("/proc").join(id).exists()) {
            // Another run may do the same.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

impl Kind {
    /// Ends it. What our daemon has counted must not be more than what was sent to it.
    fn stop(self, sent: u64) -> anyhow::Result<()> {
        if let Self::Causeway(mut causeway) = self {
            // The end of its input ends it, in order: pins are removed.
            causeway.input = None;
            let finished: Finished = causeway.answer()?;
            causeway.child.wait()?;
            // The daemon leaves the directory itself; without XDP there is none.
            let _ = std::fs::remove_dir(pin_dir());
            ensure!(
                finished.packets <= sent && (finished.packets > 0 || sent == 0),
                "the daemon has counted {} packets of {sent} sent",
                finished.packets
            );
        }
        Ok(())
    }
}

impl Causeway {
    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line)
            .with_context(|| format!("the daemon answered {:?}", line.trim()))
    }
}
