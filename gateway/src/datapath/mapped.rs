//! An array map of the XDP program in our memory, without a system call per access.

use anyhow::{Context as _, bail, ensure};
use aya::maps::Map;
use flow::{FlowStats, KeystreamRing, Progress};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// What such a map may hold: the layout is the kernel's value, its size a multiple of 8, as is the map's stride.
///
/// # Safety
/// The implementing type has no padding and no invalid values.
pub(crate) unsafe trait Shared {
    /// Whether the daemon writes it.
    const WRITTEN: bool;
}

// SAFETY: integers only, sizes asserted in `flow`.
unsafe impl Shared for FlowStats {
    const WRITTEN: bool = false;
}

// SAFETY: as above.
unsafe impl Shared for KeystreamRing {
    const WRITTEN: bool = true;
}

/// The values of a map.
pub(crate) struct Mapped<T> {
    base: *mut T,
    values: u32,
}

// SAFETY: the mapping stays until it is dropped, on whichever thread that is.
unsafe impl<T: Shared> Send for Mapped<T> {}
// SAFETY: values are read volatile, or by their own rules of ownership (`flow::KeystreamRing`).
unsafe impl<T: Shared> Sync for Mapped<T> {}

impl<T: Shared> Mapped<T> {
    /// Maps all of it.
    ///
    /// # Errors
    /// It is no array, has values of another size, or the kernel refuses.
    pub(crate) fn new(map: &Map) -> anyhow::Result<Self> {
        let Map::Array(data) = map else {
            bail!("a map to be mapped is no array");
        };
        let info = data.info()?;
        ensure!(
            info.value_size() as usize == size_of::<T>(),
            "the XDP object was built for other map layouts than this daemon"
        );
        let values = info.max_entries();
        let writable = if T::WRITTEN { libc::PROT_WRITE } else { 0 };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice, of exactly the array's values.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                values as usize * size_of::<T>(),
                libc::PROT_READ | writable,
                libc::MAP_SHARED,
                data.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map a map of the XDP program");
        }
        let base = base.cast();
        Ok(Self { base, values })
    }

    fn at(&self, place: u32) -> *const T {
        assert!(
            place < self.values,
            "places are handed out below the map's size"
        );
        // SAFETY: in bounds by the assertion.
        unsafe { self.base.add(place as usize) }
    }
}

impl Mapped<FlowStats> {
    /// The counters of a slot; a packet that is counted meanwhile may be in one number and not yet in another.
    pub(crate) fn read(&self, slot: u32) -> FlowStats {
        // SAFETY: in bounds; volatile, because the kernel writes it.
        unsafe { self.at(slot).read_volatile() }
    }

    /// How far a stream of a slot is.
    pub(crate) fn progress(&self, slot: u32, stream: usize) -> Progress {
        // SAFETY: in bounds, and there as long as the mapping.
        unsafe { FlowStats::progress(self.at(slot), stream) }
    }

    /// Packets of a slot, and how many of them found their keystream.
    pub(crate) fn keystream_use(&self, slot: u32) -> (u64, u64) {
        // SAFETY: as above.
        unsafe { FlowStats::keystream_use(self.at(slot)) }
    }
}

impl Mapped<KeystreamRing> {
    /// How many rings there are.
    pub(crate) fn len(&self) -> u32 {
        self.values
    }

    /// A ring, by its number.
    pub(crate) fn ring(&self, number: u32) -> &KeystreamRing {
        // SAFETY: in bounds, and there as long as the mapping; every byte pattern is a value, and cells are accessed by their owner only.
        unsafe { &*self.at(number) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        let bytes = self.values as usize * size_of::<T>();
        // SAFETY: our own mapping, as long as it was made, of which no reference is left.
        if unsafe { libc::munmap(self.base.cast(), bytes) } != 0 {
            tracing::error!(error = %io::Error::last_os_error(), "munmap of a map of the XDP program");
        }
    }
}
