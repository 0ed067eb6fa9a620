//! The fast path: what becomes of one packet. The same code in XDP, on frames in memory, and on
//! datagrams in userspace.
//!
//! 1. [`arrive`](crate::arrive) reads the frame's headers; the caller looks its 4-tuple up.
//! 2. [`begin`] checks all that can be checked without state, and does all of `Relay`.
//! 3. [`proceed`] does what needs keys. SRTP that arrives: estimate the index, reject replays
//!    cheaply, authenticate, decrypt in the scratch memory, then under the lock check again and
//!    write. SRTP that leaves: take an index under the lock, refuse a used one, encrypt, sign.
//!    `Transcrypt` does both, one after the other.
//! 4. [`leave`]: headers are made, the frame is resized and written.
//!
//! [`forward`] is all of it. The kernel's program does 2 and 4 itself and each family of suites in
//! a program of its own, entered by tail call: the verifier walks each apart, and a plain relay
//! carries no cipher along. What one hands to the next stands in the scratch memory.
//!
//! The frame itself is not touched before step 4: whatever is passed is unmodified, and whatever
//! was modified is sent or dropped. The steps are functions of their own because the verifier walks
//! each path through inlined code anew.

use crate::classify::Protocol;
use crate::entry::{Action, Exit, FlowEntry, FlowHead, FlowKeys, StreamKind};
use crate::keystream::KeystreamRing;
use crate::packet::Frame;
use crate::scratch::{PACKET_BYTES, Scratch};
use crate::state::{Arriving, FlowState};
use crate::{
    Crypto, Family, FlowEvent, FlowStats, MEDIA, Portable, STREAMS, Verdict, Why, event, rewrite,
    rtp,
};

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
    pub entry: &'a FlowHead,
    /// With which keys, for this crate's own ciphers.
    pub keys: &'a FlowKeys,
    /// What is remembered.
    pub state: &'a mut FlowState,
    /// What is counted.
    pub stats: &'a mut FlowStats,
    /// The ring that the entry names; one without keystream where there are none.
    pub keystream: &'a KeystreamRing,
}

/// What is still to be done to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// [`proceed`] with suites of this family.
    Proceed(Family),
    /// [`leave`].
    Leave,
}

impl Next {
    /// Place in [`crate::TAIL_PROGRAMS`] of the program that does it; `None` where the one at hand does.
    #[inline(always)]
    pub const fn program(self) -> Option<u32> {
        match self {
            Self::Proceed(Family::CounterMode) => Some(1),
            Self::Proceed(Family::GaloisMode) => Some(2),
            Self::Leave => None,
        }
    }
}

/// Forwards a frame that [`arrive`](crate::arrive) has read into `scratch`.
///
/// `generation` is what the lookup answered, `now_ns` CLOCK_MONOTONIC. On `Tx` and `Redirect` the
/// frame is rewritten, on `Pass` it is as it came.
pub fn forward<F: Frame, L: Lock>(
    frame: &mut F,
    flow: &mut Flow<'_>,
    generation: u32,
    scratch: &mut Scratch,
    now_ns: u64,
    lock: &L,
) -> Verdict {
    let mut next = begin(frame, flow, generation, scratch, now_ns, lock);
    while let Ok(Next::Proceed(_)) = next {
        next = proceed(flow, scratch, lock, &mut Portable);
    }
    match next.and_then(|_| leave(frame, flow.entry, scratch)) {
        Ok(verdict) => verdict,
        Err(why) => refuse(flow, why),
    }
}

/// The verdict on a packet that is not forwarded; counted in its flow.
#[inline(always)]
pub fn refuse(flow: &mut Flow<'_>, why: Why) -> Verdict {
    let verdict = Verdict::from(why);
    if let Verdict::Drop(_) = verdict {
        flow.stats.count_drop();
    }
    verdict
}

/// The first step: reads and checks the packet, and finds its stream.
///
/// # Errors
/// Why it is not forwarded, for [`refuse`].
#[inline(always)]
pub fn begin<F: Frame, L: Lock>(
    frame: &F,
    flow: &mut Flow<'_>,
    generation: u32,
    scratch: &mut Scratch,
    now_ns: u64,
    lock: &L,
) -> Result<Next, Why> {
    if flow.entry.generation() != generation {
        return Err(Why::StaleSlot);
    }
    scratch.work.now_ns = now_ns;
    load(frame, scratch)?;
    number(flow, scratch, lock)
}

/// What leaves a datapath of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaving {
    /// Bytes of the packet in the scratch memory.
    pub bytes: usize,
    /// Its medium: place in [`crate::FlowSpec::media`], which says from and to where.
    pub medium: usize,
    /// What the daemon is told with it.
    pub event: Option<FlowEvent>,
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
    let flow = Flow {
        entry: &entry.head,
        keys: &entry.keys,
        state,
        stats,
        keystream: &NO_KEYSTREAM,
    };
    forward_payload_by(&mut Portable, flow, scratch, length, now_ns)
}

/// [`forward_payload`] with what is encrypted and decrypted by `crypto`.
///
/// # Errors
/// As there.
pub fn forward_payload_by<C: Crypto>(
    crypto: &mut C,
    mut flow: Flow<'_>,
    scratch: &mut Scratch,
    length: usize,
    now_ns: u64,
) -> Result<Leaving, Why> {
    let [first, second, ..] = *scratch.bytes();
    scratch.arrival.first = u32::from(if length < 2 { 0xff } else { first });
    scratch.arrival.second = u32::from(second);
    scratch.arrival.payload_bytes = u32::try_from(length).map_err(|_| Why::TooLong)?;
    scratch.work.now_ns = now_ns;
    let mut next = admit(scratch).and_then(|_| number(&mut flow, scratch, &Unshared));
    while let Ok(Next::Proceed(_)) = next {
        next = proceed(&mut flow, scratch, &Unshared, crypto);
    }
    match next {
        Ok(_) => Ok(Leaving {
            bytes: scratch.work.bytes as usize,
            medium: scratch.work.medium as usize & (MEDIA - 1),
            event: scratch.event().copied(),
        }),
        Err(why) => {
            refuse(&mut flow, why);
            Err(why)
        }
    }
}

/// For the path of sockets, whose ciphers have keys of their own.
pub static NO_KEYS: FlowKeys = FlowKeys::EMPTY;

/// For the path of sockets, where the CPU's own instructions are at hand.
pub static NO_KEYSTREAM: KeystreamRing = KeystreamRing::new();

/// Whether the datagram is RTP of a size for the fast path, and its length if so.
#[inline(always)]
fn admit(scratch: &Scratch) -> Result<u32, Why> {
    match scratch.protocol() {
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

/// Reads the packet in the scratch memory and finds its stream; what needs no keys is done.
#[inline(always)]
fn number<L: Lock>(flow: &mut Flow<'_>, scratch: &mut Scratch, lock: &L) -> Result<Next, Why> {
    rtp::read(flow.entry, scratch, scratch.arrival.payload_bytes)?;
    select(flow.entry, flow.state, scratch)?;
    scratch.work.plain = 0;
    scratch.work.rollovers = 0;
    scratch.work.old = 0;
    match flow.entry.action() {
        Some(Action::Unprotect | Action::Transcrypt) => {
            let family = flow.entry.family_in();
            family.map(Next::Proceed).ok_or(Why::StaleSlot)
        }
        Some(Action::Relay | Action::Protect) => settle(flow, scratch, lock),
        None => Err(Why::StaleSlot),
    }
}

/// The second step, for packets that arrive or leave as SRTP: decrypts the packet in the scratch
/// memory, or encrypts it, whichever is next.
///
/// # Errors
/// Why it is not forwarded, for [`refuse`].
#[inline(always)]
pub fn proceed<L: Lock, C: Crypto>(
    flow: &mut Flow<'_>,
    scratch: &mut Scratch,
    lock: &L,
    crypto: &mut C,
) -> Result<Next, Why> {
    if scratch.work.plain != 0 {
        crypto.seal(flow, scratch);
        return Ok(Next::Leave);
    }
    let stream = scratch.work.stream as usize;
    if scratch.work.rollovers == 0 {
        index(flow, scratch)?;
    }
    match crypto.open(flow, scratch) {
        Ok(()) => {
            flow.stats.trust(stream);
            settle(flow, scratch, lock)
        }
        Err(_) if scratch.work.rollovers == 0 => try_again(flow, scratch),
        Err(_) if scratch.work.old != 0 => Err(Why::TooOld),
        Err(why) => Err(why),
    }
}

/// A packet that is not authentic under its estimated index can be of a sender that was not heard for more than 2^15 packets: then
/// its rollover counter is higher than ours, and only a packet can tell. One of a few is tried once more, by entering the step anew.
#[inline(never)]
fn try_again(flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<Next, Why> {
    let stream = scratch.work.stream as usize & (STREAMS - 1);
    let (ssrc, sequence) = (scratch.work.ssrc, scratch.work.sequence);
    let rollovers = flow.stats.doubt(stream).ok_or(Why::AuthFailed)?;
    let heard = scratch.work.heard as usize & (STREAMS - 1);
    scratch.work.index = flow.state.streams[heard].receive_index(ssrc, sequence, rollovers)?;
    scratch.work.rollovers = rollovers;
    let family = flow.entry.family_in();
    family.map(Next::Proceed).ok_or(Why::StaleSlot)
}

/// Does to a plain packet all but encryption.
#[inline(always)]
fn settle<L: Lock>(flow: &mut Flow<'_>, scratch: &mut Scratch, lock: &L) -> Result<Next, Why> {
    rtp::read_padding(scratch)?;
    event::read(scratch)?;
    commit(flow.entry, flow.state, flow.stats, scratch, lock)?;
    rtp::rewrite(flow.entry, scratch);
    scratch.work.plain = 1;
    if !flow.entry.action().is_some_and(Action::protects) {
        return Ok(Next::Leave);
    }
    let family = flow.entry.family_out();
    family.map(Next::Proceed).ok_or(Why::StaleSlot)
}

/// Finds the packet's stream among those of its medium: the one signalled for its SSRC or bound to it, else a `Learnt` one
/// without a packet yet, else the first `Learnt` one, to be taken over. That is as good as a first packet where packets are plain,
/// because their source is pinned; where they are authenticated, what was received of the old SSRC has to be kept, or its packets
/// could be sent again: it goes to a place of the flow that has no stream, and comes back from there with its SSRC.
#[inline(never)]
fn select(entry: &FlowHead, state: &FlowState, scratch: &mut Scratch) -> Result<(), Why> {
    const NONE: usize = STREAMS;
    let (ssrc, medium) = (scratch.work.ssrc, scratch.work.medium);
    let (mut known, mut free, mut taken) = (NONE, NONE, NONE);
    let (mut shelf, mut empty, mut foreign) = (NONE, NONE, false);
    for place in (0..STREAMS).rev() {
        let bound = &state.streams[place];
        match entry.stream(place) {
            None if bound.is_bound_to(ssrc) => shelf = place,
            None if !bound.is_bound() => empty = place,
            None => {}
            // An SSRC has one medium (RFC 9143 section 9.2): its payload types must not lead it to another.
            Some(StreamKind::Signalled(signalled)) if entry.medium(place) != medium => {
                foreign |= signalled == ssrc;
            }
            Some(StreamKind::Learnt) if entry.medium(place) != medium => {
                foreign |= bound.is_bound_to(ssrc);
            }
            Some(StreamKind::Signalled(signalled)) if signalled == ssrc => known = place,
            Some(StreamKind::Learnt) if bound.is_bound_to(ssrc) => known = place,
            Some(StreamKind::Learnt) if bound.is_bound() => taken = place,
            Some(StreamKind::Learnt) => free = place,
            Some(StreamKind::Signalled(_)) => {}
        }
    }
    let shelf = if shelf == NONE { empty } else { shelf };
    let authenticated = entry.action().is_some_and(Action::unprotects);
    let place = if known != NONE {
        known
    } else if free != NONE {
        free
    } else if authenticated && (foreign || shelf == NONE) {
        NONE
    } else {
        taken
    };
    if place == NONE {
        return Err(Why::UnknownSsrc);
    }
    let takes_over = authenticated && place == taken;
    scratch.work.stream = place as u32;
    scratch.work.heard = if takes_over { shelf } else { place } as u32;
    Ok(())
}

/// Estimates the index of an SRTP packet and rejects what was received already; writes no state. What is too old can be half a round
/// of sequence numbers ahead, see [`try_again`].
#[inline(never)]
fn index(flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
    let place = scratch.work.stream as usize & (STREAMS - 1);
    let stream = &flow.state.streams[scratch.work.heard as usize & (STREAMS - 1)];
    let (ssrc, sequence) = (scratch.work.ssrc, scratch.work.sequence);
    scratch.work.index = match stream.receive_index(ssrc, sequence, 0) {
        Err(Why::TooOld) => {
            let rollovers = flow.stats.doubt(place).ok_or(Why::TooOld)?;
            scratch.work.rollovers = rollovers;
            scratch.work.old = 1;
            stream.receive_index(ssrc, sequence, rollovers)?
        }
        index => index?,
    };
    Ok(())
}

/// Writes the packet into state and counters, and settles the numbers that it leaves with.
#[inline(never)]
fn commit<L: Lock>(
    entry: &FlowHead,
    state: &mut FlowState,
    stats: &mut FlowStats,
    scratch: &mut Scratch,
    lock: &L,
) -> Result<(), Why> {
    let place = scratch.work.stream as usize & (STREAMS - 1);
    let heard = scratch.work.heard as usize & (STREAMS - 1);
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
    event::address(entry, scratch);
    let clocks = entry.event_clocks(scratch.work.event);
    let medium = scratch.work.medium as usize & (MEDIA - 1);
    let packet_ns = entry.packet_ns(scratch.work.medium);
    lock.lock(state);
    let rate = state.rates[medium].after(packet_ns, packet.now_ns);
    let comes = rate.is_some() && heard != place && state.bring(place, heard, packet.ssrc, index);
    let stream = &mut state.streams[place];
    let idle_ns = stream.idle_ns(&packet);
    let position = if scratch.work.event == 0 {
        0
    } else {
        stream.position(&packet)
    };
    // Another CPU can have bound the stream meanwhile.
    let taken = learnt && stream.is_bound() && !stream.is_bound_to(packet.ssrc) && !comes;
    let result = match action {
        Some(Action::Unprotect | Action::Transcrypt) if taken => Err(Why::UnknownSsrc),
        _ if rate.is_none() => Err(Why::OverRate),
        Some(Action::Unprotect) => stream.receive(&packet, index),
        Some(Action::Transcrypt) => stream.transcrypt(&packet, index),
        Some(Action::Protect) => stream.send(&packet),
        Some(Action::Relay) | None => stream.relay(&packet),
    };
    if let Ok(numbers) = &result {
        scratch.work.sequence_out = numbers.index as u32 & 0xffff;
        scratch.work.timestamp_out = numbers.timestamp;
        if action.is_some_and(Action::protects) {
            scratch.work.index = numbers.index;
        }
        let (work, told) = (&mut scratch.work, &mut scratch.event);
        if work.event == 0 {
            stream.event.pass(idle_ns, told);
        } else {
            stream
                .event
                .advance(clocks, clock_hz, position, numbers, work, told);
            if numbers.newest {
                stream.last_until(work.timestamp_out.wrapping_add(work.ahead));
            }
        }
        stats.count(&scratch.work, ssrc_out, clock_hz, numbers.first);
        if let Some(rate) = rate {
            state.rates[medium] = rate;
        }
    }
    lock.unlock(state);
    match result {
        Ok(_) => Ok(()),
        Err(why) => Err(why),
    }
}

/// The last step: writes headers and packet into the frame, and answers where it goes.
///
/// # Errors
/// Why it is dropped, for [`refuse`].
#[inline(always)]
pub fn leave<F: Frame>(
    frame: &mut F,
    entry: &FlowHead,
    scratch: &mut Scratch,
) -> Result<Verdict, Why> {
    emit(frame, entry, scratch)?;
    // Read only now: held since before, it would double the paths that the verifier walks.
    match entry.egress(scratch.work.medium).exit() {
        Some(Exit::Tx) => Ok(Verdict::Tx),
        Some(Exit::Redirect(ifindex)) => Ok(Verdict::Redirect(ifindex)),
        Some(Exit::Hairpin) => Ok(Verdict::Again),
        None => Err(Why::NoDevice),
    }
}

/// Writes headers and packet into the frame.
#[inline(never)]
fn emit<F: Frame>(frame: &mut F, entry: &FlowHead, scratch: &mut Scratch) -> Result<(), Why> {
    let bytes = scratch.work.bytes;
    rewrite::headers(entry, scratch, bytes);
    let header = entry.egress(scratch.work.medium).header_bytes;
    // A frame grows and shrinks in front, where XDP keeps room for it: behind a frame that a virtual interface makes of a long socket
    // buffer there is none. All of it is written anew in any case.
    let surplus = scratch.arrival.frame_bytes.wrapping_sub(header + bytes) as i32;
    if surplus != 0 && !frame.shorten(surplus) {
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
