//! ICE of a leg: who may send, where the media goes, and when that ends.

use std::time::{Duration, Instant};

use super::bed::{Bed, Setup};
use super::browser::parameters;
use crate::webrtc::{DtlsRole, LegError, LegState};

fn secured(setup: Setup) -> Bed {
    let mut bed = Bed::new(setup);
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    bed
}

#[test]
fn dtls_from_an_unchecked_address_is_dropped_and_counted() {
    let mut bed = Bed::new(Setup {
        role: DtlsRole::Passive,
        ..Setup::default()
    });
    bed.browser_calls();
    let mut hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0];
    hello.resize(25, 0);
    let stranger = "203.0.113.9:9".parse().unwrap();
    bed.leg
        .handle_datagram(bed.now, bed.gateway_addr, stranger, &hello);
    assert_eq!(bed.leg.dropped().unchecked, 1);
    assert_eq!(bed.leg.state(), LegState::Checking);
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    bed.leg
        .handle_datagram(bed.now, bed.gateway_addr, stranger, &hello);
    assert_eq!(bed.leg.dropped().unchecked, 2);
    assert_eq!(bed.leg.state(), LegState::Secured);
}

#[test]
fn no_connectivity_fails_in_time() {
    let mut bed = Bed::new(Setup::default());
    bed.cut = true;
    bed.browser_calls();
    bed.run_for(Duration::from_millis(14_900));
    assert_eq!(bed.failed, None);
    bed.run_for(Duration::from_millis(200));
    assert_eq!(bed.failed, Some(LegError::NoConnectivity));
}

#[test]
fn checks_with_a_wrong_password_are_neither_answered_nor_believed() {
    let mut bed = Bed::new(Setup::default());
    let offer = bed.browser.offer(false);
    let (ice, fingerprints) = parameters(&offer);
    bed.leg.set_remote(bed.now, &ice, &fingerprints);
    // The browser gets another password than the leg has.
    bed.ice.password = "w".repeat(24);
    bed.answer(&offer);
    bed.run_for(Duration::from_secs(5));
    assert!(bed.leg.dropped().unauthenticated > 0);
    assert_eq!(
        bed.addressed_to.as_ref(),
        Some(&bed.ice.ufrag),
        "the gateway finds the leg by it"
    );
    assert!(bed.selected.is_empty());
    assert_eq!(bed.leg.state(), LegState::Checking);
}

#[test]
fn consent_is_lost_after_thirty_seconds_of_silence_and_can_come_back() {
    let mut bed = secured(Setup::default());
    bed.run_for(Duration::from_secs(40));
    assert!(
        bed.consent_lost.is_empty(),
        "checks of the browser keep the consent"
    );
    let cut_at = bed.now;
    bed.cut = true;
    bed.run_for(Duration::from_secs(19));
    bed.cut = false;
    bed.run_for(Duration::from_secs(5));
    assert!(bed.consent_lost.is_empty(), "a gap is no loss");
    bed.cut = true;
    bed.run_for(Duration::from_secs(35));
    let lost: Vec<Duration> = bed
        .consent_lost
        .iter()
        .map(|&at: &Instant| at - cut_at)
        .collect();
    assert_eq!(lost.len(), 1, "said once");
    assert!(
        lost[0] > Duration::from_secs(49) && lost[0] < Duration::from_secs(55),
        "{lost:?}"
    );
    assert_eq!(
        bed.leg.state(),
        LegState::Secured,
        "what to do about it is the caller's decision"
    );
}

#[test]
fn a_rebound_nat_takes_the_path_along_at_the_next_check() {
    let mut bed = secured(Setup::default());
    bed.run_for(Duration::from_secs(5));
    assert_eq!(bed.selected.len(), 1);
    let rebound = "198.51.100.7:61000".parse().unwrap();
    bed.nat = Some(rebound);
    bed.run_until(Duration::from_secs(6), |bed| bed.selected.len() == 2);
    assert_eq!(bed.selected[1], rebound);
    assert_eq!(bed.leg.selected().map(|(_, remote)| remote), Some(rebound));
}

#[test]
fn an_ice_restart_selects_again_and_keeps_dtls() {
    let new_addr = "198.51.100.99:40000".parse().unwrap();
    for (role, moves) in [(DtlsRole::Active, false), (DtlsRole::Passive, true)] {
        let mut bed = secured(Setup {
            role,
            ..Setup::default()
        });
        bed.run_until(Duration::from_secs(2), |bed| bed.browser.connected);
        let old_addr = bed.browser_addr;
        if moves {
            bed.gone = Some(old_addr);
            bed.browser_addr = new_addr;
            bed.browser.move_to(new_addr);
        }
        let offer = bed.browser.offer(true);
        let ours = bed.new_ice();
        let (theirs, _) = parameters(&offer);
        bed.ice = ours.clone();
        bed.leg.restart_ice(bed.now, &ours, &theirs);
        bed.answer(&offer);
        let before = bed.selected.len();
        bed.run_until(Duration::from_secs(5), |bed| bed.selected.len() > before);
        assert_eq!(
            bed.selected.last(),
            Some(&if moves { new_addr } else { old_addr })
        );
        bed.run_for(Duration::from_secs(40));
        assert_eq!(bed.leg.state(), LegState::Secured);
        assert!(bed.consent_lost.is_empty());
        assert_eq!(bed.failed, None);
    }
}

#[test]
fn a_full_agent_checks_a_lite_peer() {
    // Roles swapped: two legs, one lite, one full.
    let mut bed = super::bed::TwoLegs::new();
    bed.run_for(Duration::from_secs(5));
    assert!(
        bed.secured.iter().all(|&secured| secured),
        "{:?}",
        bed.failed
    );
    bed.run_for(Duration::from_secs(60));
    assert_eq!(bed.consent_lost, [0, 0]);
    bed.cut = true;
    bed.run_for(Duration::from_secs(36));
    assert_eq!(bed.consent_lost, [1, 1]);
}

#[test]
fn unusable_candidates_are_ignored() {
    let mut bed = Bed::new(Setup::default());
    bed.browser_calls();
    for candidate in [
        "",
        "candidate:1 1 udp 2130706431 abcd-ef.local 50000 typ host",
        "candidate:1 1 tcp 1 192.0.2.9 9 typ host tcptype active",
        "candidate:99999999999999 1 udp x y z",
        "a=candidate:1 1 udp 1 999.1.1.1 70000 typ host",
    ] {
        bed.leg.add_candidate(bed.now, candidate);
    }
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
}

/// Drops checks that carry USE-CANDIDATE (attribute 0x0025, RFC 8445 section 7.1.2).
fn without_nomination(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let nominates = bytes[0] < 2 && bytes.windows(4).any(|window| window == [0, 0x25, 0, 0]);
    if nominates { Vec::new() } else { vec![bytes] }
}

#[test]
fn a_browser_that_finishes_dtls_before_it_nominates_is_served() {
    let mut bed = Bed::new(Setup {
        role: DtlsRole::Passive,
        ..Setup::default()
    });
    bed.mangle = without_nomination;
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    assert_eq!(
        bed.selected,
        [bed.browser_addr],
        "with the keys comes a path"
    );
    bed.mangle = |bytes| vec![bytes];
    let second = "198.51.100.7:61000".parse().unwrap();
    bed.nat = Some(second);
    bed.run_until(Duration::from_secs(6), |bed| bed.selected.len() == 2);
    assert_eq!(
        bed.selected[1], second,
        "the nomination decides when it comes"
    );
}
