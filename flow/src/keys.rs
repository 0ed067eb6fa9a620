//! SRTP session keys: as RFC 3711 derives them, and expanded as the packet path reads them.
//!
//! Why two forms: the kernel gets derived session keys and HMAC midstates only, never a master key,
//! and no key schedule runs in BPF. Made by `gateway-core`'s key derivation; expanded where a
//! [`crate::FlowEntry`] is built.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::ghash::HashKey;
use crate::{aes, sha1};

/// SRTP protection profile of a flow (RFC 5764 section 4.1.2, RFC 6188, RFC 7714, RFC 4568 section 6.2).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suite {
    /// AES-CM with 128 bit keys, HMAC-SHA1 with an 80 bit tag.
    AesCm128HmacSha1_80 = 1,
    /// The same with a 32 bit tag on RTP.
    AesCm128HmacSha1_32 = 2,
    /// AES-CM with 256 bit keys, HMAC-SHA1 with an 80 bit tag.
    AesCm256HmacSha1_80 = 3,
    /// The same with a 32 bit tag on RTP.
    AesCm256HmacSha1_32 = 4,
    /// AES-GCM with 128 bit keys and a 128 bit tag.
    AeadAes128Gcm = 5,
    /// AES-GCM with 256 bit keys and a 128 bit tag.
    AeadAes256Gcm = 6,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::AesCm256HmacSha1_80,
        Self::AesCm256HmacSha1_32,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];
    /// Longest cipher key, session or master, in bytes.
    pub const MAX_KEY_BYTES: usize = 32;
    /// Longest salt, session or master, in bytes.
    pub const MAX_SALT_BYTES: usize = 14;

    /// Name of the suite in SDP (RFC 4568 section 6.2, RFC 6188 section 3, RFC 7714 section 14.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Length of the RTP authentication tag in bytes.
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm256HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 | Self::AesCm256HmacSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Length of the cipher key, session and master alike, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::AeadAes128Gcm => 16,
            Self::AesCm256HmacSha1_80 | Self::AesCm256HmacSha1_32 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of the salt, session and master alike, in bytes.
    pub const fn salt_bytes(self) -> usize {
        if self.is_gcm() { 12 } else { 14 }
    }

    /// Whether one algorithm encrypts and authenticates (RFC 7714); there is no authentication key then.
    pub const fn is_gcm(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }
}

/// What suites have in common for who computes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// AES-CM and HMAC-SHA1 (RFC 3711, RFC 6188).
    CounterMode,
    /// AES-GCM (RFC 7714).
    GaloisMode,
}

/// Derived session keys of one direction (RFC 3711 section 4.3), never the master key. Zeroed on
/// drop, no `Debug`.
#[derive(Clone)]
pub struct SessionKey {
    /// Cipher key: the first [`Suite::key_bytes`] of it.
    pub cipher: [u8; Suite::MAX_KEY_BYTES],
    /// HMAC-SHA1 key; of no meaning with GCM.
    pub auth: [u8; 20],
    /// Salt: the first [`Suite::salt_bytes`] of it.
    pub salt: [u8; Suite::MAX_SALT_BYTES],
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        wipe(&mut self.cipher, 0);
        wipe(&mut self.auth, 0);
        wipe(&mut self.salt, 0);
    }
}

/// Session keys of a suite. No `Debug`, zeroed on drop.
#[derive(Clone)]
pub struct SrtpKeys {
    suite: Suite,
    session: SessionKey,
}

impl SrtpKeys {
    /// Session keys, and what for.
    pub fn new(suite: Suite, session: &SessionKey) -> Self {
        Self {
            suite,
            session: session.clone(),
        }
    }

    /// The suite that these keys are for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether both are the same keys, in a time that does not depend on them.
    pub fn is_same(&self, other: &Self) -> bool {
        let difference = |a: &[u8], b: &[u8]| a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
        let (own, other_own) = (&self.session, &other.session);
        let differences = difference(&own.cipher, &other_own.cipher)
            | difference(&own.auth, &other_own.auth)
            | difference(&own.salt, &other_own.salt);
        self.suite == other.suite && core::hint::black_box(differences) == 0
    }

    /// The session keys that these were made from.
    pub fn session(&self) -> &SessionKey {
        &self.session
    }

    /// Expands them into what goes into an entry.
    pub(crate) fn block(&self) -> KeyBlock {
        let mut salt = [0; 16];
        let length = self.suite.salt_bytes();
        salt[..length].copy_from_slice(&self.session.salt[..length]);
        let mut columns = [0; 4];
        for (column, bytes) in columns.iter_mut().zip(salt.as_chunks::<4>().0) {
            *column = u32::from_be_bytes(*bytes);
        }
        let mut block = KeyBlock {
            round_keys: aes::expand(&self.session.cipher[..self.suite.key_bytes()]),
            salt: columns,
            suite: u32::from(self.suite as u8),
            ..KeyBlock::EMPTY
        };
        if self.suite.is_gcm() {
            let zeros = aes::encrypt(&block.round_keys, block.is_long(), &[0; 4]);
            block.hash = HashKey::new(zeros);
        } else {
            (block.inner, block.outer) = sha1::hmac_midstates(&self.session.auth);
        }
        block
    }
}

/// The layout of the keys inside an entry. `Copy`, as map values have to be: it lives only in
/// [`crate::FlowEntry`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct KeyBlock {
    /// See [`aes::RoundKeys`].
    pub(crate) round_keys: aes::RoundKeys,
    /// The salt as four big-endian numbers, zero where the block counter goes: salt * 2^16 of RFC
    /// 3711 section 4.1.1, and the 96 bits of RFC 7714 section 8.1.
    pub(crate) salt: [u32; 4],
    /// GCM's hash key.
    pub(crate) hash: HashKey,
    /// HMAC-SHA1 midstates after the padded key.
    pub(crate) inner: sha1::State,
    pub(crate) outer: sha1::State,
    /// [`Suite`] as a number; 0 = no keys.
    suite: u32,
    reserved: u32,
}

const _: () =
    assert!(size_of::<KeyBlock>() == 960 + 16 + 192 + 40 + 8 && align_of::<KeyBlock>() == 8);

impl KeyBlock {
    pub(crate) const EMPTY: Self = Self {
        round_keys: [[0; 8]; 15],
        salt: [0; 4],
        hash: HashKey::EMPTY,
        inner: [0; 5],
        outer: [0; 5],
        suite: 0,
        reserved: 0,
    };

    /// Length of the authentication tag in bytes; `None` if there are no keys.
    #[inline(always)]
    pub(crate) fn tag_bytes(&self) -> Option<u32> {
        tag_bytes(self.suite as u8)
    }

    /// Whether the cipher is AES-256.
    #[inline(always)]
    pub(crate) fn is_long(&self) -> bool {
        matches!(self.suite, 3 | 4 | 6)
    }
}

/// Length of the authentication tag of a suite's number in bytes; `None` if there is no such suite.
#[inline(always)]
pub(crate) fn tag_bytes(suite: u8) -> Option<u32> {
    match suite {
        1 | 3 => Some(10),
        2 | 4 => Some(4),
        5 | 6 => Some(16),
        _ => None,
    }
}

/// Who computes the suite of a number; `None` if there is no such suite.
#[inline(always)]
pub(crate) fn family(suite: u8) -> Option<Family> {
    match suite {
        1..=4 => Some(Family::CounterMode),
        5 | 6 => Some(Family::GaloisMode),
        _ => None,
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
