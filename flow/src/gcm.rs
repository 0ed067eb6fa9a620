//! SRTP with AES-GCM for the packet in the scratch memory (RFC 7714 section 8): the header with
//! CSRC list and extension is authenticated, the payload encrypted and authenticated.
//!
//! Counter block 1 encrypts the tag, 2 and up are the payload's keystream. The cipher's first pass
//! (blocks 0 to 3) is needed before the tag can be checked, so it is made first and kept in spare
//! words behind the packet. [`crate::srtp`] calls [`start`] and then, to decrypt,
//! [`verify`] and [`crypt`]; to encrypt, [`crypt`] and [`sign`].

use crate::Why;
use crate::aes;
use crate::ghash;
use crate::keys::KeyBlock;
use crate::opaque::opaque;
use crate::scratch::{PACKET_BYTES, Scratch, WORD_MASK, zero};

/// Words of a block.
const BLOCK_WORDS: usize = 4;
/// Most blocks of a packet's header or payload.
const MAX_BLOCKS: usize = PACKET_BYTES.div_ceil(16);
/// Most passes of the cipher: two blocks go before the payload's.
const MAX_PASSES: usize = (MAX_BLOCKS + 2).div_ceil(aes::PASS_BLOCKS);
/// Where the first pass stands: behind the longest packet with its tag and what hashing adds.
const FIRST_PASS: usize = 480;
/// In it, what the tag is encrypted with, and the payload's first two blocks.
const PAD: usize = FIRST_PASS + BLOCK_WORDS;
const FIRST_BLOCKS: usize = PAD + BLOCK_WORDS;
/// Words of those two blocks.
const FIRST_WORDS: usize = 2 * BLOCK_WORDS;

const _: () = assert!(PACKET_BYTES / 4 + 2 * BLOCK_WORDS < FIRST_PASS);
const _: () = assert!(FIRST_PASS + aes::PASS_WORDS <= WORD_MASK + 1);

/// Checks the tag behind the packet under the index in `work`, in constant time; [`start`] came before.
///
/// # Errors
/// [`Why::AuthFailed`]; the payload is as it came then.
#[inline(never)]
pub(crate) fn verify(keys: &KeyBlock, scratch: &mut Scratch) -> Result<(), Why> {
    let end = scratch.work.bytes as usize;
    // It is overwritten by what hashing adds, but stays aside when the packet is tried again.
    if !scratch.is_tried_again() {
        for place in 0..BLOCK_WORDS {
            scratch.tag[place] = scratch.unaligned(end + 4 * place);
        }
    }
    authenticate(keys, scratch);
    let mut difference = 0;
    for place in 0..BLOCK_WORDS {
        difference |= scratch.tag[place] ^ scratch.digest[place];
    }
    if opaque(difference) == 0 {
        Ok(())
    } else {
        Err(Why::AuthFailed)
    }
}

/// Puts the tag behind the encrypted packet; [`start`] came before.
#[inline(never)]
pub(crate) fn sign(keys: &KeyBlock, scratch: &mut Scratch) {
    authenticate(keys, scratch);
    scratch.append_digest(BLOCK_WORDS);
}

/// The cipher's first pass, or in its place what was made ahead of time. The SSRC is taken from the
/// packet's header.
#[inline(never)]
pub(crate) fn start(keys: &KeyBlock, scratch: &mut Scratch) {
    if scratch.work.ready != 0 {
        for place in 0..BLOCK_WORDS {
            scratch.packet[PAD + place] = scratch.pad[place];
        }
        return;
    }
    let (ssrc, index) = (scratch.word(2), scratch.work.index);
    // 00 00 | SSRC | ROC | SEQ, and the salt (RFC 7714 section 8.1); the counter's first byte is zero.
    let iv = [
        keys.salt[0] ^ (ssrc >> 16),
        keys.salt[1] ^ (ssrc << 16) ^ (index >> 32) as u32,
        keys.salt[2] ^ index as u32,
        0,
    ];
    aes::start(
        &keys.round_keys,
        &iv.map(u32::swap_bytes),
        &mut scratch.counter,
    );
    zero(&mut scratch.packet[FIRST_PASS..FIRST_PASS + aes::PASS_WORDS]);
    aes::pass(
        &keys.round_keys,
        keys.is_long(),
        scratch,
        0,
        FIRST_PASS as u32,
    );
}

/// What the tag is encrypted with, after [`start`]; in memory order.
pub(crate) fn pad(scratch: &Scratch) -> [u32; BLOCK_WORDS] {
    core::array::from_fn(|place| scratch.packet[PAD + place])
}

/// Encrypts or decrypts the payload; [`start`] came before.
#[inline(never)]
pub(crate) fn crypt(keys: &KeyBlock, scratch: &mut Scratch) {
    let first = (scratch.work.fixed_words + scratch.work.extension_words) as usize;
    for place in 0..FIRST_WORDS {
        scratch.packet[(first + place) & WORD_MASK] ^= scratch.packet[FIRST_BLOCKS + place];
    }
    let words = scratch.work.payload_bytes().div_ceil(4) as usize;
    for pass in 1..MAX_PASSES {
        let done = FIRST_WORDS + (pass - 1) * aes::PASS_WORDS;
        if done >= words {
            break;
        }
        aes::pass(
            &keys.round_keys,
            keys.is_long(),
            scratch,
            pass as u32,
            (first + done) as u32,
        );
    }
}

/// The tag of header and encrypted payload, into the scratch digest. Overwrites what stands behind
/// the packet.
#[inline(never)]
fn authenticate(keys: &KeyBlock, scratch: &mut Scratch) {
    scratch.hash.clear();
    hash_header(keys, scratch);
    hash_payload(keys, scratch);
    let hash = scratch.hash;
    let words = [hash.high >> 32, hash.high, hash.low >> 32, hash.low];
    for (place, word) in words.into_iter().enumerate() {
        scratch.digest[place] = word as u32 ^ scratch.word(PAD + place);
    }
}

#[inline(never)]
fn hash_header(keys: &KeyBlock, scratch: &mut Scratch) {
    let words = (scratch.work.fixed_words + scratch.work.extension_words) as usize;
    for block in 0..MAX_BLOCKS {
        let at = block * BLOCK_WORDS;
        if at >= words {
            break;
        }
        // Zeros fill the last block up.
        let word = |place: usize| {
            let place = at + place;
            if place < words {
                u64::from(scratch.word(place))
            } else {
                0
            }
        };
        let (high, low) = ((word(0) << 32) | word(1), (word(2) << 32) | word(3));
        ghash::absorb(&keys.hash, &mut scratch.hash, high, low);
    }
}

/// The payload, filled up with zeros, and both lengths in bits behind it.
#[inline(never)]
fn hash_payload(keys: &KeyBlock, scratch: &mut Scratch) {
    let header_words = scratch.work.fixed_words + scratch.work.extension_words;
    let (first, bytes) = (header_words as usize, scratch.work.payload_bytes());
    scratch.end_with_zeros::<{ BLOCK_WORDS - 1 }>(scratch.work.bytes as usize);
    let blocks = bytes.div_ceil(16) as usize;
    for block in 0..MAX_BLOCKS {
        if block >= blocks {
            break;
        }
        let at = first + block * BLOCK_WORDS;
        let (high, low) = (scratch.two_words(at), scratch.two_words(at + 2));
        ghash::absorb(&keys.hash, &mut scratch.hash, high, low);
    }
    let (header_bits, payload_bits) = (32 * u64::from(header_words), 8 * u64::from(bytes));
    ghash::absorb(&keys.hash, &mut scratch.hash, header_bits, payload_bits);
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use crate::{SessionKey, SrtpKeys, Suite};

    /// RFC 7714 section 16: session keys 00 01 02..., salt "Quid pro quo", rollover counter 0.
    const PLAIN: &str = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";

    fn keys(suite: Suite) -> SrtpKeys {
        let session = SessionKey {
            cipher: core::array::from_fn(|place| place as u8),
            auth: [0; 20],
            salt: *b"Quid pro quo\0\0",
        };
        SrtpKeys::new(suite, &session)
    }

    fn scratch(packet: &[u8], bytes: usize) -> Scratch {
        let mut scratch = Scratch::new();
        // What a longer packet left.
        scratch.bytes_mut().fill(0x77);
        scratch.bytes_mut()[..packet.len()].copy_from_slice(packet);
        scratch.work.bytes = bytes as u32;
        scratch.work.fixed_words = 3;
        scratch.work.index = 0xf17b;
        scratch
    }

    fn agrees(suite: Suite, protected: &str) {
        let (plain, protected) = (hex::decode(PLAIN).unwrap(), hex::decode(protected).unwrap());
        let keys = keys(suite).block();
        let mut leaving = scratch(&plain, plain.len());
        start(&keys, &mut leaving);
        crypt(&keys, &mut leaving);
        sign(&keys, &mut leaving);
        assert_eq!(leaving.bytes()[..protected.len()], protected);
        let mut arriving = scratch(&protected, plain.len());
        start(&keys, &mut arriving);
        assert_eq!(verify(&keys, &mut arriving), Ok(()));
        crypt(&keys, &mut arriving);
        assert_eq!(arriving.bytes()[..plain.len()], plain);
        for bit in 0..8 * protected.len() {
            let mut forged = protected.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let mut arriving = scratch(&forged, plain.len());
            start(&keys, &mut arriving);
            let refused = verify(&keys, &mut arriving);
            assert_eq!(refused, Err(Why::AuthFailed), "bit {bit}");
            assert_eq!(arriving.bytes()[..plain.len()], forged[..plain.len()]);
        }
    }

    #[test]
    fn rfc_7714_16_1_aes_128() {
        agrees(
            Suite::AeadAes128Gcm,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        );
    }

    #[test]
    fn rfc_7714_16_2_aes_256() {
        agrees(
            Suite::AeadAes256Gcm,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        );
    }
}
