//! `cargo xtask demo`: the gateway and a SIP peer on this machine, with nothing to configure and nothing left behind.
//!
//! Without root the media stays in userspace. With root the daemon is asked for the best path on the chosen interface and
//! tells which one it got; its pins lie in a directory of their own, which goes away with the demo.

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
    let workspace = Workspace::new(&plan)?;
    let mut programs = Programs::default();
    let sip = plan.sip_peer.to_string();
    programs.start(
        "SIP peer",
        Command::new(&built.bench).args(["sip-peer", "--listen", &sip]),
    )?;
    let config = workspace.config();
    programs.start(
        "gateway",
        Command::new(&built.daemon)
            .arg("run")
            .arg("--config")
            .arg(&config),
    )?;
    // Only now: children inherit blocked signals.
    let signals = stop_signals()?;
    wait_until_ready(&plan, &mut programs, &signals)?;
    announce(&plan, options);
    match wait(&mut programs, &signals)? {
        None => {
            println!("\nstopping");
            Ok(ExitCode::SUCCESS)
        }
        Some(ended) => bail!("{ended}"),
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
    mode: &'static str,
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
        let best = host::is_root() && !options.userspace && built.object.is_some();
        Ok(Self {
            media,
            http: free(everywhere, options.port, Kind::Tcp)?,
            admin: free(loopback, 9090, Kind::Tcp)?,
            web: free(media, 40_000, Kind::Udp)?,
            sip_peer: free(media, 5060, Kind::Both)?,
            sip_gateway: free(media, 5064, Kind::Both)?,
            mode: if best { "auto" } else { "userspace" },
            interface: options.interface.clone(),
        })
    }

    fn config(&self, pins: &Path) -> String {
        format!(
            "[http]\nlisten = \"{}\"\nadmin_listen = \"{}\"\n\n[web]\nlisten = [\"{}\"]\n\n[sip]\nlisten_udp = \"{sip}\"\n\
             listen_tcp = \"{sip}\"\ndomain = \"localhost\"\noutbound_proxy = \"{}\"\n\n[rtp]\naddress = \"{}\"\n\n\
             [datapath]\nmode = \"{}\"\ninterfaces = [\"{}\"]\npin_dir = \"{}\"\n",
            self.http,
            self.admin,
            self.web,
            self.sip_peer,
            self.media,
            self.mode,
            self.interface,
            pins.display(),
            sip = self.sip_gateway,
        )
    }
}

/// What the demo puts into the file system; removed on drop.
struct Workspace {
    directory: PathBuf,
    pins: PathBuf,
}

impl Workspace {
    fn new(plan: &Plan) -> Result<Self> {
        let name = format!("causeway-demo-{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let pins = Path::new("/sys/fs/bpf").join(&name);
        let this = Self { directory, pins };
        fs::write(this.config(), plan.config(&this.pins)).context("writing the configuration")?;
        Ok(this)
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
#[derive(Default)]
struct Programs(Vec<(&'static str, Child)>);

impl Programs {
    fn start(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", host::show(command)))?;
        self.0.push((name, child));
        Ok(())
    }

    /// The first that ended by itself.
    fn ended(&mut self) -> Result<Option<String>> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(format!("the {name} ended by itself: {status}")));
            }
        }
        Ok(None)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for (_, child) in self.0.iter_mut().rev() {
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

fn stop_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context("blocking signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("signalfd")
}

/// Whether a stop signal has come; looks once more after `pause`.
fn stopped(signals: &SignalFd, pause: Duration) -> Result<bool> {
    let seen =
        || Ok::<_, anyhow::Error>(signals.read_signal().context("reading signals")?.is_some());
    if seen()? {
        return Ok(true);
    }
    sleep(pause);
    seen()
}

/// Waits for a stop signal (`None`) or for a program to end by itself.
fn wait(programs: &mut Programs, signals: &SignalFd) -> Result<Option<String>> {
    loop {
        if stopped(signals, Duration::from_millis(100))? {
            return Ok(None);
        }
        if let Some(ended) = programs.ended()? {
            return Ok(Some(ended));
        }
    }
}

fn wait_until_ready(plan: &Plan, programs: &mut Programs, signals: &SignalFd) -> Result<()> {
    let url = format!("http://{}/ready", plan.admin);
    let end = Instant::now() + START_LIMIT;
    while ureq::get(&url).call().is_err() {
        if let Some(ended) = programs.ended()? {
            bail!("{ended}");
        }
        if stopped(signals, Duration::from_millis(100))? {
            bail!("stopped before the gateway was ready");
        }
        if Instant::now() > end {
            bail!(
                "the gateway was not ready within {} s",
                START_LIMIT.as_secs()
            );
        }
    }
    Ok(())
}

fn announce(plan: &Plan, options: &Demo) {
    if plan.http.port() != options.port {
        println!("port {} is in use", options.port);
    }
    match plan.mode {
        "userspace" if !host::is_root() => println!("media: in userspace (XDP needs root)"),
        "userspace" if options.userspace => println!("media: in userspace, as asked"),
        "userspace" => println!("media: in userspace (no XDP program was built, see above)"),
        _ => println!(
            "media: {}",
            datapath(plan).unwrap_or_else(|| "see the log above".to_owned())
        ),
    }
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
