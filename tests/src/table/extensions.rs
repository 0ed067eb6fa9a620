//! Rows about header extensions (RFC 8285): what stays under which identifier, in which form, and what goes.

use flow::{ActionSpec, ExtensionMap, PayloadKind, PayloadSpec, Suite, Why};

use super::srtp::{other_keys, transcrypting};
use super::{Case, SSRC_IN, SSRC_OUT, protect, unprotect, usual_keys};
use crate::packet::Rtp;

const USUAL: Suite = Suite::AesCm128HmacSha1_80;
const GCM: Suite = Suite::AeadAes128Gcm;
/// Profiles of the two forms.
const SHORT: u16 = 0xbede;
const LONG: u16 = 0x1000;
/// Longest extension that is read.
const LONGEST: usize = 128;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = one_byte_form();
    cases.extend(two_byte_form());
    cases.extend(malformed());
    cases.extend(lengths());
    cases.extend([nothing_negotiated(), over_the_end()]);
    cases.push(around_an_event());
    cases
}

/// An element as the one-byte form has it.
fn short(id: u8, data: &[u8]) -> Vec<u8> {
    let mut element = vec![id << 4 | (data.len() - 1) as u8];
    element.extend(data);
    element
}

/// And as the two-byte form has it.
fn long(id: u8, data: &[u8]) -> Vec<u8> {
    let mut element = vec![id, data.len() as u8];
    element.extend(data);
    element
}

/// Padded to whole words.
fn extension(profile: u16, elements: &[&[u8]]) -> (u16, Vec<u32>) {
    let mut bytes = elements.concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = bytes.as_chunks::<4>().0.iter();
    (
        profile,
        words.map(|word| u32::from_be_bytes(*word)).collect(),
    )
}

type Extension = Option<(u16, Vec<u32>)>;

/// 1 leaves as 5, 2 as 2, 14 as 1; all others go. In each action, without and with contributing sources and padding.
fn rows(name: &str, arrives: (u16, Vec<u32>), leaves: Extension) -> Vec<Case> {
    let mut cases = Vec::new();
    for (csrcs, padding) in [(0, 0), (3, 0), (15, 6)] {
        let rtp = Rtp {
            csrcs: (0..csrcs).map(|number| 0xc0de_0000 + number).collect(),
            padding,
            extension: Some(arrives.clone()),
            ..Rtp::new(SSRC_IN, 77, 50)
        };
        let out = Rtp {
            ssrc: SSRC_OUT,
            extension: leaves.clone(),
            ..rtp.clone()
        };
        let (rtp, out) = (rtp.bytes(), out.bytes());
        let srtp = usual_keys().protect(&rtp, 0);
        for (action_name, action, payload, out) in [
            ("relay", ActionSpec::Relay, &rtp, out.clone()),
            ("protect", protect(), &rtp, usual_keys().protect(&out, 0)),
            ("unprotect", unprotect(), &srtp, out.clone()),
            (
                "transcrypt",
                transcrypting(USUAL, GCM),
                &srtp,
                other_keys(GCM).protect(&out, 0),
            ),
        ] {
            let name = format!("{action_name}: {name}, {csrcs} CSRCs, padding {padding}");
            let mut case = Case::new(name, action);
            case.spec.extensions = map();
            case.sends(payload, &out);
            cases.push(case);
        }
    }
    cases
}

fn map() -> ExtensionMap {
    ExtensionMap::new([(1, 5), (2, 2), (14, 1)])
}

fn one_byte_form() -> Vec<Case> {
    let level = [0x85];
    let sixteen = [7; 16];
    let mut cases = Vec::new();
    for (name, arrives, leaves) in [
        (
            "one element",
            extension(SHORT, &[&short(1, &level)]),
            Some(extension(SHORT, &[&short(5, &level)])),
        ),
        (
            "the same identifier",
            extension(SHORT, &[&short(2, &[1, 2, 3])]),
            Some(extension(SHORT, &[&short(2, &[1, 2, 3])])),
        ),
        (
            "unknown ones before, between and behind",
            extension(
                SHORT,
                &[
                    &short(3, &[9; 5]),
                    &short(1, &level),
                    &short(4, &sixteen),
                    &short(14, &[6, 6]),
                    &short(12, &[1]),
                ],
            ),
            Some(extension(SHORT, &[&short(5, &level), &short(1, &[6, 6])])),
        ),
        (
            "all removed",
            extension(SHORT, &[&short(3, &level), &short(4, &[1, 2, 3, 4])]),
            None,
        ),
        (
            "padding between",
            extension(
                SHORT,
                &[
                    &[0, 0],
                    &short(1, &level),
                    &[0, 0, 0],
                    &short(14, &sixteen),
                    &[0; 5],
                ],
            ),
            Some(extension(SHORT, &[&short(5, &level), &short(1, &sixteen)])),
        ),
        ("padding alone", extension(SHORT, &[&[0; 8]]), None),
        ("nothing in it", extension(SHORT, &[]), None),
        (
            "bytes that look like headers",
            extension(
                SHORT,
                &[&short(2, &[0x10, 0, 0xf0, 0xbe, 0xde]), &short(1, &[0])],
            ),
            Some(extension(
                SHORT,
                &[&short(2, &[0x10, 0, 0xf0, 0xbe, 0xde]), &short(5, &[0])],
            )),
        ),
        (
            "a profile that is neither form",
            extension(0x1234, &[&short(1, &level)]),
            None,
        ),
    ] {
        cases.extend(rows(&format!("one-byte form, {name}"), arrives, leaves));
    }
    cases
}

fn two_byte_form() -> Vec<Case> {
    let seventeen = [7; 17];
    let mut cases = Vec::new();
    for (name, arrives, leaves) in [
        (
            "all fit the other",
            extension(LONG, &[&long(1, &[0x85]), &long(2, &[1; 16])]),
            Some(extension(SHORT, &[&short(5, &[0x85]), &short(2, &[1; 16])])),
        ),
        (
            "application bits, padding and unknown ones",
            extension(
                LONG | 9,
                &[
                    &[0],
                    &long(200, &[1, 2]),
                    &[0, 0],
                    &long(14, &[3]),
                    &long(15, &[]),
                    &long(3, &seventeen),
                ],
            ),
            Some(extension(SHORT, &[&short(1, &[3])])),
        ),
        (
            "one is too long for the other",
            extension(
                LONG,
                &[
                    &long(1, &[0x85]),
                    &long(4, &[1]),
                    &[0],
                    &long(2, &seventeen),
                ],
            ),
            Some(extension(LONG, &[&long(5, &[0x85]), &long(2, &seventeen)])),
        ),
        (
            "one is empty",
            extension(LONG, &[&long(2, &[]), &long(1, &[4])]),
            Some(extension(LONG, &[&long(2, &[]), &long(5, &[4])])),
        ),
        (
            "all removed",
            extension(LONG, &[&long(3, &[]), &long(255, &[1, 2])]),
            None,
        ),
    ] {
        cases.extend(rows(&format!("two-byte form, {name}"), arrives, leaves));
    }
    cases
}

/// What cannot be read ends the reading; what came before stays.
fn malformed() -> Vec<Case> {
    let first = Some(extension(SHORT, &[&short(5, &[0x85])]));
    let mut cases = Vec::new();
    for (name, profile, rest) in [
        ("identifier 15", SHORT, vec![0xf0, 1, 0x20, 2]),
        (
            "identifier 0 with a length",
            SHORT,
            vec![0x01, 1, 1, 0x20, 2],
        ),
        ("an element over the end", SHORT, vec![0x2f, 1, 2, 3]),
        ("a header without data", SHORT, vec![0, 0x20]),
        ("an element over the end", LONG, vec![2, 200, 2, 3, 4]),
        ("an identifier without a length", LONG, vec![2]),
        ("a length without data", LONG, vec![0, 0, 0, 2, 1]),
    ] {
        let element = if profile == SHORT {
            short(1, &[0x85])
        } else {
            long(1, &[0x85])
        };
        let mut arrives = extension(profile, &[&element, &rest]);
        // Without padding behind, or what lacks would be there.
        let bytes = element.len() + rest.len();
        if bytes % 4 != 0 && name.ends_with("data") | name.ends_with("length") {
            arrives = extension(profile, &[&vec![0; 4 - bytes % 4], &element, &rest]);
        }
        cases.extend(rows(
            &format!("{profile:#x}, {name}"),
            arrives,
            first.clone(),
        ));
    }
    cases
}

/// The longest that is read, one word more, and what fills a packet.
fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let filled = |bytes: usize| {
        let mut elements: Vec<u8> = short(1, &[0x85]);
        while elements.len() + 17 <= bytes {
            elements.extend(short(2, &[elements.len() as u8; 16]));
        }
        elements.resize(bytes, 0);
        elements
    };
    cases.extend(rows(
        "the longest",
        extension(SHORT, &[&filled(LONGEST)]),
        {
            // What pads it goes.
            let used = 2 + (LONGEST - 2) / 17 * 17;
            let mut elements = filled(used);
            elements[0] = 5 << 4;
            Some(extension(SHORT, &[&elements]))
        },
    ));
    cases.extend(rows(
        "too long",
        extension(SHORT, &[&filled(LONGEST + 4)]),
        None,
    ));
    cases.extend(rows("very long", extension(SHORT, &[&filled(1200)]), None));
    cases
}

/// With the map of a flow that keeps none.
fn nothing_negotiated() -> Case {
    let mut case = Case::new("elements that nobody negotiated", ActionSpec::Relay);
    let rtp = Rtp {
        extension: Some(extension(SHORT, &[&short(1, &[0x85])])),
        ..Rtp::new(SSRC_IN, 77, 50)
    };
    let out = Rtp {
        ssrc: SSRC_OUT,
        extension: None,
        ..rtp.clone()
    };
    case.sends(&rtp.bytes(), &out.bytes());
    case
}

/// The same where some are kept.
fn over_the_end() -> Case {
    let mut case = Case::new("an extension over the end of the packet", unprotect());
    case.spec.extensions = map();
    let mut rtp = Rtp {
        extension: Some(extension(SHORT, &[&short(1, &[0x85])])),
        ..Rtp::new(SSRC_IN, 77, 0)
    };
    let out = Rtp {
        ssrc: SSRC_OUT,
        extension: Some(extension(SHORT, &[&short(5, &[0x85])])),
        ..rtp.clone()
    };
    let mut over = usual_keys().protect(&rtp.bytes(), 0);
    over[15] = 2;
    case.refuses(&over, Why::BadExtension);
    case.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
    rtp.sequence += 1;
    case.sends(
        &usual_keys().protect(&rtp.bytes(), 0),
        &Rtp {
            sequence: rtp.sequence,
            ..out
        }
        .bytes(),
    );
    case
}

/// A telephone-event is where the payload begins, before and behind.
fn around_an_event() -> Case {
    let mut case = Case::new("an event behind an extension", protect());
    case.spec.extensions = map();
    let events = PayloadSpec {
        kind: PayloadKind::TelephoneEvent {
            clock_in_hz: 8000,
            clock_out_hz: 48_000,
        },
        ..PayloadSpec::media(110, 0)
    };
    case.spec.payloads.set(101, events).expect("in range");
    let rtp = Rtp {
        payload_type: 101,
        extension: Some(extension(SHORT, &[&short(3, &[1; 7]), &short(1, &[0x85])])),
        payload: vec![4, 10, 0, 160],
        ..Rtp::new(SSRC_IN, 77, 0)
    };
    let out = Rtp {
        ssrc: SSRC_OUT,
        payload_type: 110,
        extension: Some(extension(SHORT, &[&short(5, &[0x85])])),
        payload: vec![4, 10, 3, 192],
        ..rtp.clone()
    };
    case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    case
}
