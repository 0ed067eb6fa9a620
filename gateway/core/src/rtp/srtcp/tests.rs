//! SRTCP of every suite against rtc-srtp and the RFC's packets; indices, windows, forgeries.

use flow::Suite;
use hmac::{Hmac, Mac as _};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use sha1::Sha1;
use zeroize::Zeroizing;

use super::*;
use crate::rtp::MasterKeys;

const KEY: &[u8; 32] = b"0123456789abcdefFEDCBA9876543210";
const SALT: &[u8; 14] = b"salt-of-14-oct";

fn profile(suite: Suite) -> ProtectionProfile {
    match suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::AesCm256HmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Suite::AesCm256HmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    }
}

fn master(suite: Suite) -> MasterKeys {
    let (key, salt) = (&KEY[..suite.key_bytes()], &SALT[..suite.salt_bytes()]);
    MasterKeys::new(suite, key, salt).unwrap()
}

fn pair(suite: Suite) -> (SrtcpSender, SrtcpReceiver) {
    let master = master(suite);
    (master.srtcp_sender(), master.srtcp_receiver())
}

fn other(suite: Suite) -> Context {
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let keys = master(suite);
    let (key, salt) = (keys.key(), keys.salt());
    Context::new(key, salt, profile(suite), None, None, provider.crypto()).unwrap()
}

/// Bytes that SRTCP adds.
fn trailer(suite: Suite) -> usize {
    if suite.is_gcm() { 20 } else { 14 }
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
    for suite in Suite::ALL {
        let (mut sender, mut theirs) = (master(suite).srtcp_sender(), other(suite));
        for words in 0..20 {
            let plain = rtcp(0xdead_beef, words);
            let mut packet = plain.clone();
            assert!(sender.protect(&mut packet));
            assert_eq!(packet.len(), plain.len() + trailer(suite));
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
    for suite in Suite::ALL {
        let (mut receiver, mut theirs) = (master(suite).srtcp_receiver(), other(suite));
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
    for suite in Suite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let mut packet = rtcp(1, 6);
        sender.protect(&mut packet);
        for bit in 0..packet.len() * 8 {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let before = forged.clone();
            let refused = receiver.unprotect(&mut forged);
            assert_eq!(refused, Err(SrtcpError::AuthFailed), "{suite:?} bit {bit}");
            assert_eq!(forged, before);
        }
        let taken = receiver.unprotect(&mut packet);
        assert_eq!(taken, Ok(()), "nothing was learnt from the forgeries");
    }
}

#[test]
fn short_packets_are_refused() {
    for suite in Suite::ALL {
        let (mut sender, mut receiver) = pair(suite);
        let mut packet = rtcp(1, 0);
        sender.protect(&mut packet);
        for length in 0..packet.len() {
            let refused = receiver.unprotect(&mut packet[..length].to_vec());
            assert_eq!(refused, Err(SrtcpError::TooShort), "{suite:?} {length}");
        }
        let mut no_rtcp = vec![0x80; 7];
        assert!(!sender.protect(&mut no_rtcp) && no_rtcp.is_empty());
    }
}

#[test]
fn replays_are_refused_and_reordering_within_128_is_taken() {
    let (mut sender, mut receiver) = pair(Suite::AesCm128HmacSha1_80);
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
    let (mut sender, mut receiver) = pair(Suite::AesCm128HmacSha1_80);
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
    let suite = Suite::AesCm128HmacSha1_80;
    let plain = rtcp(4, 3);
    let mut packet = plain.clone();
    packet.extend_from_slice(&7_u32.to_be_bytes());
    let mut session = Zeroizing::new([0; 20]);
    // Label 4 (RFC 3711 section 4.3.2).
    master(suite).derive_one(4, &mut *session);
    let mut mac = Hmac::<Sha1>::new_from_slice(&*session).unwrap();
    mac.update(&packet);
    packet.extend_from_slice(&mac.finalize().into_bytes()[..10]);
    assert_eq!(pair(suite).1.unprotect(&mut packet), Ok(()));
    assert_eq!(packet, plain);
}

/// RFC 7714 section 17: session keys 00 01 02..., salt "Quid pro quo", index 0x5d4.
#[test]
fn packets_of_rfc_7714_17() {
    const PLAIN: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeef\
        deadbeefdeadbeefdeadbeef";
    const GCM_128: &str = "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda\
        4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4";
    const GCM_256: &str = "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be\
        8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4";
    const TAG_ONLY_128: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdead\
        beefdeadbeefdeadbeefdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4";
    let session = |suite| Derived {
        suite,
        cipher: Zeroizing::new(core::array::from_fn(|place| place as u8)),
        auth: Zeroizing::default(),
        salt: Zeroizing::new(*b"Quid pro quo\0\0"),
    };
    for (suite, protected) in [
        (Suite::AeadAes128Gcm, GCM_128),
        (Suite::AeadAes256Gcm, GCM_256),
    ] {
        let mut sender = SrtcpSender::new(session(suite));
        sender.next_index = 0x5d4;
        let mut packet = hex::decode(PLAIN).unwrap();
        assert!(sender.protect(&mut packet));
        assert_eq!(hex::encode(&packet), protected);
        let mut receiver = SrtcpReceiver::new(session(suite));
        assert_eq!(receiver.unprotect(&mut packet), Ok(()));
        assert_eq!(hex::encode(&packet), PLAIN);
    }
    let mut packet = hex::decode(TAG_ONLY_128).unwrap();
    let mut receiver = SrtcpReceiver::new(session(Suite::AeadAes128Gcm));
    assert_eq!(receiver.unprotect(&mut packet), Ok(()));
    assert_eq!(hex::encode(&packet), PLAIN);
}

#[test]
fn the_index_never_wraps() {
    let (mut sender, _) = pair(Suite::AesCm128HmacSha1_80);
    sender.next_index = ENCRYPTED - 1;
    assert!(sender.protect(&mut rtcp(1, 0)));
    assert!(
        !sender.protect(&mut rtcp(1, 0)),
        "2^31 packets under one key are all (RFC 3711 section 9.2)"
    );
}
