//! DTLS of a leg: roles, versions, bad networks, refusals, and that the keys are the right ones.

use std::time::Duration;

use flow::Suite;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use str0m::config::DtlsVersion;

use super::bed::{Bed, ONE_WAY, Setup};
use super::browser::{Offer, parameters};
use crate::rtp::MasterKeys;
use crate::webrtc::{DTLS_SUITES, DtlsRole, LegError, LegState};

const ROLES: [DtlsRole; 2] = [DtlsRole::Active, DtlsRole::Passive];

fn context(keys: &MasterKeys) -> Context {
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let profile = match keys.suite() {
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        _ => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let (key, salt) = (keys.key(), keys.salt());
    Context::new(key, salt, profile, None, None, provider.crypto()).unwrap()
}

/// Media both ways with keys from the leg, through a third implementation of SRTP.
fn assert_media_flows(bed: &mut Bed) {
    let secured = bed.secured.take().unwrap();
    bed.run_until(Duration::from_secs(5), |bed| bed.browser.connected);
    bed.setup.loss_percent = 0;
    bed.setup.jitter = Duration::ZERO;
    bed.media.clear();
    let now = bed.now;
    bed.browser.send_rtp(now, 1000, b"from the browser");
    bed.run_until(Duration::from_secs(1), |bed| !bed.media.is_empty());
    let clear = context(&secured.remote).decrypt_rtp(&bed.media[0]).unwrap();
    assert!(clear.ends_with(b"from the browser"));

    let mut rtp = vec![0x80, 0, 0x12, 0x34, 0, 0, 0, 160, 0, 0, 0x04, 0xd2];
    rtp.extend_from_slice(b"from the gateway");
    let protected = context(&secured.local).encrypt_rtp(&rtp).unwrap();
    bed.send(bed.gateway_addr, bed.browser_addr, protected.to_vec());
    bed.run_for(ONE_WAY * 3);
    assert_eq!(
        bed.browser.received,
        [(0x1234, b"from the gateway".to_vec())]
    );
}

#[test]
fn keys_of_both_roles_and_versions_carry_media() {
    let versions = [
        (DtlsVersion::Dtls12, "DTLS 1.2"),
        (DtlsVersion::Dtls13, "DTLS 1.3"),
        (DtlsVersion::Auto, "DTLS 1.3"),
    ];
    for role in ROLES {
        for (version, name) in versions {
            let mut bed = Bed::new(Setup {
                role,
                version,
                ..Setup::default()
            });
            bed.browser_calls();
            bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
            assert_eq!(
                bed.secured.as_ref().unwrap().tls_version,
                name,
                "{role:?} {version:?}"
            );
            assert_eq!(bed.selected[0], bed.browser_addr);
            assert_media_flows(&mut bed);
        }
    }
}

#[test]
fn an_incoming_call_works_before_the_answer_is_known() {
    // str0m takes the passive role when it may choose, browsers the active one.
    for (offered, answered) in [
        ("actpass", "passive"),
        ("passive", "active"),
        ("active", "passive"),
    ] {
        let mut bed = Bed::new(Setup::default());
        bed.run_for(Duration::from_secs(60));
        assert_eq!(bed.leg.state(), LegState::Checking, "the page may ring");
        let answer = bed.browser_is_called(offered);
        bed.run_for(Duration::from_millis(500));
        assert_eq!(bed.leg.state(), LegState::Checking);
        assert!(
            bed.addressed_to.is_some(),
            "checks arrive before the answer"
        );
        assert!(answer.contains(&format!("a=setup:{answered}")), "{answer}");
        bed.leg.set_role(if answered == "active" {
            DtlsRole::Passive
        } else {
            DtlsRole::Active
        });
        let (ice, fingerprints) = parameters(&answer);
        bed.leg.set_remote(bed.now, &ice, &fingerprints);
        bed.run_until(Duration::from_secs(5), |bed| bed.secured.is_some());
        assert_media_flows(&mut bed);
    }
}

#[test]
fn loss_and_reordering_delay_the_handshake_but_do_not_break_it() {
    for seed in 0..24 {
        for role in ROLES {
            let version = if seed % 2 == 0 {
                DtlsVersion::Dtls12
            } else {
                DtlsVersion::Auto
            };
            let jitter = Duration::from_millis(60);
            let mut bed = Bed::new(Setup {
                role,
                version,
                loss_percent: 15,
                jitter,
                seed,
                ..Setup::default()
            });
            bed.browser_calls();
            bed.run_until(Duration::from_secs(20), |bed| {
                bed.secured.is_some() || bed.failed.is_some()
            });
            assert_eq!(bed.failed, None, "seed {seed} {role:?}");
            assert_media_flows(&mut bed);
        }
    }
}

/// Cuts a ClientHello into two handshake fragments in two datagrams, as Chromium does with its post-quantum key share.
fn fragments(hello: &[u8]) -> Option<[Vec<u8>; 2]> {
    if hello.len() < 200 || hello[0] != 22 || hello[13] != 1 {
        return None;
    }
    let (record, handshake, body) = (&hello[..13], &hello[13..25], &hello[25..]);
    let part = |sequence: u8, offset: usize, bytes: &[u8]| {
        let mut out = record[..10].to_vec();
        out.push(record[10] * 2 + sequence);
        out.extend_from_slice(&((bytes.len() + 12) as u16).to_be_bytes());
        out.extend_from_slice(&handshake[..6]);
        out.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(bytes);
        out
    };
    let (first, second) = body.split_at(body.len() * 4 / 5);
    Some([part(0, 0, first), part(1, first.len(), second)])
}

#[test]
fn a_fragmented_client_hello_is_put_together_in_either_order() {
    let in_order = |bytes: Vec<u8>| match fragments(&bytes) {
        Some([first, second]) => vec![first, second],
        None => vec![bytes],
    };
    let reversed = |bytes: Vec<u8>| match fragments(&bytes) {
        Some([first, second]) => vec![second, first],
        None => vec![bytes],
    };
    for version in [DtlsVersion::Dtls12, DtlsVersion::Auto] {
        for mangle in [in_order as fn(Vec<u8>) -> Vec<Vec<u8>>, reversed] {
            let mut bed = Bed::new(Setup {
                role: DtlsRole::Passive,
                version,
                offer: Offer::GcmFirst,
                ..Setup::default()
            });
            bed.mangle = mangle;
            bed.browser_calls();
            bed.run_until(Duration::from_secs(5), |bed| bed.secured.is_some());
            assert_media_flows(&mut bed);
        }
    }
}

#[test]
fn a_wrong_fingerprint_fails_the_leg_and_no_key_leaves() {
    for role in ROLES {
        for version in [DtlsVersion::Dtls12, DtlsVersion::Auto] {
            let mut bed = Bed::new(Setup {
                role,
                version,
                ..Setup::default()
            });
            let offer = bed.browser.offer(false);
            let (ice, mut fingerprints) = parameters(&offer);
            fingerprints[0].bytes[31] ^= 1;
            bed.leg.set_remote(bed.now, &ice, &fingerprints);
            bed.answer(&offer);
            bed.run_for(Duration::from_secs(5));
            assert_eq!(bed.failed, Some(LegError::FingerprintMismatch));
            assert!(bed.secured.is_none());
            assert_eq!(bed.leg.poll_timeout(), None);
        }
    }
}

#[test]
fn a_peer_without_use_srtp_fails_the_leg() {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Auto] {
        let mut bed = Bed::new(Setup {
            role: DtlsRole::Passive,
            version,
            offer: Offer::Nothing,
            ..Setup::default()
        });
        bed.browser_calls();
        bed.run_for(Duration::from_secs(5));
        assert_eq!(bed.failed, Some(LegError::NoSrtp), "{version:?}");
        assert!(bed.secured.is_none());
    }
}

/// The suite that a handshake ends with, after media flowed both ways under it.
fn agreed(setup: Setup) -> Result<Suite, LegError> {
    let mut bed = Bed::new(setup);
    bed.browser_calls();
    bed.run_until(Duration::from_secs(5), |bed| {
        bed.secured.is_some() || bed.failed.is_some()
    });
    if let Some(error) = bed.failed.take() {
        return Err(error);
    }
    let suite = bed.secured.as_ref().unwrap().suite;
    assert_media_flows(&mut bed);
    Ok(suite)
}

const VERSIONS: [DtlsVersion; 3] = [DtlsVersion::Dtls12, DtlsVersion::Dtls13, DtlsVersion::Auto];

#[test]
fn every_profile_that_the_engine_knows_carries_media_in_both_roles() {
    for role in ROLES {
        for version in VERSIONS {
            for suite in &DTLS_SUITES {
                let suites = std::slice::from_ref(suite);
                let offer = Offer::GcmFirst;
                let agreed = agreed(Setup {
                    role,
                    version,
                    offer,
                    suites,
                    ..Setup::default()
                });
                assert_eq!(agreed, Ok(*suite), "{role:?} {version:?}");
            }
        }
    }
}

#[test]
fn as_server_we_take_the_profile_that_we_like_best_of_those_offered() {
    for version in VERSIONS {
        for (offer, expected) in [
            (Offer::GcmFirst, Suite::AesCm128HmacSha1_80),
            (Offer::GcmOnly, Suite::AeadAes256Gcm),
        ] {
            let agreed = agreed(Setup {
                role: DtlsRole::Passive,
                version,
                offer,
                ..Setup::default()
            });
            assert_eq!(agreed, Ok(expected), "{offer:?} {version:?}");
        }
    }
}

#[test]
fn a_peer_without_any_of_our_profiles_fails_the_leg() {
    for version in VERSIONS {
        let agreed = agreed(Setup {
            role: DtlsRole::Passive,
            version,
            offer: Offer::GcmOnly,
            suites: &[Suite::AesCm128HmacSha1_80],
            ..Setup::default()
        });
        assert_eq!(agreed, Err(LegError::NoSrtp), "{version:?}");
    }
}

#[test]
fn a_silent_peer_ends_the_handshake_in_time() {
    // Both sides wait for the other's ClientHello.
    let mut bed = Bed::new(Setup {
        role: DtlsRole::Active,
        ..Setup::default()
    });
    let offer = bed.browser.offer(false);
    let (ice, fingerprints) = parameters(&offer);
    bed.leg.set_remote(bed.now, &ice, &fingerprints);
    bed.leg.set_role(DtlsRole::Passive);
    bed.answer(&offer);
    bed.run_until(Duration::from_secs(3), |bed| {
        bed.leg.state() == LegState::Handshaking
    });
    bed.run_for(Duration::from_secs(9));
    assert_eq!(bed.failed, None);
    bed.run_for(Duration::from_secs(2));
    assert_eq!(bed.failed, Some(LegError::HandshakeTimeout));
}

#[test]
fn closing_tells_the_browser_and_the_other_way_round() {
    let mut bed = Bed::new(Setup::default());
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| {
        bed.browser.connected && bed.secured.is_some()
    });
    bed.browser.close(bed.now);
    bed.run_until(Duration::from_secs(1), |bed| bed.closed);
    assert_eq!(bed.leg.state(), LegState::Closed);

    let mut bed = Bed::new(Setup::default());
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| {
        bed.browser.connected && bed.secured.is_some()
    });
    bed.leg.close(bed.now);
    bed.run_until(Duration::from_secs(1), |bed| bed.browser.closed);
}
