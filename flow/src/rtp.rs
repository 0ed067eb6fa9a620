//! The RTP header (RFC 3550 section 5.1) of the packet in the scratch memory: read and checked,
//! stripped, rewritten.

use crate::entry::FlowHead;
use crate::scratch::{PACKET_BYTES, Scratch, WORD_MASK};
use crate::{STREAMS, Why, extension};

/// Words of the fixed header.
const FIXED_WORDS: u32 = 3;
const PADDING: u32 = 1 << 29;
const EXTENSION: u32 = 1 << 28;
/// More words than a packet has.
const MAX_WORDS: usize = PACKET_BYTES / 4;

/// Reads the header of a packet of `length` bytes and checks all that can be checked before any
/// state is touched.
#[inline(never)]
pub(crate) fn read(entry: &FlowHead, scratch: &mut Scratch, length: u32) -> Result<(), Why> {
    let first = scratch.word(0);
    let action = entry.action().ok_or(Why::StaleSlot)?;
    let (mut tag_in, mut tag_out) = (0, 0);
    if action.unprotects() {
        tag_in = entry.tag_in().ok_or(Why::StaleSlot)?;
    }
    if action.protects() {
        tag_out = entry.tag_out().ok_or(Why::StaleSlot)?;
    }
    if length < 4 * FIXED_WORDS {
        return Err(Why::BadRtp);
    }
    if length < 4 * FIXED_WORDS + tag_in {
        return Err(Why::ShortTag);
    }
    let bytes = length - tag_in;
    let fixed = FIXED_WORDS + ((first >> 24) & 15);
    if 4 * fixed > bytes {
        return Err(Why::BadRtp);
    }
    let mut extension = 0;
    if first & EXTENSION != 0 {
        if 4 * (fixed + 1) > bytes {
            return Err(Why::BadExtension);
        }
        extension = 1 + (scratch.word(fixed as usize) & 0xffff);
        if 4 * (fixed + extension) > bytes {
            return Err(Why::BadExtension);
        }
    }
    let Some(payload) = entry.payload(first >> 16) else {
        return Err(Why::PayloadType);
    };
    let medium = payload.medium();
    let egress = entry.egress(medium);
    if egress.exit().is_none() {
        return Err(Why::StaleSlot);
    }
    // What of the extension stays is known only when the packet is plain.
    let removed = if entry.extends() { 0 } else { extension };
    let leaving = bytes - 4 * removed + tag_out;
    let network = egress.header_bytes.wrapping_sub(egress.network_offset);
    if network.wrapping_add(leaving) > u32::from(egress.mtu) || leaving > PACKET_BYTES as u32 {
        return Err(Why::TooLong);
    }
    scratch.work.bytes = bytes;
    scratch.work.fixed_words = fixed;
    scratch.work.extension_words = extension;
    scratch.work.octets = bytes - 4 * (fixed + extension);
    scratch.work.payload_type_out = payload.out();
    scratch.work.event = payload.event();
    scratch.work.medium = medium;
    scratch.work.sequence = first & 0xffff;
    scratch.work.timestamp = scratch.word(1);
    scratch.work.ssrc = scratch.word(2);
    Ok(())
}

/// Takes the padding (RFC 3550 section 5.1: its last octet counts it) off the octets that are
/// reported. The packet is plain.
#[inline(never)]
pub(crate) fn read_padding(scratch: &mut Scratch) -> Result<(), Why> {
    if scratch.word(0) & PADDING == 0 {
        return Ok(());
    }
    let last = scratch.work.bytes.wrapping_sub(1);
    let padding = (scratch.word((last >> 2) as usize) >> (24 - 8 * (last & 3))) & 0xff;
    if padding == 0 || padding > scratch.work.octets {
        return Err(Why::BadRtp);
    }
    scratch.work.octets -= padding;
    Ok(())
}

/// Writes the header that leaves, and maps or removes the header extension as the entry says.
#[inline(never)]
pub(crate) fn rewrite(entry: &FlowHead, scratch: &mut Scratch) {
    let work = scratch.work;
    let mut first = scratch.word(0) & !(0xffff | (0x7f << 16) | EXTENSION);
    if work.extension_words != 0 {
        let kept = extension::map(entry, scratch);
        if kept != 0 {
            first |= EXTENSION;
        }
        close_up(scratch, kept);
    }
    scratch.set_word(
        0,
        first | ((work.payload_type_out & 0x7f) << 16) | (work.sequence_out & 0xffff),
    );
    scratch.set_word(1, work.timestamp_out);
    scratch.set_word(2, entry.ssrc_out(work.stream as usize & (STREAMS - 1)));
    if work.event != 0 {
        scratch.set_word(scratch.work.payload_word(), work.event_word);
    }
}

/// Moves the payload up to the words that are kept of the header extension.
#[inline(always)]
fn close_up(scratch: &mut Scratch, kept: u32) {
    let from = scratch.work.payload_word() & WORD_MASK;
    let words = (scratch.work.payload_bytes() as usize).div_ceil(4);
    let removed = scratch.work.extension_words.wrapping_sub(kept);
    scratch.work.extension_words = kept;
    scratch.work.bytes = scratch.work.bytes.wrapping_sub(4 * removed);
    if removed == 0 {
        return;
    }
    let to = scratch.work.payload_word() & WORD_MASK;
    for word in 0..MAX_WORDS {
        if word >= words {
            break;
        }
        scratch.packet[(to + word) & WORD_MASK] = scratch.packet[(from + word) & WORD_MASK];
    }
}
