//! SRTP session keys: as RFC 3711 derives them, and expanded as the packet path reads them.
//!
//! Why two forms: the kernel gets derived session keys and HMAC midstates only, never a master key,
//! and no key schedule runs in BPF. Built by `gateway-core`'s key derivation; copied into a
//! [`crate::FlowEntry`] by the datapaths.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::{aes, sha1};

/// SRTP protection profile of a flow (RFC 5764 section 4.1.2, RFC 4568 section 6.2).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// AES-CM with 128 bit keys, HMAC-SHA1 with an 80 bit tag.
    AesCm128HmacSha1_80 = 1,
    /// The same with a 32 bit tag on RTP.
    AesCm128HmacSha1_32 = 2,
}

impl Suite {
    /// Length of the RTP authentication tag in bytes.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
        }
    }
}

/// Derived session keys of one direction (RFC 3711 section 4.3), never the master key. Zeroed on
/// drop, no `Debug`.
pub struct SessionKey {
    /// Cipher key.
    pub cipher: [u8; 16],
    /// HMAC-SHA1 key.
    pub auth: [u8; 20],
    /// Salt.
    pub salt: [u8; 14],
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        wipe(&mut self.cipher, 0);
        wipe(&mut self.auth, 0);
        wipe(&mut self.salt, 0);
    }
}

/// Session keys in the form that the packet path reads. No `Debug`, zeroed on drop.
#[derive(Clone)]
pub struct SrtpKeys(KeyBlock);

impl SrtpKeys {
    /// Expands the session keys for the packet path.
    pub fn new(suite: Suite, session: &SessionKey) -> Self {
        let (inner, outer) = sha1::hmac_midstates(&session.auth);
        let mut salt = [0; 16];
        salt[..14].copy_from_slice(&session.salt);
        let mut columns = [0; 4];
        for (column, bytes) in columns.iter_mut().zip(salt.as_chunks::<4>().0) {
            *column = u32::from_be_bytes(*bytes);
        }
        Self(KeyBlock {
            round_keys: aes::expand(&session.cipher),
            salt: columns,
            inner,
            outer,
            suite: u32::from(suite as u8),
            reserved: 0,
        })
    }

    /// The suite that these keys are for.
    pub fn suite(&self) -> Suite {
        if self.0.suite == 2 {
            Suite::AesCm128HmacSha1_32
        } else {
            Suite::AesCm128HmacSha1_80
        }
    }

    /// The plain copy that goes into an entry.
    pub(crate) fn block(&self) -> KeyBlock {
        self.0
    }
}

impl Drop for SrtpKeys {
    fn drop(&mut self) {
        wipe(core::slice::from_mut(&mut self.0), KeyBlock::EMPTY);
    }
}

/// The layout of the keys inside an entry. `Copy`, as map values have to be: it lives only in
/// [`crate::FlowEntry`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeyBlock {
    /// See [`aes::RoundKeys`].
    pub(crate) round_keys: aes::RoundKeys,
    /// The salt as four big-endian numbers, the 16 bits of the block counter zero: salt * 2^16 of
    /// RFC 3711 section 4.1.1.
    pub(crate) salt: [u32; 4],
    /// HMAC-SHA1 midstates after the padded key.
    pub(crate) inner: sha1::State,
    pub(crate) outer: sha1::State,
    /// [`Suite`] as a number; 0 = no keys.
    suite: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<KeyBlock>() == 704 + 16 + 40 + 8 && align_of::<KeyBlock>() == 8);

impl KeyBlock {
    pub(crate) const EMPTY: Self = Self {
        round_keys: [[0; 8]; 11],
        salt: [0; 4],
        inner: [0; 5],
        outer: [0; 5],
        suite: 0,
        reserved: 0,
    };

    /// Length of the authentication tag in bytes; `None` if there are no keys of a known suite.
    #[inline(always)]
    pub(crate) fn tag_bytes(&self) -> Option<u32> {
        match self.suite {
            1 => Some(10),
            2 => Some(4),
            _ => None,
        }
    }
}

/// Overwrites `memory` in a way that the compiler may not leave out.
pub(crate) fn wipe<T: Copy>(memory: &mut [T], zero: T) {
    for item in memory {
        // SAFETY: `item` is a unique reference to initialised memory of type T.
        unsafe { core::ptr::write_volatile(item, zero) };
    }
    compiler_fence(Ordering::SeqCst);
}
