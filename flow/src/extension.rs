//! The header extension of the packet in the scratch memory (RFC 8285): elements that were negotiated keep their place under the other
//! side's identifiers, everything else goes.
//!
//! Both forms are read. What leaves has the one-byte form, unless an element that stays does not fit it: then it has the two-byte
//! form as it came. Reading ends where the RFC has it end (identifier 15, an element that is none or runs over the end); what came
//! before stays. Called by [`crate::rtp`] for plain packets.

use crate::entry::FlowHead;
use crate::scratch::Scratch;

/// Profiles of the two forms; the last four bits of the second are the application's.
const ONE_BYTE: u32 = 0xbede;
const TWO_BYTES: u32 = 0x1000;
/// Longest extension that is read, without its header; a longer one is removed whole.
const READ_BYTES: u32 = 128;

/// Where reading is. In the scratch memory, and each byte read by a call: the verifier then forgets from byte to byte what it knew.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// Next byte, in the packet.
    from: u32,
    /// Where the extension ends.
    end: u32,
    /// Where the next byte that stays is written.
    to: u32,
    /// Bytes that are left of the element at hand.
    left: u32,
    /// 1 if it stays.
    stays: u32,
    /// 1 where the next byte is a length that the form which leaves has elsewhere.
    skips: u32,
    /// Elements that stay and do not fit the one-byte form.
    unfit: u32,
    /// 1 where the form that arrives has one byte before each element.
    short_in: u32,
    /// 1 where the form that leaves has.
    short_out: u32,
    /// 1 where something is written.
    writes: u32,
}

impl Reading {
    pub(crate) const NONE: Self = Self {
        from: 0,
        end: 0,
        to: 0,
        left: 0,
        stays: 0,
        skips: 0,
        unfit: 0,
        short_in: 0,
        short_out: 0,
        writes: 0,
    };
}

/// Maps the elements in place; words of the extension that leaves with its header, 0 if nothing of it stays.
#[inline(never)]
pub(crate) fn map(entry: &FlowHead, scratch: &mut Scratch) -> u32 {
    let (fixed, words) = (scratch.work.fixed_words, scratch.work.extension_words);
    let profile = scratch.word(fixed as usize) >> 16;
    let short_in = profile == ONE_BYTE;
    let known = short_in || profile & 0xfff0 == TWO_BYTES;
    if !entry.extends() || !known || words > 1 + READ_BYTES / 4 {
        return 0;
    }
    let start = 4 * (fixed + 1);
    scratch.reading = Reading {
        from: start,
        end: 4 * (fixed + words),
        to: start,
        short_in: u32::from(short_in),
        short_out: 1,
        ..Reading::NONE
    };
    if !short_in {
        read(entry, scratch);
        scratch.reading = Reading {
            from: start,
            left: 0,
            short_out: u32::from(scratch.reading.unfit == 0),
            ..scratch.reading
        };
    }
    scratch.reading.writes = 1;
    read(entry, scratch);
    finish(scratch, fixed as usize, start)
}

/// Reads all elements.
#[inline(never)]
fn read(entry: &FlowHead, scratch: &mut Scratch) {
    for _ in 0..READ_BYTES {
        if !step(entry, scratch) {
            break;
        }
    }
}

/// Reads a byte, and writes what it leaves as; false where there is none.
#[inline(never)]
fn step(entry: &FlowHead, scratch: &mut Scratch) -> bool {
    let from = scratch.reading.from;
    if from >= scratch.reading.end {
        return false;
    }
    scratch.reading.from = from.wrapping_add(1);
    let mut byte = scratch.byte(from);
    if scratch.reading.left > 0 {
        scratch.reading.left -= 1;
        let skips = scratch.reading.skips != 0;
        scratch.reading.skips = 0;
        if skips || scratch.reading.stays == 0 {
            return true;
        }
    } else if byte == 0 {
        // Padding.
        return true;
    } else {
        match begin(entry, scratch, byte) {
            None => return false,
            Some(0) => return true,
            Some(first) => byte = first,
        }
    }
    if scratch.reading.writes != 0 {
        let to = scratch.reading.to;
        scratch.reading.to = to.wrapping_add(1);
        scratch.set_byte(to, byte);
    }
    true
}

/// Begins an element: the first byte that it leaves with, 0 if it does not stay; `None` where reading ends.
#[inline(never)]
fn begin(entry: &FlowHead, scratch: &mut Scratch, byte: u32) -> Option<u32> {
    let reading = scratch.reading;
    let (id, length, behind) = if reading.short_in != 0 {
        let length = (byte & 15) + 1;
        (byte >> 4, length, length)
    } else {
        let length = scratch.byte(reading.from);
        (byte, length, length + 1)
    };
    let reserved = reading.short_in != 0 && (id == 0 || id == 15);
    if reserved || reading.from.wrapping_add(behind) > reading.end {
        return None;
    }
    let out = entry.extension(id);
    scratch.reading.left = behind;
    scratch.reading.stays = out;
    scratch.reading.skips = reading.short_out & (1 ^ reading.short_in);
    if out != 0 && !(1..=16).contains(&length) {
        scratch.reading.unfit = reading.unfit.wrapping_add(1);
    }
    Some(if out == 0 || reading.short_out == 0 {
        out
    } else {
        out << 4 | (length.wrapping_sub(1) & 15)
    })
}

/// Makes the header of what was written, and pads it to whole words.
#[inline(never)]
fn finish(scratch: &mut Scratch, fixed: usize, start: u32) -> u32 {
    let Reading { to, short_out, .. } = scratch.reading;
    let bytes = to.wrapping_sub(start);
    let words = bytes.div_ceil(4);
    if words == 0 {
        return 0;
    }
    for padding in 0..3 {
        if bytes + padding < 4 * words {
            scratch.set_byte(to.wrapping_add(padding), 0);
        }
    }
    let profile = if short_out != 0 { ONE_BYTE } else { TWO_BYTES };
    scratch.set_word(fixed, profile << 16 | (words & 0xffff));
    1 + words
}
