//! Nothing that arrives from the network makes a leg panic or stops it from working.

use std::time::Duration;

use proptest::prelude::*;

use super::bed::{Bed, Setup, seeded};
use crate::webrtc::{DtlsRole, LegState, stun_username_local};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_datagrams_are_survived(first in prop_oneof![0_u8..=3, 20_u8..=63, any::<u8>()], rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bed = Bed::new(Setup::default());
        bed.browser_calls();
        let mut bytes = vec![first];
        bytes.extend(rest);
        stun_username_local(&bytes);
        bed.leg.handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, &bytes);
        prop_assert_eq!(bed.leg.state(), LegState::Checking);
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
