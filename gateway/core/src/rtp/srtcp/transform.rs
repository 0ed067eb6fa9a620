//! What SRTCP packets look like under each suite.
//!
//! AES-CM with HMAC-SHA1 (RFC 3711 section 3.4): `RTCP header and sender SSRC, clear | rest,
//! encrypted | E and 31 bit index | tag`. The tag is 80 bit with every one of these suites (RFC 3711
//! section 5.2; RFC 5764 section 4.1.2 and RFC 6188 section 4 shorten that of RTP only).
//!
//! AES-GCM (RFC 7714 section 9): `header and SSRC, clear | rest, encrypted | tag | E and index`; the
//! associated data is what is clear, the index word at its end.
//!
//! Ciphers are set up anew for each packet: RTCP is rare, and only the keys are wiped on drop.

use aes::cipher::consts::U12;
use aes::{Aes128, Aes256};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{CLEAR_BYTES, ENCRYPTED, SrtcpError, be32};
use crate::rtp::keys::Derived;

const INDEX_BYTES: usize = 4;
const CM_TAG_BYTES: usize = 10;
const GCM_TAG_BYTES: usize = 16;

/// The keys of one direction.
pub(super) struct Transform {
    keys: Derived,
}

impl Transform {
    pub(super) fn new(keys: Derived) -> Self {
        Self { keys }
    }

    /// Encrypts a compound packet of at least [`CLEAR_BYTES`] and adds index and tag.
    pub(super) fn protect(&self, rtcp: &mut Vec<u8>, index: u32) {
        let word = (ENCRYPTED | index).to_be_bytes();
        if self.keys.suite.is_gcm() {
            let mut associated = rtcp[..CLEAR_BYTES].to_vec();
            associated.extend_from_slice(&word);
            let nonce = self.nonce(rtcp, index);
            let tag = self.gcm_encrypt(&nonce, &associated, &mut rtcp[CLEAR_BYTES..]);
            rtcp.extend_from_slice(&tag);
            rtcp.extend_from_slice(&word);
        } else {
            self.apply_keystream(rtcp, index);
            rtcp.extend_from_slice(&word);
            let tag = self.mac(rtcp).finalize().into_bytes();
            rtcp.extend_from_slice(&tag[..CM_TAG_BYTES]);
        }
    }

    /// The compound packet and the index of an authentic packet.
    pub(super) fn open(&self, packet: &[u8]) -> Result<(Vec<u8>, u32), SrtcpError> {
        if self.keys.suite.is_gcm() {
            self.open_gcm(packet)
        } else {
            self.open_cm(packet)
        }
    }

    fn open_cm(&self, packet: &[u8]) -> Result<(Vec<u8>, u32), SrtcpError> {
        let end = end_of_rtcp(packet, INDEX_BYTES + CM_TAG_BYTES)?;
        let (signed, tag) = packet.split_at(end + INDEX_BYTES);
        self.mac(signed)
            .verify_truncated_left(tag)
            .map_err(|_| SrtcpError::AuthFailed)?;
        let word = be32(&signed[end..]);
        let (mut rtcp, index) = (signed[..end].to_vec(), word & !ENCRYPTED);
        if word & ENCRYPTED != 0 {
            self.apply_keystream(&mut rtcp, index);
        }
        Ok((rtcp, index))
    }

    fn open_gcm(&self, packet: &[u8]) -> Result<(Vec<u8>, u32), SrtcpError> {
        let end = end_of_rtcp(packet, GCM_TAG_BYTES + INDEX_BYTES)?;
        let (tagged, trailer) = packet.split_at(end + GCM_TAG_BYTES);
        let (rtcp, tag) = tagged.split_at(end);
        let (word, mut rtcp) = (be32(trailer), rtcp.to_vec());
        let index = word & !ENCRYPTED;
        let nonce = self.nonce(&rtcp, index);
        // Without E nothing is encrypted, and the whole packet is associated data (section 9.3).
        let clear = if word & ENCRYPTED == 0 {
            end
        } else {
            CLEAR_BYTES
        };
        let mut associated = rtcp[..clear].to_vec();
        associated.extend_from_slice(trailer);
        let authentic = self.gcm_decrypt(&nonce, &associated, &mut rtcp[clear..], tag);
        if authentic {
            Ok((rtcp, index))
        } else {
            Err(SrtcpError::AuthFailed)
        }
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha1> {
        let mac = <Hmac<Sha1> as Mac>::new_from_slice(&*self.keys.auth)
            .expect("HMAC takes keys of any length");
        mac.chain_update(signed)
    }

    /// En- or decrypts everything behind the first SSRC (RFC 3711 section 4.1.1 with the 31 bit
    /// index).
    fn apply_keystream(&self, rtcp: &mut [u8], index: u32) {
        let mut counter = [0; 16];
        counter[..self.keys.salt.len()].copy_from_slice(&*self.keys.salt);
        mix(&mut counter[4..8], &rtcp[4..CLEAR_BYTES]);
        mix(&mut counter[10..14], &index.to_be_bytes());
        let (counter, data) = ((&counter).into(), &mut rtcp[CLEAR_BYTES..]);
        if self.key().len() == 32 {
            Ctr128BE::<Aes256>::new(self.key().into(), counter).apply_keystream(data);
        } else {
            Ctr128BE::<Aes128>::new(self.key().into(), counter).apply_keystream(data);
        }
    }

    /// RFC 7714 section 9.1.
    fn nonce(&self, rtcp: &[u8], index: u32) -> Nonce<U12> {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.keys.salt[..12]);
        mix(&mut nonce[2..6], &rtcp[4..CLEAR_BYTES]);
        mix(&mut nonce[8..], &index.to_be_bytes());
        nonce.into()
    }

    fn gcm_encrypt(&self, nonce: &Nonce<U12>, associated: &[u8], data: &mut [u8]) -> Tag {
        let key = self.key();
        let tag = if key.len() == 32 {
            Aes256Gcm::new(key.into()).encrypt_in_place_detached(nonce, associated, data)
        } else {
            Aes128Gcm::new(key.into()).encrypt_in_place_detached(nonce, associated, data)
        };
        tag.expect("a datagram is far below the 64 GiB of one nonce")
    }

    fn gcm_decrypt(
        &self,
        nonce: &Nonce<U12>,
        associated: &[u8],
        data: &mut [u8],
        tag: &[u8],
    ) -> bool {
        let (key, tag) = (self.key(), Tag::from_slice(tag));
        let opened = if key.len() == 32 {
            Aes256Gcm::new(key.into()).decrypt_in_place_detached(nonce, associated, data, tag)
        } else {
            Aes128Gcm::new(key.into()).decrypt_in_place_detached(nonce, associated, data, tag)
        };
        opened.is_ok()
    }

    fn key(&self) -> &[u8] {
        &self.keys.cipher[..self.keys.suite.key_bytes()]
    }
}

fn end_of_rtcp(packet: &[u8], trailer: usize) -> Result<usize, SrtcpError> {
    let end = packet.len().checked_sub(trailer);
    end.filter(|end| *end >= CLEAR_BYTES)
        .ok_or(SrtcpError::TooShort)
}

fn mix(to: &mut [u8], from: &[u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to ^= from);
}
