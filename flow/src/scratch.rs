//! The working memory of one packet: the RTP packet at a constant place, the headers that will
//! stand before it, and what one step of the path hands to the next.
//!
//! Why: in XDP this is a per-CPU map value. Cryptography at constant offsets is what the verifier
//! can follow, and values that pass through this memory are unknown to it, so that the paths of the
//! steps before meet again instead of multiplying. The userspace datapath reads datagrams straight
//! into [`Scratch::bytes_mut`].

use crate::extension::Reading;
use crate::ghash::Block;
use crate::{FlowEvent, FlowKey, Protocol, classify};

/// Index mask of the packet's words. A power of two above the largest packet, so that a masked
/// index is always inside.
pub(crate) const WORD_MASK: usize = 511;
/// The same of its bytes.
const BYTE_MASK: usize = 4 * WORD_MASK + 3;

/// Longest RTP or SRTP packet in bytes, tag included, that the fast path takes: the UDP payload of
/// a 1500 byte IPv4 packet.
pub const PACKET_BYTES: usize = 1472;

/// Working memory of one packet.
#[repr(C, align(8))]
pub struct Scratch {
    /// The packet, words as they stand in memory (network order).
    pub(crate) packet: [u32; WORD_MASK + 1],
    /// Ethernet, IP and UDP headers of the packet that leaves.
    pub(crate) header: [u32; 18],
    /// First counter block, packed, with the first round key.
    pub(crate) counter: [u64; 8],
    /// Hash state.
    pub(crate) digest: [u32; 5],
    /// With GCM the encrypted first counter block, where `work.ready` says that it was made ahead of time.
    pub(crate) pad: [u32; 4],
    /// The authentication tag that arrived, as big-endian numbers.
    pub(crate) tag: [u32; 4],
    /// GHASH so far.
    pub(crate) hash: Block,
    /// Last block of the outer hash.
    pub(crate) block: [u32; 16],
    pub(crate) arrival: Arrival,
    pub(crate) work: Work,
    /// What the daemon is told with this packet.
    pub(crate) event: FlowEvent,
    pub(crate) reading: Reading,
}

/// What the headers of an arriving frame say.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// The packet's 4-tuple.
    pub(crate) key: FlowKey,
    /// Bytes before the UDP payload.
    pub(crate) header_bytes: u32,
    /// Bytes of UDP payload.
    pub(crate) payload_bytes: u32,
    /// Bytes of the frame, link-layer padding included.
    pub(crate) frame_bytes: u32,
    /// IPv4 time to live or IPv6 hop limit.
    pub(crate) ttl: u32,
    /// First two bytes of the UDP payload.
    pub(crate) first: u32,
    pub(crate) second: u32,
}

/// What one step hands to the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// CLOCK_MONOTONIC at arrival.
    pub(crate) now_ns: u64,
    /// SRTP packet index: of the arriving packet, then of the leaving one where that is encrypted.
    pub(crate) index: u64,
    /// Slot of the packet's flow, for the programs after the first.
    pub(crate) slot: u32,
    /// 1 where another flow of this host has rewritten the packet.
    pub(crate) taken_over: u32,
    /// 1 when all is done but encryption.
    pub(crate) plain: u32,
    /// Place of the packet's stream in the flow.
    pub(crate) stream: u32,
    /// Place of what was received of the packet's SSRC: that of the stream, unless the packet takes that over.
    pub(crate) heard: u32,
    /// Medium of the packet: where it leaves.
    pub(crate) medium: u32,
    /// Words of fixed header and CSRC list.
    pub(crate) fixed_words: u32,
    /// Words of the header extension.
    pub(crate) extension_words: u32,
    /// Bytes of the packet without tag.
    pub(crate) bytes: u32,
    /// RTP payload octets, without padding.
    pub(crate) octets: u32,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u32,
    pub(crate) timestamp: u32,
    pub(crate) payload_type_out: u32,
    pub(crate) sequence_out: u32,
    pub(crate) timestamp_out: u32,
    /// 0 for media, else which of the flow's telephone-event clocks, plus 1.
    pub(crate) event: u32,
    /// First word of an event's payload: as it arrived, then as it leaves.
    pub(crate) event_word: u32,
    /// How much later than its timestamp an event packet is, in the stream's clock.
    pub(crate) ahead: u32,
    /// 1 while the packet has a cell of its flow's keystream ring.
    pub(crate) ready: u32,
    /// Rollovers that the arriving packet's index is taken to be later than estimated: its second trial.
    pub(crate) rollovers: u32,
    /// 1 if the estimate was too old to be tried.
    pub(crate) old: u32,
}

impl Work {
    /// Word of the packet with which the RTP payload begins.
    #[inline(always)]
    pub(crate) fn payload_word(&self) -> usize {
        self.fixed_words.wrapping_add(self.extension_words) as usize
    }

    /// Bytes of RTP payload with padding, without tag.
    #[inline(always)]
    pub(crate) fn payload_bytes(&self) -> u32 {
        self.bytes
            .wrapping_sub(4 * (self.fixed_words + self.extension_words))
    }
}

/// A packet in the scratch memory as a [`crate::Crypto`] of the host takes it.
pub struct SrtpPacket<'a> {
    /// The packet, its tag if it has one, and room behind that may be used: 500 bytes at least.
    pub buffer: &'a mut [u8],
    /// Bytes of header, CSRC list and header extension.
    pub header_bytes: usize,
    /// Bytes of the packet without tag.
    pub bytes: usize,
    /// SRTP index.
    pub index: u64,
}

impl Scratch {
    /// The packet with what a cipher has to know of it.
    pub fn srtp(&mut self) -> SrtpPacket<'_> {
        let Work {
            bytes,
            index,
            fixed_words,
            extension_words,
            ..
        } = self.work;
        SrtpPacket {
            buffer: self.bytes_mut(),
            header_bytes: 4 * (fixed_words + extension_words) as usize,
            bytes: bytes as usize,
            index,
        }
    }

    /// Whether the packet is authenticated for the second time, under another index: what an earlier trial wrote behind it still
    /// stands there.
    #[inline(always)]
    pub(crate) fn is_tried_again(&self) -> bool {
        self.work.rollovers != 0 && self.work.old == 0
    }

    /// A tag of so many bytes was put behind the packet.
    pub fn add_tag(&mut self, bytes: usize) {
        self.work.bytes += bytes as u32;
    }

    /// Empty working memory.
    pub const fn new() -> Self {
        Self {
            packet: [0; WORD_MASK + 1],
            header: [0; 18],
            counter: [0; 8],
            digest: [0; 5],
            pad: [0; 4],
            tag: [0; 4],
            hash: Block::ZERO,
            block: [0; 16],
            arrival: Arrival {
                key: FlowKey::UNSPECIFIED,
                header_bytes: 0,
                payload_bytes: 0,
                frame_bytes: 0,
                ttl: 0,
                first: 0,
                second: 0,
            },
            work: Work {
                now_ns: 0,
                index: 0,
                slot: 0,
                taken_over: 0,
                plain: 0,
                stream: 0,
                heard: 0,
                medium: 0,
                fixed_words: 0,
                extension_words: 0,
                bytes: 0,
                octets: 0,
                ssrc: 0,
                sequence: 0,
                timestamp: 0,
                payload_type_out: 0,
                sequence_out: 0,
                timestamp_out: 0,
                event: 0,
                event_word: 0,
                ahead: 0,
                ready: 0,
                rollovers: 0,
                old: 0,
            },
            event: FlowEvent::NONE,
            reading: Reading::NONE,
        }
    }

    /// The packet as bytes: what [`crate::forward_payload`] left to send.
    pub fn bytes(&self) -> &[u8; 4 * (WORD_MASK + 1)] {
        // SAFETY: an array of u32 has no padding, bytes have alignment 1, and the length is the same.
        unsafe { &*(&raw const self.packet).cast() }
    }

    /// The packet as bytes to be received into. Only [`PACKET_BYTES`] of them can be forwarded.
    pub fn bytes_mut(&mut self) -> &mut [u8; 4 * (WORD_MASK + 1)] {
        // SAFETY: as in `bytes`; every byte pattern is a valid u32; the borrow is unique.
        unsafe { &mut *(&raw mut self.packet).cast() }
    }

    /// 4-tuple of the frame that [`crate::arrive`] read.
    #[inline(always)]
    pub fn key(&self) -> &FlowKey {
        &self.arrival.key
    }

    /// What the datagram is that [`crate::arrive`] read.
    #[inline(always)]
    pub fn protocol(&self) -> Protocol {
        classify(self.arrival.first as u8, self.arrival.second as u8)
    }

    /// Notes for the programs after the first the flow's slot, and whether another flow of this host
    /// has rewritten the packet.
    #[inline(always)]
    pub fn hand_on(&mut self, slot: u32, taken_over: bool) {
        self.work.slot = slot;
        self.work.taken_over = u32::from(taken_over);
    }

    /// What [`Scratch::hand_on`] noted.
    #[inline(always)]
    pub fn handed_on(&self) -> (u32, bool) {
        (self.work.slot, self.work.taken_over != 0)
    }

    /// What the daemon is to be told, once the packet is done with.
    #[inline(always)]
    pub fn event(&self) -> Option<&FlowEvent> {
        self.event.is_some().then_some(&self.event)
    }

    /// The packet's word at `index` as a number.
    #[inline(always)]
    pub(crate) fn word(&self, index: usize) -> u32 {
        u32::from_be(self.packet[index & WORD_MASK])
    }

    /// The packet's byte at `index`.
    #[inline(always)]
    pub(crate) fn byte(&self, index: u32) -> u32 {
        u32::from(self.bytes()[index as usize & BYTE_MASK])
    }

    /// Sets the packet's byte at `index`.
    #[inline(always)]
    pub(crate) fn set_byte(&mut self, index: u32, value: u32) {
        self.bytes_mut()[index as usize & BYTE_MASK] = value as u8;
    }

    /// The packet's words at `index` and behind it as one number.
    #[inline(always)]
    pub(crate) fn two_words(&self, index: usize) -> u64 {
        (u64::from(self.word(index)) << 32) | u64::from(self.word(index + 1))
    }

    /// Four bytes of the packet from any offset on, as a number.
    #[inline(always)]
    pub(crate) fn unaligned(&self, offset: usize) -> u32 {
        ((self.two_words(offset / 4) << (8 * (offset & 3))) >> 32) as u32
    }

    /// Puts the first words of the digest behind the packet, and zeros up to the next whole word.
    #[inline(always)]
    pub(crate) fn append_digest(&mut self, words: usize) {
        let end = self.work.bytes as usize;
        let (word, shift) = (end / 4, 8 * (end as u32 & 3));
        let mut carried = self.word(word) & !(u32::MAX >> shift);
        for place in 0..words {
            let part = u64::from(self.digest[place]) << (32 - shift);
            self.set_word(word + place, carried | (part >> 32) as u32);
            carried = part as u32;
        }
        self.set_word(word + words, carried);
    }

    /// Zeros what stands in the packet's last word behind `bytes`, and `N` words more.
    #[inline(always)]
    pub(crate) fn end_with_zeros<const N: usize>(&mut self, bytes: usize) {
        let last = (bytes / 4) & WORD_MASK;
        let word = self.word(last);
        self.set_word(last, word & !(u32::MAX >> (8 * (bytes & 3))));
        if let Some(behind) = self.packet.get_mut(last + 1..last + 1 + N) {
            zero(behind);
        }
    }

    /// Sets the packet's word at `index`.
    #[inline(always)]
    pub(crate) fn set_word(&mut self, index: usize, value: u32) {
        self.packet[index & WORD_MASK] = value.to_be();
    }
}

/// Writes zeros. Volatile, because for BPF the compiler makes of such loops the call of a function that goes byte by byte.
#[inline(always)]
pub(crate) fn zero(words: &mut [u32]) {
    for word in words {
        // SAFETY: a unique reference.
        unsafe { core::ptr::write_volatile(word, 0) };
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
