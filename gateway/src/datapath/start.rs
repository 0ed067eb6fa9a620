//! Which datapath this host gets: an explicit mode or an error, in `auto` the best that can be had, with the reason.

use super::attach::{OBJECT, attach, choose, owners};
use super::maps::{self, Counters, Room};
use super::netlink::Netlink;
use super::report::Fixed;
use super::spread::SpreadReport;
use super::userspace::Userspace;
use super::xdp::Xdp;
use super::{Config, FLOWS_PER_CALL, Mode, Shared};
use anyhow::Context as _;
use aya::programs::XdpMode;
use flow::Guard;
use gateway_core::api::Path;
use std::net::IpAddr;
use std::time::Instant;

/// The datapath, ready for flows.
pub(crate) struct Started {
    /// `None` in userspace mode.
    pub(crate) xdp: Option<Xdp>,
    /// One sentence for every flow that gets the best path.
    pub(crate) reason: String,
}

/// Sets the datapath up and settles the report.
///
/// # Errors
/// An explicit XDP mode that cannot be had: one sentence that says what is missing.
pub(crate) fn start(
    config: &Config,
    calls: usize,
    addresses: &[IpAddr],
    guard: &Guard,
    report: &Shared,
) -> anyhow::Result<Started> {
    let room = Room::new(calls, config.keystream_mib);
    let open = |mode| open(config, mode, room, addresses, guard);
    match config.mode {
        Mode::Userspace => Ok(userspace(
            "the configuration says userspace".into(),
            calls,
            report,
        )),
        Mode::XdpNative => {
            let opened = open(XdpMode::Driver).context("datapath mode xdp-native cannot be had")?;
            Ok(in_xdp(opened, Path::XdpNative, None, room, report))
        }
        Mode::XdpGeneric => {
            let opened = open(XdpMode::Skb).context("datapath mode xdp-generic cannot be had")?;
            Ok(in_xdp(opened, Path::XdpGeneric, None, room, report))
        }
        Mode::Auto => {
            let native = match open(XdpMode::Driver) {
                Ok(opened) => return Ok(in_xdp(opened, Path::XdpNative, None, room, report)),
                Err(error) => format!("{error:#}"),
            };
            Ok(match open(XdpMode::Skb) {
                Ok(opened) => in_xdp(opened, Path::XdpGeneric, Some(native), room, report),
                // The same sentence twice helps nobody.
                Err(error) if format!("{error:#}") == native => userspace(native, calls, report),
                Err(error) => userspace(format!("{error:#}; {native}"), calls, report),
            })
        }
    }
}

type Opened = (Xdp, Counters);

fn open(
    config: &Config,
    mode: XdpMode,
    room: Room,
    addresses: &[IpAddr],
    guard: &Guard,
) -> anyhow::Result<Opened> {
    if OBJECT.is_empty() {
        anyhow::bail!("this daemon was built without the XDP program");
    }
    if let Some(missing) = missing_capabilities() {
        anyhow::bail!("the process lacks {missing}");
    }
    let owners = owners(addresses)?;
    // Generic XDP on the loopback interface costs time and saves nothing: only where the operator asks for it.
    let with_loopback = mode == XdpMode::Skb && config.mode == Mode::XdpGeneric;
    let mut netlink = Netlink::open()?;
    let interfaces = choose(&mut netlink, &config.interfaces, &owners, with_loopback)?;
    let links = netlink.links()?;
    let (attachment, mut maps, counters) = attach(
        OBJECT,
        mode,
        interfaces,
        &config.pin_dir,
        room,
        &config.cpus,
    )?;
    maps.set_guard(guard)?;
    let attached = attachment.indices();
    let arrivals = owners.into_iter().filter_map(|(address, name)| {
        let link = links.iter().find(|link| link.name == name)?;
        let index = link.vlan.map_or(link.index, |(below, _)| below);
        attached.contains(&index).then_some((address, index))
    });
    let xdp = Xdp::new(attachment, maps, arrivals.collect(), room, Instant::now())?;
    Ok((xdp, counters))
}

fn in_xdp(
    (xdp, counters): Opened,
    path: Path,
    instead_of_native: Option<String>,
    room: Room,
    report: &Shared,
) -> Started {
    let interfaces = xdp.interfaces();
    let reason = match instead_of_native {
        None if path == Path::XdpNative => format!("XDP in the driver of {interfaces}"),
        None => format!("XDP on the socket buffers of {interfaces}"),
        Some(native) => {
            format!("XDP on the socket buffers of {interfaces}, because in the driver: {native}")
        }
    };
    tracing::info!(%reason, spread = xdp.spread().reason, "datapath");
    report.settle(Fixed {
        mode: path,
        reason: reason.clone(),
        memory_bytes: maps::memory_bytes(room, cpus()),
        xdp_counters: Some(counters),
        keystream: xdp.keystream_uses(),
        spread: xdp.spread().clone(),
    });
    Started {
        xdp: Some(xdp),
        reason,
    }
}

fn userspace(reason: String, calls: usize, report: &Shared) -> Started {
    tracing::info!(%reason, "datapath in userspace");
    further(reason, calls, report)
}

/// What another media thread gets where the first one is in userspace.
pub(crate) fn further(reason: String, calls: usize, report: &Shared) -> Started {
    report.settle(Fixed {
        mode: Path::Userspace,
        reason: reason.clone(),
        memory_bytes: (FLOWS_PER_CALL * calls * Userspace::FLOW_BYTES) as u64,
        xdp_counters: None,
        keystream: None,
        spread: SpreadReport::default(),
    });
    Started { xdp: None, reason }
}

/// CPUs that per-CPU maps have a place for.
pub(crate) fn cpus() -> usize {
    aya::util::nr_cpus().unwrap_or(1)
}

/// What of the capabilities XDP needs is not there, for people; `None` when nothing.
pub(crate) fn missing_capabilities() -> Option<String> {
    const NET_ADMIN: u64 = 12;
    const SYS_ADMIN: u64 = 21;
    const BPF: u64 = 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u64| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    (!missing.is_empty()).then(|| missing.join(" and "))
}
