//! The XDP program: looks the packet's flow up, lets [`flow::forward`] decide, and does what it says.
//!
//! Everything that can be tested without a kernel is in the `flow` crate. Only RTP of an installed flow is touched; whatever
//! is passed goes up to the daemon's sockets as it came.
//!
//! Built for `bpfel-unknown-none` with `-Z build-std=core` and `-C target-cpu=v3`, and for the spin lock's BTF with
//! `-C debuginfo=2 -C link-arg=--btf`.
//!
//! With the feature `xdp-log` the 1st, 2nd, 4th, 8th... packet that leaves for a reason other than being forwarded is logged.
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
    let verdict = decide(&mut packet);
    if verdict == Verdict::Again {
        packet::count(Why::Hairpin);
        // SAFETY: a program of the same type; nothing here has to be dropped. It does not return, except when it is not there.
        unsafe { maps::PROGRAMS.tail_call(packet.context(), 0) };
    }
    finish(&packet, verdict)
}

/// The second flow of a packet that one call of this host sends to another: entered by tail call, never by the network. What it
/// gets was rewritten before, so it is sent or dropped, but not passed.
#[xdp]
pub fn causeway_hairpin(context: XdpContext) -> u32 {
    let mut packet = Packet::new(context);
    let verdict = decide(&mut packet);
    finish(
        &packet,
        match verdict {
            Verdict::Pass(_) => Verdict::Again,
            sent_or_dropped => sent_or_dropped,
        },
    )
}

/// Turns the verdict into the action and counts it.
#[inline(always)]
fn finish(packet: &Packet, mut verdict: Verdict) -> u32 {
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
        Verdict::Again => {
            verdict = Verdict::Drop(Why::HairpinMiss);
            xdp_action::XDP_DROP
        }
    };
    log(packet, verdict.why(), packet::count(verdict.why()));
    action
}

/// Logs rare packets, and ever more rarely.
#[cfg(feature = "xdp-log")]
#[inline(always)]
fn log(packet: &Packet, why: Why, counted: u64) {
    if counted.is_power_of_two() && why.outcome() != flow::Outcome::Forwarded {
        aya_log_ebpf::info!(
            packet.context(),
            "reason {}: {} packets on this CPU",
            why as u32,
            counted
        );
    }
}

#[cfg(not(feature = "xdp-log"))]
#[inline(always)]
fn log(_: &Packet, _: Why, _: u64) {}

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
