//! The headers of the frame that leaves: the entry's ready bytes with lengths, hop limit and checksums set.
//!
//! The UDP checksum is computed in full. The arriving one is never trusted or patched: cryptography
//! changes every byte, and on virtual interfaces it may hold nothing but the pseudo header's sum.

use crate::entry::FlowHead;
use crate::scratch::{PACKET_BYTES, Scratch};

const UDP_BYTES: u32 = 8;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
/// Words that are summed without a look at the packet's end.
const SUM_WORDS: usize = 8;
const MAX_GROUPS: usize = PACKET_BYTES.div_ceil(4 * SUM_WORDS);
/// Index mask of the header's 16-bit halves.
const HALF_MASK: usize = 63;

/// Makes the header in the scratch memory for a packet of `bytes` there.
#[inline(never)]
pub(crate) fn headers(entry: &FlowHead, scratch: &mut Scratch, bytes: u32) {
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

/// Sum of the packet's words as they stand in memory (RFC 1071). Zeros come to stand behind the packet.
#[inline(always)]
fn packet_sum(scratch: &mut Scratch, bytes: u32) -> u64 {
    scratch.end_with_zeros::<SUM_WORDS>(bytes as usize);
    let groups = bytes.div_ceil(4 * SUM_WORDS as u32) as usize;
    let mut sum = 0;
    for (group, words) in scratch.packet.as_chunks::<SUM_WORDS>().0.iter().enumerate() {
        if group >= groups || group >= MAX_GROUPS {
            break;
        }
        for word in words {
            sum += u64::from(*word);
        }
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
