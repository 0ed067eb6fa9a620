//! GHASH (NIST SP 800-38D section 6.4) by integer multiplication: no tables that are read by secret
//! numbers, no branches. Called by [`crate::gcm`] per 16 bytes and by [`crate::SrtpKeys`] once per key.
//!
//! BPF has no carry-less multiplication, but a product of integers that have only every fourth bit
//! set is one as long as no more than 15 ones meet at a place: the carries run into the holes and
//! are masked out (the idea is Thomas Pornin's, in BearSSL's `ctmul64`). A word is split into four
//! such integers, and two words into 16 products. Karatsuba's method would make them nine and needs
//! twice the instructions: there are registers for four parts and four sums, and for no more. The
//! halves of 128 bits are multiplied by it. A product keeps its low 64 bits only: the high ones are
//! the low ones of the product of the reversed words.
//!
//! The parts of the hash key are made once, when the key is installed.

/// Every fourth bit, from each of the first four on.
const HOLED: [u64; 4] = [
    0x1111_1111_1111_1111,
    0x2222_2222_2222_2222,
    0x4444_4444_4444_4444,
    0x8888_8888_8888_8888,
];

/// A word split into four.
type Parts = [u64; 4];

/// The hash key in parts: low half, high half, their sum; then the same of the reversed
/// halves. It is the key times x^-1, which spares each product a shift by one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct HashKey([Parts; 6]);

/// A block or the hash of those so far: its two big-endian numbers, the first eight bytes `high`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

impl Block {
    pub(crate) const ZERO: Self = Self { high: 0, low: 0 };

    /// Back to zero. Volatile as [`crate::scratch::zero`] is.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        for word in [&mut self.high, &mut self.low] {
            // SAFETY: a unique reference.
            unsafe { core::ptr::write_volatile(word, 0) };
        }
    }
}

impl HashKey {
    pub(crate) const EMPTY: Self = Self([[0; 4]; 6]);

    /// Expands the hash key: the cipher's output for zeros.
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        let key = u128::from_be_bytes(bytes);
        // x^-1 = x^127 + x^6 + x + 1, the first coefficient in the highest bit.
        let carried = 0u128.wrapping_sub(key >> 127) & ((0xc2 << 120) | 1);
        let key = (key << 1) ^ carried;
        let (high, low) = ((key >> 64) as u64, key as u64);
        let halves = [low, high, low ^ high];
        let mut out = Self::EMPTY;
        for (place, half) in halves.into_iter().enumerate() {
            out.0[place] = parts(half);
            out.0[place + 3] = parts(half.reverse_bits());
        }
        out
    }
}

#[inline(always)]
fn parts(word: u64) -> Parts {
    HOLED.map(|holed| word & holed)
}

/// Takes one more block into the hash: (hash + block) times the key.
#[inline(always)]
pub(crate) fn absorb(key: &HashKey, hash: &mut Block, high: u64, low: u64) {
    ghash_absorb(key, hash, high, low);
}

/// [`absorb`] as the verifier takes it for a function of its own, see [`crate::aes`].
#[inline(never)]
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
extern "C" fn ghash_absorb(key: *const HashKey, hash: *mut Block, high: u64, low: u64) -> u32 {
    // SAFETY: made from references by the only caller; the verifier knows them as that many bytes.
    let (Some(key), Some(hash)) = (unsafe { key.as_ref() }, unsafe { hash.as_mut() }) else {
        return 1;
    };
    let HashKey(
        [
            low_key,
            high_key,
            sum_key,
            low_mirror,
            high_mirror,
            sum_mirror,
        ],
    ) = key;
    let (high, low) = (hash.high ^ high, hash.low ^ low);
    let (mirror_high, mirror_low) = (reverse(high), reverse(low));
    let bottom = multiply(low, low_key);
    let top = multiply(high, high_key);
    let middle = multiply(low ^ high, sum_key) ^ bottom ^ top;
    let bottom_over = multiply(mirror_low, low_mirror);
    let top_over = multiply(mirror_high, high_mirror);
    let middle_over = multiply(mirror_low ^ mirror_high, sum_mirror) ^ bottom_over ^ top_over;
    // 256 bits, the lowest in v0.
    let v0 = bottom;
    let v1 = middle ^ (reverse(bottom_over) >> 1);
    let v2 = top ^ (reverse(middle_over) >> 1);
    let v3 = reverse(top_over) >> 1;
    // x^128 = x^7 + x^2 + x + 1: the two low words are the high coefficients.
    let v2 = v2 ^ v0 ^ (v0 >> 1) ^ (v0 >> 2) ^ (v0 >> 7);
    let v1 = v1 ^ (v0 << 63) ^ (v0 << 62) ^ (v0 << 57);
    hash.high = v3 ^ v1 ^ (v1 >> 1) ^ (v1 >> 2) ^ (v1 >> 7);
    hash.low = v2 ^ (v1 << 63) ^ (v1 << 62) ^ (v1 << 57);
    0
}

/// Low 64 bits of the carry-less product.
#[cfg(not(target_arch = "bpf"))]
fn multiply(word: u64, key: &Parts) -> u64 {
    let parts = parts(word);
    let mut product = 0;
    for (place, holed) in HOLED.into_iter().enumerate() {
        // Parts i and k meet in part i + k modulo 4.
        let mut sum = 0;
        for (number, part) in parts.into_iter().enumerate() {
            sum ^= part.wrapping_mul(key[(place + 4 - number) % 4]);
        }
        product |= sum & holed;
    }
    product
}

/// The same, in the order in which the registers suffice: a compiler turns to all six products of [`absorb`] at once, and keeps most of
/// them on the stack.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn multiply(word: u64, key: &Parts) -> u64 {
    /// Adds a part of the word, times the key's part that begins at so many bytes, to the sum.
    macro_rules! add {
        ($part:literal $at:literal) => {
            concat!(
                "{t} = *(u64 *)({key} + ",
                $at,
                ")\n{t} *= {",
                $part,
                "}\n{sum} ^= {t}\n"
            )
        };
    }
    /// Makes one part of the product: the first summand, then the others; at last only its own bits remain.
    macro_rules! part {
        ($first:literal $second:literal $third:literal $fourth:literal $holed:literal) => {
            concat!(
                "{sum} = *(u64 *)({key} + ",
                $first,
                ")\n{sum} *= {a}\n",
                add!("b" $second),
                add!("c" $third),
                add!("d" $fourth),
                "{t} = ",
                $holed,
                " ll\n{sum} &= {t}\n"
            )
        };
    }
    let product;
    // SAFETY: reads the key's four words and nothing else, and writes registers only.
    unsafe {
        core::arch::asm!(
            "{b} = {a}",
            "{c} = {a}",
            "{d} = {a}",
            "{t} = 0x1111111111111111 ll",
            "{a} &= {t}",
            "{t} = 0x2222222222222222 ll",
            "{b} &= {t}",
            "{t} = 0x4444444444444444 ll",
            "{c} &= {t}",
            "{t} = 0x8888888888888888 ll",
            "{d} &= {t}",
            part!("0" "24" "16" "8" "0x1111111111111111"),
            "{product} = {sum}",
            part!("8" "0" "24" "16" "0x2222222222222222"),
            "{product} |= {sum}",
            part!("16" "8" "0" "24" "0x4444444444444444"),
            "{product} |= {sum}",
            part!("24" "16" "8" "0" "0x8888888888888888"),
            "{product} |= {sum}",
            a = inout(reg) word => _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            t = out(reg) _,
            sum = out(reg) _,
            product = out(reg) product,
            key = in(reg) key,
            options(readonly, nostack, pure),
        );
    }
    product
}

/// The bits in reverse order.
#[inline(always)]
fn reverse(x: u64) -> u64 {
    let x = x.swap_bytes();
    let x = ((x >> 4) & 0x0f0f_0f0f_0f0f_0f0f) | ((x & 0x0f0f_0f0f_0f0f_0f0f) << 4);
    let x = ((x >> 2) & 0x3333_3333_3333_3333) | ((x & 0x3333_3333_3333_3333) << 2);
    ((x >> 1) & 0x5555_5555_5555_5555) | ((x & 0x5555_5555_5555_5555) << 1)
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use proptest::prelude::*;

    use super::*;

    /// Multiplication bit by bit (SP 800-38D section 6.3).
    fn product(x: u128, y: u128) -> u128 {
        let (mut z, mut v) = (0, y);
        for bit in (0..128).rev() {
            if (x >> bit) & 1 != 0 {
                z ^= v;
            }
            v = (v >> 1) ^ if v & 1 != 0 { 0xe1 << 120 } else { 0 };
        }
        z
    }

    fn hash(key: u128, blocks: &[u128]) -> u128 {
        let key = HashKey::new(key.to_be_bytes());
        let mut hash = Block::ZERO;
        for block in blocks {
            absorb(&key, &mut hash, (block >> 64) as u64, *block as u64);
        }
        (u128::from(hash.high) << 64) | u128::from(hash.low)
    }

    #[test]
    fn one_is_the_highest_bit() {
        let one = 1 << 127;
        assert_eq!(hash(one, &[0x1234_5678_9abc]), 0x1234_5678_9abc);
        assert_eq!(hash(0x1234_5678_9abc, &[one]), 0x1234_5678_9abc);
        assert_eq!(hash(u128::MAX, &[u128::MAX]), product(u128::MAX, u128::MAX));
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(key: u128, first: u128, second: u128) {
            let once = product(first, key);
            prop_assert_eq!(hash(key, &[first, second]), product(once ^ second, key));
        }
    }
}
