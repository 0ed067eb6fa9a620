//! SRTP for the packet in the scratch memory: who does the cryptographic work, and AES-CM with
//! HMAC-SHA1 (RFC 3711 section 3.3) at constant offsets. Which index a packet has, and whether it
//! may be used, is [`crate::state`]'s business.
//!
//! No branch and no address here or below depends on a key or on keystream: lengths, suite and the
//! outcome of a comparison are public.

use crate::aes;
use crate::entry::Action;
use crate::gcm;
use crate::keys::KeyBlock;
use crate::keystream;
use crate::opaque::opaque;
use crate::scratch::{PACKET_BYTES, Scratch, WORD_MASK, zero};
use crate::sha1;
use crate::{Family, Flow, Why};

/// Words of a SHA-1 block.
const BLOCK_WORDS: usize = 16;
/// Most blocks that authentication takes: packet, rollover counter, padding bit, length.
const MAX_BLOCKS: usize = (PACKET_BYTES + 4 + 9).div_ceil(64);
/// Most passes that a packet's payload takes.
const MAX_PASSES: usize = PACKET_BYTES.div_ceil(4 * aes::PASS_WORDS);

const _: () = assert!((MAX_BLOCKS * BLOCK_WORDS) <= WORD_MASK);

/// Who does the cryptographic work on a packet that stands in the scratch memory, its header read
/// and its index in `work`. The state machine around it is the same for all ([`crate::forward()`]).
pub trait Crypto {
    /// Authenticates the packet, in constant time, and then decrypts it with the keys of the entry's
    /// arriving side. `work.bytes` is the length without tag. A packet that is not authentic can come
    /// once more, under another index.
    ///
    /// # Errors
    /// [`Why::AuthFailed`].
    fn open(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why>;

    /// Encrypts the packet with the keys of the entry's leaving side, and puts the tag behind it;
    /// `work.bytes` grows by it.
    fn seal(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch);
}

/// The suites of AES-CM and HMAC-SHA1 by this crate's own code.
pub struct CounterMode;

/// The suites of AES-GCM by this crate's own code.
pub struct GaloisMode;

/// Every suite by this crate's own code.
pub struct Portable;

impl Crypto for CounterMode {
    #[inline(always)]
    fn open(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
        let keys = flow.keys;
        take_keystream(flow, scratch, Action::Unprotect);
        let result = verify(&keys.unprotect, scratch);
        give_back_keystream(flow, scratch, result)?;
        if !add_keystream(flow, scratch) {
            crypt(&keys.unprotect, scratch);
        }
        Ok(())
    }

    #[inline(always)]
    fn seal(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) {
        let keys = flow.keys;
        take_keystream(flow, scratch, Action::Protect);
        if !add_keystream(flow, scratch) {
            crypt(&keys.protect, scratch);
        }
        authenticate(&keys.protect, scratch);
        scratch.append_digest(3);
        scratch.work.bytes += flow.entry.tag_out().unwrap_or(0);
    }
}

impl Crypto for GaloisMode {
    #[inline(always)]
    fn open(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
        let keys = flow.keys;
        take_keystream(flow, scratch, Action::Unprotect);
        gcm::start(&keys.unprotect, scratch);
        let result = gcm::verify(&keys.unprotect, scratch);
        give_back_keystream(flow, scratch, result)?;
        if !add_keystream(flow, scratch) {
            gcm::crypt(&keys.unprotect, scratch);
        }
        Ok(())
    }

    #[inline(always)]
    fn seal(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) {
        let keys = flow.keys;
        take_keystream(flow, scratch, Action::Protect);
        gcm::start(&keys.protect, scratch);
        if !add_keystream(flow, scratch) {
            gcm::crypt(&keys.protect, scratch);
        }
        gcm::sign(&keys.protect, scratch);
        scratch.work.bytes += flow.entry.tag_out().unwrap_or(0);
    }
}

impl Crypto for Portable {
    fn open(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
        match flow.entry.family_in() {
            Some(Family::CounterMode) => CounterMode.open(flow, scratch),
            Some(Family::GaloisMode) => GaloisMode.open(flow, scratch),
            None => Err(Why::StaleSlot),
        }
    }

    fn seal(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) {
        match flow.entry.family_out() {
            Some(Family::CounterMode) => CounterMode.seal(flow, scratch),
            Some(Family::GaloisMode) | None => GaloisMode.seal(flow, scratch),
        }
    }
}

/// Takes the packet's keystream from the flow's ring, if the ring has it: `work.ready` says so. A
/// ring is for one set of keys: the flow's only one, or that of the leaving side.
#[inline(always)]
fn take_keystream(flow: &Flow<'_>, scratch: &mut Scratch, side: Action) {
    let served = match flow.entry.action() {
        Some(Action::Transcrypt) => Some(Action::Protect),
        action => action,
    };
    let epoch = if served == Some(side) {
        flow.entry.keystream_epoch()
    } else {
        0
    };
    keystream::take(flow.keystream, epoch, scratch);
}

/// The keystream of a packet that is not authentic stays for the one that is.
#[inline(always)]
fn give_back_keystream(
    flow: &Flow<'_>,
    scratch: &mut Scratch,
    result: Result<(), Why>,
) -> Result<(), Why> {
    if result.is_err() && scratch.work.ready != 0 {
        keystream::give_back(flow.keystream, scratch);
    }
    result
}

/// Encrypts or decrypts with the keystream that was taken; false if there is none.
#[inline(always)]
fn add_keystream(flow: &mut Flow<'_>, scratch: &mut Scratch) -> bool {
    let ready = scratch.work.ready != 0;
    if ready {
        keystream::apply(flow.keystream, scratch);
        flow.stats.count_keystream();
    }
    ready
}

/// Encrypts or decrypts the payload: the same in counter mode. The SSRC is taken from the packet's header.
#[inline(never)]
pub(crate) fn crypt(keys: &KeyBlock, scratch: &mut Scratch) {
    let index = scratch.work.index;
    // IV = salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16 (RFC 3711 section 4.1.1).
    let iv = [
        keys.salt[0],
        keys.salt[1] ^ scratch.word(2),
        keys.salt[2] ^ (index >> 16) as u32,
        keys.salt[3] ^ ((index as u32) << 16),
    ];
    let columns = iv.map(u32::swap_bytes);
    aes::start(&keys.round_keys, &columns, &mut scratch.counter);
    let words = scratch.work.payload_bytes().div_ceil(4) as usize;
    let first = scratch.work.fixed_words + scratch.work.extension_words;
    for pass in 0..MAX_PASSES {
        if pass * aes::PASS_WORDS >= words {
            break;
        }
        aes::pass(
            &keys.round_keys,
            keys.is_long(),
            scratch,
            pass as u32,
            first + (pass * aes::PASS_WORDS) as u32,
        );
    }
}

/// Checks the authentication tag behind the packet against the index in `work` (RFC 3711 section
/// 4.2), in constant time.
#[inline(never)]
fn verify(keys: &KeyBlock, scratch: &mut Scratch) -> Result<(), Why> {
    let end = scratch.work.bytes as usize;
    // The authenticated message goes on with the rollover counter where the tag stands: take the
    // tag aside first. There it still is when the packet is tried again.
    if !scratch.is_tried_again() {
        for place in 0..3 {
            scratch.tag[place] = scratch.unaligned(end + 4 * place);
        }
    }
    authenticate(keys, scratch);
    let mut difference = scratch.tag[0] ^ scratch.digest[0];
    if keys.tag_bytes() == Some(10) {
        difference |= scratch.tag[1] ^ scratch.digest[1];
        difference |= (scratch.tag[2] ^ scratch.digest[2]) >> 16;
    }
    if opaque(difference) == 0 {
        Ok(())
    } else {
        Err(Why::AuthFailed)
    }
}

/// HMAC-SHA1 over packet and rollover counter, into the scratch digest. Overwrites what stands
/// behind the packet.
#[inline(never)]
fn authenticate(keys: &KeyBlock, scratch: &mut Scratch) {
    let end = scratch.work.bytes as usize;
    let rollovers = (scratch.work.index >> 16) as u32;
    // Behind the packet: ROC, a one bit, zeros to the block's end, length in bits with the padded
    // key's block.
    scratch.end_with_zeros::<{ BLOCK_WORDS + 1 }>(end);
    let (word, shift) = (end / 4, 8 * (end as u32 & 3));
    let trailer = ((u64::from(rollovers) << 32) | 0x8000_0000) >> shift;
    let kept = scratch.word(word);
    scratch.set_word(word, kept | (trailer >> 32) as u32);
    scratch.set_word(word + 1, trailer as u32);
    let blocks = (end + 4 + 9).div_ceil(64);
    scratch.set_word(blocks * BLOCK_WORDS - 1, 8 * (64 + end as u32 + 4));

    scratch.digest = keys.inner;
    for block in 0..MAX_BLOCKS {
        if block >= blocks {
            break;
        }
        if let Some(words) = scratch.packet.as_chunks::<BLOCK_WORDS>().0.get(block) {
            sha1::compress(&mut scratch.digest, words);
        }
    }
    for place in 0..5 {
        scratch.block[place] = scratch.digest[place].to_be();
    }
    scratch.block[5] = 0x8000_0000_u32.to_be();
    zero(&mut scratch.block[6..15]);
    scratch.block[15] = (8_u32 * (64 + 20)).to_be();
    scratch.digest = keys.outer;
    sha1::compress(&mut scratch.digest, &scratch.block);
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;
    use crate::{SessionKey, SrtpKeys, Suite};

    /// HMAC-SHA1 of `data`, its last four bytes in the place of the rollover counter.
    fn hmac(key: [u8; 20], data: &[u8]) -> String {
        let session = SessionKey {
            cipher: [0; 32],
            auth: key,
            salt: [0; 14],
        };
        let keys = SrtpKeys::new(Suite::AesCm128HmacSha1_80, &session).block();
        let (packet, rollovers) = data.split_last_chunk::<4>().unwrap();
        let mut scratch = Scratch::new();
        scratch.bytes_mut().fill(0x77);
        scratch.bytes_mut()[..packet.len()].copy_from_slice(packet);
        scratch.work.bytes = packet.len() as u32;
        scratch.work.index = u64::from(u32::from_be_bytes(*rollovers)) << 16;
        authenticate(&keys, &mut scratch);
        scratch
            .digest
            .iter()
            .map(|word| format!("{word:08x}"))
            .collect()
    }

    #[test]
    fn rfc_2202_hmac_sha1() {
        assert_eq!(
            hmac([0x0b; 20], b"Hi There"),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
        assert_eq!(
            hmac([0xaa; 20], &[0xdd; 50]),
            "125d7342b9ac11cd91a39af48aa17b4f63f175d3"
        );
        let mut key = [0; 20];
        key[..4].copy_from_slice(b"Jefe");
        // A shorter key is padded with zeros (RFC 2104 section 2).
        assert_eq!(
            hmac(key, b"what do ya want for nothing?"),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }
}
