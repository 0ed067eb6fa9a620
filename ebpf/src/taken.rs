//! The programs once more, for a CPU that takes packets over from the one that received them: what
//! [`crate::causeway`] redirects into the map CPUS is run there by the kernel's thread of that CPU.
//!
//! Why: a card with a single receive queue keeps a single CPU busy. That one then only looks flows up, and all packets of a flow
//! are forwarded by one other CPU, in their order. Loaded only where the daemon is told to spread. Of their own because the kernel
//! ties a program to where it is entered.

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use flow::{CounterMode, GaloisMode};

use crate::{first, packet, second};

/// Entry point, once per packet that this CPU takes over.
#[xdp(map = "cpumap")]
pub fn taken(context: XdpContext) -> u32 {
    packet::count_taken();
    first::<true>(context, false)
}

/// [`crate::causeway_hairpin`].
#[xdp(map = "cpumap")]
pub fn taken_hairpin(context: XdpContext) -> u32 {
    first::<true>(context, true)
}

/// [`crate::causeway_cm`].
#[xdp(map = "cpumap")]
pub fn taken_cm(context: XdpContext) -> u32 {
    second::<_, true>(context, &mut CounterMode)
}

/// [`crate::causeway_gcm`].
#[xdp(map = "cpumap")]
pub fn taken_gcm(context: XdpContext) -> u32 {
    second::<_, true>(context, &mut GaloisMode)
}
