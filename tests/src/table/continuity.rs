//! Rows about senders that were not heard for a while, or go on with other numbers.

use flow::{ActionSpec, StreamSource, Suite, Why};

use super::srtp::{other_keys, transcrypting};
use super::{Case, SSRC_OUT, keys, pair, protect, stream, unprotect, usual_keys};
use crate::packet::Rtp;

/// What a sender is ahead after 11 minutes at 50 packets a second.
const HELD: u64 = 33_000;
/// Of so many packets in a row that are not authentic one is tried under another index.
const TRIED_OF: usize = 4;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = Suite::ALL
        .into_iter()
        .flat_map(|suite| [unseen(suite), unseen_and_encrypted_again(suite)])
        .collect();
    cases.extend([
        unseen_for_hours(),
        unseen_from_the_start(),
        forged_meanwhile(),
        never_tried_for_ever(),
        held("after a hold the sender's counter went on", HELD as u16),
        held("after a hold the sender's counter stood still", 0),
        held(
            "after a hold the sender begins at zero",
            0_u16.wrapping_sub(10_002),
        ),
        held("after a hold the sender begins anywhere", 51_234),
        music_while_held(),
    ]);
    cases
}

/// The packet of an index: as it arrives, as it leaves plain, and its rollover counter.
fn at(index: u64) -> (Rtp, Rtp, u32) {
    let (rtp, out) = pair(index as u16, 40);
    (rtp, out, (index >> 16) as u32)
}

/// More than half a round of sequence numbers is not heard, from every part of a round: the first packet after it is heard.
fn unseen(suite: Suite) -> Case {
    let keys = keys(suite);
    let mut case = Case::new(
        format!("more than 2^15 packets unseen, {suite:?}"),
        ActionSpec::Unprotect(keys.expanded()),
    );
    let mut index = 100;
    for unseen in [0, 40_000, HELD, 65_000, 70_000, 98_000, HELD, 40_000] {
        index += unseen;
        for _ in 0..2 {
            let (rtp, out, rollovers) = at(index);
            let srtp = keys.protect(&rtp.bytes(), rollovers);
            case.sends(&srtp, &out.bytes());
            case.refuses(&srtp, Why::Replayed);
            index += 1;
        }
    }
    case
}

/// The same where the packets are encrypted again: the one that tells is taken for a jump, and the leaving side goes on in sequence.
fn unseen_and_encrypted_again(suite: Suite) -> Case {
    let (from, to) = (keys(suite), other_keys(suite));
    let mut case = Case::new(
        format!("more than 2^15 packets unseen and encrypted again, {suite:?}"),
        transcrypting(suite, suite),
    );
    let (mut index, mut leaving) = (100, 100);
    for (unseen, first) in [
        (0, None),
        (40_000, Some(Why::TooOld)),
        (HELD, Some(Why::TooOld)),
        (70_000, Some(Why::SequenceJump)),
    ] {
        index += unseen;
        for why in [first, None, None] {
            let (rtp, mut out, rollovers) = at(index);
            let srtp = from.protect(&rtp.bytes(), rollovers);
            index += 1;
            if let Some(why) = why {
                case.refuses(&srtp, why);
                continue;
            }
            out.sequence = leaving;
            out.timestamp = u32::from(leaving) * 160;
            case.sends(&srtp, &to.protect(&out.bytes(), 0));
            leaving += 1;
        }
    }
    case
}

/// Several rounds: they are tried one by one.
fn unseen_for_hours() -> Case {
    let mut case = Case::new("several rounds of sequence numbers unseen", unprotect());
    let mut index = 100;
    // The number of the trial that finds it.
    for (unseen, trial) in [(0, 0), (200_000, 3), (16 * 65_536, 29)] {
        index += unseen;
        for lost in 0..=TRIED_OF * trial {
            let (rtp, out, rollovers) = at(index);
            let srtp = usual_keys().protect(&rtp.bytes(), rollovers);
            if lost < TRIED_OF * trial {
                case.refuses(&srtp, Why::AuthFailed);
            } else {
                case.sends(&srtp, &out.bytes());
            }
            index += 1;
        }
    }
    // More than is ever tried.
    index += 18 * 65_536;
    for _ in 0..300 {
        let (rtp, _, rollovers) = at(index);
        let srtp = usual_keys().protect(&rtp.bytes(), rollovers);
        case.refuses(&srtp, Why::AuthFailed);
        index += 1;
    }
    case
}

/// The first packet that is heard of a sender need not be under its first rollover counter.
fn unseen_from_the_start() -> Case {
    let mut case = Case::new("a sender that is heard after its first wrap", unprotect());
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    for index in [65_536 + 5, 65_536 + 6] {
        let (rtp, out, rollovers) = at(index);
        let srtp = usual_keys().protect(&rtp.bytes(), rollovers);
        case.sends(&srtp, &out.bytes());
        case.refuses(&srtp, Why::Replayed);
    }
    case
}

/// Forged packets use trials up and end none: the true one is tried again soon.
fn forged_meanwhile() -> Case {
    let mut case = Case::new("forged packets between those after a gap", unprotect());
    let (rtp, out, rollovers) = at(100);
    let first = usual_keys().protect(&rtp.bytes(), rollovers);
    case.sends(&first, &out.bytes());
    let index = 100 + HELD;
    let (forged, _, _) = at(index + 1000);
    let forged = usual_keys().protect(&forged.bytes(), 77);
    case.refuses(&forged, Why::TooOld);
    // Every fourth is tried, every other time one rollover ahead.
    for lost in 1..2 * TRIED_OF as u64 {
        let (rtp, _, rollovers) = at(index + lost);
        case.refuses(&usual_keys().protect(&rtp.bytes(), rollovers), Why::TooOld);
    }
    let (rtp, out, rollovers) = at(index + 8);
    case.sends(&usual_keys().protect(&rtp.bytes(), rollovers), &out.bytes());
    // Nothing was learnt from what was refused.
    let (rtp, out, rollovers) = at(index + 3);
    case.sends(&usual_keys().protect(&rtp.bytes(), rollovers), &out.bytes());
    case
}

/// Old packets and packets under other keys, any number of them, move nothing.
fn never_tried_for_ever() -> Case {
    let mut case = Case::new(
        "a flood of what is not authentic moves nothing",
        unprotect(),
    );
    let (rtp, out, _) = at(40_000);
    case.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
    for number in 0..200 {
        let (old, _, _) = at(20_000 + number);
        case.refuses(&usual_keys().protect(&old.bytes(), 0), Why::TooOld);
        let (ahead, _, _) = at(50_000 + number);
        let ahead = other_keys(Suite::AesCm128HmacSha1_80).protect(&ahead.bytes(), 0);
        case.refuses(&ahead, Why::AuthFailed);
    }
    let (rtp, out, _) = at(40_001);
    case.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
    case
}

/// Towards the browser sequence and timestamp go on, wherever the sender's numbers do after a pause.
fn held(name: &str, jump: u16) -> Case {
    let mut case = Case::new(name, protect());
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let mut leaving = 10_000_u16;
    let mut sends = |case: &mut Case, sequence: u16| {
        let rtp = Rtp::new(1, sequence, 160);
        let out = Rtp {
            ssrc: SSRC_OUT,
            sequence: leaving,
            timestamp: u32::from(leaving) * 160,
            ..rtp.clone()
        };
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
        leaving += 1;
    };
    sends(&mut case, 10_000);
    sends(&mut case, 10_001);
    let mut sequence = 10_002_u16.wrapping_add(jump);
    if jump != 0 {
        let back = jump >= 0x8000;
        let why = if back { Why::TooOld } else { Why::SequenceJump };
        case.refuses(&Rtp::new(1, sequence, 160).bytes(), why);
        sequence = sequence.wrapping_add(1);
    }
    for more in 0..3 {
        sends(&mut case, sequence.wrapping_add(more));
    }
    case
}

/// Another SSRC and codec during the hold, over the wrap of what leaves; then the first again.
fn music_while_held() -> Case {
    let mut case = Case::new("music of another SSRC and codec while held", protect());
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    case.state.seed(
        0,
        &flow::StreamSeed {
            ssrc_in: 1,
            sent: Some((3 << 16) | 65_530),
            timestamp_out: 65_530 * 160,
            ..flow::StreamSeed::default()
        },
    );
    let mut leaving = (3 << 16) | 65_531_u64;
    for (ssrc, payload_type, first) in [(1, 0, 65_531), (2, 8, 7), (1, 0, 65_534), (3, 8, 60_000)] {
        for k in 0..3_u16 {
            let rtp = Rtp {
                payload_type,
                ..Rtp::new(ssrc, u16::wrapping_add(first, k), 160)
            };
            let rtp = Rtp {
                timestamp: u32::from(first) * 160 + u32::from(k) * 160,
                ..rtp
            };
            let out = Rtp {
                ssrc: SSRC_OUT,
                sequence: leaving as u16,
                timestamp: ((leaving - (3 << 16)) * 160) as u32,
                ..rtp.clone()
            };
            let rollovers = (leaving >> 16) as u32;
            case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), rollovers));
            leaving += 1;
        }
    }
    case
}
