//! `causeway check`: what this host can do for the datapath, one line for each condition, and the mode that follows.
//!
//! Proves instead of guessing where that is cheap: the kernel's verifier gets our program, every interface gets a tiny one
//! attached and detached. Nothing stays behind.

use crate::datapath::attach::{self, OBJECT};
use crate::datapath::maps::Room;
use crate::datapath::netlink::{Link, Netlink};
use crate::datapath::{
    Config, Cpus, FLOWS_PER_CALL, Mode, maps, spread, start, xdp_ethtool, xdp_probe,
};
use gateway_core::api::Path;
use std::fmt;
use std::fs;
use std::net::IpAddr;

/// Oldest kernel with all that the program uses (`bpf_xdp_load_bytes`), and the oldest that is tested.
const KERNEL_NEEDED: (u32, u32) = (5, 18);
const KERNEL_TESTED: (u32, u32) = (6, 1);
/// Largest MTU at which common drivers still take a program without fragments support.
const MTU_USUAL: u32 = 3498;

/// What was found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// One for each condition.
    pub lines: Vec<CheckLine>,
    /// The best path that flows will get; `None` when the configured mode cannot be had, which stops the daemon at start.
    pub path: Option<Path>,
    /// One sentence on that.
    pub conclusion: String,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckLine {
    /// Whether it is met.
    pub state: State,
    /// What was looked at.
    pub subject: String,
    /// What was found, and what follows.
    pub finding: String,
}

/// Whether a condition is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Ok,
    /// It is not, and that costs speed or asks for care.
    Note,
    /// It is not, and that costs a datapath mode.
    Missing,
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .lines
            .iter()
            .map(|line| line.subject.len())
            .max()
            .unwrap_or(0);
        for line in &self.lines {
            let state = match line.state {
                State::Ok => "ok",
                State::Note => "note",
                State::Missing => "missing",
            };
            writeln!(f, "{state:<8} {:<width$}  {}", line.subject, line.finding)?;
        }
        write!(f, "{}", self.conclusion)
    }
}

/// Looks at this host for a configuration: `addresses` are those that media arrives on, `calls` the configured limit.
pub fn run(config: &Config, addresses: &[IpAddr], calls: usize) -> CheckReport {
    let mut check = Check::default();
    check.kernel();
    check.privileges();
    check.bpffs(config);
    let room = Room::new(calls, config.keystream_mib);
    let interfaces = chosen(config, addresses);
    check.program(config, interfaces.as_deref().unwrap_or_default(), room);
    let (native, generic) = check.interfaces(interfaces);
    let memory = maps::memory_bytes(room, start::cpus());
    let keystream = room.keystream_bytes();
    check.ok(
        "memory",
        format!(
            "the XDP maps take {} KiB for {calls} calls of audio and video ({} KiB each) and the sources that the flood defence remembers ({} KiB for {}), and {} KiB for keystream made ahead of time ({} of their {} flows)",
            (memory - keystream) / 1024,
            maps::call_bytes() / 1024,
            maps::sources_bytes() / 1024,
            flow::SOURCES,
            keystream / 1024,
            room.rings,
            FLOWS_PER_CALL * calls
        ),
    );
    conclude(check, config.mode, &native, &generic)
}

/// The interfaces that the daemon would attach to.
fn chosen(config: &Config, addresses: &[IpAddr]) -> anyhow::Result<Vec<Link>> {
    let owners = attach::owners(addresses)?;
    // As at start: `lo` is taken only where the operator asks for generic XDP.
    let with_loopback = config.mode == Mode::XdpGeneric;
    let mut netlink = Netlink::open()?;
    attach::choose(&mut netlink, &config.interfaces, &owners, with_loopback)
}

#[derive(Default)]
struct Check {
    lines: Vec<CheckLine>,
    /// The first thing that rules XDP out altogether.
    no_xdp: Option<String>,
}

/// The interfaces that take a mode, or why it cannot be had.
type Modes = Result<String, String>;

fn conclude(check: Check, mode: Mode, native: &Modes, generic: &Modes) -> CheckReport {
    let first = |modes: &Modes| check.no_xdp.clone().map_or_else(|| modes.clone(), Err);
    let (native, generic) = (first(native), first(generic));
    let explicit = |path: Path, modes: Modes, name: &str| match modes {
        Ok(interfaces) => (Some(path), format!("datapath: {name} on {interfaces}")),
        Err(why) => (
            None,
            format!("datapath: {name} cannot be had, the daemon will not start: {why}"),
        ),
    };
    let (path, conclusion) = match mode {
        Mode::Userspace => {
            let sentence = "datapath: userspace, because the configuration says so";
            (Some(Path::Userspace), sentence.into())
        }
        Mode::XdpNative => explicit(Path::XdpNative, native, "xdp-native"),
        Mode::XdpGeneric => explicit(Path::XdpGeneric, generic, "xdp-generic"),
        Mode::Auto => match (native, generic) {
            (Ok(interfaces), _) => (
                Some(Path::XdpNative),
                format!("datapath: xdp-native on {interfaces}"),
            ),
            (Err(why), Ok(interfaces)) => (
                Some(Path::XdpGeneric),
                format!("datapath: xdp-generic on {interfaces}, because of native XDP: {why}"),
            ),
            (Err(why), Err(_)) => (
                Some(Path::Userspace),
                format!("datapath: userspace, because {why}"),
            ),
        },
    };
    CheckReport {
        lines: check.lines,
        path,
        conclusion,
    }
}

impl Check {
    fn add(&mut self, state: State, subject: &str, finding: impl Into<String>) {
        let finding = finding.into();
        let subject = subject.to_owned();
        self.lines.push(CheckLine {
            state,
            subject,
            finding,
        });
    }

    fn ok(&mut self, subject: &str, finding: impl Into<String>) {
        self.add(State::Ok, subject, finding);
    }

    fn note(&mut self, subject: &str, finding: impl Into<String>) {
        self.add(State::Note, subject, finding);
    }

    /// Something without which there is no XDP.
    fn missing(&mut self, subject: &str, finding: &str) {
        self.add(State::Missing, subject, format!("{finding}: no XDP"));
        self.no_xdp.get_or_insert_with(|| finding.to_owned());
    }

    fn kernel(&mut self) {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        match version(release) {
            Some(version) if version >= KERNEL_TESTED => self.ok("kernel", release),
            Some(version) if version >= KERNEL_NEEDED => {
                self.note("kernel", format!("{release} is older than the tested 6.1"));
            }
            _ => self.missing("kernel", &format!("{release} is older than 5.18")),
        }
        if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
            self.ok("BTF", "the kernel describes its types");
        } else {
            self.note(
                "BTF",
                "no /sys/kernel/btf/vmlinux: bpftool shows less, nothing else",
            );
        }
        match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
            .as_deref()
            .map(str::trim)
        {
            Ok("0") => self.note(
                "JIT",
                "off: XDP is interpreted and slow; sysctl net.core.bpf_jit_enable=1",
            ),
            Ok(_) => self.ok("JIT", "on"),
            // The switch is not shown in namespaces, nor where the JIT is always on.
            Err(_) => self.ok(
                "JIT",
                "no switch here: on unless the kernel was built without",
            ),
        }
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        if lockdown.contains("[confidentiality]") {
            self.note(
                "lockdown",
                "confidentiality: tracing helpers are off, XDP is not affected",
            );
        } else {
            self.ok("lockdown", "does not restrict BPF");
        }
    }

    fn privileges(&mut self) {
        match start::missing_capabilities() {
            None => self.ok("privileges", "CAP_BPF and CAP_NET_ADMIN"),
            Some(missing) => self.missing("privileges", &format!("the process lacks {missing}")),
        }
        if version_here() >= Some((5, 11)) {
            self.ok(
                "memlock",
                "maps are charged to the memory cgroup, no limit to raise",
            );
        } else {
            self.note(
                "memlock",
                "maps count against RLIMIT_MEMLOCK on this kernel: raise it",
            );
        }
    }

    fn bpffs(&mut self, config: &Config) {
        let Some(parent) = config.pin_dir.parent() else {
            self.missing("bpffs", "[datapath] pin_dir has no parent directory");
            return;
        };
        let shown = parent.display();
        if attach::is_bpffs(parent) {
            self.ok("bpffs", format!("mounted at {shown}"));
        } else if parent.is_dir() {
            self.note(
                "bpffs",
                format!("not mounted at {shown}: the daemon will mount it"),
            );
        } else {
            self.missing("bpffs", &format!("{shown} does not exist"));
        }
    }

    fn program(&mut self, config: &Config, interfaces: &[Link], room: Room) {
        if OBJECT.is_empty() {
            self.missing(
                "XDP program",
                "this daemon was built without the XDP program",
            );
            return;
        }
        let plan = spread::plan(&config.cpus, interfaces);
        let wanted = config.cpus != Cpus::Off;
        match attach::try_load(OBJECT, room, plan) {
            Ok(spread) => {
                let size = OBJECT.len() / 1024;
                self.ok(
                    "XDP program",
                    format!("embedded ({size} KiB), and the kernel's verifier takes it"),
                );
                let off = wanted && spread.cpus.is_empty();
                let state = if off { State::Note } else { State::Ok };
                self.add(state, "spread", spread.reason);
            }
            Err(error) => self.missing("XDP program", &format!("{error:#}")),
        }
    }

    /// Probes the interfaces; answers what native and generic XDP can be had on.
    fn interfaces(&mut self, chosen: anyhow::Result<Vec<Link>>) -> (Modes, Modes) {
        let interfaces = match chosen {
            Ok(interfaces) => interfaces,
            Err(error) => {
                let why = format!("{error:#}");
                self.note("interfaces", format!("{why}: no XDP"));
                return (Err(why.clone()), Err(why));
            }
        };
        let (mut native, mut generic) = (Ok(String::new()), Ok(String::new()));
        for link in &interfaces {
            self.settings(link);
            merge(&mut native, &link.name, self.probe(link, true));
            merge(&mut generic, &link.name, self.probe(link, false));
        }
        (native, generic)
    }

    fn settings(&mut self, link: &Link) {
        let name = &link.name;
        let offloads = xdp_ethtool::offloads(name);
        let driver = xdp_ethtool::driver(name).unwrap_or_else(|_| "unknown".into());
        let (tx, rx) = link.queues;
        let queues = offloads.channels.map_or_else(
            || format!("{rx} receive and {tx} transmit queues"),
            |(now, most)| format!("{now} of {most} queue pairs in use"),
        );
        // Flows are told apart by addresses, so XDP needs no tag on arrival; leaving frames carry theirs in the frame.
        let vlan = if offloads.rx_vlan {
            "stripped"
        } else {
            "left on"
        };
        let mtu = link.mtu;
        self.ok(
            name,
            format!("driver {driver}, MTU {mtu}, {queues}, VLAN tags {vlan}"),
        );
        if !link.up {
            self.note(name, "is down");
        }
        if link.mtu > MTU_USUAL && !link.loopback {
            self.note(
                name,
                format!(
                    "MTU {} is above what most drivers take with XDP ({MTU_USUAL})",
                    link.mtu
                ),
            );
        }
        if offloads.lro {
            self.note(
                name,
                format!("LRO is on, which forbids native XDP: ethtool -K {name} lro off"),
            );
        }
        if offloads.gro && !link.loopback {
            self.note(
                name,
                "GRO is on: with generic XDP merged packets go up to the daemon",
            );
        }
        if offloads.channels.is_some_and(|(now, most)| now == most) && driver == "ena" {
            self.note(
                name,
                format!("ENA wants half of the queues free for XDP: ethtool -L {name} combined N"),
            );
        }
        if link.kind == "veth" {
            self.note(
                name,
                "veth: XDP_TX is only delivered if the peer has an XDP program, too",
            );
        }
    }

    fn probe(&mut self, link: &Link, native: bool) -> Result<(), String> {
        let kind = if native { "native XDP" } else { "generic XDP" };
        match xdp_probe::attach_pass(link.index, native) {
            Ok(_attached) => {
                self.ok(
                    &link.name,
                    format!("{kind}: a program was attached and detached"),
                );
                Ok(())
            }
            Err(error) => {
                let known = attach::explain_errno(error.raw_os_error());
                let why = known.map_or_else(|| error.to_string(), str::to_owned);
                self.add(State::Missing, &link.name, format!("{kind}: {why}"));
                Err(format!("{}: {why}", link.name))
            }
        }
    }
}

/// A mode can be had if every interface takes it.
fn merge(modes: &mut Modes, name: &str, probed: Result<(), String>) {
    match (&mut *modes, probed) {
        (Ok(names), Ok(())) => {
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(name);
        }
        (Ok(_), Err(why)) => *modes = Err(why),
        (Err(_), _) => {}
    }
}

fn version_here() -> Option<(u32, u32)> {
    version(
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()?
            .trim(),
    )
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Check {
        Check::default()
    }

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("6.1-rc3+"), Some((6, 1)));
        assert_eq!(version("x"), None);
    }

    #[test]
    fn auto_takes_the_best_and_says_why_not_better() {
        let (good, bad) = (Ok("eth0".into()), Err("eth0: the driver has none".into()));
        let report = conclude(empty(), Mode::Auto, &good, &good);
        assert_eq!(report.path, Some(Path::XdpNative));
        let report = conclude(empty(), Mode::Auto, &bad, &good);
        assert_eq!(report.path, Some(Path::XdpGeneric));
        assert!(report.conclusion.contains("the driver has none"));
        let report = conclude(empty(), Mode::Auto, &bad, &bad);
        assert_eq!(report.path, Some(Path::Userspace));
        let mut check = empty();
        check.missing("privileges", "the process lacks CAP_BPF");
        let report = conclude(check, Mode::Auto, &good, &good);
        assert_eq!(report.path, Some(Path::Userspace));
        assert_eq!(
            report.conclusion,
            "datapath: userspace, because the process lacks CAP_BPF"
        );
    }

    #[test]
    fn an_explicit_mode_that_cannot_be_had_stops_the_daemon() {
        let bad = Err("eth0: the driver has none".into());
        let report = conclude(empty(), Mode::XdpNative, &bad, &Ok("eth0".into()));
        assert_eq!(report.path, None);
        assert!(report.conclusion.contains("will not start"));
    }

    #[test]
    fn loopback_ends_in_userspace_and_every_line_is_printed() {
        let addresses = ["127.0.0.1".parse().unwrap()];
        let report = run(&Config::default(), &addresses, 100);
        assert_eq!(report.path, Some(Path::Userspace));
        let text = report.to_string();
        assert_eq!(text.lines().count(), report.lines.len() + 1);
        assert!(
            text.lines()
                .last()
                .unwrap()
                .starts_with("datapath: userspace, because")
        );
    }
}
