//! Rows about the RTP header: payload types, contributing sources, extensions, padding, what runs
//! over the end.

use flow::{ActionSpec, Why};

use super::{Case, SSRC_IN, SSRC_OUT, pair, protect, unprotect, usual_keys};
use crate::packet::Rtp;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend([payload_types(), malformed(), malformed_inside()]);
    cases
}

/// CSRCs, extension and padding in each mix and action; nothing of the extension is negotiated.
fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for csrcs in [0, 1, 15] {
        for extension in [None, Some(0), Some(1), Some(3), Some(70)] {
            for padding in [0, 1, 6] {
                let rtp = Rtp {
                    marker: padding == 1,
                    csrcs: (0..csrcs).map(|k| 0xc0de_0000 + k).collect(),
                    extension: extension
                        .map(|words| (0xbede, (0..words).map(|k| 0x0100_0001 * k).collect())),
                    padding,
                    ..Rtp::new(SSRC_IN, 77, 50)
                };
                let out = Rtp {
                    ssrc: SSRC_OUT,
                    extension: None,
                    ..rtp.clone()
                };
                let name = format!("{csrcs} CSRCs, extension {extension:?}, padding {padding}");
                cases.extend(in_each_action(&name, &rtp, &out));
            }
        }
    }
    cases
}

fn in_each_action(name: &str, rtp: &Rtp, out: &Rtp) -> [Case; 3] {
    let (rtp, out) = (rtp.bytes(), out.bytes());
    let srtp = usual_keys().protect(&rtp, 0);
    let srtp_out = usual_keys().protect(&out, 0);
    [
        ("relay", ActionSpec::Relay, rtp.clone(), out.clone()),
        ("protect", protect(), rtp, srtp_out),
        ("unprotect", unprotect(), srtp, out),
    ]
    .map(|(action_name, action, payload, out)| {
        let mut case = Case::new(format!("{action_name}: {name}"), action);
        case.sends(&payload, &out);
        case
    })
}

fn payload_types() -> Case {
    let mut case = Case::new(
        "payload types are mapped; others are dropped",
        ActionSpec::Relay,
    );
    for (sequence, arrives, leaves) in [
        (1, 0, Some(0)),
        (2, 96, Some(111)),
        (3, 101, Some(110)),
        (4, 97, None),
        (5, 127, None),
    ] {
        for marker in [false, true] {
            let sequence = 2 * sequence + u16::from(marker);
            let rtp = Rtp {
                marker,
                payload_type: arrives,
                ..Rtp::new(SSRC_IN, sequence, 20)
            };
            match leaves {
                Some(payload_type) => {
                    let out = Rtp {
                        ssrc: SSRC_OUT,
                        payload_type,
                        ..rtp.clone()
                    };
                    case.sends(&rtp.bytes(), &out.bytes());
                }
                // 127 with the marker is RTCP's number space only up to 223.
                None => case.refuses(&rtp.bytes(), Why::PayloadType),
            }
        }
    }
    case
}

fn malformed() -> Case {
    let mut case = Case::new(
        "headers that run over the end are dropped, the next packet leaves",
        ActionSpec::Relay,
    );
    let plain = pair(1, 20).0.bytes();
    for length in 2..12 {
        case.refuses(&plain[..length], Why::BadRtp);
    }
    let with_first = |first: u8, length: usize| {
        let mut bytes = plain[..length].to_vec();
        bytes[0] = first;
        bytes
    };
    // Six CSRCs in 20 bytes, also with an extension behind; an extension without its header, one longer than the packet.
    case.refuses(&with_first(0x86, 32), Why::BadRtp);
    case.refuses(&with_first(0x96, 32), Why::BadRtp);
    case.refuses(&with_first(0x90, 12), Why::BadExtension);
    case.refuses(&with_first(0x90, 15), Why::BadExtension);
    case.refuses(&with_first(0x95, 32), Why::BadExtension);
    let mut long = with_first(0x90, 32);
    for words in [[0, 5], [1, 0], [0xff, 0xff]] {
        long[14..16].copy_from_slice(&words);
        case.refuses(&long, Why::BadExtension);
    }
    // Padding of none, of more than the payload.
    for last in [0, 21, 255] {
        let mut padded = with_first(0xa0, 32);
        padded[31] = last;
        case.refuses(&padded, Why::BadRtp);
    }
    case.refuses(&with_first(0xa0, 12), Why::BadRtp);
    let (rtp, out) = pair(1, 20);
    case.sends(&rtp.bytes(), &out.bytes());
    // No payload at all is a packet.
    let (rtp, out) = pair(2, 0);
    case.sends(&rtp.bytes(), &out.bytes());
    case
}

/// On `Unprotect` padding is read after authentication; a packet with bad padding is dropped and
/// its index not used up.
fn malformed_inside() -> Case {
    let mut case = Case::new("bad padding inside SRTP", unprotect());
    let (rtp, out) = pair(9, 20);
    let mut padded = rtp.bytes();
    padded[0] |= 0x20;
    padded[31] = 0;
    case.refuses(&usual_keys().protect(&padded, 0), Why::BadRtp);
    // An extension into the tag.
    let mut extended = usual_keys().protect(&rtp.bytes(), 0);
    extended[0] |= 0x10;
    extended[14..16].copy_from_slice(&[0, 5]);
    case.refuses(&extended, Why::BadExtension);
    case.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
    case
}
