//! The XDP program: looks the packet's flow up, lets [`flow`] decide, and does what it says.
//!
//! What needs keys is done by further programs, one per family of suites, entered by tail call with
//! the packet in SCRATCH: each is verified on its own, and a relayed packet touches none of it.
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
mod taken;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use flow::{CounterMode, Crypto, Flow, GaloisMode, Next, Protocol, Scratch, Verdict, Why};

use crate::packet::{Packet, SpinLock};

/// Entry point, once per packet.
#[xdp]
pub fn causeway(context: XdpContext) -> u32 {
    first::<false>(context, false)
}

/// The second flow of a packet that one call of this host sends to another: entered by tail call,
/// never by the network.
#[xdp]
pub fn causeway_hairpin(context: XdpContext) -> u32 {
    first::<false>(context, true)
}

/// Decrypts and encrypts with AES-CM and HMAC-SHA1; entered by tail call from the others.
#[xdp]
pub fn causeway_cm(context: XdpContext) -> u32 {
    second::<_, false>(context, &mut CounterMode)
}

/// The same with AES-GCM.
#[xdp]
pub fn causeway_gcm(context: XdpContext) -> u32 {
    second::<_, false>(context, &mut GaloisMode)
}

/// Looks the packet's flow up, and does what needs no keys.
#[inline(always)]
fn first<const TAKEN: bool>(context: XdpContext, taken_over: bool) -> u32 {
    let mut packet = Packet::<TAKEN>::new(context);
    let verdict = enter(&mut packet, taken_over).unwrap_or_else(Verdict::from);
    finish(&packet, verdict, taken_over)
}

/// Does what needs keys, on the packet in the scratch memory.
#[inline(always)]
fn second<C: Crypto, const TAKEN: bool>(context: XdpContext, crypto: &mut C) -> u32 {
    let mut packet = Packet::<TAKEN>::new(context);
    let Some(scratch) = packet::scratch() else {
        return finish(&packet, Verdict::Drop(Why::NoProgram), false);
    };
    let (slot, taken_over) = scratch.handed_on();
    let verdict = match packet::flow(slot) {
        Some(mut flow) => {
            let next = flow::proceed(&mut flow, scratch, &SpinLock, crypto);
            go_on(&mut packet, &mut flow, scratch, next)
        }
        None => Verdict::Drop(Why::NoProgram),
    };
    finish(&packet, verdict, taken_over)
}

/// Calls the program for what is next, or sends the packet.
#[inline(always)]
fn go_on<const TAKEN: bool>(
    packet: &mut Packet<TAKEN>,
    flow: &mut Flow<'_>,
    scratch: &mut Scratch,
    next: Result<Next, Why>,
) -> Verdict {
    let result = match next {
        Ok(next) => match next.program() {
            Some(program) => {
                packet.hand_over(program);
                Err(Why::NoProgram)
            }
            None => {
                if let Some(event) = scratch.event() {
                    packet::tell(event);
                }
                flow::leave(packet, flow.entry, scratch)
            }
        },
        Err(why) => Err(why),
    };
    match result {
        Ok(verdict) => verdict,
        Err(why) => flow::refuse(flow, why),
    }
}

/// Turns the verdict into the action and counts it.
#[inline(always)]
fn finish<const TAKEN: bool>(
    packet: &Packet<TAKEN>,
    mut verdict: Verdict,
    taken_over: bool,
) -> u32 {
    if verdict == Verdict::Again && !taken_over {
        packet::count(Why::Hairpin);
        packet.hand_over(flow::HAIRPIN_PROGRAM);
    }
    // What another flow has rewritten is sent or dropped, but not passed.
    if taken_over && let Verdict::Pass(_) = verdict {
        verdict = Verdict::Again;
    }
    let action = match verdict {
        Verdict::Pass(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        // Off the receiving CPU there is no way back into its transmit queue: the frame is redirected to where it came from.
        Verdict::Tx if TAKEN => redirect(packet.arrival(), &mut verdict),
        Verdict::Tx => xdp_action::XDP_TX,
        Verdict::Redirect(ifindex) => redirect(ifindex, &mut verdict),
        Verdict::Spread => xdp_action::XDP_REDIRECT,
        Verdict::Again => {
            verdict = Verdict::Drop(Why::HairpinMiss);
            xdp_action::XDP_DROP
        }
    };
    log(packet, verdict.why(), packet::count(verdict.why()));
    action
}

/// Sends the frame out of an interface, where that is allowed.
#[inline(always)]
fn redirect(ifindex: u32, verdict: &mut Verdict) -> u32 {
    maps::DEVICES.redirect(ifindex, 0).unwrap_or_else(|_| {
        *verdict = Verdict::Drop(Why::NoDevice);
        xdp_action::XDP_DROP
    })
}

/// Logs rare packets, and ever more rarely.
#[cfg(feature = "xdp-log")]
#[inline(always)]
fn log<const TAKEN: bool>(packet: &Packet<TAKEN>, why: Why, counted: u64) {
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
fn log<const TAKEN: bool>(_: &Packet<TAKEN>, _: Why, _: u64) {}

/// Finds the packet's flow and begins to forward it.
#[inline(always)]
fn enter<const TAKEN: bool>(packet: &mut Packet<TAKEN>, taken_over: bool) -> Result<Verdict, Why> {
    let scratch = packet::scratch().ok_or(Why::StaleSlot)?;
    flow::arrive(packet, scratch)?;
    let Some(found) = packet::lookup(scratch.key()) else {
        // Without a flow it is passed, unless its source floods us.
        if !taken_over {
            packet::charge(packet, scratch)?;
        }
        return Err(Why::NoFlow);
    };
    if maps::CONFIG.get(0) != Some(&flow::ABI) {
        return Err(Why::WrongAbi);
    }
    // What is not RTP goes up from here.
    if !TAKEN && !taken_over && scratch.protocol() == Protocol::Rtp && packet::spread(found.slot) {
        return Ok(Verdict::Spread);
    }
    let mut flow = packet::flow(found.slot).ok_or(Why::StaleSlot)?;
    scratch.hand_on(found.slot, taken_over);
    let now_ns = packet::now_ns();
    let next = flow::begin(
        packet,
        &mut flow,
        found.generation,
        scratch,
        now_ns,
        &SpinLock,
    );
    Ok(go_on(packet, &mut flow, scratch, next))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
