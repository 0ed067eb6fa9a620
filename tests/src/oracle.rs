//! SRTP by RFC 3711, RFC 6188 and RFC 7714 from the RustCrypto crates, one packet at a time under an
//! index that the caller names: what the packet table expects. No code shared with the `flow` crate.

use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInPlace as _;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit as _};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use flow::{SessionKey, SrtpKeys, Suite};
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Session keys of the table.
pub struct Keys {
    /// Protection profile.
    pub suite: Suite,
    cipher: [u8; 32],
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
        let mut header = 12 + 4 * usize::from(rtp[0] & 15);
        if rtp[0] & 0x10 != 0 {
            header += 4 + 4 * usize::from(u16::from_be_bytes([rtp[header + 2], rtp[header + 3]]));
        }
        if self.suite.is_gcm() {
            self.gcm(rtp, header, rollovers)
        } else {
            self.cm(rtp, header, rollovers)
        }
    }

    fn cm(&self, rtp: &[u8], header: usize, rollovers: u32) -> Vec<u8> {
        let mut out = rtp.to_vec();
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
        let (iv, key) = ((&iv).into(), &self.cipher[..self.suite.key_bytes()]);
        if key.len() == 32 {
            Ctr128BE::<Aes256>::new(key.into(), iv).apply_keystream(&mut out[header..]);
        } else {
            Ctr128BE::<Aes128>::new(key.into(), iv).apply_keystream(&mut out[header..]);
        }
        let mut mac =
            <Hmac<Sha1> as Mac>::new_from_slice(&self.auth).expect("HMAC takes any key length");
        mac.update(&out);
        mac.update(&rollovers.to_be_bytes());
        out.extend(&mac.finalize().into_bytes()[..self.suite.tag_bytes()]);
        out
    }

    fn gcm(&self, rtp: &[u8], header: usize, rollovers: u32) -> Vec<u8> {
        // RFC 7714 section 8.1: 00 00 | SSRC | ROC | SEQ, and the salt.
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&rtp[8..12]);
        nonce[6..10].copy_from_slice(&rollovers.to_be_bytes());
        nonce[10..].copy_from_slice(&rtp[2..4]);
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        let (mut out, payload) = (rtp[..header].to_vec(), &mut rtp[header..].to_vec());
        let (nonce, key) = ((&nonce).into(), &self.cipher[..self.suite.key_bytes()]);
        let tag = if key.len() == 32 {
            Aes256Gcm::new(key.into()).encrypt_in_place_detached(nonce, &out, payload)
        } else {
            Aes128Gcm::new(key.into()).encrypt_in_place_detached(nonce, &out, payload)
        };
        out.extend_from_slice(payload);
        out.extend(tag.expect("short enough"));
        out
    }
}
