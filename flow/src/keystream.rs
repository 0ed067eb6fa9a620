//! Keystream made ahead of time: a ring of cells per flow in memory that the daemon fills with the
//! CPU's AES instructions and the packet path only adds to the payload.
//!
//! Why it is safe: the ring never decides which index a packet has. The replay window (arriving)
//! and the window of used indices (leaving) do that, under the lock, as they do without a ring; a
//! cell is the same function of key, SSRC and index that the packet path would compute itself. So
//! two different packets can meet one keystream through a ring exactly where they could without:
//! never. What a cell must not do is to be taken for another one. It says for which keys (an epoch
//! that the daemon gives out once per set of keys), SSRC and index it is, and is used only where
//! all three match; else the packet path computes.
//!
//! Each cell has one owner at a time, by its tag:
//!
//! | tag | owner |
//! |---|---|
//! | `READY` and index | nobody; content valid |
//! | `TAKEN` | the packet that exchanged the tag for it |
//! | `FILLING` | the daemon that exchanged the tag for it |
//! | `EMPTY` | nobody; content of no meaning |
//!
//! An owner gets a cell by compare-and-exchange and gives it back by exchange, both sequentially
//! consistent, in BPF full barriers: what it wrote before is seen by the next owner, and nobody
//! else reads or writes meanwhile. A daemon that dies while it fills leaves a cell that nobody
//! takes. The daemon skips a cell that a packet has; a packet never waits.
//!
//! After use a cell is zeroed by the packet path; the daemon zeroes whole rings when a flow leaves
//! or gets new keys.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::exchange::{compare_exchange, exchange};
use crate::scratch::{Scratch, WORD_MASK};
use crate::{SrtpKeys, gcm, srtp};

/// Cells of a ring. A power of two.
pub const CELLS: usize = 16;
/// Payload bytes that a cell covers: G.711 of 20 ms. Longer packets are computed in the packet path.
pub const CELL_PAYLOAD_BYTES: usize = 4 * STREAM_WORDS;

const STREAM_WORDS: usize = 40;
const BLOCK_WORDS: usize = 4;

const EMPTY: u64 = 0;
const FILLING: u64 = 1;
const TAKEN: u64 = 2;
/// Above every index (48 bits).
const READY: u64 = 1 << 63;

/// The cells of one flow: a value of a map that the daemon has in its memory.
#[repr(C, align(64))]
pub struct KeystreamRing {
    cells: [Cell; CELLS],
}

#[repr(C)]
struct Cell {
    tag: AtomicU64,
    content: UnsafeCell<Content>,
}

#[repr(C, align(8))]
struct Content {
    epoch: u32,
    ssrc: u32,
    keystream: Keystream,
}

/// Keystream of one packet, bytes as they are added.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Keystream {
    /// With GCM the encrypted first counter block, which is added to the tag (RFC 7714 section 5.1);
    /// else zeros.
    pub pad: [u32; BLOCK_WORDS],
    /// For the payload.
    pub payload: [u32; STREAM_WORDS],
}

const _: () = assert!(size_of::<Cell>() == 192 && size_of::<KeystreamRing>() == 192 * CELLS);
const _: () = assert!(CELLS.is_power_of_two() && STREAM_WORDS < WORD_MASK);

// SAFETY: the content of a cell is read and written only by who got it by compare-and-exchange of
// its tag, see above.
unsafe impl Sync for KeystreamRing {}

impl Keystream {
    /// Zeros.
    pub const EMPTY: Self = Self {
        pad: [0; BLOCK_WORDS],
        payload: [0; STREAM_WORDS],
    };
}

impl SrtpKeys {
    /// Keystream of one packet, by the packet path's own cipher: what every other way to make it has to agree with.
    pub fn keystream(&self, ssrc: u32, index: u64) -> Keystream {
        let mut scratch = Scratch::new();
        scratch.set_word(2, ssrc);
        scratch.work.fixed_words = 3;
        scratch.work.bytes = 4 * (3 + STREAM_WORDS) as u32;
        scratch.work.index = index;
        let mut keystream = Keystream::EMPTY;
        let block = self.block();
        if self.suite().is_gcm() {
            gcm::start(&block, &mut scratch);
            gcm::crypt(&block, &mut scratch);
            keystream.pad = gcm::pad(&scratch);
        } else {
            srtp::crypt(&block, &mut scratch);
        }
        keystream
            .payload
            .copy_from_slice(&scratch.packet[3..3 + STREAM_WORDS]);
        keystream
    }
}

/// Which packet's keystream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeystreamOf {
    /// Number of the set of keys, as the entry has it; not 0.
    pub epoch: u32,
    /// SSRC of the protected packet.
    pub ssrc: u32,
    /// SRTP index of it.
    pub index: u64,
}

impl KeystreamRing {
    /// A ring without keystream, for tests and figures outside the kernel.
    pub const fn new() -> Self {
        Self {
            cells: [const { Cell::new() }; CELLS],
        }
    }

    /// Puts a packet's keystream into its cell, over what stands there; `false` if a packet has the cell just now.
    pub fn fill(&self, of: KeystreamOf, keystream: &Keystream) -> bool {
        self.own(of.index as usize, |content| {
            content.epoch = of.epoch;
            content.ssrc = of.ssrc;
            content.keystream = *keystream;
            READY | of.index
        })
    }

    /// Zeroes every cell; `false` if a packet has one of them just now, which zeroes it itself.
    pub fn clear(&self) -> bool {
        let mut all = true;
        for place in 0..CELLS {
            all &= self.own(place, |content| {
                content.zero();
                EMPTY
            });
        }
        all
    }

    /// Has a cell changed by the daemon; the closure answers its next tag.
    fn own(&self, place: usize, change: impl FnOnce(&mut Content) -> u64) -> bool {
        let cell = &self.cells[place & (CELLS - 1)];
        let seen = cell.tag.load(Ordering::Relaxed);
        // FILLING is what a daemon left that died: there is one daemon, which this thread is of.
        if seen == TAKEN || !compare_exchange(&cell.tag, seen, FILLING) {
            return false;
        }
        // SAFETY: the exchange made this thread the owner, until the tag is given back below.
        let next = change(unsafe { &mut *cell.content.get() });
        exchange(&cell.tag, next);
        true
    }

    #[inline(always)]
    fn cell(&self, index: u64) -> &Cell {
        &self.cells[index as usize & (CELLS - 1)]
    }

    /// Takes the cell of a packet, if the ring has it. The taker has to [`KeystreamRing::apply`] it or [`KeystreamRing::give_back`].
    #[inline(always)]
    fn take(&self, of: &KeystreamOf) -> bool {
        let cell = self.cell(of.index);
        if !compare_exchange(&cell.tag, READY | of.index, TAKEN) {
            return false;
        }
        // SAFETY: the exchange made this packet the owner.
        let content = unsafe { &mut *cell.content.get() };
        if content.epoch == of.epoch && content.ssrc == of.ssrc {
            return true;
        }
        // Of other keys or another stream: nobody will ask for it again.
        exchange(&cell.tag, EMPTY);
        false
    }
}

#[cfg(feature = "user")]
impl KeystreamRing {
    /// The value of the map, for who writes it by the system call.
    pub fn image(&self) -> [u8; size_of::<Self>()] {
        let from: *const Self = self;
        // SAFETY: as many bytes, of integers without padding; who asks has no second owner beside.
        unsafe { from.cast::<[u8; size_of::<Self>()]>().read() }
    }
}

impl Default for KeystreamRing {
    fn default() -> Self {
        Self::new()
    }
}

impl Cell {
    const fn new() -> Self {
        Self {
            tag: AtomicU64::new(EMPTY),
            content: UnsafeCell::new(Content {
                epoch: 0,
                ssrc: 0,
                keystream: Keystream::EMPTY,
            }),
        }
    }
}

impl Content {
    /// Volatile: what was keystream has to go, and for BPF the compiler calls a function that goes byte by byte.
    #[inline(always)]
    fn zero(&mut self) {
        let words: *mut u64 = (&raw mut *self).cast();
        for place in 0..size_of::<Self>() / 8 {
            // SAFETY: inside of what was borrowed, eight bytes from a multiple of eight on; zeros are a value of it.
            unsafe { words.add(place).write_volatile(0) };
        }
    }
}

/// Takes the keystream of the packet in the scratch memory, if the ring has it: notes so in `work`, and brings the pad into the scratch
/// memory.
#[inline(never)]
pub(crate) fn take(ring: &KeystreamRing, epoch: u32, scratch: &mut Scratch) {
    scratch.work.ready = 0;
    if epoch == 0 || scratch.work.payload_bytes() > CELL_PAYLOAD_BYTES as u32 {
        return;
    }
    let of = KeystreamOf {
        epoch,
        ssrc: scratch.word(2),
        index: scratch.work.index,
    };
    if ring.take(&of) {
        // SAFETY: taken just now.
        let content = unsafe { &*ring.cell(of.index).content.get() };
        scratch.pad = content.keystream.pad;
        scratch.work.ready = 1;
    }
}

/// Adds the keystream that was taken to the payload, in whole blocks: up to 15 bytes behind the packet change. Zeroes the cell and
/// gives it back.
#[inline(never)]
pub(crate) fn apply(ring: &KeystreamRing, scratch: &mut Scratch) {
    let cell = ring.cell(scratch.work.index);
    // SAFETY: `take` made this packet the owner.
    let content = unsafe { &mut *cell.content.get() };
    let first = (scratch.work.fixed_words + scratch.work.extension_words) as usize & WORD_MASK;
    let words = scratch.work.payload_bytes().div_ceil(4) as usize;
    if let Some(payload) = scratch.packet.get_mut(first..first + STREAM_WORDS) {
        let blocks = payload.as_chunks_mut::<BLOCK_WORDS>().0;
        let keystream = content.keystream.payload.as_chunks::<BLOCK_WORDS>().0;
        for (number, (block, keystream)) in blocks.iter_mut().zip(keystream).enumerate() {
            if number * BLOCK_WORDS >= words {
                break;
            }
            for (word, keystream) in block.iter_mut().zip(keystream) {
                *word ^= keystream;
            }
        }
    }
    content.zero();
    exchange(&cell.tag, EMPTY);
    scratch.work.ready = 0;
}

/// Gives the cell back as it was: the packet is not authentic, the one that is may still come.
#[inline(never)]
pub(crate) fn give_back(ring: &KeystreamRing, scratch: &mut Scratch) {
    let index = scratch.work.index;
    exchange(&ring.cell(index).tag, READY | index);
    scratch.work.ready = 0;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{SessionKey, Suite};

    const OF: KeystreamOf = KeystreamOf {
        epoch: 3,
        ssrc: 0x0102_0304,
        index: 0x0005_0006_0007,
    };

    /// A packet of zeros as `OF` says, with its IV parts where the packet path has them.
    fn packet(payload_bytes: u32) -> Scratch {
        let mut scratch = Scratch::new();
        scratch.set_word(2, OF.ssrc);
        scratch.work.fixed_words = 3;
        scratch.work.bytes = 12 + payload_bytes;
        scratch.work.index = OF.index;
        scratch
    }

    fn keystream() -> Keystream {
        let mut payload = [0; STREAM_WORDS];
        for (number, word) in payload.iter_mut().enumerate() {
            *word = 0x1000_0000 + number as u32;
        }
        Keystream {
            pad: [9, 8, 7, 6],
            payload,
        }
    }

    fn is_zero(ring: &KeystreamRing) -> bool {
        ring.cells.iter().all(|cell| {
            // SAFETY: one thread.
            let content = unsafe { &*cell.content.get() };
            let keystream = content.keystream;
            content.epoch == 0 && keystream.pad == [0; 4] && keystream.payload == [0; STREAM_WORDS]
        })
    }

    #[test]
    fn a_cell_is_used_once_and_zeroed() {
        let ring = KeystreamRing::new();
        assert!(ring.fill(OF, &keystream()));
        let mut first = packet(160);
        take(&ring, OF.epoch, &mut first);
        assert_eq!((first.work.ready, first.pad), (1, [9, 8, 7, 6]));
        let mut second = packet(160);
        take(&ring, OF.epoch, &mut second);
        assert_eq!(second.work.ready, 0, "the first packet has it");
        apply(&ring, &mut first);
        assert_eq!(first.packet[3..43], keystream().payload);
        assert!(is_zero(&ring));
        take(&ring, OF.epoch, &mut second);
        assert_eq!(second.work.ready, 0, "it was used");
    }

    #[test]
    fn whole_blocks_of_the_payload_change_and_nothing_else() {
        let ring = KeystreamRing::new();
        ring.fill(OF, &keystream());
        let mut scratch = packet(33);
        take(&ring, OF.epoch, &mut scratch);
        apply(&ring, &mut scratch);
        assert_eq!(scratch.packet[3..15], keystream().payload[..12]);
        assert!(scratch.packet[15..].iter().all(|word| *word == 0));
    }

    #[test]
    fn keystream_of_other_keys_stream_or_packet_is_not_taken() {
        for of in [
            KeystreamOf { epoch: 4, ..OF },
            KeystreamOf {
                ssrc: OF.ssrc + 1,
                ..OF
            },
            KeystreamOf {
                index: OF.index + CELLS as u64,
                ..OF
            },
            KeystreamOf {
                index: OF.index + (1 << 16),
                ..OF
            },
        ] {
            let ring = KeystreamRing::new();
            ring.fill(of, &keystream());
            let mut scratch = packet(160);
            take(&ring, OF.epoch, &mut scratch);
            assert_eq!(scratch.work.ready, 0, "{of:?}");
        }
        let ring = KeystreamRing::new();
        ring.fill(OF, &keystream());
        let mut without_ring = packet(160);
        take(&ring, 0, &mut without_ring);
        let mut too_long = packet(CELL_PAYLOAD_BYTES as u32 + 1);
        take(&ring, OF.epoch, &mut too_long);
        assert_eq!((without_ring.work.ready, too_long.work.ready), (0, 0));
    }

    #[test]
    fn a_forged_packet_leaves_the_cell_to_the_authentic_one() {
        let ring = KeystreamRing::new();
        ring.fill(OF, &keystream());
        let mut forged = packet(160);
        take(&ring, OF.epoch, &mut forged);
        give_back(&ring, &mut forged);
        let mut authentic = packet(160);
        take(&ring, OF.epoch, &mut authentic);
        assert_eq!(authentic.work.ready, 1);
    }

    #[test]
    fn the_daemon_never_touches_a_cell_that_a_packet_has() {
        let ring = KeystreamRing::new();
        ring.fill(OF, &keystream());
        let mut scratch = packet(160);
        take(&ring, OF.epoch, &mut scratch);
        let next = KeystreamOf {
            index: OF.index + CELLS as u64,
            ..OF
        };
        assert!(!ring.fill(next, &Keystream::EMPTY));
        assert!(!ring.clear());
        apply(&ring, &mut scratch);
        assert_eq!(scratch.packet[3..43], keystream().payload);
        assert!(ring.clear() && ring.fill(next, &keystream()));
        assert!(ring.clear() && is_zero(&ring));
    }

    #[test]
    fn what_the_ring_gives_is_what_the_packet_path_computes() {
        let session = SessionKey {
            cipher: [0x11; 32],
            auth: [0x22; 20],
            salt: [0x33; 14],
        };
        let keys = SrtpKeys::new(Suite::AesCm128HmacSha1_80, &session);
        let ring = KeystreamRing::new();
        ring.fill(OF, &keys.keystream(OF.ssrc, OF.index));
        let (mut with, mut without) = (packet(160), packet(160));
        take(&ring, OF.epoch, &mut with);
        apply(&ring, &mut with);
        srtp::crypt(&keys.block(), &mut without);
        assert_eq!(with.packet[..43], without.packet[..43]);
    }

    #[test]
    fn packets_and_daemon_on_many_threads_never_share_a_cell() {
        const ROUNDS: u64 = 100_000;
        let ring = KeystreamRing::new();
        let content = |index: u64| Keystream {
            pad: [index as u32; 4],
            payload: [index as u32; STREAM_WORDS],
        };
        let newest = AtomicU64::new(0);
        let take_newest = || {
            let mut taken = BTreeSet::new();
            loop {
                let index = newest.load(Ordering::Relaxed);
                let mut scratch = packet(160);
                scratch.work.index = index;
                take(&ring, OF.epoch, &mut scratch);
                if scratch.work.ready != 0 {
                    apply(&ring, &mut scratch);
                    assert_eq!(scratch.packet[3..43], content(index).payload);
                    assert!(taken.insert(index), "{index} was taken twice");
                }
                if index == ROUNDS {
                    return taken;
                }
            }
        };
        let (one, other) = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(take_newest), scope.spawn(take_newest));
            for index in 1..=ROUNDS {
                ring.fill(KeystreamOf { index, ..OF }, &content(index));
                newest.store(index, Ordering::Relaxed);
            }
            (one.join().unwrap(), other.join().unwrap())
        });
        assert!(!one.is_empty() || !other.is_empty());
        assert!(one.is_disjoint(&other), "a packet of each had one cell");
    }
}
