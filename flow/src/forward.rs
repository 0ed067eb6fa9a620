//! The fast path: what becomes of one packet. The same code in XDP, on frames in memory, and on
//! datagrams in userspace.
//!
//! 1. [`arrive`](crate::arrive) reads the frame's headers; the caller looks its 4-tuple up.
//! 2. [`forward`] checks all that can be checked without state, then per action: `Unprotect`:
//!    estimate the index, reject replays cheaply, authenticate, decrypt in the scratch memory, then
//!    under the lock check again and write; `Protect`: take an index under the lock, refuse a used
//!    one, encrypt, sign; `Relay`: numbers only.
//! 3. Headers are made, the frame is resized and written, and it leaves.
//!
//! The frame itself is not touched before step 3: whatever is passed is unmodified, and whatever
//! was modified is sent or dropped. The steps are functions of their own because the verifier walks
//! each path through inlined code anew.

use crate::classify::{Protocol, classify};
use crate::entry::{Action, Exit, FlowEntry, StreamKind};
use crate::keys::KeyBlock;
use crate::keystream::{self, KeystreamRing};
use crate::packet::Frame;
use crate::scratch::{PACKET_BYTES, Scratch};
use crate::state::{Arriving, FlowState};
use crate::{FlowStats, MEDIA, STREAMS, Verdict, Why, rewrite, rtp, srtp};

/// The lock over a flow's state. No function may be called while it is held.
pub trait Lock {
    /// Takes the lock of `state`.
    fn lock(&self, state: &mut FlowState);
    /// Gives it back.
    fn unlock(&self, state: &mut FlowState);
}

/// For an owner that nobody shares the state with.
pub struct Unshared;

impl Lock for Unshared {
    fn lock(&self, _: &mut FlowState) {}
    fn unlock(&self, _: &mut FlowState) {}
}

/// A flow as the caller found it by the packet's 4-tuple.
pub struct Flow<'a> {
    /// What to do; read only.
    pub entry: &'a FlowEntry,
    /// What is remembered.
    pub state: &'a mut FlowState,
    /// What is counted.
    pub stats: &'a mut FlowStats,
    /// The ring that the entry names; one without keystream where there are none.
    pub keystream: &'a KeystreamRing,
}

/// Forwards a frame that [`arrive`](crate::arrive) has read into `scratch`.
///
/// `generation` is what the lookup answered, `now_ns` CLOCK_MONOTONIC. On `Tx` and `Redirect` the
/// frame is rewritten, on `Pass` it is as it came.
#[inline(always)]
pub fn forward<F: Frame, L: Lock>(
    frame: &mut F,
    flow: &mut Flow<'_>,
    generation: u32,
    scratch: &mut Scratch,
    now_ns: u64,
    lock: &L,
) -> Verdict {
    if flow.entry.generation() != generation {
        return Verdict::Pass(Why::StaleSlot);
    }
    scratch.work.now_ns = now_ns;
    let result = load(frame, scratch)
        .and_then(|()| transform(flow, scratch, lock))
        .and_then(|()| emit(frame, flow.entry, scratch));
    match result {
        // Read only now: held since before, it would double the paths that the verifier walks.
        Ok(()) => match flow.entry.egress(scratch.work.medium).exit() {
            Some(Exit::Tx) => Verdict::Tx,
            Some(Exit::Redirect(ifindex)) => Verdict::Redirect(ifindex),
            Some(Exit::Hairpin) => Verdict::Again,
            None => Verdict::Drop(Why::NoDevice),
        },
        Err(why) => {
            let verdict = Verdict::from(why);
            if let Verdict::Drop(_) = verdict {
                flow.stats.count_drop();
            }
            verdict
        }
    }
}

/// What leaves a datapath of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Bytes of the packet in the scratch memory.
    pub bytes: usize,
    /// Its medium: place in [`crate::FlowSpec::media`], which says from and to where.
    pub medium: usize,
}

/// Forwards the datagram of `length` bytes that was received into `scratch`: the path of a datapath
/// of sockets, where the kernel makes the headers and the socket told the 4-tuple. `now_ns` is
/// CLOCK_MONOTONIC.
///
/// # Errors
/// Why it is not sent; [`Why::outcome`] says whether it is dropped or passed to the daemon,
/// unmodified, for its own reading.
pub fn forward_payload(
    entry: &FlowEntry,
    state: &mut FlowState,
    stats: &mut FlowStats,
    scratch: &mut Scratch,
    length: usize,
    now_ns: u64,
) -> Result<Leaving, Why> {
    let [first, second, ..] = *scratch.bytes();
    scratch.arrival.first = u32::from(if length < 2 { 0xff } else { first });
    scratch.arrival.second = u32::from(second);
    scratch.arrival.payload_bytes = u32::try_from(length).map_err(|_| Why::TooLong)?;
    scratch.work.now_ns = now_ns;
    let mut flow = Flow {
        entry,
        state,
        stats,
        keystream: &NO_KEYSTREAM,
    };
    let result = admit(scratch).and_then(|_| transform(&mut flow, scratch, &Unshared));
    match result {
        Ok(()) => Ok(Leaving {
            bytes: scratch.work.bytes as usize,
            medium: scratch.work.medium as usize & (MEDIA - 1),
        }),
        Err(why) => {
            if let Verdict::Drop(_) = Verdict::from(why) {
                flow.stats.count_drop();
            }
            Err(why)
        }
    }
}

/// For the path of sockets, where the CPU's own instructions are at hand.
static NO_KEYSTREAM: KeystreamRing = KeystreamRing::new();

/// Whether the datagram is RTP of a size for the fast path, and its length if so.
#[inline(always)]
fn admit(scratch: &Scratch) -> Result<u32, Why> {
    match classify(scratch.arrival.first as u8, scratch.arrival.second as u8) {
        Protocol::Rtp => {}
        Protocol::Stun => return Err(Why::Stun),
        Protocol::Dtls => return Err(Why::Dtls),
        Protocol::Rtcp => return Err(Why::Rtcp),
        Protocol::Other => return Err(Why::UnknownProtocol),
    }
    let length = scratch.arrival.payload_bytes;
    if length > PACKET_BYTES as u32 {
        Err(Why::TooLong)
    } else {
        Ok(length)
    }
}

/// Brings the packet into the scratch memory.
#[inline(never)]
fn load<F: Frame>(frame: &F, scratch: &mut Scratch) -> Result<(), Why> {
    let length = admit(scratch)?;
    if scratch.arrival.ttl <= 1 {
        return Err(Why::TtlExpired);
    }
    if length == 0 {
        return Err(Why::UnknownProtocol);
    }
    let offset = scratch.arrival.header_bytes as usize;
    if frame.load(offset, length as usize, &mut scratch.packet) {
        Ok(())
    } else {
        Err(Why::CopyFailed)
    }
}

/// Turns the packet in the scratch memory into the one that leaves, of `work.bytes` bytes.
#[inline(always)]
fn transform<L: Lock>(flow: &mut Flow<'_>, scratch: &mut Scratch, lock: &L) -> Result<(), Why> {
    rtp::read(flow.entry, scratch, scratch.arrival.payload_bytes)?;
    select(flow.entry, flow.state, scratch)?;
    match flow.entry.action() {
        Some(Action::Unprotect) => {
            index(flow.state, scratch)?;
            keystream::take(flow.keystream, flow.entry.keystream_epoch(), scratch);
            verify(flow, scratch)?;
            crypt(flow, &flow.entry.unprotect, scratch);
            rtp::read_padding(scratch)?;
            commit(flow.entry, flow.state, flow.stats, scratch, lock)?;
            rtp::rewrite(flow.entry, scratch);
        }
        Some(Action::Protect) => {
            rtp::read_padding(scratch)?;
            commit(flow.entry, flow.state, flow.stats, scratch, lock)?;
            rtp::rewrite(flow.entry, scratch);
            keystream::take(flow.keystream, flow.entry.keystream_epoch(), scratch);
            crypt(flow, &flow.entry.protect, scratch);
            srtp::sign(&flow.entry.protect, scratch);
            scratch.work.bytes += flow.entry.protect.tag_bytes().unwrap_or(0);
        }
        Some(Action::Relay) => {
            rtp::read_padding(scratch)?;
            commit(flow.entry, flow.state, flow.stats, scratch, lock)?;
            rtp::rewrite(flow.entry, scratch);
        }
        None => return Err(Why::StaleSlot),
    }
    Ok(())
}

/// Authenticates; the keystream of a packet that is not authentic stays for the one that is.
#[inline(always)]
fn verify(flow: &Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
    let result = srtp::verify(&flow.entry.unprotect, scratch);
    if result.is_err() && scratch.work.ready != 0 {
        keystream::give_back(flow.keystream, scratch);
    }
    result
}

/// Encrypts or decrypts, with the keystream made ahead of time if there is one.
#[inline(always)]
fn crypt(flow: &mut Flow<'_>, keys: &KeyBlock, scratch: &mut Scratch) {
    if scratch.work.ready != 0 {
        keystream::apply(flow.keystream, scratch);
        flow.stats.count_keystream();
    } else {
        srtp::crypt(keys, scratch);
    }
}

/// Finds the packet's stream among those of its medium: the one signalled for its SSRC or bound to it, else a `Learnt` one
/// without a packet yet, else (plain packets only, whose source is pinned) the first `Learnt` one,
/// to be taken over.
#[inline(never)]
fn select(entry: &FlowEntry, state: &FlowState, scratch: &mut Scratch) -> Result<(), Why> {
    const NONE: usize = STREAMS;
    let (ssrc, medium) = (scratch.work.ssrc, scratch.work.medium);
    let (mut known, mut free, mut taken) = (NONE, NONE, NONE);
    for place in (0..STREAMS).rev() {
        let bound = &state.streams[place];
        match entry.stream(place) {
            // An SSRC has one medium (RFC 9143 section 9.2): its payload types must not lead it to another.
            _ if entry.medium(place) != medium => {}
            Some(StreamKind::Signalled(signalled)) if signalled == ssrc => known = place,
            Some(StreamKind::Learnt) if bound.is_bound_to(ssrc) => known = place,
            Some(StreamKind::Learnt) if bound.is_bound() => taken = place,
            Some(StreamKind::Learnt) => free = place,
            Some(StreamKind::Signalled(_)) | None => {}
        }
    }
    if entry.action() == Some(Action::Unprotect) {
        taken = NONE;
    }
    let place = if known != NONE {
        known
    } else if free != NONE {
        free
    } else {
        taken
    };
    if place == NONE {
        return Err(Why::UnknownSsrc);
    }
    scratch.work.stream = place as u32;
    Ok(())
}

/// Estimates the index of an SRTP packet and rejects what was received already; writes no state.
#[inline(never)]
fn index(state: &FlowState, scratch: &mut Scratch) -> Result<(), Why> {
    let stream = &state.streams[scratch.work.stream as usize & (STREAMS - 1)];
    scratch.work.index = stream.receive_index(scratch.work.ssrc, scratch.work.sequence)?;
    Ok(())
}

/// Writes the packet into state and counters, and settles the numbers that it leaves with.
#[inline(never)]
fn commit<L: Lock>(
    entry: &FlowEntry,
    state: &mut FlowState,
    stats: &mut FlowStats,
    scratch: &mut Scratch,
    lock: &L,
) -> Result<(), Why> {
    let place = scratch.work.stream as usize & (STREAMS - 1);
    let clock_hz = entry.clock_hz(place);
    let ssrc_out = entry.ssrc_out(place);
    let learnt = matches!(entry.stream(place), Some(StreamKind::Learnt));
    let action = entry.action();
    let packet = Arriving {
        ssrc: scratch.work.ssrc,
        sequence: scratch.work.sequence,
        timestamp: scratch.work.timestamp,
        now_ns: scratch.work.now_ns,
        clock_hz,
    };
    let index = scratch.work.index;
    lock.lock(state);
    let stream = &mut state.streams[place];
    let result = match action {
        Some(Action::Unprotect) => {
            if learnt && stream.is_bound() && !stream.is_bound_to(packet.ssrc) {
                // Another CPU has bound the stream meanwhile.
                Err(Why::UnknownSsrc)
            } else {
                stream.receive(&packet, index)
            }
        }
        Some(Action::Protect) => stream.send(&packet),
        Some(Action::Relay) | None => stream.relay(&packet),
    };
    if let Ok(numbers) = &result {
        scratch.work.sequence_out = numbers.index as u32 & 0xffff;
        scratch.work.timestamp_out = numbers.timestamp;
        if action == Some(Action::Protect) {
            scratch.work.index = numbers.index;
        }
        stats.count(&scratch.work, ssrc_out, clock_hz, numbers.first);
    }
    lock.unlock(state);
    match result {
        Ok(_) => Ok(()),
        Err(why) => Err(why),
    }
}

/// Writes headers and packet into the frame.
#[inline(never)]
fn emit<F: Frame>(frame: &mut F, entry: &FlowEntry, scratch: &mut Scratch) -> Result<(), Why> {
    let bytes = scratch.work.bytes;
    rewrite::headers(entry, scratch, bytes);
    let header = entry.egress(scratch.work.medium).header_bytes;
    let head = scratch.arrival.header_bytes as i32 - header as i32;
    let tail = (header + bytes) as i32 - (scratch.arrival.frame_bytes as i32 - head);
    if !frame.resize(head, tail) {
        return Err(Why::Resize);
    }
    if frame.store(0, &scratch.header, header as usize)
        && frame.store(header as usize, &scratch.packet, bytes as usize)
    {
        Ok(())
    } else {
        Err(Why::CopyFailed)
    }
}
