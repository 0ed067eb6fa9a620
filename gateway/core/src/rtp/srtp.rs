//! Whether an SRTP packet is authentic (RFC 3711 section 4.2, RFC 7714 section 8).
//!
//! RTP is forwarded by a datapath, which authenticates it itself. Only a packet from a source that
//! has no flow comes to the core, and before a flow is moved there the packet has to prove itself.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::MasterKeys;
use super::keys::Derived;

/// Header without CSRCs (RFC 3550 section 5.1).
const HEADER_BYTES: usize = 12;

/// Whether the packet was protected with these keys, its rollover counter being near `rollover`.
pub fn is_authentic(keys: &MasterKeys, packet: &[u8], rollover: u32) -> bool {
    let (derived, tag) = (keys.rtp_session(), keys.suite().tag_bytes());
    let Some(length) = packet.len().checked_sub(tag) else {
        return false;
    };
    let (signed, tag) = packet.split_at(length);
    let Some(header) = header_bytes(signed) else {
        return false;
    };
    let near = [rollover, rollover.wrapping_add(1), rollover.wrapping_sub(1)];
    near.into_iter().any(|rollover| {
        if keys.suite().is_gcm() {
            gcm(&derived, signed, header, tag, rollover)
        } else {
            let mac = <Hmac<Sha1> as Mac>::new_from_slice(&*derived.auth)
                .expect("HMAC takes keys of any length");
            let mac = mac
                .chain_update(signed)
                .chain_update(rollover.to_be_bytes());
            mac.verify_truncated_left(tag).is_ok()
        }
    })
}

/// Length of header, CSRCs and header extension.
fn header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut length = HEADER_BYTES + usize::from(first & 0x0f) * 4;
    if first & 0x10 != 0 {
        let [_, _, high, low] = *packet.get(length..)?.first_chunk()?;
        length += 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
    }
    (length <= packet.len()).then_some(length)
}

fn gcm(derived: &Derived, signed: &[u8], header: usize, tag: &[u8], rollover: u32) -> bool {
    // RFC 7714 section 8.1: two zero bytes, SSRC, rollover counter, sequence number.
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&signed[8..12]);
    nonce[6..10].copy_from_slice(&rollover.to_be_bytes());
    nonce[10..].copy_from_slice(&signed[2..4]);
    for (byte, salt) in nonce.iter_mut().zip(derived.salt.iter()) {
        *byte ^= salt;
    }
    let (associated, data) = signed.split_at(header);
    let (nonce, tag, mut data) = ((&nonce).into(), tag.into(), data.to_vec());
    let opened = if derived.suite.key_bytes() == 32 {
        let cipher = Aes256Gcm::new((&*derived.cipher).into());
        cipher.decrypt_in_place_detached(nonce, associated, &mut data, tag)
    } else {
        let cipher = Aes128Gcm::new((&derived.cipher[..16]).into());
        cipher.decrypt_in_place_detached(nonce, associated, &mut data, tag)
    };
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use flow::Suite;
    use rtc_srtp::context::Context;
    use rtc_srtp::protection_profile::ProtectionProfile;

    use super::*;

    #[test]
    fn packets_of_an_independent_implementation_are_authentic_until_a_bit_changes() {
        let profiles = [
            (
                Suite::AesCm128HmacSha1_80,
                ProtectionProfile::Aes128CmHmacSha1_80,
            ),
            (
                Suite::AesCm128HmacSha1_32,
                ProtectionProfile::Aes128CmHmacSha1_32,
            ),
            (Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
            (Suite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
        ];
        for (suite, profile) in profiles {
            let (key, salt) = (vec![7; suite.key_bytes()], vec![9; suite.salt_bytes()]);
            let keys = MasterKeys::new(suite, &key, &salt).unwrap();
            let provider = rtc_srtp::crypto::default_provider().unwrap();
            let mut theirs =
                Context::new(&key, &salt, profile, None, None, provider.crypto()).unwrap();
            // One CSRC and a header extension of one word.
            let mut plain = vec![0x91, 0, 0xff, 0xff, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
            plain.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 1, 0, 0]);
            plain.extend_from_slice(&[0x55; 40]);
            let packet = theirs.encrypt_rtp(&plain).unwrap().to_vec();
            assert!(is_authentic(&keys, &packet, 0), "{suite:?}");
            assert!(is_authentic(&keys, &packet, 1), "counted one too far");
            assert!(!is_authentic(&keys, &packet, 2), "{suite:?}");
            for byte in 0..packet.len() {
                let mut forged = packet.clone();
                forged[byte] ^= 1;
                assert!(!is_authentic(&keys, &forged, 0), "{suite:?} byte {byte}");
            }
            plain[2..4].copy_from_slice(&[0, 0]);
            let packet = theirs.encrypt_rtp(&plain).unwrap().to_vec();
            assert!(is_authentic(&keys, &packet, 0), "after the rollover");
            assert!(!is_authentic(&keys, &packet, 3), "{suite:?}");
        }
    }

    #[test]
    fn short_and_broken_packets_are_not_authentic() {
        let keys = MasterKeys::new(Suite::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap();
        for length in 0..40 {
            assert!(!is_authentic(&keys, &vec![0x9f; length], 0), "{length}");
        }
    }
}
