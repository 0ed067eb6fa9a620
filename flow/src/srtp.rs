//! SRTP for the packet in the scratch memory (RFC 3711 section 3.3): keystream and authentication
//! tag at constant offsets. Which index a packet has, and whether it may be used, is
//! [`crate::state`]'s business.

use crate::Why;
use crate::aes;
use crate::keys::KeyBlock;
use crate::scratch::{PACKET_BYTES, Scratch, WORD_MASK};
use crate::sha1;

/// Words of a SHA-1 block.
const BLOCK_WORDS: usize = 16;
/// Most blocks that authentication takes: packet, rollover counter, padding bit, length.
const MAX_BLOCKS: usize = (PACKET_BYTES + 4 + 9).div_ceil(64);
/// Most passes that a packet's payload takes.
const MAX_PASSES: usize = PACKET_BYTES.div_ceil(4 * aes::PASS_WORDS);

const _: () = assert!((MAX_BLOCKS * BLOCK_WORDS) <= WORD_MASK);

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
///
/// # Errors
/// [`Why::AuthFailed`].
#[inline(never)]
pub(crate) fn verify(keys: &KeyBlock, scratch: &mut Scratch) -> Result<(), Why> {
    let end = scratch.work.bytes as usize;
    // The authenticated message goes on with the rollover counter where the tag stands: take the
    // tag aside first.
    for place in 0..3 {
        scratch.tag[place] = unaligned(scratch, end + 4 * place);
    }
    authenticate(keys, scratch);
    let mut difference = scratch.tag[0] ^ scratch.digest[0];
    if keys.tag_bytes() == Some(10) {
        difference |= scratch.tag[1] ^ scratch.digest[1];
        difference |= (scratch.tag[2] ^ scratch.digest[2]) >> 16;
    }
    if difference == 0 {
        Ok(())
    } else {
        Err(Why::AuthFailed)
    }
}

/// Puts the authentication tag behind the packet. Writes whole words: up to 13 bytes behind the
/// packet are used.
#[inline(never)]
pub(crate) fn sign(keys: &KeyBlock, scratch: &mut Scratch) {
    authenticate(keys, scratch);
    let end = scratch.work.bytes as usize;
    let (word, shift) = (end / 4, 8 * (end as u32 & 3));
    let mut carried = scratch.word(word) & !(u32::MAX >> shift);
    for place in 0..3 {
        let part = u64::from(scratch.digest[place]) << (32 - shift);
        scratch.set_word(word + place, carried | (part >> 32) as u32);
        carried = part as u32;
    }
    scratch.set_word(word + 3, carried);
}

/// HMAC-SHA1 over packet and rollover counter, into the scratch digest. Overwrites what stands
/// behind the packet.
#[inline(never)]
fn authenticate(keys: &KeyBlock, scratch: &mut Scratch) {
    let end = scratch.work.bytes as usize;
    let rollovers = (scratch.work.index >> 16) as u32;
    // Behind the packet: ROC, a one bit, zeros to the block's end, length in bits with the padded
    // key's block.
    let (word, shift) = (end / 4, 8 * (end as u32 & 3));
    let trailer = ((u64::from(rollovers) << 32) | 0x8000_0000) >> shift;
    let kept = scratch.word(word) & !(u32::MAX >> shift);
    scratch.set_word(word, kept | (trailer >> 32) as u32);
    scratch.set_word(word + 1, trailer as u32);
    let blocks = (end + 4 + 9).div_ceil(64);
    let length = blocks * BLOCK_WORDS - 1;
    for gap in 0..BLOCK_WORDS {
        if word + 2 + gap >= length {
            break;
        }
        scratch.set_word(word + 2 + gap, 0);
    }
    scratch.set_word(length, 8 * (64 + end as u32 + 4));

    scratch.digest = keys.inner;
    for block in 0..MAX_BLOCKS {
        if block >= blocks {
            break;
        }
        if let Some(words) = scratch.packet.as_chunks::<BLOCK_WORDS>().0.get(block) {
            sha1::compress(&mut scratch.digest, words, &mut scratch.schedule);
        }
    }
    for place in 0..5 {
        scratch.block[place] = scratch.digest[place].to_be();
    }
    scratch.block[5] = 0x8000_0000_u32.to_be();
    for place in 6..15 {
        scratch.block[place] = 0;
    }
    scratch.block[15] = (8_u32 * (64 + 20)).to_be();
    scratch.digest = keys.outer;
    sha1::compress(&mut scratch.digest, &scratch.block, &mut scratch.schedule);
}

/// Four bytes of the packet from any offset on, as a number.
#[inline(always)]
fn unaligned(scratch: &Scratch, offset: usize) -> u32 {
    let pair =
        (u64::from(scratch.word(offset / 4)) << 32) | u64::from(scratch.word(offset / 4 + 1));
    ((pair << (8 * (offset & 3))) >> 32) as u32
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
