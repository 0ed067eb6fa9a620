//! SRTCP with AES-CM and HMAC-SHA1 (RFC 3711 section 3.4): the browser leg's reports and feedback.
//!
//! Layout: `RTCP header and sender SSRC, clear | rest, encrypted | E and 31 bit index | tag`. The
//! tag is 80 bit for both suites (RFC 3711 section 5.2; RFC 5764 section 4.1.2 shortens that of RTP
//! only). We always encrypt; a peer may leave E at 0.

use std::collections::VecDeque;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::keys::Derived;

const TAG_BYTES: usize = 10;
const INDEX_BYTES: usize = 4;
/// Header and SSRC of the first packet stay clear.
const CLEAR_BYTES: usize = 8;
const ENCRYPTED: u32 = 1 << 31;
/// Packets of replay window.
const WINDOW: u32 = 128;
/// Senders whose indices are kept. RTCP with many SSRCs under one key is rare; the oldest is
/// forgotten, so it is a bound on memory that a stranger cannot reach (only authenticated packets
/// count).
const MAX_SENDERS: usize = 16;

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtcpError {
    /// Shorter than header, index and tag.
    #[error("SRTCP packet too short")]
    TooShort,
    /// The tag is wrong.
    #[error("SRTCP authentication failed")]
    AuthFailed,
    /// This index has been received.
    #[error("SRTCP packet replayed")]
    Replayed,
    /// The index is older than the replay window.
    #[error("SRTCP packet older than the replay window")]
    TooOld,
}

/// Keys of one direction and what both halves compute. Cipher and MAC are set up anew for each
/// packet: RTCP is rare, and only the keys are wiped on drop.
struct Transform {
    keys: Derived,
}

impl Transform {
    fn mac(&self, signed: &[u8]) -> Hmac<Sha1> {
        let mac =
            Hmac::<Sha1>::new_from_slice(&*self.keys.auth).expect("HMAC takes keys of any length");
        mac.chain_update(signed)
    }

    /// En- or decrypts everything behind the first SSRC (RFC 3711 section 4.1.1 with the 31 bit
    /// index).
    fn apply_keystream(&self, rtcp: &mut [u8], index: u32) {
        let mut counter = [0; 16];
        counter[..self.keys.salt.len()].copy_from_slice(&*self.keys.salt);
        let (ssrc, index) = (&rtcp[4..CLEAR_BYTES], index.to_be_bytes());
        counter[4..8]
            .iter_mut()
            .zip(ssrc)
            .for_each(|(to, from)| *to ^= from);
        counter[10..14]
            .iter_mut()
            .zip(index)
            .for_each(|(to, from)| *to ^= from);
        Ctr128BE::<Aes128>::new((&*self.keys.cipher).into(), (&counter).into())
            .apply_keystream(&mut rtcp[CLEAR_BYTES..]);
    }
}

/// Protects outgoing RTCP.
pub struct SrtcpSender {
    transform: Transform,
    next_index: u32,
}

impl SrtcpSender {
    pub(super) fn new(keys: Derived) -> Self {
        Self {
            transform: Transform { keys },
            next_index: 1,
        }
    }

    /// Turns a compound RTCP packet into SRTCP. Returns false, with the packet emptied, for what is
    /// no RTCP (shorter than 8 bytes) and after 2^31 packets under one key, which 300 years of
    /// reports do not reach.
    pub fn protect(&mut self, rtcp: &mut Vec<u8>) -> bool {
        if rtcp.len() < CLEAR_BYTES || self.next_index >= ENCRYPTED {
            rtcp.clear();
            return false;
        }
        let index = self.next_index;
        self.next_index += 1;
        self.transform.apply_keystream(rtcp, index);
        rtcp.extend_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let tag = self.transform.mac(rtcp).finalize().into_bytes();
        rtcp.extend_from_slice(&tag[..TAG_BYTES]);
        true
    }
}

/// Checks and opens incoming SRTCP.
pub struct SrtcpReceiver {
    transform: Transform,
    /// Newest first.
    senders: VecDeque<(u32, ReplayWindow)>,
}

impl SrtcpReceiver {
    pub(super) fn new(keys: Derived) -> Self {
        Self {
            transform: Transform { keys },
            senders: VecDeque::new(),
        }
    }

    /// Turns SRTCP into a compound RTCP packet. On an error the packet is as it was, and nothing
    /// has been learnt from it.
    ///
    /// # Errors
    /// See [`SrtcpError`].
    pub fn unprotect(&mut self, packet: &mut Vec<u8>) -> Result<(), SrtcpError> {
        let end = packet
            .len()
            .checked_sub(INDEX_BYTES + TAG_BYTES)
            .filter(|end| *end >= CLEAR_BYTES)
            .ok_or(SrtcpError::TooShort)?;
        let (signed, tag) = packet.split_at(end + INDEX_BYTES);
        self.transform
            .mac(signed)
            .verify_truncated_left(tag)
            .map_err(|_| SrtcpError::AuthFailed)?;
        let word = be32(&signed[end..]);
        let (encrypted, index) = (word & ENCRYPTED != 0, word & !ENCRYPTED);
        self.accept(be32(&signed[4..]), index)?;
        packet.truncate(end);
        if encrypted {
            self.transform.apply_keystream(packet, index);
        }
        Ok(())
    }

    /// Looks the index up in the window of its sender and enters it.
    fn accept(&mut self, ssrc: u32, index: u32) -> Result<(), SrtcpError> {
        let place = self.senders.iter().position(|(known, _)| *known == ssrc);
        if let Some((_, window)) = place.and_then(|place| self.senders.get_mut(place)) {
            return window.accept(index);
        }
        self.senders.truncate(MAX_SENDERS - 1);
        self.senders.push_front((
            ssrc,
            ReplayWindow {
                highest: index,
                seen: 1,
            },
        ));
        Ok(())
    }
}

/// Bit n of `seen` = index `highest - n` has been received (RFC 3711 section 3.3.2).
struct ReplayWindow {
    highest: u32,
    seen: u128,
}

impl ReplayWindow {
    fn accept(&mut self, index: u32) -> Result<(), SrtcpError> {
        if index > self.highest {
            self.seen = self.seen.checked_shl(index - self.highest).unwrap_or(0) | 1;
            self.highest = index;
            return Ok(());
        }
        let age = self.highest - index;
        if age >= WINDOW {
            return Err(SrtcpError::TooOld);
        }
        let bit = 1_u128 << age;
        if self.seen & bit != 0 {
            return Err(SrtcpError::Replayed);
        }
        self.seen |= bit;
        Ok(())
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use flow::Suite;
    use rtc_srtp::context::Context;
    use rtc_srtp::protection_profile::ProtectionProfile;
    use zeroize::Zeroizing;

    use super::*;
    use crate::rtp::MasterKeys;

    const KEY: [u8; 16] = *b"0123456789abcdef";
    const SALT: [u8; 14] = *b"salt-of-14-oct";
    const SUITES: [(Suite, ProtectionProfile); 2] = [
        (
            Suite::AesCm128HmacSha1_80,
            ProtectionProfile::Aes128CmHmacSha1_80,
        ),
        (
            Suite::AesCm128HmacSha1_32,
            ProtectionProfile::Aes128CmHmacSha1_32,
        ),
    ];

    fn master(suite: Suite) -> MasterKeys {
        MasterKeys {
            suite,
            key: Zeroizing::new(KEY),
            salt: Zeroizing::new(SALT),
        }
    }

    fn pair() -> (SrtcpSender, SrtcpReceiver) {
        let master = master(Suite::AesCm128HmacSha1_80);
        (master.srtcp_sender(), master.srtcp_receiver())
    }

    fn other(profile: ProtectionProfile) -> Context {
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        Context::new(&KEY, &SALT, profile, None, None, provider.crypto()).unwrap()
    }

    /// An RR of one SSRC with as many words behind it.
    fn rtcp(ssrc: u32, words: u8) -> Vec<u8> {
        let mut packet = vec![0x80, 201, 0, 1 + words];
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend((0..words * 4).map(|byte| byte ^ 0x5a));
        packet
    }

    #[test]
    fn an_independent_implementation_opens_what_we_protect() {
        for (suite, profile) in SUITES {
            let (mut sender, mut theirs) = (master(suite).srtcp_sender(), other(profile));
            for words in 0..20 {
                let plain = rtcp(0xdead_beef, words);
                let mut packet = plain.clone();
                assert!(sender.protect(&mut packet));
                assert_eq!(packet.len(), plain.len() + 14);
                assert_eq!(
                    theirs.decrypt_rtcp(&packet).unwrap(),
                    plain,
                    "{suite:?} {words}"
                );
            }
        }
    }

    #[test]
    fn we_open_what_an_independent_implementation_protects() {
        for (suite, profile) in SUITES {
            let (mut receiver, mut theirs) = (master(suite).srtcp_receiver(), other(profile));
            for words in 0..20 {
                let plain = rtcp(0xdead_beef, words);
                let mut packet = theirs.encrypt_rtcp(&plain).unwrap().to_vec();
                assert_eq!(receiver.unprotect(&mut packet), Ok(()), "{suite:?} {words}");
                assert_eq!(packet, plain);
            }
        }
    }

    #[test]
    fn every_bit_is_authenticated_and_a_refused_packet_is_untouched() {
        let (mut sender, mut receiver) = pair();
        let mut packet = rtcp(1, 6);
        sender.protect(&mut packet);
        for bit in 0..packet.len() * 8 {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let before = forged.clone();
            assert_eq!(
                receiver.unprotect(&mut forged),
                Err(SrtcpError::AuthFailed),
                "bit {bit}"
            );
            assert_eq!(forged, before);
        }
        assert_eq!(
            receiver.unprotect(&mut packet),
            Ok(()),
            "nothing was learnt from the forgeries"
        );
    }

    #[test]
    fn short_packets_are_refused() {
        let (mut sender, mut receiver) = pair();
        let mut packet = rtcp(1, 0);
        sender.protect(&mut packet);
        for length in 0..packet.len() {
            let refused = receiver.unprotect(&mut packet[..length].to_vec());
            assert_eq!(refused, Err(SrtcpError::TooShort), "{length}");
        }
        let mut no_rtcp = vec![0x80; 7];
        assert!(!sender.protect(&mut no_rtcp) && no_rtcp.is_empty());
    }

    #[test]
    fn replays_are_refused_and_reordering_within_128_is_taken() {
        let (mut sender, mut receiver) = pair();
        let packets: Vec<Vec<u8>> = (0..300)
            .map(|_| {
                let mut packet = rtcp(9, 2);
                sender.protect(&mut packet);
                packet
            })
            .collect();
        let mut open = |number: usize| receiver.unprotect(&mut packets[number].clone());
        assert_eq!(open(0), Ok(()));
        assert_eq!(open(0), Err(SrtcpError::Replayed));
        assert_eq!(open(130), Ok(()));
        assert_eq!(open(2), Err(SrtcpError::TooOld), "128 behind");
        assert_eq!(open(3), Ok(()), "127 behind");
        assert_eq!(open(3), Err(SrtcpError::Replayed));
        assert_eq!(open(129), Ok(()));
        assert_eq!(open(299), Ok(()), "a jump over the whole window");
        assert_eq!(open(130), Err(SrtcpError::TooOld));
        assert_eq!(open(172), Ok(()));
        assert_eq!(open(299), Err(SrtcpError::Replayed));
    }

    #[test]
    fn senders_have_windows_of_their_own_and_are_bounded() {
        let (mut sender, mut receiver) = pair();
        let mut first = rtcp(0, 1);
        sender.protect(&mut first);
        assert_eq!(receiver.unprotect(&mut first.clone()), Ok(()));
        for ssrc in 1..100 {
            let mut packet = rtcp(ssrc, 1);
            sender.protect(&mut packet);
            assert_eq!(receiver.unprotect(&mut packet.clone()), Ok(()));
            assert_eq!(receiver.unprotect(&mut packet), Err(SrtcpError::Replayed));
            assert!(receiver.senders.len() <= MAX_SENDERS);
        }
    }

    #[test]
    fn a_clear_packet_of_the_peer_is_taken_if_authentic() {
        let (sender, mut receiver) = pair();
        let plain = rtcp(4, 3);
        let mut packet = plain.clone();
        packet.extend_from_slice(&7_u32.to_be_bytes());
        let tag = sender.transform.mac(&packet).finalize().into_bytes();
        packet.extend_from_slice(&tag[..TAG_BYTES]);
        assert_eq!(receiver.unprotect(&mut packet), Ok(()));
        assert_eq!(packet, plain);
    }

    #[test]
    fn the_index_never_wraps() {
        let (mut sender, _) = pair();
        sender.next_index = ENCRYPTED - 1;
        assert!(sender.protect(&mut rtcp(1, 0)));
        assert!(
            !sender.protect(&mut rtcp(1, 0)),
            "2^31 packets under one key are all (RFC 3711 section 9.2)"
        );
    }
}
