//! The XDP program: looks the packet's flow up, lets [`flow::forward`] decide, and does what it says.
//!
//! Everything that can be tested without a kernel is in the `flow` crate. Only RTP of an installed flow is touched; whatever
//! is passed goes up to the daemon's sockets as it came.
//!
//! Built for `bpfel-unknown-none` with `-Z build-std=core` and, for the spin lock's BTF, `-C debuginfo=2 -C link-arg=--btf`.
#![no_std]
#![no_main]

mod maps;
mod packet;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use flow::{Flow, Verdict, Why};

use crate::packet::{Packet, SpinLock};

/// Entry point, once per packet.
#[xdp]
pub fn causeway(context: XdpContext) -> u32 {
    let mut packet = Packet::new(context);
    let mut verdict = decide(&mut packet);
    let action = match verdict {
        Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        Verdict::Tx => xdp_action::XDP_TX,
        Verdict::Redirect(ifindex) => match maps::DEVICES.redirect(ifindex, 0) {
            Ok(action) => action,
            Err(_) => {
                verdict = Verdict::Drop(Why::NoDevice);
                xdp_action::XDP_DROP
            }
        },
    };
    packet::count(verdict.why());
    action
}

#[inline(always)]
fn decide(packet: &mut Packet) -> Verdict {
    let Some(scratch) = packet::scratch() else {
        return Verdict::Pass(Why::CopyFailed);
    };
    if let Err(why) = flow::arrive(packet, scratch) {
        return why.into();
    }
    let Some(found) = packet::lookup(scratch.key()) else {
        return Verdict::Pass(Why::NoFlow);
    };
    if packet::abi() != Some(flow::ABI) {
        return Verdict::Pass(Why::WrongAbi);
    }
    let (Some(entry), Some(state), Some(stats)) = (
        packet::entry(found.slot),
        packet::state(found.slot),
        packet::stats(found.slot),
    ) else {
        return Verdict::Pass(Why::StaleSlot);
    };
    let mut flow = Flow {
        entry,
        state,
        stats,
    };
    flow::forward(
        packet,
        &mut flow,
        found.generation,
        scratch,
        packet::now_ns(),
        &SpinLock,
    )
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
