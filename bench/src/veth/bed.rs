//! The bed: client | device under test | SIP side, with receive threads on known CPUs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::cpu;

/// Begins the names of our namespaces, before the process id.
const PREFIX: &str = "causeway-bench";
/// The client; stream n sends from port + 2n.
pub(super) const CLIENT: SocketAddr = address([10, 78, 1, 1], 20_000);
/// The SIP side.
pub(super) const SIP: SocketAddr = address([10, 78, 2, 1], 30_000);
/// The device's address towards the client.
pub(super) const DEVICE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 1, 2));
/// The device's address towards the SIP side.
pub(super) const DEVICE_SIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 2, 2));

/// Realtime priority of the receive threads.
pub(super) const URGENT: u32 = 2;
/// The client's device.
pub(super) const CLIENT_DEVICE: &str = "cb-c0";
/// The SIP side's device.
pub(super) const SIP_DEVICE: &str = "cb-s0";
/// A device of the client's that carries nothing.
pub(super) const SPARE: &str = "cb-x0";

/// Veth ends: place of the namespace, device, its MAC's last byte, address, and the peer's device, last byte and address.
const ENDS: [(Place, &str, u8, &str, u8, &str); 4] = [
    (Place::Client, CLIENT_DEVICE, 1, "10.78.1.1", 2, "10.78.1.2"),
    (Place::Device, "cb-dc", 2, "10.78.1.2", 1, "10.78.1.1"),
    (Place::Device, "cb-ds", 3, "10.78.2.2", 4, "10.78.2.1"),
    (Place::Sip, SIP_DEVICE, 4, "10.78.2.1", 3, "10.78.2.2"),
];

const fn address(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3])), port)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Client,
    Device,
    Sip,
}

/// A namespace; deleted on drop with all that is in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(role: &str) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}-{}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let this = Self { name };
        ip(&["-n", &this.name, "link", "set", "dev", "lo", "up"])?;
        Ok(this)
    }

    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command inside; `ip netns exec` shows it the namespace's `/sys/class/net`.
    fn shell(&self, script: &str) -> anyhow::Result<String> {
        ip(&["netns", "exec", &self.name, "sh", "-c", script])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

/// The three namespaces, and the receive threads of the device's ends.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) client: Namespace,
    pub(super) device: Namespace,
    pub(super) sip: Namespace,
    receive_threads: Vec<i32>,
}

impl Bed {
    pub(super) fn new(device_cpu: usize, load_cpu: usize) -> anyhow::Result<Self> {
        remove_leftovers()?;
        let mut bed = Self {
            client: Namespace::new("client")?,
            device: Namespace::new("device")?,
            sip: Namespace::new("sip")?,
            receive_threads: Vec::new(),
        };
        bed.connect()?;
        // Neither end is ever up: the feed's source is attached to it only so that the kernel keeps ready for it.
        ip(&[
            "-n",
            &bed.client.name,
            "link",
            "add",
            SPARE,
            "type",
            "veth",
            "peer",
            "name",
            "cb-x1",
        ])?;
        for (place, device, ..) in ENDS {
            let on_device = place == Place::Device;
            let cpu = if on_device { device_cpu } else { load_cpu };
            let thread = bed.receive_thread(place, device, cpu)?;
            if on_device {
                bed.receive_threads.push(thread);
            }
        }
        Ok(bed)
    }

    /// Veth pairs, addresses, routes; neighbours are fixed, so that none is asked for while it is measured.
    fn connect(&self) -> anyhow::Result<()> {
        for pair in ENDS.chunks(2) {
            let [near, far] = pair else { continue };
            let (near_ns, far_ns) = (self.at(near.0).name.clone(), self.at(far.0).name.clone());
            ip(&[
                "link",
                "add",
                near.1,
                "netns",
                &near_ns,
                "address",
                &mac(near.2),
                "type",
                "veth",
                "peer",
                "name",
                far.1,
                "netns",
                &far_ns,
                "address",
                &mac(far.2),
            ])?;
        }
        for (place, device, _, address, peer, peer_address) in ENDS {
            let name = &self.at(place).name;
            let address = format!("{address}/24");
            // Without IPv6 there is no chatter of the devices' own.
            self.at(place)
                .shell(&format!("sysctl -qw net.ipv6.conf.{device}.disable_ipv6=1"))?;
            ip(&["-n", name, "addr", "add", &address, "dev", device])?;
            ip(&["-n", name, "link", "set", "dev", device, "up"])?;
            ip(&[
                "-n",
                name,
                "neigh",
                "replace",
                peer_address,
                "lladdr",
                &mac(peer),
                "dev",
                device,
                "nud",
                "permanent",
            ])?;
        }
        for (place, gateway) in [(Place::Client, "10.78.1.2"), (Place::Sip, "10.78.2.2")] {
            ip(&[
                "-n",
                &self.at(place).name,
                "route",
                "add",
                "default",
                "via",
                gateway,
            ])?;
        }
        self.device.shell("sysctl -qw net.ipv4.ip_forward=1")?;
        Ok(())
    }

    /// Lets an end receive in a kernel thread, before everything else on its CPU.
    ///
    /// A veth has NAPI, and so takes frames that XDP sends it, where it has a program or GRO; and it uses it for every packet only where
    /// the sending end does not segment (`veth_skb_is_eligible_for_gro`).
    fn receive_thread(&self, place: Place, device: &str, cpu: usize) -> anyhow::Result<i32> {
        self.at(place).shell(&format!(
            "ethtool -K {device} gro on tso off && echo 1 > /sys/class/net/{device}/threaded"
        ))?;
        // The kernel starts the thread a moment later.
        let thread = (0..50).find_map(|_| {
            let found = cpu::kernel_thread(&format!("napi/{device}-"));
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            found
        });
        let thread = thread.with_context(|| format!("{device} has no receive thread"))?;
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(thread), &set)
            .with_context(|| format!("receive thread of {device} to CPU {cpu}"))?;
        realtime(thread, URGENT)?;
        Ok(thread)
    }

    /// CPU time of the device's receive threads so far.
    pub(super) fn receive_time_ns(&self) -> u64 {
        cpu::run_time_ns(&self.receive_threads)
    }

    fn at(&self, place: Place) -> &Namespace {
        match place {
            Place::Client => &self.client,
            Place::Device => &self.device,
            Place::Sip => &self.sip,
        }
    }
}

/// Lets a thread run before all that is less urgent, and before all that is not realtime.
pub(super) fn realtime(thread: i32, priority: u32) -> anyhow::Result<()> {
    let (priority, thread) = (priority.to_string(), thread.to_string());
    command("chrt", &["-f", "-p", &priority, &thread])?;
    Ok(())
}

/// MACs on the pair towards the client (or the SIP side): the far end's and the device's.
pub(super) fn macs(towards_client: bool) -> [[u8; 6]; 2] {
    let lasts = if towards_client { [1, 2] } else { [4, 3] };
    lasts.map(|last| [0x02, 0x78, 0, 0, 0, last])
}

fn mac(last: u8) -> String {
    format!("02:78:00:00:00:{last:02x}")
}

/// Deletes the namespaces of runs that were killed.
fn remove_leftovers() -> anyhow::Result<()> {
    remove_where(|id| !PathBuf::from(format!("/proc/{id}")).exists())
}

/// Deletes the namespaces of this process.
pub(super) fn remove_own() -> anyhow::Result<()> {
    remove_where(|id| id == std::process::id())
}

fn remove_where(wanted: impl Fn(u32) -> bool) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('-')?.split('-').next())
            .and_then(|id| id.parse().ok());
        if process.is_some_and(&wanted) {
            ip(&["netns", "del", &name])?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    command("ip", arguments)
}

fn command(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} is not installed"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
