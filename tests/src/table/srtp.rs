//! Rows about SRTP: sizes, tags, replays, the sequence number's wrap in both directions.

use flow::{ActionSpec, StreamSeed, StreamSource, Suite, Why};

use crate::oracle::Keys;

use super::{Case, SSRC_IN, SSRC_OUT, keys, pair, protect, stream, unprotect, usual_keys};

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
    cases.extend(Suite::ALL.into_iter().flat_map(refused));
    cases.extend(transcrypt());
    cases.extend([
        transcrypt_refused(),
        transcrypt_wraps(),
        transcrypt_learns(),
    ]);
    cases
}

/// Every remainder of words and blocks, up to the longest.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for suite in Suite::ALL {
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
            80,
            81,
            82,
            83,
            159,
            160,
            161,
            200,
            255,
            256,
            511,
            512,
            1023,
            1100,
            1433,
            1460 - suite.tag_bytes(),
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
    case.refuses(&usual_keys().protect(&rtp.bytes(), 40), Why::AuthFailed);
    case.refuses(
        &keys(Suite::AesCm128HmacSha1_32).protect(&rtp.bytes(), 0),
        Why::AuthFailed,
    );
    case.sends(&good, &out.bytes());
    case
}

/// What every suite refuses, before a packet and after it; each time the next good packet shows that
/// nothing was learnt.
fn refused(suite: Suite) -> Vec<Case> {
    let mut case = Case::new(
        format!("bad input changes nothing, {suite:?}"),
        ActionSpec::Unprotect(keys(suite).expanded()),
    );
    let (keys, tag) = (keys(suite), suite.tag_bytes());
    let good = |sequence: u16| keys.protect(&pair(sequence, 33).0.bytes(), 0);
    let out = |sequence: u16| pair(sequence, 33).1.bytes();
    let flipped = |sequence: u16, offset: usize| {
        let mut bad = good(sequence);
        bad[offset] ^= 0x40;
        bad
    };
    for (sequence, far) in [(7, 40_000), (8, 32_700)] {
        let length = good(sequence).len();
        for offset in (4..8).chain(12..length) {
            case.refuses(&flipped(sequence, offset), Why::AuthFailed);
        }
        // A header that is too short for what it says, and a tag that is cut.
        case.refuses(&good(sequence)[..11 + tag], Why::ShortTag);
        case.refuses(&good(sequence)[..length - 1], Why::AuthFailed);
        // Far ahead, with a wrong tag, and truly sent but under a rollover counter that is not its own.
        case.refuses(&flipped(far, 20), Why::AuthFailed);
        let other = keys.protect(&pair(sequence, 33).0.bytes(), 40);
        case.refuses(&other, Why::AuthFailed);
        case.sends(&good(sequence), &out(sequence));
        case.refuses(&good(sequence), Why::Replayed);
    }
    // A CSRC list and an extension are authenticated, the extension is removed.
    let (mut rtp, mut plain) = pair(9, 50);
    rtp.csrcs = vec![1, 2, 3];
    rtp.extension = Some((0xbede, vec![0x1011_1213, 5]));
    plain.csrcs = rtp.csrcs.clone();
    let srtp = keys.protect(&rtp.bytes(), 0);
    for offset in 12..srtp.len() - 50 - tag {
        // Not the extension's length.
        if !(26..28).contains(&offset) {
            let mut bad = srtp.clone();
            bad[offset] ^= 2;
            case.refuses(&bad, Why::AuthFailed);
        }
    }
    case.sends(&srtp, &plain.bytes());
    vec![case]
}

pub(super) fn transcrypting(from: Suite, to: Suite) -> ActionSpec {
    ActionSpec::Transcrypt {
        unprotect: keys(from).expanded(),
        protect: other_keys(to).expanded(),
    }
}

/// Keys of the leaving side.
pub(super) fn other_keys(suite: Suite) -> Keys {
    Keys::new(suite, 77)
}

/// Every pair of suites.
fn transcrypt() -> Vec<Case> {
    let mut cases = Vec::new();
    for from in Suite::ALL {
        for to in Suite::ALL {
            let mut case = Case::new(
                format!("transcrypt {from:?} to {to:?}"),
                transcrypting(from, to),
            );
            for (sequence, size) in (1..).zip([0, 1, 15, 16, 17, 32, 33, 80, 160, 161, 1100]) {
                let (mut rtp, mut out) = pair(sequence, size);
                if sequence % 3 == 0 {
                    rtp.csrcs = vec![7; 2];
                    rtp.extension = Some((0xbede, vec![0x1011_1213; 3]));
                    out.csrcs = rtp.csrcs.clone();
                }
                let srtp = keys(from).protect(&rtp.bytes(), 0);
                case.sends(&srtp, &other_keys(to).protect(&out.bytes(), 0));
                case.refuses(&srtp, Why::Replayed);
            }
            cases.push(case);
        }
    }
    cases
}

fn transcrypt_refused() -> Case {
    let (from, to) = (Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm);
    let mut case = Case::new(
        "what is not authentic is not encrypted again",
        transcrypting(from, to),
    );
    for sequence in [100, 102, 101] {
        let (rtp, out) = pair(sequence, 40);
        let srtp = keys(from).protect(&rtp.bytes(), 0);
        for offset in 12..srtp.len() {
            let mut bad = srtp.clone();
            bad[offset] ^= 1;
            case.refuses(&bad, Why::AuthFailed);
        }
        case.refuses(&other_keys(from).protect(&rtp.bytes(), 0), Why::AuthFailed);
        case.sends(&srtp, &other_keys(to).protect(&out.bytes(), 0));
    }
    // 22 bytes are a header and a tag that arrives, 28 the same with the tag that leaves.
    case.refuses(
        &keys(from).protect(&pair(103, 0).0.bytes(), 0)[..21],
        Why::ShortTag,
    );
    // Longer by the six bytes that the leaving tag has more, a packet would not fit.
    let longest = 1500 - 28 - 12 - 16;
    let (fits, out) = pair(104, longest);
    case.sends(
        &keys(from).protect(&fits.bytes(), 0),
        &other_keys(to).protect(&out.bytes(), 0),
    );
    let (too_long, _) = pair(105, longest + 1);
    case.refuses(&keys(from).protect(&too_long.bytes(), 0), Why::TooLong);
    case
}

/// Each side has a rollover counter of its own.
fn transcrypt_wraps() -> Case {
    let (from, to) = (Suite::AeadAes256Gcm, Suite::AesCm256HmacSha1_32);
    let mut case = Case::new("transcrypt over the wrap", transcrypting(from, to));
    let seed = StreamSeed {
        ssrc_in: SSRC_IN,
        received: Some((5 << 16) | 65_533),
        sent: Some((2 << 16) | 65_533),
        ..StreamSeed::default()
    };
    case.state.seed(0, &seed);
    for (sequence, wraps) in [(65_534, 0), (0, 1), (65_535, 0), (1, 1)] {
        let (rtp, out) = pair(sequence, 40);
        let srtp = keys(from).protect(&rtp.bytes(), 5 + wraps);
        case.sends(&srtp, &other_keys(to).protect(&out.bytes(), 2 + wraps));
        case.refuses(&srtp, Why::Replayed);
    }
    case
}

/// A learnt SSRC is bound by an authentic packet only.
fn transcrypt_learns() -> Case {
    let suite = Suite::AeadAes128Gcm;
    let mut case = Case::new("transcrypt learns an SSRC", transcrypting(suite, suite));
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let (rtp, out) = pair(50, 40);
    let mut stranger = rtp.clone();
    stranger.ssrc = 99;
    case.refuses(
        &other_keys(suite).protect(&stranger.bytes(), 0),
        Why::AuthFailed,
    );
    case.sends(
        &keys(suite).protect(&rtp.bytes(), 0),
        &other_keys(suite).protect(&out.bytes(), 0),
    );
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
