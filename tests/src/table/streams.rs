//! Rows about SSRCs: signalled, learnt, taken over, restarted, unknown.

use flow::{ActionSpec, StreamSource, Suite, Why};

use super::{Case, SSRC_OUT, keys, pair, protect, stream, unprotect, usual_keys};
use crate::packet::Rtp;

pub(super) fn cases() -> Vec<Case> {
    vec![
        signalled(),
        learnt_on_unprotect(),
        taken_over(),
        taken_over_plain(),
        taken_over_authenticated(
            "a new SSRC takes an unprotected stream over, once authentic",
            unprotect(),
            |out| out.bytes(),
        ),
        taken_over_authenticated(
            "a new SSRC takes a transcrypted stream over, once authentic",
            transcrypting(Suite::AeadAes128Gcm),
            |out| keys(Suite::AeadAes128Gcm).protect(&out.bytes(), 0),
        ),
        restarted(),
        over_rate(protect()),
        over_rate(unprotect()),
        over_rate(ActionSpec::Relay),
    ]
}

/// Four signalled streams, each with numbers of its own.
fn signalled() -> Case {
    let mut case = Case::new("four signalled streams; a fifth SSRC goes up", unprotect());
    for place in 0..4 {
        case.spec.streams[place as usize] =
            Some(stream(StreamSource::Signalled(100 + place), 200 + place));
    }
    for sequence in [7, 8] {
        for place in 0..4 {
            let rtp = Rtp::new(100 + place, sequence, 30);
            let out = Rtp {
                ssrc: 200 + place,
                ..rtp.clone()
            };
            case.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
            case.refuses(&usual_keys().protect(&rtp.bytes(), 0), Why::Replayed);
        }
    }
    case.refuses(
        &usual_keys().protect(&Rtp::new(104, 7, 30).bytes(), 0),
        Why::UnknownSsrc,
    );
    case
}

fn learnt_on_unprotect() -> Case {
    let mut case = Case::new(
        "an SSRC is learnt from an authenticated packet only",
        unprotect(),
    );
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let forged = Rtp::new(66, 1, 30);
    let mut bytes = usual_keys().protect(&forged.bytes(), 0);
    *bytes.last_mut().expect("a tag") ^= 1;
    case.refuses(&bytes, Why::AuthFailed);
    let rtp = Rtp::new(55, 1, 30);
    case.sends(
        &usual_keys().protect(&rtp.bytes(), 0),
        &Rtp {
            ssrc: SSRC_OUT,
            ..rtp
        }
        .bytes(),
    );
    case.refuses(&bytes, Why::AuthFailed);
    case
}

fn transcrypting(suite: Suite) -> ActionSpec {
    ActionSpec::Transcrypt {
        unprotect: usual_keys().expanded(),
        protect: keys(suite).expanded(),
    }
}

/// Under one key several sources send in turn (music on hold, a transfer behind a session border controller): each is heard, the
/// leaving stream has no seam, and no packet of any of them is taken twice. There is room for four.
fn taken_over_authenticated(
    name: &str,
    action: ActionSpec,
    leaving: impl Fn(&Rtp) -> Vec<u8>,
) -> Case {
    let mut case = Case::new(name, action);
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let arriving = |ssrc, sequence: u32| {
        let rtp = Rtp {
            timestamp: sequence * 160,
            ..Rtp::new(ssrc, sequence as u16, 160)
        };
        (usual_keys().protect(&rtp.bytes(), sequence >> 16), rtp)
    };
    let (mut sequence_out, mut timestamp_out) = (100, 16_000);
    let mut before = Vec::new();
    for (ssrc, first) in [
        (1, 100),
        (2, 50_000),
        (1, 103),
        (3, 65_534),
        (2, 50_003),
        (3, 65_537),
        (4, 9),
        (1, 106),
    ] {
        let (forged, _) = arriving(ssrc, first);
        let mut forged = forged;
        *forged.last_mut().expect("a tag") ^= 1;
        case.refuses(&forged, Why::AuthFailed);
        for sequence in first..first + 3 {
            let (srtp, rtp) = arriving(ssrc, sequence);
            let out = Rtp {
                ssrc: SSRC_OUT,
                sequence: sequence_out,
                timestamp: timestamp_out,
                ..rtp
            };
            case.sends(&srtp, &leaving(&out));
            before.push(srtp);
            (sequence_out, timestamp_out) = (sequence_out + 1, timestamp_out + 160);
        }
        for srtp in &before {
            case.refuses(srtp, Why::Replayed);
        }
    }
    case.refuses(&arriving(5, 1).0, Why::UnknownSsrc);
    case
}

/// On the plain side the source is pinned by address, so a new SSRC takes the stream over, without a seam.
fn taken_over() -> Case {
    let mut case = Case::new(
        "a new SSRC takes a protected stream over without a seam",
        protect(),
    );
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let mut sequence_out = 100;
    let mut timestamp_out = 16_000;
    for (ssrc, first) in [(1, 100u16), (2, 50_000), (1, 7), (3, 65_535)] {
        for k in 0..3u16 {
            let rtp = Rtp::new(ssrc, first.wrapping_add(k), 160);
            let rtp = Rtp {
                timestamp: u32::from(first) * 160 + u32::from(k) * 160,
                ..rtp
            };
            let out = Rtp {
                ssrc: SSRC_OUT,
                sequence: sequence_out,
                timestamp: timestamp_out,
                ..rtp.clone()
            };
            case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
            sequence_out += 1;
            timestamp_out += 160;
        }
    }
    case
}

fn taken_over_plain() -> Case {
    let mut case = Case::new(
        "a new SSRC takes a relayed stream over without a seam",
        ActionSpec::Relay,
    );
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    for (ssrc, sequence, sequence_out) in [
        (1, 65_534, 65_534),
        (1, 65_535, 65_535),
        (2, 9, 0),
        (2, 10, 1),
    ] {
        let rtp = Rtp {
            timestamp: u32::from(sequence) * 160,
            ..Rtp::new(ssrc, sequence, 160)
        };
        let out = Rtp {
            ssrc: SSRC_OUT,
            sequence: sequence_out,
            timestamp: (65_534 + u32::from(sequence_out.wrapping_sub(65_534u16))) * 160,
            ..rtp.clone()
        };
        case.sends(&rtp.bytes(), &out.bytes());
    }
    case
}

/// The same SSRC with numbers started afresh (RFC 3550 A.1): one packet is lost, then the stream goes on.
fn restarted() -> Case {
    let mut case = Case::new("a sender that starts its numbers afresh", protect());
    case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    let mut leaves = |sequence: u16, sequence_out: u16| {
        let rtp = Rtp::new(1, sequence, 160);
        let out = Rtp {
            ssrc: SSRC_OUT,
            sequence: sequence_out,
            timestamp: u32::from(sequence_out) * 160,
            ..rtp.clone()
        };
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    };
    leaves(10_000, 10_000);
    leaves(10_001, 10_001);
    case.refuses(&Rtp::new(1, 20_000, 160).bytes(), Why::SequenceJump);
    let mut leaves = |sequence: u16, sequence_out: u16| {
        let rtp = Rtp::new(1, sequence, 160);
        let out = Rtp {
            ssrc: SSRC_OUT,
            sequence: sequence_out,
            timestamp: u32::from(sequence_out) * 160,
            ..rtp.clone()
        };
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    };
    leaves(20_001, 10_002);
    leaves(20_002, 10_003);
    case.refuses(&Rtp::new(1, 3, 160).bytes(), Why::TooOld);
    // Not the next in order: no restart yet.
    case.refuses(&Rtp::new(1, 9, 160).bytes(), Why::TooOld);
    let rtp = Rtp::new(1, 10, 160);
    let out = Rtp {
        ssrc: SSRC_OUT,
        sequence: 10_004,
        timestamp: 10_004 * 160,
        ..rtp.clone()
    };
    case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    case
}

/// One packet a second is allowed, and all come at once: one leaves. What is not authentic is not even charged.
fn over_rate(action: ActionSpec) -> Case {
    let (opens, seals) = (
        matches!(action, ActionSpec::Unprotect(_)),
        matches!(action, ActionSpec::Protect(_)),
    );
    let name = match (opens, seals) {
        (true, _) => "more packets than negotiated, decrypted",
        (_, true) => "more packets than negotiated, encrypted",
        _ => "more packets than negotiated, relayed",
    };
    let mut case = Case::new(name, action);
    let medium = case.spec.media[0].as_mut();
    medium.expect("every row has one").max_packets_per_s = 1;
    let srtp = |rtp: &Rtp, srtp| {
        if srtp {
            usual_keys().protect(&rtp.bytes(), 0)
        } else {
            rtp.bytes()
        }
    };
    for sequence in 1..6 {
        let (rtp, out) = pair(sequence, 160);
        let arriving = srtp(&rtp, opens);
        if opens {
            let mut forged = arriving.clone();
            forged[20] ^= 1;
            case.refuses(&forged, Why::AuthFailed);
        }
        if sequence == 1 {
            case.sends(&arriving, &srtp(&out, seals));
        } else {
            case.refuses(&arriving, Why::OverRate);
        }
    }
    case
}
