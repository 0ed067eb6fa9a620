//! Access to the packet and to map values: the only unsafe code of the program, every bit of it
//! checked by the verifier.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_spin_lock, bpf_spin_unlock,
    bpf_xdp_adjust_head, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use flow::{
    Budgets, Charge, Flow, FlowEvent, FlowKey, FlowRef, FlowState, Frame, Lock, Scratch, Source,
    Why,
};

use crate::maps::{
    COUNTERS, CPUS, ENTRIES, EVENTS, FLOWS, GUARD, KEYSTREAM, PROGRAMS, SCRATCH, SOURCES, SPREAD,
    STATES, STATS, TAKEN_OVER, TAKEN_PROGRAMS,
};

/// The frame that the program was called for; `TAKEN` where its CPU took it over from the receiving one.
pub struct Packet<const TAKEN: bool> {
    context: XdpContext,
}

impl<const TAKEN: bool> Packet<TAKEN> {
    pub fn new(context: XdpContext) -> Self {
        Self { context }
    }

    /// Goes on with another program, by its place in the map; returns only where there is none.
    #[inline(always)]
    pub fn hand_over(&self, program: u32) {
        // SAFETY: a program of the same type; nothing of this run has to be dropped.
        unsafe {
            if TAKEN {
                TAKEN_PROGRAMS.tail_call(&self.context, program);
            } else {
                PROGRAMS.tail_call(&self.context, program);
            }
        }
    }

    /// The interface that the frame came in by.
    #[inline(always)]
    pub fn arrival(&self) -> u32 {
        // SAFETY: the kernel hands a valid context.
        unsafe { (*self.context.ctx).ingress_ifindex }
    }

    /// What logging asks for.
    #[cfg(feature = "xdp-log")]
    pub fn context(&self) -> &XdpContext {
        &self.context
    }

    /// First byte of the frame. Volatile, or the compiler hands the pointer on as a 32-bit number,
    /// and the verifier loses it.
    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the kernel hands a valid context.
        unsafe { (&raw const (*self.context.ctx).data).read_volatile() as usize }
    }

    /// The byte after the frame's last.
    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (&raw const (*self.context.ctx).data_end).read_volatile() as usize }
    }
}

impl<const TAKEN: bool> Frame for Packet<TAKEN> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.end() - self.start()
    }

    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let start = self.start() + offset;
        if start + N > self.end() {
            return None;
        }
        // SAFETY: the N bytes lie between data and data_end; an array of bytes has alignment 1.
        Some(unsafe { *(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize, length: usize, words: &mut [u32; N]) -> bool {
        if length == 0 || length > 4 * N {
            return false;
        }
        let to = words.as_mut_ptr().cast();
        // SAFETY: `words` has room for `length` bytes; the helper checks the frame's end.
        unsafe { bpf_xdp_load_bytes(self.context.ctx, offset as u32, to, length as u32) == 0 }
    }

    #[inline(always)]
    fn shorten(&mut self, bytes: i32) -> bool {
        // SAFETY: the helper checks the frame's limits; no pointer into the packet outlives it.
        unsafe { bpf_xdp_adjust_head(self.context.ctx, bytes) == 0 }
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: usize, words: &[u32; N], length: usize) -> bool {
        if length == 0 || length > 4 * N {
            return false;
        }
        let from = words.as_ptr().cast_mut().cast();
        // SAFETY: `words` has `length` bytes, which the helper only reads; it checks the frame's end.
        unsafe { bpf_xdp_store_bytes(self.context.ctx, offset as u32, from, length as u32) == 0 }
    }
}

/// The lock in front of each state.
pub struct SpinLock;

impl Lock for SpinLock {
    #[inline(always)]
    fn lock(&self, state: &mut FlowState) {
        // SAFETY: a state is a value of STATES, which begins with its lock (see `maps::LockedState`).
        unsafe { bpf_spin_lock((&raw mut *state).cast()) };
    }

    #[inline(always)]
    fn unlock(&self, state: &mut FlowState) {
        // SAFETY: as above, and this program holds the lock.
        unsafe { bpf_spin_unlock((&raw mut *state).cast()) };
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// This CPU's working memory.
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a program runs to its end before another starts on this CPU, and asks for this once.
    SCRATCH.get_ptr_mut(0).map(|value| unsafe { &mut *value })
}

/// The slot of a 4-tuple.
pub fn lookup(key: &FlowKey) -> Option<FlowRef> {
    // SAFETY: a removed element can be reused while it is read; the generation in the entry then differs.
    unsafe { FLOWS.get(key).copied() }
}

/// What stands in a slot.
pub fn flow(slot: u32) -> Option<Flow<'static>> {
    let (state, stats) = (STATES.get_ptr_mut(slot)?, STATS.get_ptr_mut(slot)?);
    // SAFETY: same size, and map values are aligned to 8; both are written under the lock, drop
    // counts apart, which may miss one.
    let (state, stats) = unsafe { (&mut *state.cast(), &mut *stats) };
    let entry = ENTRIES.get(slot)?;
    Some(Flow {
        entry: &entry.head,
        keys: &entry.keys,
        state,
        stats,
        keystream: KEYSTREAM.get(entry.head.keystream_ring())?,
    })
}

/// Why the packet that [`flow::arrive`] has read and that has no flow is dropped, if its source sends too many.
#[inline(never)]
pub fn charge<F: Frame>(packet: &F, scratch: &Scratch) -> Result<(), Why> {
    let key = scratch.key();
    let Some(guard) = GUARD.get(0).filter(|guard| guard.covers(key)) else {
        return Ok(());
    };
    let charge = Charge::of_frame(packet, scratch);
    let source = Source::of(&key.remote.addr);
    if let Some(budgets) = SOURCES.get_ptr_mut(&source) {
        // SAFETY: an element that makes room for another source meanwhile is charged for a packet of that one, nothing worse.
        return unsafe { &mut *budgets }.charge(charge, guard, now_ns());
    }
    let mut budgets = Budgets::FULL;
    let charged = budgets.charge(charge, guard, now_ns());
    // Fails only where every element is being replaced by another CPU: then this packet costs nothing.
    let _ = SOURCES.insert(&source, &budgets, 0);
    charged
}

/// Has the packet of a flow taken over by the flow's CPU, where that is another one than this. False: it stays here.
#[inline(always)]
pub fn spread(slot: u32) -> bool {
    let Some(cpu) = SPREAD.get(0).and_then(|spread| spread.cpu(slot)) else {
        return false;
    };
    // SAFETY: the helper has no preconditions.
    let here = unsafe { bpf_get_smp_processor_id() };
    cpu != here && CPUS.redirect(cpu, 0).is_ok()
}

/// Counts a packet that this CPU took over from another.
pub fn count_taken() {
    if let Some(counter) = TAKEN_OVER.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's own.
        unsafe { *counter += 1 };
    }
}

/// Tells the daemon.
#[inline(always)]
pub fn tell(event: &FlowEvent) {
    // Fails only where the ring is full: the daemon is late by hundreds of events, and media comes first.
    let _ = EVENTS.output(event, 0);
}

/// Counts how a packet left; the number that left so on this CPU.
pub fn count(why: Why) -> u64 {
    COUNTERS.get_ptr_mut(why as u32).map_or(0, |counter| {
        // SAFETY: the value is this CPU's own.
        let counter = unsafe { &mut *counter };
        *counter += 1;
        *counter
    })
}
