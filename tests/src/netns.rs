//! Network namespaces in a line: browser | gateway | SIP, joined by veth pairs.
//!
//! Namespaces carry our process id in their names; those of a run that was killed are removed by the next one. The veth
//! pairs are made inside the namespaces, so nothing ever shows up in the host's own.

use crate::files::Directory;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const PREFIX: &str = "causeway";

/// A namespace; deleted on drop, with the devices in it.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with loopback up and IPv6 off, which otherwise adds its own chatter to captures.
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let this = Self { name };
        ip(&["-n", &this.name, "link", "set", "dev", "lo", "up"]);
        this.run(&["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
        this.run(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        this
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that will run inside. Only the network changes: `/sys` with its bpffs stays the host's.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a command inside to its end and gives its output; panics where it fails.
    pub fn run(&self, words: &[&str]) -> String {
        let mut command = self.command(Path::new(words[0]));
        run(command.args(&words[1..]))
    }

    /// Calls a function on a thread inside.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("the namespace exists");
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).expect("root may enter its own namespace");
                function()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Namespace {
    /// Kills what is still in it: workers whose parent had to be killed live on otherwise (Kamailio's do).
    fn end_everybody(&self) {
        let list = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let list = list.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&list).lines() {
            if let Ok(pid) = pid.trim().parse() {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end_everybody();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// The three namespaces with their addresses.
pub struct Line {
    /// Chromium, 10.77.1.1.
    pub browser: Namespace,
    /// The daemon, 10.77.1.2 and 10.77.2.2.
    pub gateway: Namespace,
    /// SIPp, Kamailio, baresip, 10.77.2.1.
    pub sip: Namespace,
    /// Own bpffs, so that no pin can outlive the test.
    pub bpffs: Bpffs,
}

impl Line {
    /// The browser's address.
    pub const BROWSER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
    /// The gateway's address towards browsers.
    pub const GATEWAY_WEB: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
    /// The gateway's address towards SIP.
    pub const GATEWAY_SIP: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
    /// The SIP side's address.
    pub const SIP: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
    /// Device of the browser's namespace.
    pub const BROWSER_DEVICE: &str = "browser0";
    /// Device of the SIP namespace.
    pub const SIP_DEVICE: &str = "sip0";
    /// The gateway's device towards browsers.
    pub const WEB_DEVICE: &str = "gw-web";
    /// The gateway's device towards SIP.
    pub const GATEWAY_SIP_DEVICE: &str = "gw-sip";

    /// Makes namespaces, pairs and addresses.
    pub fn new() -> Self {
        remove_orphans();
        let line = Self {
            browser: Namespace::new("browser"),
            gateway: Namespace::new("gateway"),
            sip: Namespace::new("sip"),
            bpffs: Bpffs::new(),
        };
        join(
            (&line.browser, Self::BROWSER_DEVICE, Self::BROWSER),
            (&line.gateway, Self::WEB_DEVICE, Self::GATEWAY_WEB),
        );
        join(
            (&line.sip, Self::SIP_DEVICE, Self::SIP),
            (&line.gateway, Self::GATEWAY_SIP_DEVICE, Self::GATEWAY_SIP),
        );
        line
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

/// A bpffs of our own, unmounted on drop: whatever is pinned in it goes away with it.
pub struct Bpffs {
    directory: Directory,
}

impl Bpffs {
    fn new() -> Self {
        let directory = Directory::new("bpffs");
        run(Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(directory.path()));
        Self { directory }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything pinned in it now; the kernel's own `maps.debug` and `progs.debug` are no pins.
    pub fn pins(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path().to_path_buf()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if path
                    .extension()
                    .is_none_or(|extension| extension != "debug")
                {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

/// Joins two namespaces by a pair of devices: each with the name of its device and its address in a network of 24 bits.
pub fn join(left: (&Namespace, &str, Ipv4Addr), right: (&Namespace, &str, Ipv4Addr)) {
    pair(left.0, left.1, right.0, right.1);
    address(left.0, left.1, left.2);
    address(right.0, right.1, right.2);
}

fn pair(left: &Namespace, left_device: &str, right: &Namespace, right_device: &str) {
    ip(&[
        "link",
        "add",
        left_device,
        "netns",
        &left.name,
        "type",
        "veth",
        "peer",
        "name",
        right_device,
        "netns",
        &right.name,
    ]);
}

fn address(namespace: &Namespace, device: &str, address: Ipv4Addr) {
    ip(&[
        "-n",
        &namespace.name,
        "addr",
        "add",
        &format!("{address}/24"),
        "dev",
        device,
    ]);
    ip(&["-n", &namespace.name, "link", "set", "dev", device, "up"]);
}

/// Namespaces of test processes that are no more: they were killed before they could clean up.
fn remove_orphans() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').nth(1)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            ip(&["netns", "del", &name]);
        }
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words));
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {errors}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
