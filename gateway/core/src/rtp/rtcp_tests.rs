//! RTCP read and written, against literal bytes and against `rtcp-types`.

use proptest::prelude::*;
use rtcp_types::prelude::*;
use rtcp_types::{Compound, Packet};

use super::*;

fn block() -> ReportBlock {
    ReportBlock {
        ssrc: 0x0102_0304,
        fraction_lost: 64,
        cumulative_lost: -2,
        highest_sequence: 0x0001_ffff,
        jitter: 33,
        last_sr: 0xaabb_ccdd,
        delay_since_last_sr: 65_536,
    }
}

fn everything() -> Vec<Rtcp> {
    vec![
        Rtcp::Sender(SenderReport {
            ssrc: 7,
            ntp: 0x1122_3344_5566_7788,
            rtp: 160,
            packets: 5,
            octets: 800,
            blocks: vec![block()],
        }),
        Rtcp::Receiver(ReceiverReport {
            ssrc: 8,
            blocks: vec![block(), block()],
        }),
        Rtcp::Sdes(vec![
            SdesChunk {
                ssrc: 7,
                cname: Some("a".into()),
            },
            SdesChunk {
                ssrc: 8,
                cname: Some("four".into()),
            },
            SdesChunk {
                ssrc: 9,
                cname: None,
            },
        ]),
        Rtcp::Nack(Nack {
            sender: 7,
            media: 8,
            lost: vec![65_530, 65_531, 10, 40],
        }),
        Rtcp::Pli(Pli {
            sender: 7,
            media: 8,
        }),
        Rtcp::Fir(Fir {
            sender: 7,
            entries: vec![(8, 3), (9, 255)],
        }),
        Rtcp::Bye {
            ssrcs: vec![7, 8],
            reason: Some("teardown".into()),
        },
    ]
}

#[test]
fn what_is_written_reads_the_same() {
    let packets = everything();
    assert_eq!(parse_compound(&write_compound(&packets)).unwrap(), packets);
}

#[test]
fn sender_report_has_the_bytes_of_rfc_3550() {
    let bytes = write_compound(&everything()[..1]);
    let expected = "81c8000c00000007112233445566778800\
                    0000a0000000050000032001020304\
                    40fffffe0001ffff00000021aabbccdd00010000";
    assert_eq!(hex::encode(bytes), expected);
}

#[test]
fn sdes_chunks_end_in_one_to_four_zeros() {
    let expected = "83ca00070000000701016100000000080104666f757200000000000900000000";
    assert_eq!(hex::encode(write_compound(&everything()[2..3])), expected);
}

#[test]
fn rtcp_types_reads_what_we_write() {
    let mut written = everything();
    // Its reader takes a chunk without items for truncated, and leading zeros of an SSRC for the
    // padding of the chunk before.
    if let Rtcp::Sdes(chunks) = &mut written[2] {
        chunks.pop();
        chunks
            .iter_mut()
            .for_each(|chunk| chunk.ssrc |= 0x7000_0000);
    }
    let bytes = write_compound(&written);
    let packets: Vec<Packet<'_>> = Compound::parse(&bytes)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(packets.len(), everything().len());
    let Packet::Sr(sr) = &packets[0] else {
        panic!("{:?}", packets[0])
    };
    assert_eq!(
        (sr.ssrc(), sr.ntp_timestamp(), sr.rtp_timestamp()),
        (7, 0x1122_3344_5566_7788, 160)
    );
    assert_eq!(
        (sr.packet_count(), sr.octet_count(), sr.n_reports()),
        (5, 800, 1)
    );
    let theirs = sr.report_blocks().next().unwrap();
    assert_eq!(
        (
            theirs.ssrc(),
            theirs.fraction_lost(),
            theirs.cumulative_lost()
        ),
        (0x0102_0304, 64, 0xff_fffe)
    );
    assert_eq!(
        (
            theirs.extended_sequence_number(),
            theirs.interarrival_jitter()
        ),
        (0x0001_ffff, 33)
    );
    let Packet::Sdes(sdes) = &packets[2] else {
        panic!("{:?}", packets[2])
    };
    let names: Vec<String> = sdes
        .chunks()
        .flat_map(|chunk| {
            chunk
                .items()
                .map(|item| item.get_value_string().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(names, ["a", "four"]);
    let Packet::TransportFeedback(nack) = &packets[3] else {
        panic!("{:?}", packets[3])
    };
    let lost: Vec<u16> = nack
        .parse_fci::<rtcp_types::Nack<'_>>()
        .unwrap()
        .entries()
        .collect();
    assert_eq!(lost, [65_530, 65_531, 10, 40]);
    let Packet::PayloadFeedback(fir) = &packets[5] else {
        panic!("{:?}", packets[5])
    };
    let entries: Vec<(u32, u8)> = fir
        .parse_fci::<rtcp_types::Fir<'_>>()
        .unwrap()
        .entries()
        .map(|entry| (entry.ssrc(), entry.sequence()))
        .collect();
    assert_eq!(entries, [(8, 3), (9, 255)]);
    let Packet::Bye(bye) = &packets[6] else {
        panic!("{:?}", packets[6])
    };
    assert_eq!(bye.reason(), Some(&b"teardown"[..]));
}

#[test]
fn we_read_what_rtcp_types_writes() {
    let nack = rtcp_types::Nack::builder()
        .add_rtp_sequence(3)
        .add_rtp_sequence(5)
        .add_rtp_sequence(400);
    let builder = Compound::builder()
        .add_packet(rtcp_types::ReceiverReport::builder(77))
        .add_packet(
            rtcp_types::TransportFeedback::builder(&nack)
                .sender_ssrc(77)
                .media_ssrc(78),
        )
        .add_packet(rtcp_types::App::builder(77, "name"));
    let mut bytes = vec![0; builder.calculate_size().unwrap()];
    builder.write_into(&mut bytes).unwrap();
    assert_eq!(
        parse_compound(&bytes).unwrap(),
        [
            Rtcp::Receiver(ReceiverReport {
                ssrc: 77,
                blocks: Vec::new()
            }),
            Rtcp::Nack(Nack {
                sender: 77,
                media: 78,
                lost: vec![3, 5, 400]
            }),
            Rtcp::Other {
                packet_type: 204,
                format: 0
            },
        ]
    );
}

#[test]
fn remb_is_read_and_transport_cc_is_other() {
    let remb = hex::decode("8fce0005000000010000000052454d42010a884c12345678").unwrap();
    assert_eq!(
        parse_compound(&remb).unwrap(),
        [Rtcp::Remb(Remb {
            sender: 1,
            bitrate: 0x2884c << 2,
            ssrcs: vec![0x1234_5678],
        })]
    );
    assert_eq!(write_compound(&parse_compound(&remb).unwrap()), remb);
    let transport_cc = hex::decode("8fcd0003000000010000000200000000").unwrap();
    assert_eq!(
        parse_compound(&transport_cc).unwrap(),
        [Rtcp::Other {
            packet_type: 205,
            format: 15
        }]
    );
}

#[test]
fn padding_may_only_stand_in_the_last_packet() {
    let padded = hex::decode("a0c90002000000010000000480c9000100000002").unwrap();
    assert_eq!(parse_compound(&padded), Err(RtcpError::Padding));
    let last = hex::decode("80c9000100000002a0c900020000000100000004").unwrap();
    assert_eq!(parse_compound(&last).unwrap().len(), 2);
    for count in ["00000000", "00000009"] {
        let wrong = hex::decode(format!("a0c9000200000001{count}")).unwrap();
        assert_eq!(parse_compound(&wrong), Err(RtcpError::Padding), "{count}");
    }
}

#[test]
fn wrong_packets_say_why() {
    for (bytes, error) in [
        ("", RtcpError::Truncated),
        ("80c900", RtcpError::Truncated),
        ("80c9000200000001", RtcpError::Truncated),
        ("40c9000100000001", RtcpError::Version),
        ("81c9000100000001", RtcpError::Truncated),
        ("81ca000200000001010961", RtcpError::Truncated),
        ("81ca00020000000101096162", RtcpError::Truncated),
        ("81ca00020000000101026162", RtcpError::Truncated),
    ] {
        assert_eq!(
            parse_compound(&hex::decode(bytes).unwrap()),
            Err(error),
            "{bytes}"
        );
    }
    let many = hex::decode("80c9000100000001".repeat(65)).unwrap();
    assert_eq!(parse_compound(&many), Err(RtcpError::TooMany));
}

#[test]
fn what_the_format_cannot_hold_is_left_out() {
    let blocks = vec![
        ReportBlock {
            cumulative_lost: -9_000_000,
            ..block()
        };
        40
    ];
    let long = "\u{e4}".repeat(200);
    let packets = [
        Rtcp::Receiver(ReceiverReport { ssrc: 1, blocks }),
        Rtcp::Sdes(vec![SdesChunk {
            ssrc: 1,
            cname: Some(long),
        }]),
    ];
    let read = parse_compound(&write_compound(&packets)).unwrap();
    let [Rtcp::Receiver(report), Rtcp::Sdes(chunks)] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(report.blocks.len(), 31);
    assert_eq!(report.blocks[0].cumulative_lost, -0x80_0000);
    assert_eq!(chunks[0].cname.as_ref().unwrap().len(), 254);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = parse_compound(&bytes);
    }

    #[test]
    fn no_mutation_panics_and_what_is_read_survives_a_round_trip(place in 0..300_usize, value: u8, cut in 0..300_usize) {
        let mut bytes = write_compound(&everything());
        let place = place % bytes.len();
        bytes[place] = value;
        bytes.truncate(cut.max(4));
        if let Ok(packets) = parse_compound(&bytes) {
            let typed: Vec<Rtcp> = packets.into_iter().filter(|packet| !matches!(packet, Rtcp::Other { .. })).collect();
            if !typed.is_empty() {
                prop_assert_eq!(parse_compound(&write_compound(&typed)).unwrap(), typed);
            }
        }
    }

    #[test]
    fn lost_numbers_survive(start: u16, steps in proptest::collection::vec(1..40_u16, 0..60)) {
        let lost: Vec<u16> = steps.iter().scan(start, |at, step| { *at = at.wrapping_add(*step); Some(*at) }).collect();
        let packet = Rtcp::Nack(Nack { sender: 1, media: 2, lost });
        prop_assert_eq!(parse_compound(&write_compound(std::slice::from_ref(&packet))).unwrap(), vec![packet]);
    }
}
