//! Reports under virtual time; the expected numbers are worked out by hand.

use super::*;

const OURS: u32 = 0x0a0a_0a0a;
const THEIRS: u32 = 0x0b0b_0b0b;
/// 1 January 2026, 00:00:00 UTC.
const UNIX_S: u64 = 1_767_225_600;

/// A moment `ms` milliseconds after the start of the test.
fn at(start: Instant, ms: u64) -> ReportTime {
    ReportTime {
        now: start + Duration::from_millis(ms),
        ntp: ntp_from_unix(Duration::from_millis(UNIX_S * 1000 + ms)),
        monotonic_ns: 1_000_000_000 + ms * 1_000_000,
    }
}

fn maker() -> ReportMaker {
    ReportMaker::new(OURS, "causeway".into(), 8000)
}

fn snapshot(stream: StreamSnapshot) -> FlowSnapshot {
    FlowSnapshot {
        packets: stream.packets,
        octets: stream.octets,
        streams: [Some(stream), None, None, None],
        ..FlowSnapshot::default()
    }
}

fn sending(packets: u64, timestamp_out: u32, last_seen_ms: u64) -> FlowSnapshot {
    let last_seen_ns = 1_000_000_000 + last_seen_ms * 1_000_000;
    snapshot(StreamSnapshot {
        ssrc_out: OURS,
        packets,
        octets: packets * 160,
        timestamp_out,
        last_seen_ns,
        ..StreamSnapshot::default()
    })
}

fn receiving(
    ssrc_in: u32,
    packets: u64,
    first_sequence: u32,
    highest_sequence: u32,
) -> FlowSnapshot {
    snapshot(StreamSnapshot {
        ssrc_in,
        packets,
        first_sequence,
        highest_sequence,
        jitter: 40,
        ..StreamSnapshot::default()
    })
}

fn blocks_of(packets: &[Rtcp]) -> &[ReportBlock] {
    match &packets[0] {
        Rtcp::Sender(report) => &report.blocks,
        Rtcp::Receiver(report) => &report.blocks,
        other => panic!("no report first: {other:?}"),
    }
}

fn one_block(packets: &[Rtcp]) -> ReportBlock {
    let [block] = blocks_of(packets) else {
        panic!("not one block: {packets:?}")
    };
    *block
}

#[test]
fn ntp_time_counts_from_1900() {
    assert_eq!(ntp_from_unix(Duration::ZERO), 2_208_988_800 << 32);
    assert_eq!(
        ntp_from_unix(Duration::from_millis(1500)),
        (2_208_988_801 << 32) | 0x8000_0000
    );
}

#[test]
fn sender_report_maps_now_to_the_rtp_clock() {
    let start = Instant::now();
    // The newest packet with timestamp 16000 left 13 ms ago: 104 ticks of 8 kHz.
    let packets = maker().report(at(start, 5013), Some(&sending(250, 16_000, 5000)), None);
    let Rtcp::Sender(report) = &packets[0] else {
        panic!("{packets:?}")
    };
    assert_eq!(report.ssrc, OURS);
    assert_eq!(report.ntp >> 32, UNIX_S + 5 + 2_208_988_800);
    assert_eq!(report.rtp, 16_104);
    assert_eq!((report.packets, report.octets), (250, 40_000));
    assert_eq!(
        packets[1],
        Rtcp::Sdes(vec![SdesChunk {
            ssrc: OURS,
            cname: Some("causeway".into())
        }])
    );
    assert_eq!(packets.len(), 2);
}

#[test]
fn rtp_time_wraps_and_may_lie_a_moment_ahead() {
    let start = Instant::now();
    let mut maker = maker();
    let packets = maker.report(at(start, 1000), Some(&sending(1, u32::MAX - 79, 980)), None);
    let Rtcp::Sender(report) = &packets[0] else {
        panic!("{packets:?}")
    };
    assert_eq!(report.rtp, 80, "20 ms are 160 ticks");
    // The snapshot was taken a moment after the clock was read.
    let packets = maker.report(at(start, 2000), Some(&sending(2, 1000, 2001)), None);
    let Rtcp::Sender(report) = &packets[0] else {
        panic!("{packets:?}")
    };
    assert_eq!(report.rtp, 992);
}

#[test]
fn who_has_not_sent_since_the_last_report_sends_a_receiver_report() {
    let start = Instant::now();
    let mut maker = maker();
    assert!(matches!(
        maker.report(at(start, 1000), None, None)[0],
        Rtcp::Receiver(_)
    ));
    assert!(matches!(
        maker.report(at(start, 2000), Some(&sending(0, 0, 0)), None)[0],
        Rtcp::Receiver(_)
    ));
    assert!(matches!(
        maker.report(at(start, 5000), Some(&sending(10, 0, 4990)), None)[0],
        Rtcp::Sender(_)
    ));
    let idle = maker.report(at(start, 10_000), Some(&sending(10, 0, 4990)), None);
    assert_eq!(
        idle[0],
        Rtcp::Receiver(ReceiverReport {
            ssrc: OURS,
            blocks: Vec::new()
        })
    );
    assert!(matches!(
        maker.report(at(start, 15_000), Some(&sending(11, 0, 14_990)), None)[0],
        Rtcp::Sender(_)
    ));
}

#[test]
fn counts_go_on_where_a_flow_was_installed_again() {
    let start = Instant::now();
    let mut maker = maker();
    maker.report(at(start, 5000), Some(&sending(100, 0, 4990)), None);
    let packets = maker.report(at(start, 10_000), Some(&sending(30, 0, 9990)), None);
    let Rtcp::Sender(report) = &packets[0] else {
        panic!("{packets:?}")
    };
    assert_eq!((report.packets, report.octets), (130, 130 * 160));
}

#[test]
fn streams_that_leave_under_one_ssrc_are_one_sender() {
    let start = Instant::now();
    let [old, new] =
        [sending(100, 1000, 3000), sending(50, 9000, 4990)].map(|snapshot| snapshot.streams[0]);
    let both = FlowSnapshot {
        streams: [new, old, None, None],
        ..FlowSnapshot::default()
    };
    let packets = maker().report(at(start, 5000), Some(&both), None);
    let Rtcp::Sender(report) = &packets[0] else {
        panic!("{packets:?}")
    };
    assert_eq!(
        (report.packets, report.octets, report.rtp),
        (150, 150 * 160, 9080)
    );
    assert_eq!(packets.len(), 2);
}

#[test]
fn loss_is_counted_since_the_last_report_and_since_the_beginning() {
    let start = Instant::now();
    let mut maker = maker();
    // 100 expected (1000..=1099), 90 received.
    let block = one_block(&maker.report(
        at(start, 5000),
        None,
        Some(&receiving(THEIRS, 90, 1000, 1099)),
    ));
    assert_eq!(
        (block.ssrc, block.fraction_lost, block.cumulative_lost),
        (THEIRS, 25, 10)
    );
    assert_eq!((block.highest_sequence, block.jitter), (1099, 40));
    // 100 more, 75 of them received: 25/100 of 256.
    let block = one_block(&maker.report(
        at(start, 10_000),
        None,
        Some(&receiving(THEIRS, 165, 1000, 1199)),
    ));
    assert_eq!((block.fraction_lost, block.cumulative_lost), (64, 35));
    // 10 more expected, 15 received: some were late. None lost now, the total goes back.
    let block = one_block(&maker.report(
        at(start, 15_000),
        None,
        Some(&receiving(THEIRS, 180, 1000, 1209)),
    ));
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 30));
    assert_eq!(maker.sources()[0].jitter, Duration::from_millis(5));
}

#[test]
fn duplicates_make_the_total_negative() {
    let start = Instant::now();
    let block =
        one_block(&maker().report(at(start, 5000), None, Some(&receiving(THEIRS, 12, 0, 9))));
    assert_eq!((block.fraction_lost, block.cumulative_lost), (0, -2));
}

#[test]
fn sequence_numbers_run_over_the_16_bits() {
    let start = Instant::now();
    let block = one_block(&maker().report(
        at(start, 5000),
        None,
        Some(&receiving(THEIRS, 20, 65_530, 65_536 + 13)),
    ));
    assert_eq!((block.cumulative_lost, block.highest_sequence), (0, 65_549));
}

#[test]
fn a_silent_source_gets_no_block() {
    let start = Instant::now();
    let mut maker = maker();
    let heard = receiving(THEIRS, 10, 0, 9);
    assert_eq!(
        blocks_of(&maker.report(at(start, 5000), None, Some(&heard))).len(),
        1
    );
    assert!(blocks_of(&maker.report(at(start, 10_000), None, Some(&heard))).is_empty());
    assert_eq!(
        maker.sources().len(),
        1,
        "the last numbers stay for statistics"
    );
}

#[test]
fn a_source_that_takes_over_starts_without_the_loss_of_the_one_before() {
    let start = Instant::now();
    let mut maker = maker();
    maker.report(
        at(start, 5000),
        None,
        Some(&receiving(THEIRS, 90, 1000, 1099)),
    );
    // The datapath goes on counting: 100 expected so far, then 20 of the new source, of which 15
    // came.
    let first = 500_u32.wrapping_sub(100);
    let block = one_block(&maker.report(
        at(start, 10_000),
        None,
        Some(&receiving(77, 105, first, 519)),
    ));
    assert_eq!((block.ssrc, block.cumulative_lost), (77, 5));
    assert_eq!(block.fraction_lost, 64);
    let block = one_block(&maker.report(
        at(start, 15_000),
        None,
        Some(&receiving(77, 114, first, 529)),
    ));
    assert_eq!(block.cumulative_lost, 6);
}

#[test]
fn a_flow_installed_again_keeps_the_loss_so_far() {
    let start = Instant::now();
    let mut maker = maker();
    maker.report(
        at(start, 5000),
        None,
        Some(&receiving(THEIRS, 90, 1000, 1099)),
    );
    let block = one_block(&maker.report(
        at(start, 10_000),
        None,
        Some(&receiving(THEIRS, 8, 1100, 1109)),
    ));
    assert_eq!((block.fraction_lost, block.cumulative_lost), (51, 12));
}

#[test]
fn the_peers_sender_report_comes_back_as_lsr_and_dlsr() {
    let start = Instant::now();
    let mut maker = maker();
    let report = SenderReport {
        ssrc: THEIRS,
        ntp: 0x1111_2222_3333_4444,
        ..SenderReport::default()
    };
    maker.handle(start + Duration::from_millis(3000), &[Rtcp::Sender(report)]);
    let block = one_block(&maker.report(at(start, 5250), None, Some(&receiving(THEIRS, 1, 0, 0))));
    assert_eq!(block.last_sr, 0x2222_3333);
    assert_eq!(block.delay_since_last_sr, 147_456, "2.25 s in 1/65536 s");
    let block = one_block(&maker.report(at(start, 6000), None, Some(&receiving(99, 2, 0, 1))));
    assert_eq!(
        (block.last_sr, block.delay_since_last_sr),
        (0, 0),
        "another source has sent no report"
    );
}

#[test]
fn round_trip_comes_from_our_report_and_the_peers_delay() {
    let start = Instant::now();
    let mut maker = maker();
    let sent = maker.report(at(start, 1000), Some(&sending(10, 0, 990)), None);
    let Rtcp::Sender(sent) = &sent[0] else {
        panic!("{sent:?}")
    };
    let last_sr = (sent.ntp >> 16) as u32;
    // Held for 2 s; 2.120 s later it is here: 120 ms on the way.
    let block = ReportBlock {
        ssrc: OURS,
        fraction_lost: 128,
        cumulative_lost: 5,
        jitter: 80,
        last_sr,
        delay_since_last_sr: 2 << 16,
        ..ReportBlock::default()
    };
    let now = start + Duration::from_millis(3120);
    maker.handle(
        now,
        &[Rtcp::Receiver(ReceiverReport {
            ssrc: THEIRS,
            blocks: vec![block],
        })],
    );
    let peer = maker.peer().unwrap();
    assert_eq!(peer.round_trip, Some(Duration::from_millis(120)));
    assert_eq!(
        (peer.fraction_lost, peer.cumulative_lost, peer.jitter),
        (128, 5, Duration::from_millis(10))
    );
    assert_eq!((peer.ssrc, peer.at), (OURS, now));
}

#[test]
fn round_trip_is_not_taken_from_what_cannot_be() {
    let start = Instant::now();
    let mut maker = maker();
    let sent = maker.report(at(start, 1000), Some(&sending(10, 0, 990)), None);
    let Rtcp::Sender(sent) = &sent[0] else {
        panic!("{sent:?}")
    };
    let last_sr = (sent.ntp >> 16) as u32;
    let now = start + Duration::from_millis(1500);
    let block = |ssrc, last_sr, delay_since_last_sr| ReportBlock {
        ssrc,
        last_sr,
        delay_since_last_sr,
        ..ReportBlock::default()
    };
    let mut hear = |block| {
        maker.handle(
            now,
            &[Rtcp::Receiver(ReceiverReport {
                ssrc: THEIRS,
                blocks: vec![block],
            })],
        );
        maker.peer().map(|peer| peer.round_trip)
    };
    assert_eq!(hear(block(123, last_sr, 0)), None, "not about our stream");
    assert_eq!(
        hear(block(OURS, 0, 0)),
        Some(None),
        "no report received yet"
    );
    assert_eq!(
        hear(block(OURS, last_sr ^ 1, 0)),
        Some(None),
        "a report that we did not send"
    );
    assert_eq!(
        hear(block(OURS, last_sr, 65_536)),
        Some(None),
        "held for longer than it has been under way"
    );
    assert_eq!(
        hear(block(OURS, last_sr, 32_800)),
        Some(Some(Duration::ZERO)),
        "rounded up by half a millisecond"
    );
    assert_eq!(
        hear(block(OURS, last_sr, 0)),
        Some(Some(Duration::from_millis(500)))
    );
    assert_eq!(
        hear(block(OURS, 0, 0)),
        Some(Some(Duration::from_millis(500))),
        "the last one known stays"
    );
}

#[test]
fn farewell_is_a_whole_compound_packet() {
    let start = Instant::now();
    let mut maker = maker();
    maker.report(at(start, 1000), Some(&sending(10, 0, 990)), None);
    let packets = maker.bye();
    assert!(
        matches!(&packets[..], [Rtcp::Receiver(_), Rtcp::Sdes(_), Rtcp::Bye { ssrcs, .. }] if ssrcs == &[OURS])
    );
}

#[test]
fn memory_is_bounded_whatever_the_peer_sends() {
    let start = Instant::now();
    let mut maker = maker();
    for ssrc in 0..1000 {
        maker.handle(
            start,
            &[Rtcp::Sender(SenderReport {
                ssrc,
                ..SenderReport::default()
            })],
        );
        let stream = StreamSnapshot {
            ssrc_out: ssrc,
            packets: 1,
            ..StreamSnapshot::default()
        };
        maker.report(at(start, 1), Some(&snapshot(stream)), None);
    }
    assert!(
        maker.heard.len() <= MAX_SOURCES
            && maker.sent.len() <= MAX_SENT
            && maker.outgoing.len() <= MAX_SOURCES
    );
}
