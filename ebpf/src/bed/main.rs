//! Source and sink of the comparison's veth bed (`bench/src/feed`): no part of the gateway.
//!
//! `source` is run by BPF_PROG_TEST_RUN with live frames: each run that is due turns the kernel's fresh frame into the next recorded
//! packet, notes the time and redirects it into a veth; each run that is not due gives its frame back. The device behind
//! that veth so gets its packets like from a network driver, as frames and at their times. `sink` is attached where they come out,
//! notes the time and drops them.
//!
//! Both run on one CPU, and neither is interrupted by the other (softirqs are off while a program runs), so plain reads and
//! writes of the shared maps do.
#![no_std]
#![no_main]

#[path = "../../../bench/src/feed/layout.rs"]
mod layout;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{Array, DevMap};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use layout::{
    HEADERS, MOST_PATIENCE, PACKET, RUN_BITS, SAMPLE, SAMPLE_BYTES, SAMPLES, SLIP_NS, SPARE,
    TIMES_BITS, VALUE, plan, sink, source,
};

/// Words of a value of the times: two for each packet.
const WORDS: usize = VALUE / 8;
/// UDP over Ethernet and IPv4, and the fixed part of RTP behind it.
const RTP_HEADER: usize = 12;

/// The recorded packets.
#[btf_map]
static TAPE: Array<[u8; VALUE], 1> = Array::new();

/// For each packet when it was sent and when it arrived.
#[btf_map]
static TIMES: Array<[u64; WORDS], 1> = Array::new();

/// For each stream the headers in front of its packets.
#[btf_map]
static FRONTS: Array<[u8; 64], 1> = Array::new();

/// What is to be sent.
#[btf_map]
static PLAN: Array<[u64; plan::PLACES], 1> = Array::new();

/// How far the source is.
#[btf_map]
static SOURCE: Array<[u64; source::PLACES], 1> = Array::new();

/// What the sink has seen.
#[btf_map]
static SINK: Array<[u64; sink::PLACES], 1> = Array::new();

/// Some packets that arrived.
#[btf_map]
static KEPT: Array<[u8; PACKET], { SAMPLES as usize }> = Array::new();

/// Where packets leave.
#[btf_map]
static DEVICES: DevMap<2> = DevMap::new();

/// Sends the next packet, if it is time.
#[xdp]
pub fn feed(context: XdpContext) -> u32 {
    send(&context).unwrap_or(XDP_DROP)
}

fn send(context: &XdpContext) -> Option<u32> {
    let plan = PLAN.get(0)?;
    // SAFETY: a map value, used by this program alone while it runs.
    let state = unsafe { &mut *SOURCE.get_ptr_mut(0)? };
    let next = state[source::NEXT];
    if next >= plan[plan::END] {
        return None;
    }
    let mut now = now_ns();
    if state[source::LEFT] == 0 {
        let due = state[source::DUE];
        for turn in 0..MOST_PATIENCE {
            if now >= due || turn >= plan[plan::PATIENCE] {
                break;
            }
            now = now_ns();
        }
        if now < due {
            return None;
        }
        let late = now - due > SLIP_NS;
        state[source::SLIPS] += u64::from(late);
        state[source::DUE] = if late { now } else { due } + plan[plan::BURST_NS];
        state[source::LEFT] = plan[plan::BURST];
    }
    state[source::LEFT] = state[source::LEFT].wrapping_sub(1);

    let stream = state[source::STREAM];
    let front = FRONTS.get_ptr(stream as u32)?;
    let value = TAPE.get_ptr(state[source::VALUE] as u32)?;
    let (offset, length) = (state[source::OFFSET], plan[plan::LENGTH]);
    if offset > (VALUE - PACKET) as u64 || length == 0 || length > PACKET as u64 {
        return None;
    }
    // The frame comes SPARE bytes too long. Shortening it is what makes the kernel set its length anew: one that comes back from
    // a device that changed its length would keep that one (frame_was_changed in net/bpf/test_run.c looks at its start only).
    // SAFETY: front and packet lie inside their values by the checks above; the helpers check the frame's end and only read them.
    let written = unsafe {
        let packet = value.cast::<u8>().add(offset as usize);
        bpf_xdp_adjust_tail(context.ctx, -SPARE) == 0
            && bpf_xdp_store_bytes(context.ctx, 0, front.cast_mut().cast(), HEADERS as u32) == 0
            && bpf_xdp_store_bytes(
                context.ctx,
                HEADERS as u32,
                packet.cast_mut().cast(),
                length as u32,
            ) == 0
    };
    if !written {
        return None;
    }
    let (sent_at, arrived_at) = times(next)?;
    (*sent_at, *arrived_at) = (now, 0);

    state[source::NEXT] = next + 1;
    let stream = stream + 1;
    state[source::STREAM] = if stream >= plan[plan::STREAMS] {
        0
    } else {
        stream
    };
    let following = offset + plan[plan::STRIDE];
    if following > (VALUE - PACKET) as u64 {
        state[source::VALUE] += 1;
        state[source::OFFSET] = 0;
    } else {
        state[source::OFFSET] = following;
    }
    DEVICES.redirect(plan[plan::DEVICE] as u32, 0).ok()
}

/// Notes a packet that has come through.
#[xdp]
pub fn drain(context: XdpContext) -> u32 {
    arrive(&context).unwrap_or(XDP_PASS)
}

fn arrive(context: &XdpContext) -> Option<u32> {
    let now = now_ns();
    let start = context.data();
    let bytes = context.data_end() - start;
    if start + HEADERS + RTP_HEADER > context.data_end() {
        return None;
    }
    // SAFETY: so many bytes lie between data and data_end; an array of bytes has alignment 1.
    let front = unsafe { &*(start as *const [u8; HEADERS + RTP_HEADER]) };
    let is_rtp = front[12] == 8
        && front[13] == 0
        && front[14] == 0x45
        && front[23] == 17
        && front[HEADERS] >> 6 == 2;
    if !is_rtp {
        return None;
    }
    let sequence = u16::from_be_bytes([front[HEADERS + 2], front[HEADERS + 3]]);
    let ssrc = u32::from_be_bytes([
        front[HEADERS + 8],
        front[HEADERS + 9],
        front[HEADERS + 10],
        front[HEADERS + 11],
    ]);

    let plan = PLAN.get(0)?;
    // SAFETY: a map value, used by this program alone while it runs.
    let state = unsafe { &mut *SINK.get_ptr_mut(0)? };
    let stream = u64::from(ssrc.wrapping_sub(plan[plan::FIRST_SSRC] as u32));
    let place = u64::from(sequence.wrapping_sub(plan[plan::FIRST_SEQUENCE] as u16));
    let index = place * plan[plan::STREAMS] + stream;
    if stream >= plan[plan::STREAMS] || index < plan[plan::FIRST] || index >= plan[plan::END] {
        state[sink::FOREIGN] += 1;
        return Some(XDP_DROP);
    }
    let (_, arrived_at) = times(index)?;
    if *arrived_at != 0 {
        state[sink::AGAIN] += 1;
        return Some(XDP_DROP);
    }
    *arrived_at = now;
    let length = (bytes - HEADERS) as u64;
    state[sink::ARRIVED] += 1;
    state[sink::BYTES] += length;
    if index % SAMPLE == 0 {
        keep(context, index, plan[plan::RUN] << RUN_BITS | index, length)?;
    }
    Some(XDP_DROP)
}

/// Keeps a packet's bytes.
fn keep(context: &XdpContext, index: u64, mark: u64, length: u64) -> Option<()> {
    let kept = KEPT.get_ptr_mut((index / SAMPLE % SAMPLES) as u32)?;
    if length == 0 || length > (PACKET - SAMPLE_BYTES) as u64 {
        return None;
    }
    // SAFETY: the value has room for two words and `length` bytes; the helper checks the frame's end.
    unsafe {
        let words = kept.cast::<u64>();
        *words = mark;
        *words.add(1) = length;
        let to = kept.cast::<u8>().add(SAMPLE_BYTES);
        bpf_xdp_load_bytes(context.ctx, HEADERS as u32, to.cast(), length as u32);
    }
    Some(())
}

/// When a packet was sent and when it arrived.
#[inline(always)]
fn times(index: u64) -> Option<(&'static mut u64, &'static mut u64)> {
    let value = TIMES
        .get_ptr_mut((index >> TIMES_BITS) as u32)?
        .cast::<u64>();
    let place = (index as usize & ((1 << TIMES_BITS) - 1)) * 2;
    // SAFETY: twice 2^TIMES_BITS words are a value; nothing else holds a reference into it while the program runs.
    Some(unsafe { (&mut *value.add(place), &mut *value.add(place + 1)) })
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
