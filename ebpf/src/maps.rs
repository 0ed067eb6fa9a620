//! All maps. Sizes here are for tests; the loader sets them from the configured number of calls,
//! and pins them.
//!
//! The daemon writes FLOWS, ENTRIES, DEVICES, GUARD, SPREAD, CPUS and CONFIG, seeds STATES and STATS at install, and
//! only reads afterwards.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, bpf_spin_lock};
use aya_ebpf::btf_maps::{
    Array, CpuMap, DevMapHash, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf,
};
use aya_ebpf::macros::btf_map;
use flow::{
    Budgets, FlowEntry, FlowEvent, FlowKey, FlowRef, FlowState, FlowStats, Guard, KeystreamRing,
    REASONS, Scratch, Source, Spread,
};

/// Slots where the loader sets nothing else.
const SLOTS: usize = 1024;

/// [`FlowState`] as the kernel has to see it: the lock by its BTF type.
#[repr(C)]
pub struct LockedState {
    /// The lock.
    pub lock: bpf_spin_lock,
    rest: [u32; size_of::<FlowState>() / 4 - 1],
}

const _: () = assert!(size_of::<LockedState>() == size_of::<FlowState>());

/// Which slot the flow of a 4-tuple has.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowRef, SLOTS> = HashMap::new();

/// By slot: what to do, with keys.
#[btf_map]
pub static ENTRIES: Array<FlowEntry, SLOTS> = Array::new();

/// By slot: rollover counters, replay windows, offsets.
#[btf_map]
pub static STATES: Array<LockedState, SLOTS> = Array::new();

/// By slot: counters, apart from the state because a map with a lock cannot be memory-mapped.
#[btf_map]
pub static STATS: Array<FlowStats, SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Keystream made ahead of time, by the ring number in the entry: filled and zeroed by the daemon in its memory, cells taken and
/// zeroed by the program. There is one ring at least.
#[btf_map]
pub static KEYSTREAM: Array<KeystreamRing, SLOTS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Which ports are guarded against floods, and with what limits.
#[btf_map]
pub static GUARD: Array<Guard, 1> = Array::new();

/// Sources that sent packets without a flow to those ports.
#[btf_map]
pub static SOURCES: LruHashMap<Source, Budgets, { flow::SOURCES }> = LruHashMap::new();

/// By [`flow::Why`]: packets that left that way.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, REASONS> = PerCpuArray::new();

/// What the daemon is told, each once.
#[btf_map]
pub static EVENTS: RingBuf<FlowEvent, { flow::EVENT_RING_BYTES }> = RingBuf::new();

/// Working memory of the packet at hand.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Interfaces that packets may be redirected to, by interface index.
#[btf_map]
pub static DEVICES: DevMapHash<64> = DevMapHash::new();

/// One number: the [`flow::ABI`] of the daemon that fills the other maps. Until it is written, and
/// where it differs from the program's own, every packet is passed.
#[btf_map]
pub static CONFIG: Array<u32, 1> = Array::new();

/// The programs that are entered by tail call: [`flow::TAIL_PROGRAMS`].
#[btf_map]
pub static PROGRAMS: ProgramArray<{ flow::TAIL_PROGRAMS.len() }> = ProgramArray::new();

/// Over which CPUs the packets of flows are spread; none where each is forwarded on the CPU that received it.
#[btf_map]
pub static SPREAD: Array<Spread, 1> = Array::new();

/// By CPU number: the queue of packets that the CPU takes over, and the program for them.
#[btf_map]
pub static CPUS: CpuMap<1> = CpuMap::new();

/// Packets that each CPU took over from another.
#[btf_map]
pub static TAKEN_OVER: PerCpuArray<u64, 1> = PerCpuArray::new();

/// PROGRAMS of the CPUs that take packets over: the kernel lets no program of one kind call one of the other.
#[btf_map]
pub static TAKEN_PROGRAMS: ProgramArray<{ flow::TAKEN_PROGRAMS.len() }> = ProgramArray::new();
