//! SRTP by RFC 3711 from the RustCrypto crates, one packet at a time under an index that the caller
//! names: what the packet table expects. No code shared with the `flow` crate.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use flow::{SessionKey, SrtpKeys, Suite};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

/// Session keys of the table.
pub struct Keys {
    /// Protection profile.
    pub suite: Suite,
    cipher: [u8; 16],
    auth: [u8; 20],
    salt: [u8; 14],
}

impl Keys {
    /// Some keys, others for another `number`.
    pub fn new(suite: Suite, number: u8) -> Self {
        let byte = |k: usize| (k as u8).wrapping_mul(31) ^ number;
        Self {
            suite,
            cipher: core::array::from_fn(byte),
            auth: core::array::from_fn(|k| byte(k + 50)),
            salt: core::array::from_fn(|k| byte(k + 100)),
        }
    }

    /// The same keys for the packet path.
    pub fn expanded(&self) -> SrtpKeys {
        SrtpKeys::new(
            self.suite,
            &SessionKey {
                cipher: self.cipher,
                auth: self.auth,
                salt: self.salt,
            },
        )
    }

    /// The SRTP packet of an RTP packet under a rollover counter.
    pub fn protect(&self, rtp: &[u8], rollovers: u32) -> Vec<u8> {
        let mut out = rtp.to_vec();
        let mut header = 12 + 4 * usize::from(rtp[0] & 15);
        if rtp[0] & 0x10 != 0 {
            header += 4 + 4 * usize::from(u16::from_be_bytes([rtp[header + 2], rtp[header + 3]]));
        }
        // RFC 3711 section 4.1.1.
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        let index = rollovers
            .to_be_bytes()
            .into_iter()
            .chain(rtp[2..4].iter().copied());
        for (byte, mix) in iv[4..]
            .iter_mut()
            .zip(rtp[8..12].iter().copied().chain(index))
        {
            *byte ^= mix;
        }
        Ctr128BE::<Aes128>::new(&self.cipher.into(), &iv.into())
            .apply_keystream(&mut out[header..]);
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.auth).expect("HMAC takes any key length");
        mac.update(&out);
        mac.update(&rollovers.to_be_bytes());
        out.extend(&mac.finalize().into_bytes()[..self.suite.tag_bytes()]);
        out
    }
}
