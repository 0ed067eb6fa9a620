//! SHA-1's compression function (FIPS 180-4 section 6.1.2) and the HMAC midstates (RFC 2104) made from it.
//!
//! Why our own: the same code has to compile for BPF, and HMAC over a packet starts from midstates
//! that were computed when the key was installed. Called by [`crate::srtp`] per 64 bytes and by
//! [`crate::SrtpKeys`] once per key.

/// The state between compressions.
pub(crate) type State = [u32; 5];

/// State before the first block (FIPS 180-4 section 5.3.3).
const INITIAL: State = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// The states after the padded key: of the inner hash and of the outer hash (RFC 2104 section 4).
pub(crate) fn hmac_midstates(key: &[u8; 20]) -> (State, State) {
    (after_key(key, 0x36), after_key(key, 0x5c))
}

fn after_key(key: &[u8; 20], pad: u8) -> State {
    let mut bytes = [pad; 64];
    for (byte, key) in bytes.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut block = [0; 16];
    for (word, bytes) in block.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    let mut state = INITIAL;
    compress(&mut state, &block);
    state
}

/// Mixes one block of 16 words, as they stand in the packet (network order), into the state.
#[inline(always)]
pub(crate) fn compress(state: &mut State, block: &[u32; 16]) {
    #[cfg(target_arch = "bpf")]
    crate::sha1_bpf::sha1_compress(state, block);
    #[cfg(not(target_arch = "bpf"))]
    compress_portable(state, block);
}

/// Runs the steps of `$t`, the message schedule rolling over the 16 words of `$w`.
#[cfg(not(target_arch = "bpf"))]
macro_rules! steps {
    ($v:ident, $w:ident, $f:ident, $k:literal: $t:expr) => {
        for t in $t {
            if t >= 16 {
                let mixed = $w[(t + 13) % 16] ^ $w[(t + 8) % 16] ^ $w[(t + 2) % 16] ^ $w[t % 16];
                $w[t % 16] = mixed.rotate_left(1);
            }
            $v = step($v, $f($v[1], $v[2], $v[3]), $k, $w[t % 16]);
        }
    };
}

#[cfg(not(target_arch = "bpf"))]
fn compress_portable(state: &mut State, block: &[u32; 16]) {
    let mut w = block.map(u32::from_be);
    let mut v = *state;
    steps!(v, w, choose, 0x5a82_7999: 0..20);
    steps!(v, w, parity, 0x6ed9_eba1: 20..40);
    steps!(v, w, majority, 0x8f1b_bcdc: 40..60);
    steps!(v, w, parity, 0xca62_c1d6: 60..80);
    for (sum, part) in state.iter_mut().zip(v) {
        *sum = sum.wrapping_add(part);
    }
}

#[cfg(not(target_arch = "bpf"))]
fn step([a, b, c, d, e]: State, mixed: u32, constant: u32, word: u32) -> State {
    let sum = a
        .rotate_left(5)
        .wrapping_add(mixed)
        .wrapping_add(e)
        .wrapping_add(constant)
        .wrapping_add(word);
    [sum, a, b.rotate_left(30), c, d]
}

#[cfg(not(target_arch = "bpf"))]
fn choose(x: u32, y: u32, z: u32) -> u32 {
    z ^ (x & (y ^ z))
}

#[cfg(not(target_arch = "bpf"))]
fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[cfg(not(target_arch = "bpf"))]
fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y) | (z & (x | y))
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::prelude::v1::*;

    use super::*;

    fn digest(message: &[u8]) -> String {
        let mut padded = message.to_vec();
        padded.push(0x80);
        padded.resize((message.len() + 9).next_multiple_of(64) - 8, 0);
        padded.extend((message.len() as u64 * 8).to_be_bytes());
        let mut state = INITIAL;
        for block in padded.as_chunks::<64>().0 {
            let words: Vec<u32> = block
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| u32::from_ne_bytes(*b))
                .collect();
            compress(&mut state, &words.try_into().unwrap());
        }
        state.iter().map(|word| format!("{word:08x}")).collect()
    }

    #[test]
    fn fips_180_examples() {
        assert_eq!(digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            digest(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
        assert_eq!(
            digest(&[b'a'; 1_000_000]),
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
        );
    }
}
