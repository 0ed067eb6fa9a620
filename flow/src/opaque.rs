//! A number that the compiler has to take as it comes.
//!
//! Why: of `a ^ b | c ^ d == 0` it makes a comparison of each pair with a branch behind it, and where a forged tag is wrong could be told
//! from how long it took to refuse it (`causeway-bench timing` found 5 ns in the kernel).

/// The value, of which the compiler knows no more how it came about.
#[inline(always)]
pub(crate) fn opaque(value: u32) -> u32 {
    // SAFETY: a local, initialised and aligned.
    unsafe { (&raw const value).read_volatile() }
}
