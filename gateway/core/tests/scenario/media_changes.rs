//! Hold, music on hold and transfers: whatever becomes of the SIP side's media, the browser hears one stream without a seam.

use super::*;
use gateway_core::trunk::ReferPolicy;
use std::time::Instant;
use str0m::media::Direction;

/// Where the music on hold, or the third party, sends from.
const ELSEWHERE: &str = "10.0.0.3:7000";
const FRAME: Duration = Duration::from_millis(20);
/// Of 8 kHz.
const FRAME_TICKS: u32 = 160;
const OTHER_PARTY: u32 = 0x0707_0707;

/// A sender of G.711 whose timestamps follow the clock on the wall.
struct Source {
    from: &'static str,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    started: Instant,
}

impl Source {
    fn new(world: &World, ssrc: u32, sequence: u16) -> Self {
        Self {
            from: PEER_RTP,
            ssrc,
            sequence,
            timestamp: ssrc.wrapping_mul(77),
            started: world.now,
        }
    }

    /// So many packets, while the page speaks too.
    fn talks(&mut self, world: &mut World, page: &mut u64, count: usize) {
        for _ in 0..count {
            let elapsed = u32::try_from((world.now - self.started).as_millis() * 8).unwrap();
            let timestamp = self.timestamp.wrapping_add(elapsed);
            let packet = rtp(0, self.sequence, timestamp, self.ssrc, &[0xd5; 160]);
            world.peer_speaks(self.from, packet);
            self.sequence = self.sequence.wrapping_add(1);
            let (now, ticks) = (world.now, (*page as u32).wrapping_mul(FRAME_TICKS));
            world.page.speak(now, *page, ticks, &[0x55; 160]);
            *page += 1;
            world.advance(FRAME);
        }
        world.advance(FRAME);
    }
}

/// The page hears `count` more, all of one SSRC, no number left out or given twice, and each timestamp where the clock is.
fn heard_without_a_seam(world: &World, count: usize) {
    let (heard, sources) = (&world.page.heard, &world.page.sources);
    assert_eq!(heard.len(), count, "what the page hears");
    let (first, start) = (&heard[0], sources[0]);
    for (index, (packet, source)) in heard.iter().zip(sources).enumerate() {
        assert_eq!(source.0, start.0, "SSRC of packet {index}");
        assert_eq!(packet.0, first.0 + index as u64, "sequence of {index}");
        let elapsed = u32::try_from((source.1 - start.1).as_millis() * 8).unwrap();
        let late = packet
            .1
            .wrapping_sub(first.1)
            .wrapping_sub(elapsed)
            .cast_signed();
        assert!(late.unsigned_abs() <= 2 * FRAME_TICKS, "{index}: {late}");
    }
}

/// The same of what the SIP side gets, wherever it is.
fn one_stream_at_the_sip_side(packets: &[Vec<u8>]) {
    let field = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    for pair in packets.windows(2) {
        assert_eq!(pair[0][8..12], pair[1][8..12], "SSRC");
        assert_eq!(field(&pair[0], 2).wrapping_add(1), field(&pair[1], 2));
    }
}

/// A re-INVITE of the SIP side, and our answer.
fn reinvite(world: &mut World, callee: sip::CallHandle, sdp: String) -> String {
    world.peer.reinvite(world.now, callee, sdp);
    world.settle();
    world.peer_event("200 to the re-INVITE", |event| match event {
        sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
        _ => None,
    })
}

fn held(world: &mut World) -> bool {
    world.event("call.held", |event| match event {
        Event::Held { held, .. } => Some(*held),
        _ => None,
    })
}

fn back(world: &mut World, callee: sip::CallHandle) {
    let answer = reinvite(world, callee, sip_sdp("0 101", "sendrecv", PEER_RTP));
    assert!(answer.contains("a=sendrecv"), "{answer}");
    assert!(!held(world));
}

#[test]
fn every_kind_of_hold_leaves_one_stream_at_both_sides() {
    let nowhere =
        sip_sdp("0 101", "sendrecv", PEER_RTP).replace("c=IN IP4 10.0.0.2", "c=IN IP4 0.0.0.0");
    for (seed, hold, answered) in [
        (401, sip_sdp("0 101", "sendonly", PEER_RTP), "a=recvonly"),
        (402, sip_sdp("0 101", "inactive", PEER_RTP), "a=inactive"),
        (403, nowhere, "a=inactive"),
    ] {
        let mut world = World::new(seed);
        let (_, _, callee) = connect(&mut world);
        let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 500));
        phone.talks(&mut world, &mut page, 30);
        let answer = reinvite(&mut world, callee, hold);
        assert!(answer.contains(answered), "{answer}");
        assert!(held(&mut world));
        let music = if answered == "a=recvonly" { 40 } else { 0 };
        Source::new(&world, 0x3333, 60_000).talks(&mut world, &mut page, music);
        world.advance(5 * SECOND);
        back(&mut world, callee);
        phone.talks(&mut world, &mut page, 30);
        heard_without_a_seam(&world, 60 + music);
        one_stream_at_the_sip_side(&world.peer_heard);
        assert!(world.peer_heard.len() >= 60);
        assert_eq!(world.missed, 0);
    }
}

#[test]
fn a_hold_of_the_page_is_told_to_the_sip_side_and_over_again() {
    for (seed, direction, told, answer) in [
        (404, Direction::SendOnly, "a=sendonly", "recvonly"),
        (405, Direction::Inactive, "a=inactive", "inactive"),
    ] {
        let mut world = World::new(seed);
        let (session, call, callee) = connect(&mut world);
        let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 500));
        phone.talks(&mut world, &mut page, 30);
        for (direction, told, answer) in [
            (direction, told, answer),
            (Direction::SendRecv, "a=sendrecv", "sendrecv"),
        ] {
            let offer = world.page.offer_audio(direction);
            let request = Request::Offer(session.clone(), call.clone(), Offer { offer });
            let Ok(Reply::Answered(answered)) = world.request(request) else {
                panic!("an answer");
            };
            world.page.accept_answer(&answered.answer);
            let offer = world.peer_event("re-INVITE", |event| match event {
                sip::Event::Reinvite { sdp, .. } => sdp.clone(),
                _ => None,
            });
            assert!(offer.contains(told), "{offer}");
            let answer = sip_sdp("0 101", answer, PEER_RTP);
            world.peer.answer_reinvite(world.now, callee, Ok(answer));
            world.settle();
            world.advance(3 * SECOND);
        }
        phone.talks(&mut world, &mut page, 30);
        heard_without_a_seam(&world, 60);
        one_stream_at_the_sip_side(&world.peer_heard);
        assert_eq!(world.peer_heard.len(), 60);
    }
}

#[test]
fn music_on_hold_of_another_host_and_ssrc_is_heard_as_the_same_stream() {
    for (seed, codecs) in [(406, "0 101"), (407, "8 0 101")] {
        let mut world = World::new(seed);
        let (_, _, callee) = connect(&mut world);
        let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 65_520));
        phone.talks(&mut world, &mut page, 30);
        reinvite(&mut world, callee, sip_sdp(codecs, "sendonly", ELSEWHERE));
        assert!(held(&mut world));
        let mut music = Source {
            from: ELSEWHERE,
            ..Source::new(&world, 0x4444, 9)
        };
        music.talks(&mut world, &mut page, 100);
        back(&mut world, callee);
        phone.talks(&mut world, &mut page, 30);
        heard_without_a_seam(&world, 160);
    }
}

#[test]
fn a_codec_that_the_page_does_not_speak_is_refused_and_voice_goes_on() {
    let mut world = World::new(408);
    let (_, _, callee) = connect(&mut world);
    let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 500));
    phone.talks(&mut world, &mut page, 30);
    let other = sip_sdp("8 101", "sendonly", ELSEWHERE);
    world.peer.reinvite(world.now, callee, other);
    world.settle();
    let status = world.peer_event("refusal", |event| match event {
        sip::Event::ReinviteFailed { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 488);
    phone.talks(&mut world, &mut page, 30);
    heard_without_a_seam(&world, 60);
}

#[test]
fn a_transfer_brings_another_source_in_the_same_stream() {
    let mut world = World::configured(409, |config| config.trunks[0].refer = ReferPolicy::Follow);
    let (_, _, theirs) = connect(&mut world);
    let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 500));
    phone.talks(&mut world, &mut page, 30);
    let refer = sip::Refer {
        to: Some("sip:carol@example.org".into()),
        ..sip::Refer::default()
    };
    world.peer.refer(world.now, theirs, refer).unwrap();
    world.settle();
    let carol = callee(&mut world);
    // The old party is heard until the new one picks up.
    phone.talks(&mut world, &mut page, 30);
    let answer = sip_sdp("0 101", "sendrecv", ELSEWHERE);
    world.peer.accept(world.now, carol, answer);
    world.settle();
    let mut other = Source {
        from: ELSEWHERE,
        ..Source::new(&world, OTHER_PARTY, 40_000)
    };
    other.talks(&mut world, &mut page, 30);
    heard_without_a_seam(&world, 90);
    // And once more, by a re-INVITE of the new party: a server in between does it like that.
    reinvite(&mut world, carol, sip_sdp("0 101", "sendrecv", PEER_RTP));
    let mut third = Source::new(&world, 0xabcd, 100);
    third.talks(&mut world, &mut page, 30);
    heard_without_a_seam(&world, 120);
    assert_eq!(world.peer_heard.len(), 60 + 30);
    let sent: Vec<Vec<u8>> = world.peer_heard.clone();
    assert!(sent.windows(2).all(|pair| pair[0][8..12] == pair[1][8..12]));
}

#[test]
fn a_hold_of_eleven_minutes_ends_in_voice_both_ways() {
    // What the phone's numbers do meanwhile: stand still, count on, begin anew.
    for (seed, counted) in [(410, 0), (411, 33_000), (412, 65_536 - 700)] {
        let mut world = World::new(seed);
        let (_, _, callee) = connect(&mut world);
        let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 1_000));
        phone.talks(&mut world, &mut page, 200);
        reinvite(&mut world, callee, sip_sdp("0 101", "inactive", PEER_RTP));
        assert!(held(&mut world));
        world.advance(11 * 60 * SECOND);
        back(&mut world, callee);
        phone.sequence = phone.sequence.wrapping_add(counted as u16);
        // The page's numbers counted on, too, unheard.
        page += u64::from(counted as u32);
        phone.talks(&mut world, &mut page, 50);
        // Numbers that jump are believed with the second packet (RFC 3550 A.1).
        let lost = usize::from(counted != 0);
        heard_without_a_seam(&world, 250 - lost);
        assert!(world.peer_heard.len() >= 248, "{}", world.peer_heard.len());
    }
}

#[test]
fn numbers_that_go_back_do_not_end_in_silence() {
    let mut world = World::new(413);
    connect(&mut world);
    let (mut page, mut phone) = (1, Source::new(&world, 0xabcd, 30_000));
    phone.talks(&mut world, &mut page, 50);
    for sequence in [20_000, 25, 64_000, 63_000] {
        phone.sequence = sequence;
        phone.talks(&mut world, &mut page, 20);
    }
    heard_without_a_seam(&world, 50 + 4 * 19);
}
