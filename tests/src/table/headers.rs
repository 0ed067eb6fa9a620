//! Rows about everything below RTP: Ethernet, VLAN, IP, UDP, which protocol, sizes, the leaving headers.

use flow::{ActionSpec, Exit, Why};

use super::{Case, DEVICE, Family, GENERATION, TTL, pair, protect, unprotect, usual_keys};
use crate::packet::{Arriving, leaving};

const RELAY: ActionSpec = ActionSpec::Relay;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        passed(),
        protocols(),
        truncated(),
        fragments_and_options(),
        hops(),
        padded_frame(),
        zero_checksum(),
    ];
    cases.extend(families());
    cases.extend(mtu());
    cases.extend(slots());
    cases
}

/// Every mix of address families and VLAN tags, in each action.
fn families() -> Vec<Case> {
    let mut cases = Vec::new();
    for (arriving, leaving, name) in [
        (Family::V4, Family::V4, "v4 to v4"),
        (Family::V6, Family::V6, "v6 to v6"),
        (Family::V4, Family::V6, "v4 to v6"),
        (Family::V6, Family::V4, "v6 to v4"),
    ] {
        for (vlan_in, vlan_out) in [
            (None, None),
            (Some(5), None),
            (None, Some(0x2006)),
            (Some(5), Some(6)),
        ] {
            let name = format!("{name}, VLAN {vlan_in:?} to {vlan_out:?}");
            let (rtp, out) = pair(1000, 161);
            let srtp = usual_keys().protect(&rtp.bytes(), 0);
            let srtp_out = usual_keys().protect(&out.bytes(), 0);
            for (name, action, payload, out) in [
                (format!("relay {name}"), RELAY, rtp.bytes(), out.bytes()),
                (format!("protect {name}"), protect(), rtp.bytes(), srtp_out),
                (format!("unprotect {name}"), unprotect(), srtp, out.bytes()),
            ] {
                let mut case = Case::between(name, action, arriving, leaving);
                case.egress.vlan = vlan_out;
                let frame = Arriving {
                    vlan: vlan_in,
                    ..case.arriving(&payload)
                }
                .bytes();
                case.sends_frame(frame, Some(&payload), &out, TTL - 1);
                cases.push(case);
            }
        }
    }
    cases
}

/// What is not UDP over IPv4 or IPv6, or of no flow.
fn passed() -> Case {
    let mut case = Case::new("other protocols and other flows are passed", RELAY);
    let frame = case.arriving(&pair(1, 160).0.bytes()).bytes();
    let changed = |offset: usize, bytes: &[u8]| {
        let mut frame = frame.clone();
        frame[offset..offset + bytes.len()].copy_from_slice(bytes);
        frame
    };
    case.refuses_frame(changed(12, &[0x08, 0x06]), Why::NotUdp);
    case.refuses_frame(changed(12, &[0x88, 0xa8]), Why::NotUdp);
    // Two tags.
    case.refuses_frame(
        changed(12, &[0x81, 0, 0, 5, 0x81, 0, 0, 6, 0x08, 0]),
        Why::NotUdp,
    );
    let mut two_tags = frame.clone();
    two_tags.splice(12..12, [0x81, 0, 0, 5, 0x81, 0, 0, 6]);
    case.refuses_frame(two_tags, Why::NotUdp);
    // IPv6's number in an IPv4 frame, TCP.
    case.refuses_frame(changed(14, &[0x65]), Why::NotUdp);
    case.refuses_frame(changed(23, &[6]), Why::NotUdp);
    for offset in [26, 33, 34, 36] {
        case.refuses_frame(changed(offset, &[99]), Why::NoFlow);
    }
    case
}

/// RFC 7983 and RFC 5761 on the flow's own 4-tuple.
fn protocols() -> Case {
    let mut case = Case::new("only RTP is taken from the port", protect());
    for (first, second, why) in [
        (0, 1, Why::Stun),
        (3, 255, Why::Stun),
        (4, 0, Why::UnknownProtocol),
        (20, 254, Why::Dtls),
        (63, 0, Why::Dtls),
        (64, 0, Why::UnknownProtocol),
        (127, 0, Why::UnknownProtocol),
        (128, 192, Why::Rtcp),
        (129, 200, Why::Rtcp),
        (191, 223, Why::Rtcp),
        (192, 0, Why::UnknownProtocol),
        (255, 255, Why::UnknownProtocol),
    ] {
        let mut payload = pair(1, 160).0.bytes();
        payload[..2].copy_from_slice(&[first, second]);
        case.refuses(&payload, why);
    }
    case.refuses(&[], Why::UnknownProtocol);
    case.refuses(&[0x80], Why::UnknownProtocol);
    case.refuses(&[0x80, 0], Why::BadRtp);
    case
}

fn truncated() -> Case {
    let mut case = Case::new("a frame shorter than its headers say is passed", RELAY);
    let frame = case.arriving(&pair(1, 160).0.bytes()).bytes();
    for length in [14, 20, 33, 34, 41, 42, 100, frame.len() - 1] {
        case.refuses_frame(frame[..length].to_vec(), Why::Truncated);
    }
    // IP length below the header's, UDP length below its header's, above the datagram's, below it.
    for (offset, bytes) in [(16, [0, 19]), (38, [0, 7]), (38, [0, 181]), (38, [0, 179])] {
        let mut frame = frame.clone();
        frame[offset..offset + 2].copy_from_slice(&bytes);
        case.refuses_frame(frame, Why::Truncated);
    }
    case
}

fn fragments_and_options() -> Case {
    let mut case = Case::new(
        "fragments, IPv4 options and IPv6 extension headers are passed",
        RELAY,
    );
    let frame = case.arriving(&pair(1, 160).0.bytes()).bytes();
    for (offset, bytes, why) in [
        (20, [0x20, 0x00], Why::Fragment),
        (20, [0x00, 0x01], Why::Fragment),
        (20, [0x1f, 0xff], Why::Fragment),
        (14, [0x46, 0], Why::IpOptions),
        (14, [0x44, 0], Why::IpOptions),
    ] {
        let mut frame = frame.clone();
        frame[offset..offset + 2].copy_from_slice(&bytes);
        case.refuses_frame(frame, why);
    }
    let six = Case::between("", RELAY, Family::V6, Family::V4);
    let frame = six.arriving(&pair(1, 160).0.bytes()).bytes();
    for (next, why) in [
        (44, Why::Fragment),
        (0, Why::IpOptions),
        (43, Why::IpOptions),
        (60, Why::IpOptions),
        (58, Why::NotUdp),
    ] {
        let mut frame = frame.clone();
        frame[20] = next;
        case.refuses_frame(frame, why);
    }
    for (frame, why) in longer_headers(&case, &six) {
        case.refuses_frame(frame, why);
    }
    case
}

/// Whole datagrams of the flow behind IPv4 options (router alert), an IPv6 fragment header that is no fragment, one that is, and
/// destination options.
fn longer_headers(four: &Case, six: &Case) -> Vec<(Vec<u8>, Why)> {
    let payload = pair(1, 160).0.bytes();
    let mut options = four.arriving(&payload).bytes();
    options[14] = 0x46;
    options.splice(34..34, [0x94, 4, 0, 0]);
    options[17] += 4;
    let behind = |next: u8, header: [u8; 8]| {
        let mut frame = six.arriving(&payload).bytes();
        frame.splice(54..54, header);
        frame[20] = next;
        frame[19] += 8;
        frame
    };
    vec![
        (options, Why::IpOptions),
        (behind(44, [17, 0, 0, 0, 1, 2, 3, 4]), Why::Fragment),
        (behind(44, [17, 0, 0, 1, 1, 2, 3, 4]), Why::Fragment),
        (behind(60, [17, 0, 1, 4, 0, 0, 0, 0]), Why::IpOptions),
    ]
}

/// Time to live: one less, capped, used up.
fn hops() -> Case {
    let mut case = Case::new("time to live goes down by one and has a cap", RELAY);
    for (sequence, ttl, ttl_out) in [(1, 2, 1), (2, 64, 63), (3, 65, 64), (4, 255, 64)] {
        let (rtp, out) = pair(sequence, 160);
        let frame = Arriving {
            ttl,
            ..case.arriving(&rtp.bytes())
        }
        .bytes();
        case.sends_frame(frame, None, &out.bytes(), ttl_out);
    }
    for ttl in [0, 1] {
        let frame = Arriving {
            ttl,
            ..case.arriving(&pair(5, 160).0.bytes())
        }
        .bytes();
        case.refuses_frame(frame, Why::TtlExpired);
    }
    case
}

/// Ethernet pads short frames; the padding is not part of the datagram and does not leave.
fn padded_frame() -> Case {
    let mut case = Case::new("link-layer padding does not leave", RELAY);
    let (rtp, out) = pair(1, 3);
    let mut frame = case.arriving(&rtp.bytes()).bytes();
    frame.resize(60, 0xee);
    case.sends_frame(frame, Some(&rtp.bytes()), &out.bytes(), TTL - 1);
    case
}

/// A UDP checksum that comes out as zero leaves as 0xffff: zero would say that there is none.
fn zero_checksum() -> Case {
    let mut case = Case::new("a UDP checksum of zero leaves as all ones", RELAY);
    let (mut rtp, mut out) = pair(1, 20);
    for packet in [&mut rtp, &mut out] {
        packet.payload[18..].fill(0);
    }
    let blank = leaving(&case.medium(), &case.egress, TTL - 1, &out.bytes());
    // The checksum makes the sum all ones; carried in the payload, it leaves none to be made.
    for packet in [&mut rtp, &mut out] {
        packet.payload[18..].copy_from_slice(&blank[40..42]);
    }
    case.sends(&rtp.bytes(), &out.bytes());
    assert_eq!(
        case.steps[0]
            .leaves
            .as_ref()
            .map(|(frame, _)| frame[40..42].to_vec()),
        Some(vec![0xff; 2])
    );
    case
}

/// The last packet that fits and the first that does not, by the leaving side's MTU and by the fast
/// path's own limit.
fn mtu() -> Vec<Case> {
    let mut cases = Vec::new();
    // 28 bytes of IPv4 and UDP, 12 of RTP, 10 of tag.
    for (mtu, fits) in [(600, 550), (1500, 1450)] {
        let mut case = Case::new(format!("MTU {mtu} with tag"), protect());
        case.egress.mtu = mtu;
        let (rtp, out) = pair(1, fits);
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
        case.refuses(&pair(2, fits + 1).0.bytes(), Why::TooLong);
        cases.push(case);
    }
    let mut case = Case::new("a packet above the fast path's size is passed", RELAY);
    case.egress.mtu = 9000;
    let (rtp, out) = pair(1, 1460);
    case.sends(&rtp.bytes(), &out.bytes());
    case.refuses(&pair(2, 1461).0.bytes(), Why::TooLong);
    cases.push(case);
    let mut case = Case::between("MTU of a v6 side", RELAY, Family::V4, Family::V6);
    case.egress.mtu = 1280;
    let (rtp, out) = pair(1, 1280 - 48 - 12);
    case.sends(&rtp.bytes(), &out.bytes());
    case.refuses(&pair(2, 1280 - 48 - 11).0.bytes(), Why::TooLong);
    cases.push(case);
    cases
}

/// Which slot, which interface.
fn slots() -> Vec<Case> {
    let mut stale = Case::new("another generation in the slot", RELAY);
    stale.looked_up = GENERATION + 1;
    stale.refuses_frame(
        stale.arriving(&pair(1, 160).0.bytes()).bytes(),
        Why::StaleSlot,
    );
    let mut redirected = Case::new("redirected", protect());
    redirected.egress.exit = Exit::Redirect(DEVICE);
    let (rtp, out) = pair(1, 160);
    redirected.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    let mut nowhere = Case::new("redirected to an interface that is not allowed", RELAY);
    nowhere.egress.exit = Exit::Redirect(4242);
    nowhere.refuses_frame(nowhere.arriving(&rtp.bytes()).bytes(), Why::NoDevice);
    vec![stale, redirected, nowhere]
}
