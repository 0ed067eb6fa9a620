//! `cargo xtask demo`: the gateway and a SIP peer on this machine, with nothing to configure and nothing left behind.
//!
//! Without root the media stays in userspace. With root the daemon is asked for the best path on the chosen interface
//! and tells which one it got; its pins lie in a directory of their own, which goes away with the demo.

use crate::cli::Demo;
use crate::host;
use crate::run::{self, Built};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(8);

/// Builds, starts, prints the URL, and waits for Ctrl-C or for a program to end by itself.
pub(crate) fn run(options: &Demo) -> Result<ExitCode> {
    let built = run::build(options.release)?;
    let plan = Plan::new(options, &built)?;
    let workspace = Workspace::new()?;
    let signals = Signals::new()?;
    let mut programs = Programs::new(&signals);
    let sip = plan.sip_peer.to_string();
    programs.start(
        "SIP peer",
        Command::new(&built.bench).args(["sip-peer", "--listen", &sip]),
    )?;
    if !start_gateway(&plan, &workspace, &built, &mut programs)? {
        return Ok(ExitCode::SUCCESS);
    }
    announce(&plan, options);
    loop {
        if signals.stopped(Duration::from_millis(100))? {
            println!("\nstopping");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(ended) = programs.ended()? {
            bail!("{ended}");
        }
    }
}

/// Starts the gateway in the first mode that it takes; `false` where a stop signal came first.
fn start_gateway(
    plan: &Plan,
    workspace: &Workspace,
    built: &Built,
    programs: &mut Programs<'_>,
) -> Result<bool> {
    let config = workspace.config();
    let url = format!("http://{}/ready", plan.admin);
    let mut modes = plan.modes.iter().copied();
    let mut mode = modes.next().context("there is at least one mode")?;
    loop {
        fs::write(&config, plan.config(mode, &workspace.pins))
            .context("writing the configuration")?;
        programs.start(
            "gateway",
            Command::new(&built.daemon)
                .arg("run")
                .arg("--config")
                .arg(&config),
        )?;
        let end = Instant::now() + START_LIMIT;
        let ended = loop {
            if ureq::get(&url).call().is_ok() {
                return Ok(true);
            }
            if let Some(ended) = programs.ended()? {
                break ended;
            }
            if programs.signals.stopped(Duration::from_millis(100))? {
                return Ok(false);
            }
            if Instant::now() > end {
                bail!(
                    "the gateway was not ready within {} s",
                    START_LIMIT.as_secs()
                );
            }
        };
        let Some(next) = modes.next() else {
            bail!("{ended}")
        };
        println!(
            "datapath {mode} cannot be had on {}, for the reason above: {next} instead",
            plan.interface
        );
        programs.forget_last();
        mode = next;
    }
}

/// Addresses of everything.
struct Plan {
    media: IpAddr,
    http: SocketAddr,
    admin: SocketAddr,
    web: SocketAddr,
    sip_gateway: SocketAddr,
    sip_peer: SocketAddr,
    /// Datapath modes, the wanted one first.
    modes: &'static [&'static str],
    interface: String,
}

impl Plan {
    fn new(options: &Demo, built: &Built) -> Result<Self> {
        let media = address_of(&options.interface)?;
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let free = |address, port, kind| {
            free_port(address, port, kind).with_context(|| format!("no free port on {address}"))
        };
        let everywhere = if media.is_loopback() {
            loopback
        } else {
            IpAddr::from([0, 0, 0, 0])
        };
        let best: &[_] = match media {
            _ if !host::is_root() || options.userspace || built.object.is_none() => &["userspace"],
            // There is no native XDP on loopback, and the daemon takes generic XDP there only where it is told to.
            _ if media.is_loopback() => &["xdp-generic", "userspace"],
            _ => &["auto"],
        };
        Ok(Self {
            media,
            http: free(everywhere, options.port, Kind::Tcp)?,
            admin: free(loopback, 9090, Kind::Tcp)?,
            web: free(media, 40_000, Kind::Udp)?,
            sip_peer: free(media, 5060, Kind::Both)?,
            sip_gateway: free(media, 5064, Kind::Both)?,
            modes: best,
            interface: options.interface.clone(),
        })
    }

    /// The daemon's configuration with that datapath mode.
    fn config(&self, mode: &str, pins: &Path) -> String {
        let Self {
            http,
            admin,
            web,
            media,
            interface,
            sip_peer,
            sip_gateway,
            ..
        } = self;
        let pins = pins.display();
        format!(
            r#"[http]
listen = "{http}"
admin_listen = "{admin}"

[web]
listen = ["{web}"]

[sip]
listen_udp = "{sip_gateway}"
listen_tcp = "{sip_gateway}"
domain = "localhost"
outbound_proxy = "{sip_peer}"

[rtp]
address = "{media}"

[datapath]
mode = "{mode}"
interfaces = ["{interface}"]
pin_dir = "{pins}"
"#
        )
    }
}

/// What the demo puts into the file system; removed on drop.
struct Workspace {
    directory: PathBuf,
    pins: PathBuf,
}

impl Workspace {
    fn new() -> Result<Self> {
        let name = format!("causeway-demo-{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let pins = Path::new("/sys/fs/bpf").join(&name);
        Ok(Self { directory, pins })
    }

    fn config(&self) -> PathBuf {
        self.directory.join("causeway.toml")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        for directory in [&self.directory, &self.pins] {
            if directory.exists() && fs::remove_dir_all(directory).is_err() {
                eprintln!("could not remove {}", directory.display());
            }
        }
    }
}

/// The running programs; stopped on drop, the last started first.
struct Programs<'a> {
    signals: &'a Signals,
    running: Vec<(&'static str, Child)>,
}

impl<'a> Programs<'a> {
    fn new(signals: &'a Signals) -> Self {
        let running = Vec::new();
        Self { signals, running }
    }

    fn start(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        // Where setpriv is there, not even our own violent end leaves a program behind.
        let mut wrapped = Command::new("setpriv");
        let command = match host::which("setpriv") {
            Some(_) => {
                wrapped
                    .args(["--pdeathsig", "TERM", "--"])
                    .arg(command.get_program())
                    .args(command.get_args());
                &mut wrapped
            }
            None => command,
        };
        let spawned = self
            .signals
            .let_through(|| command.stdin(Stdio::null()).spawn())?;
        let child = spawned.with_context(|| format!("starting {}", host::show(command)))?;
        self.running.push((name, child));
        Ok(())
    }

    /// The first that ended by itself.
    fn ended(&mut self) -> Result<Option<String>> {
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(format!("the {name} ended by itself: {status}")));
            }
        }
        Ok(None)
    }

    /// Takes the last one off the list: it has ended, and that is all right.
    fn forget_last(&mut self) {
        self.running.pop();
    }
}

impl Drop for Programs<'_> {
    fn drop(&mut self) {
        for (_, child) in self.running.iter_mut().rev() {
            if let Ok(pid) = i32::try_from(child.id()) {
                // It may have ended with the terminal's own Ctrl-C.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let end = Instant::now() + STOP_LIMIT;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ctrl-C and its kin, held back so that everything is cleaned up.
struct Signals {
    set: SigSet,
    descriptor: SignalFd,
}

impl Signals {
    fn new() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&set, flags).context("signalfd")?;
        Ok(Self { set, descriptor })
    }

    /// Starts a child with the signals unblocked, since it inherits what we block.
    fn let_through<T>(&self, spawn: impl FnOnce() -> T) -> Result<T> {
        self.set.thread_unblock().context("unblocking signals")?;
        let spawned = spawn();
        self.set.thread_block().context("blocking signals")?;
        Ok(spawned)
    }

    /// Whether a stop signal has come; looks once more after `pause`.
    fn stopped(&self, pause: Duration) -> Result<bool> {
        let seen = || {
            Ok::<_, anyhow::Error>(
                self.descriptor
                    .read_signal()
                    .context("reading signals")?
                    .is_some(),
            )
        };
        if seen()? {
            return Ok(true);
        }
        sleep(pause);
        seen()
    }
}

fn announce(plan: &Plan, options: &Demo) {
    if plan.http.port() != options.port {
        println!("port {} is in use", options.port);
    }
    let why = match plan.modes {
        ["userspace"] if !host::is_root() => " (XDP needs root)",
        ["userspace"] if options.userspace => " (as asked)",
        ["userspace"] => " (no XDP program was built, see above)",
        _ => "",
    };
    println!(
        "media: {}{why}",
        datapath(plan).unwrap_or_else(|| "see the log above".to_owned())
    );
    println!(
        "call `echo` to hear yourself, `tone` for a tone; two tabs call each other by name. Ctrl-C ends it."
    );
    if !plan.media.is_loopback() {
        println!(
            "from another machine: http://{}:{}/ (browsers ask for https there)",
            plan.media,
            plan.http.port()
        );
    }
    println!("ready: http://127.0.0.1:{}/", plan.http.port());
}

/// What the daemon says of its datapath.
fn datapath(plan: &Plan) -> Option<String> {
    let url = format!("http://{}/health", plan.admin);
    let health: serde_json::Value = ureq::get(&url).call().ok()?.body_mut().read_json().ok()?;
    let datapath = health.get("datapath")?;
    let text = |key: &str| datapath.get(key).and_then(|value| value.as_str());
    Some(format!(
        "{} on {} ({})",
        text("mode")?,
        plan.interface,
        text("reason")?
    ))
}

/// The first address of an interface, IPv4 before IPv6.
fn address_of(interface: &str) -> Result<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().context("listing interfaces")?;
    let mut found: Vec<IpAddr> = addresses
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
        .into_iter()
        .next()
        .with_context(|| format!("interface {interface} has no address"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Both,
}

/// The first free port from `first` on.
fn free_port(address: IpAddr, first: u16, kind: Kind) -> Option<SocketAddr> {
    (first..first.saturating_add(200))
        .map(|port| SocketAddr::new(address, port))
        .find(|candidate| {
            (kind == Kind::Udp || TcpListener::bind(candidate).is_ok())
                && (kind == Kind::Tcp || UdpSocket::bind(candidate).is_ok())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_next_port_where_one_is_in_use() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let listener = TcpListener::bind((loopback, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        let free = free_port(loopback, taken, Kind::Tcp).unwrap();
        assert!(free.port() > taken);
    }

    #[test]
    fn finds_the_loopback_address() {
        assert_eq!(address_of("lo").unwrap(), IpAddr::from([127, 0, 0, 1]));
        assert!(address_of("no-such-interface").is_err());
    }
}
