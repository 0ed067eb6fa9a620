//! What a flood of checks does that look valid: the user name is a leg's own (it stands in the description, which is no secret to a
//! proxy or a log), only the password is not known.
//!
//! Nothing is answered, so nothing is reflected; nothing is kept; the path stays, and its consent too is the browser's alone.

use std::net::SocketAddr;
use std::time::Duration;

use super::bed::{Bed, Setup};
use super::browser::parameters;
use crate::webrtc::{LegState, stun_username_local};

const FLOOD: u32 = 20_000;
/// Addresses that one generation of ICE takes checks from.
const REMOTE_ADDRESSES: usize = 32;

/// The CRC of FINGERPRINT (RFC 8489 section 14.7), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A check as a browser makes it, nomination and all, but for a MESSAGE-INTEGRITY of nobody.
fn forged(ours: &str, theirs: &str, number: u32) -> Vec<u8> {
    let mut out = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&number.to_be_bytes());
    let attribute = |out: &mut Vec<u8>, kind: u16, value: &[u8]| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    attribute(&mut out, 0x0006, format!("{ours}:{theirs}").as_bytes());
    attribute(&mut out, 0x0024, &0x6eff_ffff_u32.to_be_bytes());
    attribute(&mut out, 0x802a, &[7; 8]);
    attribute(&mut out, 0x0025, &[]);
    attribute(&mut out, 0x0008, &[number as u8; 20]);
    let length = (out.len() - 20 + 8) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    let fingerprint = crc32(&out) ^ 0x5354_554e;
    attribute(&mut out, 0x8028, &fingerprint.to_be_bytes());
    out
}

/// Another address each time; every eighth is the browser's own, as a forger writes it.
fn source(bed: &Bed, number: u32) -> SocketAddr {
    if number.is_multiple_of(8) {
        return bed.browser_addr;
    }
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([203, a, b, c], 1024 + number as u16 % 40_000))
}

/// Floods a leg; nothing comes out of it.
fn flood(bed: &mut Bed, theirs: &str) {
    for number in 0..FLOOD {
        let check = forged(&bed.ice.ufrag, theirs, number);
        assert_eq!(
            stun_username_local(&check).as_ref(),
            Some(&bed.ice.ufrag),
            "the gateway finds the leg by it"
        );
        let from = source(bed, number);
        bed.leg
            .handle_datagram(bed.now, bed.gateway_addr, from, &check);
        assert!(
            bed.leg.poll_output().is_none(),
            "check {number} from {from}"
        );
    }
}

#[test]
fn a_secured_leg_answers_no_forged_check_and_keeps_its_path() {
    let mut bed = Bed::new(Setup::default());
    let offer = bed.browser.offer(false);
    let (theirs, _) = parameters(&offer);
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    let (selected, before) = (bed.selected.clone(), bed.leg.dropped().unauthenticated);
    flood(&mut bed, &theirs.ufrag);
    assert_eq!(bed.leg.dropped().unauthenticated - before, u64::from(FLOOD));
    bed.run_for(Duration::from_secs(60));
    assert_eq!(bed.selected, selected);
    assert!(bed.consent_lost.is_empty());
    assert_eq!(bed.leg.state(), LegState::Secured);
}

#[test]
fn forged_checks_are_no_consent() {
    let mut bed = Bed::new(Setup::default());
    bed.browser_calls();
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    bed.cut = true;
    let silent_since = bed.now;
    for number in 0..40 {
        let check = forged(&bed.ice.ufrag, "any", number);
        bed.leg
            .handle_datagram(bed.now, bed.gateway_addr, bed.browser_addr, &check);
        bed.run_for(Duration::from_secs(1));
    }
    let [lost] = bed.consent_lost[..] else {
        panic!("consent was lost {} times", bed.consent_lost.len());
    };
    assert!(lost - silent_since <= Duration::from_secs(31));
}

/// Before the browser's description has come, its checks wait: those of others do not push them out.
#[test]
fn a_browser_that_is_early_is_served_through_a_flood() {
    let mut bed = Bed::new(Setup::default());
    let answer = bed.browser_is_called("actpass");
    bed.run_for(Duration::from_millis(200));
    flood(&mut bed, "any");
    let (ice, fingerprints) = parameters(&answer);
    bed.leg.set_remote(bed.now, &ice, &fingerprints);
    let known = bed.now;
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    assert!(!bed.selected.is_empty() && bed.selected.iter().all(|addr| *addr == bed.browser_addr));
    assert!(bed.now - known < Duration::from_secs(1));
}

/// Who can read the wire can send a real check again, from wherever: what that costs has a limit, and the browser's next check has the
/// path back.
#[test]
fn a_real_check_sent_again_from_everywhere_is_bounded() {
    let mut bed = Bed::new(Setup::default());
    bed.browser_calls();
    bed.browser.handle_timeout(bed.now);
    let check = bed
        .browser
        .sent
        .iter()
        .find(|(_, bytes)| stun_username_local(bytes).is_some())
        .map(|(_, bytes)| bytes.clone())
        .expect("the browser checks at once");
    bed.run_until(Duration::from_secs(3), |bed| bed.secured.is_some());
    let mut answered = 0;
    for number in 1..FLOOD {
        let from = source(&bed, number);
        bed.leg
            .handle_datagram(bed.now, bed.gateway_addr, from, &check);
        while let Some(output) = bed.leg.poll_output() {
            answered += usize::from(matches!(
                output,
                crate::webrtc::LegOutput::Transmit { remote, .. } if remote != bed.browser_addr
            ));
        }
    }
    assert!(answered <= REMOTE_ADDRESSES, "{answered} answers");
    bed.run_for(Duration::from_secs(20));
    assert_eq!(bed.leg.state(), LegState::Secured);
    assert!(bed.consent_lost.is_empty());
    let last = bed.selected.last();
    assert_eq!(last, Some(&bed.browser_addr));
}
