//! Rows about SRTP: sizes, tags, replays, the sequence number's wrap in both directions.

use flow::{ActionSpec, StreamSeed, Suite, Why};

use super::{Case, SSRC_IN, keys, pair, protect, unprotect, usual_keys};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend([
        bad_tags(),
        short_tags(),
        replays(),
        wrap_arriving(),
        seeded_arriving(),
        reuse_leaving(),
        wrap_leaving(),
        first_number_leaving(),
    ]);
    cases
}

/// Every remainder of words and blocks, up to the longest.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for suite in Suite::ALL.into_iter().filter(|suite| !suite.is_gcm()) {
        let keys = keys(suite);
        let mut there = Case::new(
            format!("protect, sizes, {suite:?}"),
            ActionSpec::Protect(keys.expanded()),
        );
        let mut back = Case::new(
            format!("unprotect, sizes, {suite:?}"),
            ActionSpec::Unprotect(keys.expanded()),
        );
        let sizes = (0..70).chain([
            80, 81, 82, 83, 159, 160, 161, 200, 255, 256, 511, 512, 1023, 1100, 1433, 1450,
        ]);
        for (sequence, size) in (1..).zip(sizes) {
            let (rtp, out) = pair(sequence, size);
            there.sends(&rtp.bytes(), &keys.protect(&out.bytes(), 0));
            back.sends(&keys.protect(&rtp.bytes(), 0), &out.bytes());
        }
        cases.extend([there, back]);
    }
    cases
}

/// Every bit that authentication covers; nothing is learnt from a forgery.
fn bad_tags() -> Case {
    let mut case = Case::new(
        "a changed byte anywhere fails authentication and changes nothing",
        unprotect(),
    );
    let (rtp, out) = pair(40_000, 33);
    let good = usual_keys().protect(&rtp.bytes(), 0);
    // Neither the first byte nor the payload type: those have reasons of their own. Nor the SSRC.
    for offset in (2..8).chain(12..good.len()) {
        let mut bad = good.clone();
        bad[offset] ^= 1 << (offset % 8);
        case.refuses(&bad, Why::AuthFailed);
    }
    // The right packet under the rollover counter that is not expected, and under other keys.
    case.refuses(&usual_keys().protect(&rtp.bytes(), 1), Why::AuthFailed);
    case.refuses(
        &keys(Suite::AesCm128HmacSha1_32).protect(&rtp.bytes(), 0),
        Why::AuthFailed,
    );
    case.sends(&good, &out.bytes());
    case
}

fn short_tags() -> Case {
    let mut case = Case::new("too short for a tag", unprotect());
    let good = usual_keys().protect(&pair(1, 0).0.bytes(), 0);
    for length in 12..22 {
        case.refuses(&good[..length], Why::ShortTag);
    }
    case.sends(&good, &pair(1, 0).1.bytes());
    case
}

fn replays() -> Case {
    let mut case = Case::new(
        "replays and packets behind the window are dropped",
        unprotect(),
    );
    let srtp = |sequence: u16| usual_keys().protect(&pair(sequence, 20).0.bytes(), 0);
    let plain = |sequence: u16| pair(sequence, 20).1.bytes();
    case.sends(&srtp(1000), &plain(1000));
    case.refuses(&srtp(1000), Why::Replayed);
    case.sends(&srtp(1128), &plain(1128));
    case.refuses(&srtp(1000), Why::TooOld);
    case.sends(&srtp(1001), &plain(1001));
    case.refuses(&srtp(1001), Why::Replayed);
    case.sends(&srtp(1064), &plain(1064));
    case.sends(&srtp(1065), &plain(1065));
    case.refuses(&srtp(1064), Why::Replayed);
    case.refuses(&srtp(1128), Why::Replayed);
    case.sends(&srtp(3000), &plain(3000));
    case.refuses(&srtp(2872), Why::TooOld);
    case.sends(&srtp(2873), &plain(2873));
    case
}

fn wrap_arriving() -> Case {
    let mut case = Case::new(
        "the rollover counter follows the wrap, also where packets cross it out of order",
        unprotect(),
    );
    for (sequence, rollovers) in [
        (65_500, 0),
        (65_534, 0),
        (1, 1),
        (65_535, 0),
        (0, 1),
        (2, 1),
        (30_000, 1),
        (60_000, 1),
        (5, 2),
    ] {
        let (rtp, out) = pair(sequence, 40);
        let srtp = usual_keys().protect(&rtp.bytes(), rollovers);
        case.sends(&srtp, &out.bytes());
        case.refuses(&srtp, Why::Replayed);
    }
    case
}

fn seeded_arriving() -> Case {
    let mut case = Case::new("a seeded rollover counter is gone on from", unprotect());
    let received = Some((5 << 16) | 65_535);
    case.state.seed(
        0,
        &StreamSeed {
            ssrc_in: SSRC_IN,
            received,
            ..StreamSeed::default()
        },
    );
    let (rtp, out) = pair(0, 40);
    case.refuses(
        &usual_keys().protect(&pair(65_535, 40).0.bytes(), 5),
        Why::Replayed,
    );
    case.refuses(&usual_keys().protect(&rtp.bytes(), 5), Why::AuthFailed);
    case.sends(&usual_keys().protect(&rtp.bytes(), 6), &out.bytes());
    case
}

/// The sending side: an index is used once.
fn reuse_leaving() -> Case {
    let mut case = Case::new("no index is used twice for encryption", protect());
    let plain = |sequence: u16| pair(sequence, 20).0.bytes();
    let srtp = |sequence: u16| usual_keys().protect(&pair(sequence, 20).1.bytes(), 0);
    case.sends(&plain(500), &srtp(500));
    case.refuses(&plain(500), Why::IndexReused);
    // Other content under the same number is what makes a two-time pad.
    case.refuses(&pair(500, 21).0.bytes(), Why::IndexReused);
    case.sends(&plain(502), &srtp(502));
    case.sends(&plain(501), &srtp(501));
    case.refuses(&plain(501), Why::IndexReused);
    case.sends(&plain(630), &srtp(630));
    case.refuses(&plain(502), Why::TooOld);
    case.sends(&plain(503), &srtp(503));
    case
}

fn wrap_leaving() -> Case {
    let mut case = Case::new("the sending rollover counter follows the wrap", protect());
    let seed = StreamSeed {
        ssrc_in: SSRC_IN,
        sent: Some((2 << 16) | 65_533),
        ..StreamSeed::default()
    };
    case.state.seed(0, &seed);
    for (sequence, rollovers) in [(65_534, 2), (0, 3), (65_535, 2), (1, 3)] {
        let (rtp, out) = pair(sequence, 40);
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), rollovers));
        case.refuses(&rtp.bytes(), Why::IndexReused);
    }
    case.refuses(&pair(65_533, 40).0.bytes(), Why::IndexReused);
    case
}

/// A stream that starts near the wrap leaves with a number below 2^15, so that a peer that misses
/// its start still knows the rollover counter.
fn first_number_leaving() -> Case {
    let mut case = Case::new("the first leaving number is below 2^15", protect());
    for sequence in [65_535u16, 0, 1] {
        let (rtp, mut out) = pair(sequence, 40);
        out.sequence = sequence.wrapping_sub(0x8000);
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    }
    case
}
