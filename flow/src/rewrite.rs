//! The headers of the frame that leaves: the entry's ready bytes with lengths, hop limit and checksums set.
//!
//! The UDP checksum is computed in full. The arriving one is never trusted or patched: cryptography
//! changes every byte, and on virtual interfaces it may hold nothing but the pseudo header's sum.

use crate::entry::FlowEntry;
use crate::scratch::{PACKET_BYTES, Scratch};

const UDP_BYTES: u32 = 8;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
/// Index mask of the header's 16-bit halves.
const HALF_MASK: usize = 63;

/// Makes the header in the scratch memory for a packet of `bytes` there.
#[inline(never)]
pub(crate) fn headers(entry: &FlowEntry, scratch: &mut Scratch, bytes: u32) {
    let egress = entry.egress(scratch.work.medium);
    scratch.header = egress.header;
    let ttl = scratch
        .arrival
        .ttl
        .wrapping_sub(1)
        .min(u32::from(egress.ttl));
    let udp_bytes = UDP_BYTES + bytes;
    let offset = egress.network_offset;
    let length = egress.header_bytes;
    let udp_length = half(udp_bytes);
    if length.wrapping_sub(offset) == IPV4_BYTES + UDP_BYTES {
        let total = half(IPV4_BYTES + udp_bytes);
        // Time to live and protocol are one 16-bit word; the protocol's half is in the sum already.
        let ttl_word = half(ttl << 8);
        put(scratch, offset + 2, total);
        put(scratch, offset + 8, half((ttl << 8) | 17));
        put(
            scratch,
            offset + 10,
            !fold(u64::from(egress.network_sum) + u64::from(total) + u64::from(ttl_word)),
        );
    } else {
        put(scratch, offset + 4, udp_length);
        put(scratch, offset + 6, half((17 << 8) | ttl));
    }
    put(scratch, length.wrapping_sub(4), udp_length);
    let sum =
        u64::from(egress.transport_sum) + 2 * u64::from(udp_length) + packet_sum(scratch, bytes);
    // Zero would say that there is no checksum (RFC 768, RFC 8200 section 8.1).
    let checksum = match !fold(sum) {
        0 => 0xffff,
        checksum => checksum,
    };
    put(scratch, length.wrapping_sub(2), checksum);
}

/// Sum of the packet's words as they stand in memory (RFC 1071).
#[inline(always)]
fn packet_sum(scratch: &mut Scratch, bytes: u32) -> u64 {
    // What stands behind the packet in its last word must not count.
    let (last, kept) = ((bytes / 4) as usize, 8 * (bytes & 3));
    let word = scratch.word(last);
    scratch.set_word(last, word & !(u32::MAX >> kept));
    let words = bytes.div_ceil(4) as usize;
    let mut sum = 0;
    for word in 0..PACKET_BYTES.div_ceil(4) {
        if word >= words {
            break;
        }
        sum += u64::from(scratch.packet[word]);
    }
    sum
}

/// A number of 16 bits as it stands in memory in network order.
#[inline(always)]
fn half(value: u32) -> u16 {
    (value as u16).to_be()
}

/// Folds a sum to 16 bits (RFC 1071 section 4.1).
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Writes 16 bits, in memory order, at an even offset of the header.
#[inline(always)]
fn put(scratch: &mut Scratch, offset: u32, value: u16) {
    let place = (offset / 2) as usize & HALF_MASK;
    if let Some(word) = scratch.header.get_mut(place / 2) {
        let shift = if cfg!(target_endian = "little") {
            16 * (place as u32 & 1)
        } else {
            16 - 16 * (place as u32 & 1)
        };
        *word = (*word & !(0xffff << shift)) | (u32::from(value) << shift);
    }
}

const _: () = assert!(IPV6_BYTES + UDP_BYTES + 18 <= 72);
