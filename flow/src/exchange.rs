//! Compare-and-exchange and exchange of a number in memory that kernel and daemon share: both full
//! barriers, on the host and in BPF.
//!
//! Why of our own: Rust knows no exchange for the BPF target, while the machine has had both since
//! version 3 of its instruction set. Used by [`crate::keystream`].

use core::sync::atomic::AtomicU64;

/// Puts `new` in the place of `expected`; `false`, and nothing written, where another number stands.
#[cfg(not(target_arch = "bpf"))]
pub(crate) fn compare_exchange(place: &AtomicU64, expected: u64, new: u64) -> bool {
    use core::sync::atomic::Ordering;
    let exchanged = place.compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst);
    exchanged.is_ok()
}

/// Writes a number.
#[cfg(not(target_arch = "bpf"))]
pub(crate) fn exchange(place: &AtomicU64, new: u64) {
    place.swap(new, core::sync::atomic::Ordering::SeqCst);
}

/// Puts `new` in the place of `expected`; `false`, and nothing written, where another number stands.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn compare_exchange(place: &AtomicU64, expected: u64, new: u64) -> bool {
    let seen: u64;
    // SAFETY: eight aligned bytes behind a reference; the instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place.as_ptr(),
            new = in(reg) new,
            inlateout("r0") expected => seen,
            options(nostack),
        );
    }
    seen == expected
}

/// Writes a number.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub(crate) fn exchange(place: &AtomicU64, new: u64) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "{new} = xchg_64({place} + 0, {new})",
            place = in(reg) place.as_ptr(),
            new = inout(reg) new => _,
            options(nostack),
        );
    }
}
