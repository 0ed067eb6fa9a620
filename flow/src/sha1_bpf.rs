//! SHA-1's compression function in BPF instructions: [`crate::sha1`] for the kernel.
//!
//! Why by hand: half of SHA-1 is rotations, which BPF does not have, and a compiler makes each of two shifts, a move and an `or`. Its
//! registers are of 64 bits, though, and that spares most of it:
//!
//! - A state word is kept twice in its register, as `a << 32 | a`. Then `rotl(a, 5)` is the lower half of `r >> 27`, and `rotl(a, 30)`
//!   that of `r >> 2`, which later steps read in place; what is left in the upper half does no harm, since they read lower halves.
//! - The message schedule is made two words at a time. From word 32 on, the recurrence is used that follows from FIPS 180-4's by
//!   squaring: `W[t] = rotl(W[t-6] ^ W[t-16] ^ W[t-28] ^ W[t-32], 2)`. There every pair of words begins at an even place.
//!
//! These are 1773 instructions where the compiler needs 2350, and nothing waits for memory on the way from one state to the next.
//!
//! | register | holds |
//! |---|---|
//! | r1 to r5 | a to e; the names go round with the steps |
//! | r6, r7 | what a step needs meanwhile |
//! | r8 | words t and t + 1, t even, in the upper and the lower half |
//! | r0 | word t |
//! | r9 | the block, then the mask of the bits that go from one half to the other |
//!
//! The last 32 words of the schedule stand on the stack, pair p at `-128 + 8 (p mod 16)`; below them is the pointer to the state.

use core::arch::asm;

use crate::sha1::State;

/// Instructions, each of the parts in brackets.
macro_rules! lines {
    ($([$($part:literal)+])+) => {
        concat!($($($part,)+ "\n",)+)
    };
}

/// Ch(b, c, d), added to e.
macro_rules! choose {
    ($b:literal $c:literal $d:literal $e:literal) => {
        lines! {
            ["w6 = w" $c]
            ["w6 ^= w" $d]
            ["w6 &= w" $b]
            ["w6 ^= w" $d]
            ["w" $e " += w6"]
        }
    };
}

/// Parity(b, c, d), added to e.
macro_rules! parity {
    ($b:literal $c:literal $d:literal $e:literal) => {
        lines! {
            ["w6 = w" $c]
            ["w6 ^= w" $d]
            ["w6 ^= w" $b]
            ["w" $e " += w6"]
        }
    };
}

/// Maj(b, c, d), added to e: `(c & d) + (b & (c ^ d))`, which have no bit in common.
macro_rules! majority {
    ($b:literal $c:literal $d:literal $e:literal) => {
        lines! {
            ["w6 = w" $c]
            ["w6 ^= w" $d]
            ["w6 &= w" $b]
            ["w7 = w" $c]
            ["w7 &= w" $d]
            ["w" $e " += w7"]
            ["w" $e " += w6"]
        }
    };
}

/// One step with the word in `$w`: afterwards e is the new a, and b the new c.
macro_rules! step {
    ($f:ident $k:literal $w:literal: $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        concat!(
            lines! {
                ["w" $e " += " $k]
                ["w" $e " += " $w]
            },
            $f!($b $c $d $e),
            lines! {
                ["r6 = r" $a]
                ["r6 >>= 27"]
                ["w" $e " += w6"]
                ["r" $b " >>= 2"]
                ["r6 = r" $e]
                ["r6 <<= 32"]
                ["r" $e " |= r6"]
            },
        )
    };
}

/// The two steps of one pair of words, which `$pair` brings into r8.
macro_rules! two {
    ($f:ident $k:literal $pair:expr; $a:literal $b:literal $c:literal $d:literal $e:literal) => {
        concat!(
            $pair,
            "r0 = r8\n r0 >>= 32\n",
            step!($f $k "w0": $a $b $c $d $e),
            step!($f $k "w8": $e $a $b $c $d),
        )
    };
}

/// Ten steps: then every name is at its register again.
macro_rules! ten {
    ($f:ident $k:literal: $one:expr, $two:expr, $three:expr, $four:expr, $five:expr) => {
        concat!(
            two!($f $k $one; "1" "2" "3" "4" "5"),
            two!($f $k $two; "4" "5" "1" "2" "3"),
            two!($f $k $three; "2" "3" "4" "5" "1"),
            two!($f $k $four; "5" "1" "2" "3" "4"),
            two!($f $k $five; "3" "4" "5" "1" "2"),
        )
    };
}

/// Brings a pair out of the block.
macro_rules! read {
    ($p:literal) => {
        lines! {
            ["r8 = *(u64 *)(r9 + 8 * " $p ")"]
            ["r8 = be64 r8"]
            ["*(u64 *)(r10 - 128 + 8 * " $p ") = r8"]
        }
    };
}

/// Makes a pair of the words 3, 8, 14 and 16 before; r8 is the pair before.
macro_rules! near {
    ($p:literal) => {
        concat!(
            lines! {
                ["r7 = r8"]
                ["r7 >>= 32"]
                ["r8 = *(u64 *)(r10 - 128 + 8 * (" $p " - 8))"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * (" $p " - 7))"]
                ["r8 ^= r0"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * (" $p " - 4))"]
                ["r8 ^= r0"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * (" $p " - 2))"]
                ["r0 <<= 32"]
                ["r8 ^= r0"]
                ["r8 ^= r7"]
            },
            rotate!("1" "31" $p),
        )
    };
}

/// Makes a pair of the words 6, 16, 28 and 32 before.
macro_rules! far {
    ($p:literal) => {
        concat!(
            lines! {
                ["r8 = *(u64 *)(r10 - 128 + 8 * (" $p " & 15))"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * ((" $p " - 14) & 15))"]
                ["r8 ^= r0"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * ((" $p " - 8) & 15))"]
                ["r8 ^= r0"]
                ["r0 = *(u64 *)(r10 - 128 + 8 * ((" $p " - 3) & 15))"]
                ["r8 ^= r0"]
            },
            rotate!("2" "30" $p),
        )
    };
}

/// Rotates both words of r8 to the left by 1 or 2 (`$over` is 31 or 30), r9 being the mask of so many low bits of each, and keeps the
/// pair.
macro_rules! rotate {
    ($by:literal $over:literal $p:literal) => {
        lines! {
            ["r0 = r8"]
            ["r0 >>= " $over]
            ["r0 &= r9"]
            ["r8 <<= " $by]
            ["r8 ^= r0"]
            ["r0 <<= 32"]
            ["r8 ^= r0"]
            ["*(u64 *)(r10 - 128 + 8 * (" $p " & 15)) = r8"]
        }
    };
}

/// Adds a word of the state before to what has become of it.
macro_rules! add {
    ($offset:literal $word:literal) => {
        lines! {
            ["w7 = *(u32 *)(r6 + " $offset ")"]
            ["w7 += w" $word]
            ["*(u32 *)(r6 + " $offset ") = w7"]
        }
    };
}

/// [`crate::sha1::compress`] as the verifier takes it for a function of its own, see [`crate::aes`].
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn sha1_compress(state: *mut State, block: *const [u32; 16]) -> u32 {
    if state.is_null() || block.is_null() {
        return 1;
    }
    // SAFETY: reads the block and changes the state, both made from references by the only caller. The frame's memory, which the
    // kernel gives each function anew, is the code's own: nothing of this function lives across it but in registers.
    unsafe {
        asm!(
            "*(u64 *)(r10 - 136) = r1",
            "r9 = r2",
            "r6 = r1",
            "w1 = *(u32 *)(r6 + 0)",
            "w2 = *(u32 *)(r6 + 4)",
            "w3 = *(u32 *)(r6 + 8)",
            "w4 = *(u32 *)(r6 + 12)",
            "w5 = *(u32 *)(r6 + 16)",
            "r7 = r1",
            "r7 <<= 32",
            "r1 |= r7",
            "r7 = r2",
            "r7 <<= 32",
            "r2 |= r7",
            ten!(choose "0x5a827999": read!("0"), read!("1"), read!("2"), read!("3"), read!("4")),
            ten!(choose "0x5a827999": read!("5"), read!("6"), read!("7"), concat!("r9 = 0x100000001 ll\n", near!("8")), near!("9")),
            ten!(parity "0x6ed9eba1": near!("10"), near!("11"), near!("12"), near!("13"), near!("14")),
            ten!(parity "0x6ed9eba1": near!("15"), concat!("r9 = 0x300000003 ll\n", far!("16")), far!("17"), far!("18"), far!("19")),
            ten!(majority "0x8f1bbcdc": far!("20"), far!("21"), far!("22"), far!("23"), far!("24")),
            ten!(majority "0x8f1bbcdc": far!("25"), far!("26"), far!("27"), far!("28"), far!("29")),
            ten!(parity "0xca62c1d6": far!("30"), far!("31"), far!("32"), far!("33"), far!("34")),
            ten!(parity "0xca62c1d6": far!("35"), far!("36"), far!("37"), far!("38"), far!("39")),
            "r6 = *(u64 *)(r10 - 136)",
            add!("0" "1"),
            add!("4" "2"),
            add!("8" "3"),
            add!("12" "4"),
            add!("16" "5"),
            inout("r1") state => _,
            inout("r2") block => _,
            out("r0") _,
            out("r3") _,
            out("r4") _,
            out("r5") _,
            out("r6") _,
            out("r7") _,
            out("r8") _,
            out("r9") _,
        );
    }
    0
}
