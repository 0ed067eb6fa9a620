//! AES-128 and AES-256 in counter mode without secret-dependent loads or branches: bitsliced, four blocks a
//! pass, for SRTP's AES_CM (RFC 3711 section 4.1.1). Called by [`crate::srtp`] per packet and by
//! [`crate::SrtpKeys`] once per key.
//!
//! Word `q[b]` holds bit `b` of all 64 bytes of four blocks: byte (row r, column c) of block k
//! stands at bit `16 r + 4 c + k`. ShiftRows is never carried out ("fixslicing", Adomnicai and
//! Peyrin, 2020): the state stays unshifted, MixColumns of round i reads the column that ShiftRows
//! would have brought, and round keys are stored shifted back. The S-box is a circuit
//! ([`crate::sbox`]) without its four inversions; those stand in the round keys.
//!
//! Counter mode saves the packing: the blocks of a packet differ in the counter's low byte only, so
//! the first block is packed once and each pass flips bits of that byte. First rounds are not kept
//! from pass to pass, as table-driven ciphers do: in slices a round costs the same however few bytes
//! differ. Nor are there more blocks in a pass: the state of four fills eight of BPF's ten registers.

use crate::sbox::sub_bytes;
use crate::scratch::{Scratch, WORD_MASK};

/// Round keys, bitsliced and shifted back, the S-box inversions folded in. AES-256 fills all of it;
/// AES-128 has its first key at the first place and its last ten at the last ten, so that both end alike.
pub(crate) type RoundKeys = [[u64; 8]; 15];

/// Place of the last round key.
const LAST: usize = 14;
/// Rounds that AES-256 has more than AES-128: none of them shifts ShiftRows' distance.
const MORE_ROUNDS: usize = 4;

/// Blocks of one pass.
pub(crate) const PASS_BLOCKS: usize = 4;
/// Packet words (32 bits) that one pass covers.
pub(crate) const PASS_WORDS: usize = PASS_BLOCKS * 4;
/// Bits of the low nine bits of the counter's last byte: row 3, column 3, all four blocks.
const COUNTER_LANE: u64 = 0xf << 60;

/// One bit of each of the rows' and columns' bytes in a packed pair of columns.
const EVEN_BYTES: u64 = 0x0101_0101_0101_0101;

/// Expands a cipher key of 16 or 32 bytes (FIPS-197 section 5.2). Table-free like the rest; runs on
/// the host once per key.
pub(crate) fn expand(key: &[u8]) -> RoundKeys {
    let key_words = key.len() / 4;
    let rounds = key_words + 6;
    let mut words = [[0; 4]; 4 * (LAST + 1)];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = *bytes;
    }
    let mut constant = 1u8;
    for place in key_words..4 * (rounds + 1) {
        let mut mix = words[place - 1];
        if place % key_words == 0 {
            let [a, b, c, d] = mix;
            mix = substitute([b, c, d, a]);
            mix[0] ^= constant;
            constant = (constant << 1) ^ (0x1b & (constant >> 7).wrapping_neg());
        } else if place % key_words == 4 {
            mix = substitute(mix);
        }
        for (byte, before) in mix.iter_mut().zip(words[place - key_words]) {
            *byte ^= before;
        }
        words[place] = mix;
    }
    let mut keys = [[0; 8]; LAST + 1];
    for (round, columns) in words.as_chunks::<4>().0.iter().take(rounds + 1).enumerate() {
        let key = pack(columns.map(u32::from_le_bytes));
        if round == 0 {
            keys[0] = key;
            continue;
        }
        let key = shift_back(key, round);
        let slot = &mut keys[LAST - rounds + round];
        *slot = key;
        for bit in [0, 1, 5, 6] {
            slot[bit] = !slot[bit];
        }
    }
    keys
}

/// The S-box on four bytes (SubWord).
fn substitute(bytes: [u8; 4]) -> [u8; 4] {
    let mut q = pack([u32::from_le_bytes(bytes), 0, 0, 0]);
    sub_bytes(&mut q);
    let mut out = [0x63; 4];
    for (row, byte) in out.iter_mut().enumerate() {
        for (bit, word) in q.iter().enumerate() {
            *byte ^= (((word >> (16 * row)) & 1) as u8) << bit;
        }
    }
    out
}

/// Moves the columns of a round key as ShiftRows to the power of minus `round` does.
fn shift_back(q: [u64; 8], round: usize) -> [u64; 8] {
    q.map(|word| {
        let mut out = 0;
        for row in 0..4 {
            let lane = (word >> (16 * row)) as u16;
            out |= u64::from(lane.rotate_left(4 * ((row * round) % 4) as u32)) << (16 * row);
        }
        out
    })
}

/// Packs one block, given as its four columns (row 0 in the low byte), into all four block places.
#[inline(always)]
fn pack(columns: [u32; 4]) -> [u64; 8] {
    // Bytes of two columns interleaved: row r of the first at byte 2r, of the second at byte 2r + 1.
    let even = spread(columns[0]) | (spread(columns[2]) << 8);
    let odd = spread(columns[1]) | (spread(columns[3]) << 8);
    let mut q = [0; 8];
    for (bit, word) in q.iter_mut().enumerate() {
        let lanes = ((even >> bit) & EVEN_BYTES) | (((odd >> bit) & EVEN_BYTES) << 4);
        *word = lanes * 0xf;
    }
    q
}

/// The bytes of a column at every second byte.
#[inline(always)]
fn spread(column: u32) -> u64 {
    let x = u64::from(column);
    (x & 0xff) | ((x & 0xff00) << 8) | ((x & 0xff_0000) << 16) | ((x & 0xff00_0000) << 24)
}

/// Packs the first counter block of a packet and adds the first round key: the start of every [`pass`].
///
/// `block` are the columns of the counter block, row 0 in the low byte; its last 16 bits are zero
/// (RFC 3711 section 4.1.1).
#[inline(never)]
pub(crate) fn start(keys: &RoundKeys, block: &[u32; 4], counter: &mut [u64; 8]) {
    let q = pack(*block);
    for bit in 0..8 {
        counter[bit] = q[bit] ^ keys[0][bit];
    }
}

/// Adds the keystream of counter blocks `4 pass ..= 4 pass + 3` to the 16 packet words from `first`
/// on; `long` if the keys are those of AES-256.
#[inline(always)]
pub(crate) fn pass(keys: &RoundKeys, long: bool, scratch: &mut Scratch, pass: u32, first: u32) {
    aes_pass(keys, scratch, u32::from(long), pass, first);
}

/// [`pass`] as the verifier takes it for a function of its own, walked once and not once per call: a
/// global symbol, pointers that may be null, a number to answer.
#[inline(never)]
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
extern "C" fn aes_pass(
    keys: *const RoundKeys,
    scratch: *mut Scratch,
    long: u32,
    pass: u32,
    first: u32,
) -> u32 {
    // SAFETY: made from references by the only caller; the verifier knows them as that many bytes.
    let (Some(keys), Some(scratch)) = (unsafe { keys.as_ref() }, unsafe { scratch.as_mut() })
    else {
        return 1;
    };
    let mut q = scratch.counter;
    // Counter 4 pass + k in block k: its two low bits are k, the others are the same in all four blocks.
    q[0] ^= 0xa << 60;
    q[1] ^= 0xc << 60;
    let mut number = pass;
    for word in &mut q[2..] {
        *word ^= u64::from(number & 1).wrapping_neg() & COUNTER_LANE;
        number >>= 1;
    }
    // Turns of four equal rounds keep the program in the instruction cache.
    let mut turn = if long != 0 { 0 } else { MORE_ROUNDS };
    while turn < 12 {
        round::<1>(&mut q, &keys[turn + 1]);
        round::<2>(&mut q, &keys[turn + 2]);
        round::<3>(&mut q, &keys[turn + 3]);
        round::<0>(&mut q, &keys[turn + 4]);
        turn += 4;
    }
    round::<1>(&mut q, &keys[LAST - 1]);
    sub_bytes(&mut q);
    for (word, key) in q.iter_mut().zip(keys[LAST]) {
        *word ^= key;
    }
    transpose(&mut q);
    add_keystream(&q, &mut scratch.packet, first as usize);
    0
}

/// Encrypts one block, given as its four columns (row 0 in the low byte): for GCM's hash key, on the host.
pub(crate) fn encrypt(keys: &RoundKeys, long: bool, block: &[u32; 4]) -> [u8; 16] {
    let mut scratch = Scratch::new();
    start(keys, block, &mut scratch.counter);
    pass(keys, long, &mut scratch, 0, 0);
    let mut out = [0; 16];
    out.copy_from_slice(&scratch.bytes()[..16]);
    crate::keys::wipe(scratch.bytes_mut(), 0);
    out
}

/// One full round; `J` is the round's number modulo 4, the distance by which ShiftRows was left out so far.
#[inline(always)]
fn round<const J: u32>(q: &mut [u64; 8], key: &[u64; 8]) {
    sub_bytes(q);
    mix_columns::<J>(q);
    for (word, key) in q.iter_mut().zip(key) {
        *word ^= key;
    }
}

/// MixColumns seen through `J` omitted ShiftRows: 2a + 3b + c + d = 2(a + b) + b + (c + d).
#[inline(always)]
fn mix_columns<const J: u32>(q: &mut [u64; 8]) {
    let next = q.map(next_row::<J>);
    let mut pair = [0; 8];
    for bit in 0..8 {
        pair[bit] = q[bit] ^ next[bit];
    }
    for bit in 0..8 {
        let doubled = match bit {
            0 => pair[7],
            1 | 3 | 4 => pair[bit - 1] ^ pair[7],
            _ => pair[bit - 1],
        };
        q[bit] = doubled ^ next[bit] ^ second_row::<J>(pair[bit]);
    }
}

/// Row r + 1, column c + J at the place of row r, column c.
#[inline(always)]
fn next_row<const J: u32>(x: u64) -> u64 {
    columns_left::<J>(x.rotate_right(16))
}

/// Row r + 2, column c + 2J at the place of row r, column c.
#[inline(always)]
fn second_row<const J: u32>(x: u64) -> u64 {
    if J.is_multiple_of(2) {
        x.rotate_right(32)
    } else {
        columns_left::<2>(x.rotate_right(32))
    }
}

/// Column c + J at the place of column c, in each row.
#[inline(always)]
fn columns_left<const J: u32>(x: u64) -> u64 {
    const ROWS: u64 = 0x0001_0001_0001_0001;
    if J == 0 {
        return x;
    }
    let stay = ROWS * (0xffff >> (4 * J));
    ((x >> (4 * J)) & stay) | ((x << (16 - 4 * J)) & !stay)
}

/// Transposes the 8x8 bit squares across the words: afterwards byte 2r + h of `q[4 l + k]` is the
/// byte of row r, column l + 2h of block k.
#[inline(always)]
fn transpose(q: &mut [u64; 8]) {
    for pair in 0..4 {
        swap_bits::<1>(q, 2 * pair, 2 * pair + 1, 0x5555_5555_5555_5555);
    }
    for (low, high) in [(0, 2), (1, 3), (4, 6), (5, 7)] {
        swap_bits::<2>(q, low, high, 0x3333_3333_3333_3333);
    }
    for low in 0..4 {
        swap_bits::<4>(q, low, low + 4, 0x0f0f_0f0f_0f0f_0f0f);
    }
}

/// Exchanges the bits of `q[low]` that stand `N` above `mask` with those of `q[high]` under `mask`.
#[inline(always)]
fn swap_bits<const N: u32>(q: &mut [u64; 8], low: usize, high: usize, mask: u64) {
    let difference = ((q[low] >> N) ^ q[high]) & mask;
    q[high] ^= difference;
    q[low] ^= difference << N;
}

/// Gathers the columns, with the two ShiftRows that the ten rounds leave over (rows 1 and 3 change
/// halves), and adds them.
#[inline(always)]
fn add_keystream(q: &[u64; 8], packet: &mut [u32; WORD_MASK + 1], first: usize) {
    // Behind the longest packet there is room for a pass; the mask is for the verifier.
    let first = first & WORD_MASK;
    let Some(words) = packet.get_mut(first..first + PASS_WORDS) else {
        return;
    };
    for (place, &x) in q.iter().enumerate() {
        let (low, block) = (place >> 2, place & 3);
        let left = (x & 0xff) | ((x >> 16) & 0xff_ff00) | ((x >> 32) & 0xff00_0000);
        let right = ((x >> 8) & 0xffff) | ((x >> 24) & 0xffff_0000);
        words[4 * block + low] ^= u32::from_le(left as u32);
        words[4 * block + low + 2] ^= u32::from_le(right as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::prelude::v1::*;

    use super::*;
    use crate::scratch::Scratch;

    /// Encrypts one block whose last byte serves as counter 0.
    fn encrypt(key: &str, block: &str) -> [u8; 16] {
        let key = hex::decode(key).unwrap();
        let block: [u8; 16] = hex::decode(block).unwrap().try_into().unwrap();
        let keys = expand(&key);
        let mut scratch = Scratch::new();
        let mut columns = [0; 4];
        for (column, bytes) in columns.iter_mut().zip(block.as_chunks::<4>().0) {
            *column = u32::from_le_bytes(*bytes);
        }
        start(&keys, &columns, &mut scratch.counter);
        pass(&keys, key.len() == 32, &mut scratch, 0, 0);
        let mut out = [0; 16];
        out.copy_from_slice(&scratch.bytes()[..16]);
        out
    }

    #[test]
    fn fips_197_appendix_b() {
        let out = encrypt(
            "2b7e151628aed2a6abf7158809cf4f3c",
            "3243f6a8885a308d313198a2e0370734",
        );
        assert_eq!(hex::encode(out), "3925841d02dc09fbdc118597196a0b32");
    }

    #[test]
    fn fips_197_appendix_c1() {
        let out = encrypt(
            "000102030405060708090a0b0c0d0e0f",
            "00112233445566778899aabbccddeeff",
        );
        assert_eq!(hex::encode(out), "69c4e0d86a7b0430d8cdb78070b4c55a");
    }

    #[test]
    fn fips_197_appendix_c3() {
        let out = encrypt(
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "00112233445566778899aabbccddeeff",
        );
        assert_eq!(hex::encode(out), "8ea2b7ca516745bfeafc49904b496089");
    }

    #[test]
    fn rfc_3711_b2_keystream_in_every_block_of_many_passes() {
        let key = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap();
        let keys = expand(&key);
        let mut scratch = Scratch::new();
        let iv = [0xf0f1_f2f3u32, 0xf4f5_f6f7, 0xf8f9_fafb, 0xfcfd_0000].map(u32::swap_bytes);
        start(&keys, &iv, &mut scratch.counter);
        for number in 0..23 {
            pass(&keys, false, &mut scratch, number, number * 16);
        }
        let bytes = scratch.bytes();
        assert_eq!(
            hex::encode(&bytes[..16]),
            "e03ead0935c95e80e166b16dd92b4eb4"
        );
        assert_eq!(
            hex::encode(&bytes[16..32]),
            "d23513162b02d0f72a43a2fe4a5f97ab"
        );
        assert_eq!(
            hex::encode(&bytes[32..48]),
            "41e95b3bb0a2e8dd477901e4fca894c0"
        );
        for block in 0..92usize {
            let counter = format!("f0f1f2f3f4f5f6f7f8f9fafbfcfd00{block:02x}");
            let expected = encrypt("2b7e151628aed2a6abf7158809cf4f3c", &counter);
            assert_eq!(bytes[block * 16..][..16], expected, "block {block}");
        }
    }
}
