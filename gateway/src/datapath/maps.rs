//! The XDP program's maps as the daemon writes and reads them.
//!
//! One writer per map: FLOWS, ENTRIES, DEVICES, GUARD and CONFIG are the daemon's; STATES and STATS are seeded here once per flow and
//! then belong to the kernel; COUNTERS are only read, EVENTS drained, SOURCES are the kernel's alone. Map names and types are those of
//! `ebpf/src/maps.rs`.

use super::mapped::Mapped;
use super::slots::Slots;
use super::spread::Taken;
use super::start;
use super::{Carried, FLOWS_PER_CALL};
use anyhow::Context as _;
use aya::maps::{
    Array, HashMap, MapData, PerCpuArray, ProgramArray, RingBuf,
    xdp::{DevMapHash, XdpMapError},
};
use aya::programs::ProgramFd;
use aya::{Ebpf, EbpfLoader};
use flow::{
    Budgets, FlowEntry, FlowEvent, FlowKey, FlowRef, FlowSnapshot, FlowState, FlowStats, Guard,
    KeystreamRing, SOURCES, Scratch, Source, Why,
};
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::Path;
use std::sync::Arc;

/// `BPF_F_LOCK`: the element is copied under its spin lock.
const BPF_F_LOCK: u64 = 4;
/// Names of all maps that are pinned. EVENTS is not: what it holds is for this process.
const NAMES: [&str; 16] = [
    "FLOWS",
    "ENTRIES",
    "STATES",
    "STATS",
    "KEYSTREAM",
    "GUARD",
    "SOURCES",
    "COUNTERS",
    "SCRATCH",
    "DEVICES",
    "CONFIG",
    "PROGRAMS",
    "SPREAD",
    "CPUS",
    "TAKEN_OVER",
    "TAKEN_PROGRAMS",
];
/// Bytes that the kernel adds to each hash element (`struct htab_elem`) and takes for each bucket.
const HASH_ELEMENT_BYTES: u64 = 48;
const HASH_BUCKET_BYTES: u64 = 16;

/// Loads the object with maps for that many slots; the verifier runs when the program is loaded.
///
/// # Errors
/// The kernel refuses the object or the maps.
pub(crate) fn load(object: &[u8], room: Room) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in ["FLOWS", "ENTRIES", "STATES", "STATS"] {
        loader.map_max_entries(name, room.slots);
    }
    // The kernel wants no more places than it has CPUs at most.
    loader.map_max_entries("CPUS", u32::try_from(start::cpus()).unwrap_or(1));
    // An array cannot be empty, and entries without a ring name the first.
    loader.map_max_entries("KEYSTREAM", room.rings.max(1));
    loader
        .load(object)
        .context("the kernel refused the XDP object or its maps")
}

/// Bytes that the maps take for a number of calls, per-CPU ones on every possible CPU.
pub(crate) fn memory_bytes(room: Room, cpus: usize) -> u64 {
    let slots = u64::from(room.slots);
    let page = |bytes: u64| bytes.next_multiple_of(4096);
    let array = |value: usize| page(slots * (value as u64).next_multiple_of(8));
    let hash = hash_bytes(slots, size_of::<FlowKey>(), size_of::<FlowRef>());
    let per_cpu = (size_of::<Scratch>() + flow::REASONS * 8) as u64 * cpus as u64;
    hash + sources_bytes()
        + array(size_of::<FlowEntry>())
        + array(size_of::<FlowState>())
        + array(size_of::<FlowStats>())
        + room.keystream_bytes()
        + flow::EVENT_RING_BYTES as u64
        + per_cpu
}

/// Bytes that one call with audio and video takes in the maps, without keystream.
pub(crate) fn call_bytes() -> u64 {
    let values = size_of::<FlowEntry>() + size_of::<FlowState>() + size_of::<FlowStats>();
    let flow = hash_bytes(1, size_of::<FlowKey>(), size_of::<FlowRef>()) + values as u64;
    FLOWS_PER_CALL as u64 * flow
}

/// How many values the maps have.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    /// Slots of flows.
    pub(crate) slots: u32,
    /// Keystream rings; 0 = none is filled.
    pub(crate) rings: u32,
}

impl Room {
    /// For a number of calls: a ring for each flow, as far as the configured memory goes.
    pub(crate) fn new(calls: usize, keystream_mib: u32) -> Self {
        let bytes = u64::from(keystream_mib) << 20;
        let flows = calls.saturating_mul(FLOWS_PER_CALL) as u64;
        let rings = (bytes / size_of::<KeystreamRing>() as u64).min(flows);
        Self {
            slots: Slots::capacity(calls),
            rings: u32::try_from(rings).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of the rings.
    pub(crate) fn keystream_bytes(self) -> u64 {
        let rings = u64::from(self.rings.max(1));
        (rings * size_of::<KeystreamRing>() as u64).next_multiple_of(4096)
    }
}

/// Bytes of the map of sources that the flood defence remembers, which does not grow with the calls.
pub(crate) fn sources_bytes() -> u64 {
    hash_bytes(SOURCES as u64, size_of::<Source>(), size_of::<Budgets>())
}

fn hash_bytes(elements: u64, key: usize, value: usize) -> u64 {
    let element = (key.next_multiple_of(8) + value.next_multiple_of(8)) as u64;
    elements * (HASH_ELEMENT_BYTES + element) + elements.next_power_of_two() * HASH_BUCKET_BYTES
}

/// The maps.
pub(crate) struct Maps {
    flows: HashMap<MapData, FlowKey, FlowRef>,
    entries: Array<MapData, FlowEntry>,
    states: Array<MapData, FlowState>,
    stats: Array<MapData, FlowStats>,
    counted: Arc<Mapped<FlowStats>>,
    /// Until the thread that fills them has taken them.
    rings: Option<Mapped<KeystreamRing>>,
    events: RingBuf<MapData>,
    devices: DevMapHash<MapData>,
    programs: ProgramArray<MapData>,
    guard: Array<MapData, Guard>,
}

impl Maps {
    /// Takes the maps out of the loaded object, pins them and writes the ABI number, without which the program passes everything.
    ///
    /// # Errors
    /// A map is missing, has another layout than this build of the daemon, or cannot be pinned.
    pub(crate) fn take(ebpf: &mut Ebpf, pins: &Path) -> anyhow::Result<(Self, Counters)> {
        for name in NAMES {
            let map = ebpf
                .map(name)
                .with_context(|| format!("the XDP object has no map {name}"))?;
            let path = pins.join(name);
            map.pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the XDP object has no map {name}"))
        };
        let layout = "the XDP object was built for other map layouts than this daemon";
        let mut config: Array<_, u32> = Array::try_from(take("CONFIG")?).context(layout)?;
        let stats = take("STATS")?;
        let counted = Arc::new(Mapped::new(&stats)?);
        let rings = Some(Mapped::new(&take("KEYSTREAM")?)?);
        let maps = Self {
            flows: HashMap::try_from(take("FLOWS")?).context(layout)?,
            entries: Array::try_from(take("ENTRIES")?).context(layout)?,
            states: Array::try_from(take("STATES")?).context(layout)?,
            stats: Array::try_from(stats).context(layout)?,
            counted,
            rings,
            events: RingBuf::try_from(take("EVENTS")?).context(layout)?,
            devices: DevMapHash::try_from(take("DEVICES")?).context(layout)?,
            programs: ProgramArray::try_from(take("PROGRAMS")?).context(layout)?,
            guard: Array::try_from(take("GUARD")?).context(layout)?,
        };
        let counters = Counters {
            reasons: PerCpuArray::try_from(take("COUNTERS")?).context(layout)?,
            taken: Taken::new(take("TAKEN_OVER")?).context(layout)?,
        };
        config.set(0, flow::ABI, 0)?;
        Ok((maps, counters))
    }

    /// The keystream rings and the counters by which they are filled; once.
    pub(crate) fn take_rings(&mut self) -> Option<(Mapped<KeystreamRing>, Arc<Mapped<FlowStats>>)> {
        Some((self.rings.take()?, self.counted.clone()))
    }

    /// What to wait for before [`Self::next_event`].
    pub(crate) fn events_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// What the program told since the last call; never waits.
    pub(crate) fn next_event(&mut self) -> Option<FlowEvent> {
        FlowEvent::read(&self.events.next()?)
    }

    /// Sets one of [`flow::TAIL_PROGRAMS`].
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn add_program(&mut self, place: u32, program: &ProgramFd) -> anyhow::Result<()> {
        Ok(self.programs.set(place, program, 0)?)
    }

    /// From now on these ports are guarded against floods.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn set_guard(&mut self, guard: &Guard) -> anyhow::Result<()> {
        Ok(self.guard.set(0, guard, 0)?)
    }

    /// Lets packets be redirected to an interface.
    ///
    /// # Errors
    /// The interface has no way to take frames from XDP.
    pub(crate) fn add_device(&mut self, ifindex: u32) -> Result<(), XdpMapError> {
        self.devices.insert(ifindex, ifindex, None, 0)
    }

    /// Writes a flow into its slot; not yet seen by packets.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn fill(
        &mut self,
        slot: u32,
        entry: &FlowEntry,
        carried: &Carried,
    ) -> anyhow::Result<()> {
        self.states
            .set(slot, carried.state.carried_over(), BPF_F_LOCK)?;
        self.stats.set(slot, carried.stats, 0)?;
        self.entries.set(slot, entry, 0)?;
        Ok(())
    }

    /// Replaces the entry of a flow in place; its state and counters go on.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn replace(&mut self, slot: u32, entry: &FlowEntry) -> anyhow::Result<()> {
        Ok(self.entries.set(slot, entry, 0)?)
    }

    /// From now on packets of this 4-tuple take the flow.
    ///
    /// # Errors
    /// The map is full.
    pub(crate) fn publish(&mut self, key: &FlowKey, place: FlowRef) -> anyhow::Result<()> {
        Ok(self.flows.insert(key, place, 0)?)
    }

    /// From now on they do not; program runs that have looked it up already go on for microseconds.
    pub(crate) fn withdraw(&mut self, key: &FlowKey) {
        if let Err(error) = self.flows.remove(key) {
            tracing::error!(%error, "a flow was not in the FLOWS map");
        }
    }

    /// What has to move along with a flow that was withdrawn.
    pub(crate) fn carried(&self, slot: u32) -> anyhow::Result<Carried> {
        Ok(Carried {
            state: self.states.get(&slot, BPF_F_LOCK)?.carried_over(),
            stats: self.counted.read(slot),
        })
    }

    /// Zeroes keys, state and counters of a slot that no program run uses any more.
    ///
    /// # Errors
    /// The kernel refused: the keys are still there.
    pub(crate) fn wipe(&mut self, slot: u32) -> anyhow::Result<()> {
        self.entries.set(slot, FlowEntry::EMPTY, 0)?;
        self.states.set(slot, FlowState::new(), BPF_F_LOCK)?;
        self.stats.set(slot, FlowStats::new(), 0)?;
        Ok(())
    }

    /// Counters of the flow in a slot.
    pub(crate) fn read(&self, slot: u32) -> FlowSnapshot {
        self.counted.read(slot).snapshot()
    }
}

/// What the programs count.
pub(crate) struct Counters {
    /// Exits by reason.
    reasons: PerCpuArray<MapData, u64>,
    /// What CPUs took over.
    pub(crate) taken: Taken,
}

impl Counters {
    /// Exits by reason, summed over CPUs.
    pub(crate) fn read(&self) -> Vec<(Why, u64)> {
        let sum = |why: &Why| {
            let values = self.reasons.get(&(*why as u32), 0).ok()?;
            Some((*why, values.iter().sum()))
        };
        Why::ALL.iter().filter_map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_calls_take_a_few_megabytes() {
        let bytes = memory_bytes(Room::new(1000, 0), 8);
        assert!(bytes > 3375 * size_of::<FlowEntry>() as u64);
        assert!(bytes < 32 << 20, "{bytes}");
    }

    #[test]
    fn rings_are_bounded_by_calls_and_by_memory() {
        assert_eq!(Room::new(1000, 64).rings, 3000);
        assert_eq!(Room::new(100_000, 64).rings, (64 << 20) / 3072);
        assert_eq!(Room::new(1000, 0).rings, 0);
        assert_eq!(
            Room::new(1000, 64).keystream_bytes(),
            (3000_u64 * 3072).next_multiple_of(4096)
        );
    }
}
