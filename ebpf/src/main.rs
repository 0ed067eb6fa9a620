//! The XDP program: looks the packet's flow up, lets [`flow::forward`] decide, and does what it says.
//!
//! Everything that can be tested without a kernel is in the `flow` crate. Only RTP of an installed
//! flow is touched; whatever is passed goes up to the daemon's sockets as it came.
//!
//! Built for `bpfel-unknown-none` with `-Z build-std=core` and `-C target-cpu=v3`, and for the spin
//! lock's BTF with `-C debuginfo=2 -C link-arg=--btf`.
//!
//! With the feature `xdp-log` the 1st, 2nd, 4th, 8th... packet that leaves for a reason other than
//! being forwarded is logged.
#![no_std]
#![no_main]

mod maps;
mod packet;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use flow::{Verdict, Why};

use crate::packet::{Packet, SpinLock};

/// Entry point, once per packet.
#[xdp]
pub fn causeway(context: XdpContext) -> u32 {
    let mut packet = Packet::new(context);
    let verdict = decide(&mut packet).unwrap_or_else(Verdict::from);
    if verdict == Verdict::Again {
        packet::count(Why::Hairpin);
        packet.hand_over();
    }
    finish(&packet, verdict)
}

/// The second flow of a packet that one call of this host sends to another: entered by tail call,
/// never by the network. What it gets was rewritten before, so it is sent or dropped, but not
/// passed.
#[xdp]
pub fn causeway_hairpin(context: XdpContext) -> u32 {
    let mut packet = Packet::new(context);
    let verdict = decide(&mut packet).unwrap_or_else(Verdict::from);
    let passed = matches!(verdict, Verdict::Pass(_));
    finish(&packet, if passed { Verdict::Again } else { verdict })
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

/// Finds the packet's flow and forwards it.
#[inline(always)]
fn decide(packet: &mut Packet) -> Result<Verdict, Why> {
    let scratch = packet::scratch().ok_or(Why::StaleSlot)?;
    flow::arrive(packet, scratch)?;
    let found = packet::lookup(scratch.key()).ok_or(Why::NoFlow)?;
    if maps::CONFIG.get(0) != Some(&flow::ABI) {
        return Err(Why::WrongAbi);
    }
    let mut flow = packet::flow(found.slot).ok_or(Why::StaleSlot)?;
    let now_ns = packet::now_ns();
    Ok(flow::forward(
        packet,
        &mut flow,
        found.generation,
        scratch,
        now_ns,
        &SpinLock,
    ))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
