//! Calls with video: on one 4-tuple to the page, on two ports to the SIP side.

use super::*;
use gateway_core::rtp::{Fir, Nack, Pli, Rtcp, parse_compound, write_compound};
use std::net::SocketAddr;
use str0m::media::Direction;
use world::PEER_VIDEO;

/// The SIP side's SSRC and payload type of video.
const PEER_SSRC: u32 = 0x5151;
const PEER_VP8: u8 = 100;

/// A description of the SIP side with video; `port` 0 rejects it.
pub(super) fn with_video(direction: &str, port: u16, feedback: &str) -> String {
    let audio = sip_sdp("0 101", "sendrecv", PEER_RTP);
    format!(
        "{audio}m=video {port} RTP/AVP {PEER_VP8}\r\nb=AS:768\r\na=rtpmap:{PEER_VP8} VP8/90000\r\n{feedback}a={direction}\r\n"
    )
}

pub(super) const ALL_FEEDBACK: &str =
    "a=rtcp-fb:* nack\r\na=rtcp-fb:* nack pli\r\na=rtcp-fb:* ccm fir\r\n";

/// The SIP side's offer in the newest event that has one.
fn offered(world: &mut World) -> (sip::CallHandle, String) {
    world.peer_event("INVITE at the callee", |event| match event {
        sip::Event::Incoming { call, sdp, .. } => Some((*call, sdp.clone().unwrap_or_default())),
        _ => None,
    })
}

/// A call that the page placed with video, answered with `answer`.
fn connect_with(world: &mut World, answer: &str) -> (SessionId, CallId, sip::CallHandle, String) {
    let session = world.guest();
    let body = CreateCall {
        to: "echo".into(),
        offer: Some(world.page.offer_with_video()),
        ..CreateCall::default()
    };
    let Ok(Reply::Call(view)) = world.request(Request::CreateCall(session.clone(), body)) else {
        panic!("a call");
    };
    let (callee, offer) = offered(world);
    world.peer.accept(world.now, callee, answer.to_owned());
    world.settle();
    accept_answer(world);
    await_connected(world);
    (session, view.id, callee, offer)
}

fn video_port(world: &World) -> SocketAddr {
    world.open_ports[1].rtp
}

fn peer_shows(world: &mut World, packet: Vec<u8>) {
    let local = video_port(world);
    world.inject(local, PEER_VIDEO, packet);
}

/// Audio and video both ways, 20 ms apart.
pub(super) fn talk_and_show(world: &mut World, first: u16, count: u16) {
    for index in first..first + count {
        let (now, picture) = (world.now, u32::from(index) * 1800);
        world
            .page
            .show(now, u64::from(index), picture, &[0x10; 900]);
        let packet = rtp(PEER_VP8, 7000 + index, picture, PEER_SSRC, &[0x20; 700]);
        peer_shows(world, packet);
        let voice = u32::from(index) * 160;
        world.page.speak(now, u64::from(index), voice, &[0x55; 160]);
        let audio = world.open_ports[0].rtp;
        world.inject(audio, PEER_RTP, rtp(0, index, voice, 0xabcd, &[0xd5; 160]));
        world.advance(Duration::from_millis(20));
    }
}

fn rtcp_of_video(world: &mut World) -> Vec<Rtcp> {
    std::mem::take(&mut world.peer_rtcp)
        .iter()
        .flat_map(|bytes| parse_compound(bytes).unwrap())
        .collect()
}

/// What the page's flow leaves with towards the SIP side.
fn ssrc_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]])
}

#[test]
fn audio_and_video_take_their_flows_from_the_first_packet_on() {
    let mut world = World::new(300);
    let (session, call, callee, offer) =
        connect_with(&mut world, &with_video("sendrecv", 7002, ALL_FEEDBACK));
    assert!(offer.contains("m=video 20002 RTP/AVP"), "{offer}");
    talk_and_show(&mut world, 1, 100);
    world.advance(SECOND);
    assert_eq!(world.missed, 0, "no RTP came up to the core");
    let counts = (world.peer_heard.len(), world.peer_seen.len());
    assert_eq!(counts, (100, 100), "audio and video at the SIP side");
    let counts = (world.page.heard.len(), world.page.seen.len());
    assert_eq!(counts, (100, 100), "audio and video at the page");
    let is_video = |packet: &Vec<u8>| packet[1] & 0x7f == PEER_VP8 && packet[12..] == [0x10; 900];
    assert!(world.peer_seen.iter().all(is_video));
    assert!(
        world
            .page
            .seen
            .iter()
            .all(|(.., payload)| payload[..] == [0x20; 700])
    );
    assert_ne!(ssrc_of(&world.peer_heard[0]), ssrc_of(&world.peer_seen[0]));

    let request = Request::Call(session.clone(), call.clone());
    let Ok(Reply::Call(view)) = world.request(request) else {
        panic!("a view");
    };
    assert_eq!(view.video.as_deref(), Some("VP8/90000"));
    let video = view.statistics.video.expect("the call has video");
    assert_eq!((video.to_sip.packets, video.to_browser.packets), (100, 100));
    assert_eq!(view.statistics.to_sip.packets, 100, "of the audio alone");

    world.peer.hang_up(world.now, callee);
    world.settle();
    idle(&mut world);
}

#[test]
fn a_callee_without_video_gets_an_audio_call() {
    for answer in [
        sip_sdp("0 101", "sendrecv", PEER_RTP),
        with_video("sendrecv", 0, ""),
        with_video("sendrecv", 7002, "").replace("VP8", "H263"),
    ] {
        let mut world = World::new(301);
        let (_, _, callee, _) = connect_with(&mut world, &answer);
        assert_eq!(
            world.open_ports.len(),
            1,
            "the video's ports are given back"
        );
        assert_eq!(world.flow_count(), 2);
        talk(&mut world, 1, 10);
        world.peer.hang_up(world.now, callee);
        world.settle();
        idle(&mut world);
    }
}

#[test]
fn reports_of_both_media_reach_both_sides() {
    let mut world = World::new(302);
    connect_with(&mut world, &with_video("sendrecv", 7002, ALL_FEEDBACK));
    talk_and_show(&mut world, 1, 600);
    let senders: Vec<u32> = rtcp_of_video(&mut world)
        .iter()
        .filter_map(|packet| match packet {
            Rtcp::Sender(report) => Some(report.ssrc),
            _ => None,
        })
        .collect();
    for packet in [&world.peer_heard[0], &world.peer_seen[0]] {
        assert!(senders.contains(&ssrc_of(packet)), "{senders:?}");
    }
}

#[test]
fn a_picture_that_the_page_wants_is_asked_for_at_the_sip_side() {
    let takes = "a=rtcp-fb:100 nack pli\r\n";
    for (feedback, is_fir) in [(takes, false), ("a=rtcp-fb:100 ccm fir\r\n", true)] {
        let mut world = World::new(303);
        connect_with(&mut world, &with_video("sendrecv", 7002, feedback));
        talk_and_show(&mut world, 1, 5);
        world.peer_rtcp.clear();
        for _ in 0..4 {
            let now = world.now;
            world.page.want_picture(now);
            world.advance(Duration::from_millis(30));
        }
        world.advance(Duration::from_millis(100));
        let asked: Vec<Rtcp> = rtcp_of_video(&mut world)
            .into_iter()
            .filter(|packet| matches!(packet, Rtcp::Pli(_) | Rtcp::Fir(_)))
            .collect();
        assert_eq!(asked.len(), 1, "requests close together are one: {asked:?}");
        let media = match &asked[0] {
            Rtcp::Pli(pli) if !is_fir => pli.media,
            Rtcp::Fir(fir) if is_fir => fir.entries[0].0,
            other => panic!("{other:?}"),
        };
        assert_eq!(media, PEER_SSRC, "about the SIP side's own stream");
        world.advance(SECOND);
        let now = world.now;
        world.page.want_picture(now);
        world.advance(SECOND);
        let again = rtcp_of_video(&mut world);
        let is_request = |packet: &&Rtcp| matches!(packet, Rtcp::Pli(_) | Rtcp::Fir(_));
        assert_eq!(again.iter().filter(is_request).count(), 1);
    }
}

#[test]
fn a_side_that_takes_no_feedback_gets_none() {
    let mut world = World::new(304);
    connect_with(&mut world, &with_video("sendrecv", 7002, ""));
    talk_and_show(&mut world, 1, 5);
    let now = world.now;
    world.page.want_picture(now);
    world.advance(SECOND);
    let is_request = |packet: &Rtcp| matches!(packet, Rtcp::Pli(_) | Rtcp::Fir(_));
    assert!(!rtcp_of_video(&mut world).iter().any(is_request));
}

const FAST_UPDATE: &str = "application/media_control+xml";

/// INFOs for a picture that the callee got.
fn fast_updates(world: &World) -> usize {
    let wanted = |event: &&sip::Event| {
        matches!(event, sip::Event::Info { content, .. } if content.content_type == FAST_UPDATE
            && String::from_utf8_lossy(&content.body).contains("<picture_fast_update/>"))
    };
    world.peer_events.iter().filter(wanted).count()
}

#[test]
fn a_side_without_feedback_is_asked_for_a_picture_by_info_until_it_refuses() {
    for refuses in [false, true] {
        let mut world = World::new(315);
        if refuses {
            let config = sip::Config {
                info_types: vec!["application/dtmf-relay".into()],
                ..world::sip_config(world::PEER_SIP)
            };
            world.peer = sip::Stack::new(config, world::seeded(1));
        }
        connect_with(&mut world, &with_video("sendrecv", 7002, ""));
        talk_and_show(&mut world, 1, 5);
        for _ in 0..6 {
            // Two in half a second are one.
            for _ in 0..2 {
                let now = world.now;
                world.page.want_picture(now);
                world.advance(SECOND / 4);
            }
            world.advance(SECOND);
        }
        let asked = fast_updates(&world);
        if refuses {
            assert_eq!((world.peer_infos, asked), (1, 0));
        } else {
            assert_eq!((world.peer_infos, asked), (6, 6));
        }
    }
}

#[test]
fn what_the_sip_side_wants_by_info_reaches_the_page() {
    let mut world = World::new(316);
    let (_, _, callee, _) = connect_with(&mut world, &with_video("sendrecv", 7002, ""));
    talk_and_show(&mut world, 1, 5);
    for (count, body) in [
        (
            1,
            "<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>",
        ),
        (
            1,
            "<media_control><general_error>none</general_error></media_control>",
        ),
    ] {
        let content = sip::Content {
            content_type: format!("{FAST_UPDATE}; charset=utf-8"),
            body: body.into(),
        };
        let now = world.now;
        world.peer.info(now, callee, content).unwrap();
        world.advance(SECOND);
        assert_eq!(world.page.pictures_wanted, count, "{body}");
    }
    let is_info = |event: &Event| matches!(event, Event::Info { .. });
    assert!(
        !world.events.iter().any(is_info),
        "the page has no use for it"
    );
}

#[test]
fn what_the_sip_side_wants_reaches_the_page() {
    let mut world = World::new(305);
    connect_with(&mut world, &with_video("sendrecv", 7002, ALL_FEEDBACK));
    talk_and_show(&mut world, 1, 5);
    let (ours, rtcp) = (ssrc_of(&world.peer_seen[0]), world.open_ports[1].rtcp);
    let requests = [
        Rtcp::Pli(Pli {
            sender: PEER_SSRC,
            media: ours,
        }),
        Rtcp::Fir(Fir {
            sender: PEER_SSRC,
            entries: vec![(ours, 1)],
        }),
    ];
    for (count, request) in (1..).zip(requests) {
        world.inject(rtcp, "10.0.0.2:7003", write_compound(&[request]));
        world.advance(SECOND);
        assert_eq!(world.page.pictures_wanted, count);
    }
}

#[test]
fn a_lost_packet_is_asked_for_again_by_its_number_on_the_other_leg() {
    let mut world = World::new(306);
    connect_with(&mut world, &with_video("sendrecv", 7002, ALL_FEEDBACK));
    // The first source's numbers shift the second's: what the page gets goes on without a seam.
    for sequence in 0..3 {
        peer_shows(&mut world, rtp(PEER_VP8, 100 + sequence, 0, 77, &[1; 50]));
        world.advance(Duration::from_millis(10));
    }
    world.page.nack();
    for sequence in [0, 1, 3, 4] {
        peer_shows(
            &mut world,
            rtp(PEER_VP8, 50_000 + sequence, 9000, PEER_SSRC, &[1; 50]),
        );
        world.advance(Duration::from_millis(10));
    }
    world.advance(SECOND);
    let lost: Vec<u16> = rtcp_of_video(&mut world)
        .into_iter()
        .filter_map(|packet| match packet {
            Rtcp::Nack(Nack { media, lost, .. }) if media == PEER_SSRC => Some(lost),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(lost.contains(&50_002), "{lost:?}");
    assert!(lost.iter().all(|sequence| *sequence == 50_002), "{lost:?}");
}

/// The page's new offer, as a request.
fn reoffer(session: &SessionId, call: &CallId, offer: String) -> Request {
    Request::Offer(session.clone(), call.clone(), Offer { offer })
}

fn reinvited(world: &mut World) -> String {
    world.peer_event("re-INVITE at the callee", |event| match event {
        sip::Event::Reinvite { sdp, .. } => sdp.clone(),
        _ => None,
    })
}

/// The page asks for video in a call without; the SIP side answers the re-INVITE with `answer`.
fn add_video(world: &mut World, answer: String) -> String {
    let (session, call, callee) = connect(world);
    talk(world, 1, 10);
    let offer = world.page.offer_video(Direction::SendRecv);
    let request = world.ask(reoffer(&session, &call, offer));
    let told = reinvited(world);
    assert!(told.contains("m=video 20002 RTP/AVP"), "{told}");
    world.peer.answer_reinvite(world.now, callee, Ok(answer));
    world.settle();
    world.until(10 * SECOND, "the page has its answer", |world| {
        !world.waiting.contains(&request)
    });
    let Some(Ok(Reply::Answered(answered))) = world.reply(request) else {
        panic!("an answer");
    };
    world.page.accept_answer(&answered.answer);
    world.advance(SECOND);
    answered.answer
}

#[test]
fn video_that_the_page_adds_goes_to_the_sip_side_with_its_consent() {
    let mut world = World::new(310);
    let answer = add_video(&mut world, with_video("sendrecv", 7002, ALL_FEEDBACK));
    assert!(!answer.contains("m=video 0 "), "{answer}");
    assert_eq!((world.flow_count(), world.open_ports.len()), (3, 2));
    let heard = world.peer_heard.len();
    talk_and_show(&mut world, 20, 50);
    world.advance(SECOND);
    assert_eq!(world.peer_heard.len(), heard + 50, "the audio went on");
    assert_eq!((world.peer_seen.len(), world.page.seen.len()), (50, 50));
    assert_eq!(world.missed, 0);
}

#[test]
fn video_that_the_sip_side_does_not_want_leaves_the_audio_alone() {
    let mut world = World::new(311);
    let answer = add_video(&mut world, with_video("sendrecv", 0, ""));
    assert!(answer.contains("m=video 0 "), "{answer}");
    assert_eq!((world.flow_count(), world.open_ports.len()), (2, 1));
    talk(&mut world, 20, 10);
}

#[test]
fn a_camera_that_the_page_turns_off_is_told_to_the_sip_side() {
    let mut world = World::new(312);
    let answer = with_video("sendrecv", 7002, ALL_FEEDBACK);
    let (session, call, callee, _) = connect_with(&mut world, &answer);
    talk_and_show(&mut world, 1, 10);
    let offer = world.page.offer_video(Direction::RecvOnly);
    let Ok(Reply::Answered(answered)) = world.request(reoffer(&session, &call, offer)) else {
        panic!("an answer");
    };
    world.page.accept_answer(&answered.answer);
    let told = reinvited(&mut world);
    let video = &told[told.find("m=video").unwrap()..];
    assert!(video.contains("a=recvonly"), "{told}");
    let answer = with_video("sendonly", 7002, ALL_FEEDBACK);
    world.peer.answer_reinvite(world.now, callee, Ok(answer));
    world.settle();
    let seen = world.page.seen.len();
    peer_shows(&mut world, rtp(PEER_VP8, 8000, 99_000, PEER_SSRC, &[1; 50]));
    world.advance(SECOND);
    assert_eq!(
        world.page.seen.len(),
        seen + 1,
        "the other camera is still seen"
    );
}

#[test]
fn video_that_the_sip_side_ends_is_gone_and_the_audio_goes_on() {
    let mut world = World::new(313);
    let (_, _, callee, _) = connect_with(&mut world, &with_video("sendrecv", 7002, ALL_FEEDBACK));
    talk_and_show(&mut world, 1, 10);
    world
        .peer
        .reinvite(world.now, callee, with_video("sendrecv", 0, ""));
    world.settle();
    let answer = world.peer_event("200 to the re-INVITE", |event| match event {
        sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
        _ => None,
    });
    assert!(answer.contains("m=video 0 "), "{answer}");
    assert_eq!((world.flow_count(), world.open_ports.len()), (2, 1));
    let heard = world.peer_heard.len();
    talk(&mut world, 20, 10);
    world.advance(SECOND);
    assert_eq!(world.peer_heard.len(), heard + 10);
}
