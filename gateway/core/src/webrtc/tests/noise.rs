//! Nothing that arrives from the network makes a leg panic or stops it from working.

use std::time::Duration;

use proptest::prelude::*;

use super::bed::{Bed, Setup, seeded};
use crate::webrtc::{DtlsRole, LegState, stun_username_local};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_datagrams_are_survived(
        first in prop_oneof![0_u8..=3, 20_u8..=63, any::<u8>()],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bed = Bed::new(Setup::default());
        bed.browser_calls();
        let mut bytes = vec![first];
        bytes.extend(rest);
        stun_username_local(&bytes);
        bed.leg.handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, &bytes);
        prop_assert_eq!(bed.leg.state(), LegState::Checking);
    }
}

/// A well-formed STUN header with any attributes, so that the attribute parser is what gets tested.
fn stun() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![
        Just(0x0001_u16), // MAPPED-ADDRESS
        Just(0x0006),     // USERNAME
        Just(0x0008),     // MESSAGE-INTEGRITY
        Just(0x0009),     // ERROR-CODE
        Just(0x000c),     // CHANNEL-NUMBER
        Just(0x0012),     // XOR-PEER-ADDRESS
        Just(0x0013),     // DATA
        Just(0x0016),     // XOR-RELAYED-ADDRESS
        Just(0x0020),     // XOR-MAPPED-ADDRESS
        Just(0x0024),     // PRIORITY
        Just(0x0025),     // USE-CANDIDATE
        Just(0x8028),     // FINGERPRINT
        Just(0x8029),     // ICE-CONTROLLED
        Just(0x802a),     // ICE-CONTROLLING
        any::<u16>(),
    ];
    let attribute = (
        known,
        proptest::collection::vec(any::<u8>(), 0..40),
        0_u16..4,
    );
    let kind = prop_oneof![
        Just(0x0001_u16),
        Just(0x0101),
        Just(0x0111),
        Just(0x0011),
        0_u16..0x4000
    ];
    (kind, proptest::collection::vec(attribute, 0..8)).prop_map(|(kind, attributes)| {
        let mut body = Vec::new();
        for (name, value, lie) in attributes {
            body.extend_from_slice(&name.to_be_bytes());
            body.extend_from_slice(&(value.len() as u16 + lie / 3).to_be_bytes());
            body.extend_from_slice(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = kind.to_be_bytes().to_vec();
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(&[
            0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
        ]);
        out.extend_from_slice(&body);
        out
    })
}

/// A DTLS record with plausible header fields, in the plain or in an encrypted epoch, with a handshake message or
/// anything in it.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..120);
    let header = (20_u8..=63, 0_u8..3, 0_u8..8, 0_u8..26, any::<u8>(), 0_u8..4);
    (header, body).prop_map(
        |((kind, epoch, sequence, message, fragment, style), body)| {
            let mut payload = Vec::new();
            if style > 0 {
                let length = body.len() as u8;
                let total = if style == 1 {
                    length
                } else {
                    length.saturating_add(fragment)
                };
                let offset = if style == 3 { fragment } else { 0 };
                payload.extend_from_slice(&[
                    message, 0, 0, total, 0, sequence, 0, 0, offset, 0, 0, length,
                ]);
            }
            payload.extend_from_slice(&body);
            let mut out = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence];
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            out.extend_from_slice(&payload);
            out
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_stun_message_is_survived(messages in proptest::collection::vec(stun(), 1..8)) {
        let mut bed = Bed::new(Setup::default());
        bed.browser_calls();
        for bytes in messages {
            stun_username_local(&bytes);
            bed.leg.handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, &bytes);
        }
        prop_assert!(bed.selected.is_empty());
        bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    }

    /// An attacker who can write the browser's address can end a handshake; a leg that is secured stands.
    #[test]
    fn any_dtls_record_is_survived(records in proptest::collection::vec(record(), 1..8), active: bool) {
        let role = if active { DtlsRole::Active } else { DtlsRole::Passive };
        let mut bed = Bed::new(Setup { role, ..Setup::default() });
        bed.browser_calls();
        bed.run_until(Duration::from_secs(3), |bed| bed.leg.state() == LegState::Handshaking);
        for bytes in &records {
            bed.leg.handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, bytes);
        }
        bed.run_until(Duration::from_secs(12), |bed| {
            bed.secured.is_some() || bed.failed.is_some() || bed.closed
        });
        if bed.secured.is_some() {
            bed.run_for(Duration::from_secs(1));
            for bytes in &records {
                bed.leg.handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, bytes);
            }
            bed.run_for(Duration::from_secs(1));
            prop_assert_eq!(bed.leg.state(), LegState::Secured);
        }
    }
}

/// Every datagram of a real set-up arrives a second time with a few bits changed, from the browser's own address.
#[test]
fn mutated_datagrams_of_a_real_handshake_do_no_harm_to_the_process() {
    for seed in 0..40_u64 {
        let role = if seed % 2 == 0 {
            DtlsRole::Active
        } else {
            DtlsRole::Passive
        };
        let mut bed = Bed::new(Setup {
            role,
            seed,
            ..Setup::default()
        });
        bed.mangle = |bytes| {
            let seed = bytes.iter().fold(bytes.len() as u64, |sum, &byte| {
                sum.wrapping_mul(31) + u64::from(byte)
            });
            let mut random = seeded(seed);
            let mut mutated = bytes.clone();
            for _ in 0..1 + random.u32() % 4 {
                let at = random.u32() as usize % mutated.len();
                mutated[at] ^= 1 << (random.u32() % 8);
            }
            if random.u32().is_multiple_of(4) {
                mutated.truncate(random.u32() as usize % bytes.len());
            }
            // The original comes after its mutant, so that the mutant is what the engine sees first.
            vec![mutated, bytes]
        };
        bed.browser_calls();
        bed.run_for(Duration::from_secs(12));
        // A mutant may fail the handshake (an attacker on the path can), but never hang it or leak keys before its end.
        assert!(bed.secured.is_some() || bed.failed.is_some(), "seed {seed}");
    }
}
