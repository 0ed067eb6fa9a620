//! Spreads the flows in XDP over several CPUs, for cards whose single receive queue keeps a single one busy.
//!
//! The receiving CPU looks a packet's flow up and hands it to the flow's CPU through a CPUMAP, whose thread there runs the same
//! path once more (`ebpf/src/taken.rs`). Costs every packet that is handed over its way there, so it is off unless asked for, and
//! whatever the kernel refuses of it leaves the datapath as it is without, with the reason.

use super::attach::load_program;
use super::netlink::Link;
use super::xdp_ethtool;
use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray, xdp::CpuMap};
use flow::{SPREAD_CPUS, Spread, TAKEN_PROGRAM, TAKEN_PROGRAMS};
use serde::{Deserialize, Serialize};
use std::fs;

/// Packets that wait for a CPU; more are lost. What a frame's journey through a stalled CPU of ten milliseconds takes at 200 000
/// packets a second.
const QUEUE: u32 = 2048;

/// `[datapath] cpus`: over which CPUs flows are spread.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Cpus {
    /// None: a packet is forwarded on the CPU that received it.
    #[default]
    Off,
    /// All, where every interface has one receive queue only; else none.
    Auto,
    /// These.
    #[serde(untagged)]
    List(Vec<u32>),
}

/// Over which CPUs flows are spread, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpreadReport {
    /// Their numbers; empty where each packet stays on the CPU that received it.
    pub cpus: Vec<u32>,
    /// One sentence.
    pub reason: String,
    /// Packets that each of them took over from the receiving one; fewer than were handed over by as many as are waiting or were
    /// lost on the way.
    pub taken: Vec<u64>,
}

/// What the configuration comes to on these interfaces.
pub(crate) fn plan(cpus: &Cpus, interfaces: &[Link]) -> SpreadReport {
    let off = |reason: String| SpreadReport {
        reason,
        ..SpreadReport::default()
    };
    let online = online();
    let (mut cpus, why) = match cpus {
        Cpus::Off => return off("off by configuration".into()),
        Cpus::List(listed) => match listed.iter().find(|cpu| !online.contains(cpu)) {
            Some(missing) => return off(format!("off, because there is no CPU {missing}")),
            None => (listed.clone(), "by configuration"),
        },
        Cpus::Auto => match interfaces.iter().find(|link| receive_queues(link) > 1) {
            Some(link) => {
                let (name, queues) = (&link.name, receive_queues(link));
                return off(format!(
                    "off, because {name} spreads packets itself over {queues} queues"
                ));
            }
            None if online.len() < 2 => return off("off, because there is one CPU only".into()),
            None => (online, "because every interface has one receive queue"),
        },
    };
    cpus.truncate(SPREAD_CPUS);
    let named: Vec<_> = cpus.iter().map(u32::to_string).collect();
    let reason = format!("over CPUs {} {why}", named.join(", "));
    SpreadReport {
        taken: vec![0; cpus.len()],
        cpus,
        reason,
    }
}

fn receive_queues(link: &Link) -> u32 {
    let told = xdp_ethtool::offloads(&link.name).receive;
    told.unwrap_or(link.queues.1)
}

/// Numbers of the CPUs that run.
fn online() -> Vec<u32> {
    let listed = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    listed
        .trim()
        .split(',')
        .filter_map(range)
        .flatten()
        .collect()
}

/// `3` or `0-3`.
fn range(text: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Has the kernel verify the programs of the CPUs that take packets over.
///
/// # Errors
/// It refuses one.
pub(crate) fn load(ebpf: &mut Ebpf) -> Result<()> {
    for name in TAKEN_PROGRAMS.into_iter().chain([TAKEN_PROGRAM]) {
        load_program(ebpf, name)?;
    }
    Ok(())
}

/// From now on flows are spread over these CPUs; the programs are loaded.
///
/// # Errors
/// The kernel refuses; every packet stays where it is received.
pub(crate) fn start(ebpf: &mut Ebpf, cpus: &[u32]) -> Result<()> {
    ensure!(!cpus.is_empty(), "there is no CPU to spread over");
    for (place, name) in (0..).zip(TAKEN_PROGRAMS) {
        let program = super::attach::program(ebpf, name)?.fd()?.try_clone()?;
        let mut programs = ProgramArray::try_from(map(ebpf, "TAKEN_PROGRAMS")?)?;
        programs.set(place, &program, 0)?;
    }
    let entry = super::attach::program(ebpf, TAKEN_PROGRAM)?
        .fd()?
        .try_clone()?;
    let mut queues = CpuMap::try_from(map(ebpf, "CPUS")?)?;
    for cpu in cpus {
        queues
            .set(*cpu, QUEUE, Some(&entry), 0)
            .with_context(|| format!("the kernel has no queue for CPU {cpu}"))?;
    }
    // Last: the program redirects from now on.
    Ok(Array::try_from(map(ebpf, "SPREAD")?)?.set(0, Spread::new(cpus), 0)?)
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    let map = ebpf.map_mut(name);
    map.with_context(|| format!("the XDP object has no map {name}"))
}

/// Packets that CPUs took over.
pub(crate) struct Taken(PerCpuArray<MapData, u64>);

impl Taken {
    pub(crate) fn new(map: aya::maps::Map) -> Result<Self> {
        Ok(Self(PerCpuArray::try_from(map)?))
    }

    /// By each of these CPUs.
    pub(crate) fn by(&self, cpus: &[u32]) -> Vec<u64> {
        let values = self.0.get(&0, 0).ok();
        let by = |cpu: &u32| values.as_ref()?.get(*cpu as usize).copied();
        cpus.iter().map(|cpu| by(cpu).unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(rx: u32) -> Link {
        Link {
            index: 7,
            name: "there-is-none".into(),
            mtu: 1500,
            mac: None,
            loopback: false,
            up: true,
            queues: (1, rx),
            kind: String::new(),
            vlan: None,
        }
    }

    #[test]
    fn cpu_lists_of_the_kernel_are_read() {
        let read =
            |text: &str| -> Vec<u32> { text.split(',').filter_map(range).flatten().collect() };
        assert_eq!(read("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
        assert!(read("").is_empty());
        assert!(!online().is_empty());
    }

    #[test]
    fn auto_spreads_only_what_the_card_does_not() {
        let (one, many) = (link(1), link(8));
        let spread = plan(&Cpus::Auto, std::slice::from_ref(&one));
        assert_eq!(spread.cpus.is_empty(), online().len() < 2, "{spread:?}");
        let spread = plan(&Cpus::Auto, &[one.clone(), many]);
        assert!(spread.cpus.is_empty());
        assert!(spread.reason.contains("over 8 queues"), "{spread:?}");
        assert!(plan(&Cpus::Off, &[one]).cpus.is_empty());
    }

    #[test]
    fn a_cpu_that_is_not_there_spreads_nothing() {
        let spread = plan(&Cpus::List(vec![0, 4095]), &[link(1)]);
        assert!(spread.cpus.is_empty());
        assert_eq!(spread.reason, "off, because there is no CPU 4095");
        assert_eq!(plan(&Cpus::List(vec![0]), &[link(8)]).cpus, [0]);
    }
}
