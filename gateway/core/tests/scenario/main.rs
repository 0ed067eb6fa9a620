//! Whole calls under virtual time: str0m as the page, the SIP stack as the callee, a lossy network, flows that really run.
#![expect(
    clippy::unwrap_used,
    reason = "a scenario that cannot go on says where"
)]

mod desk;
mod dtls_phone;
mod edges;
mod media_changes;
mod moving;
mod offerless;
mod page;
mod panics;
mod phones;
mod pickup;
mod random;
mod registrar;
mod signalling;
mod srtp;
mod telephone_events;
mod trunks;
mod video;
mod video_added;
mod world;

use gateway_core::api::{
    Answer, CallId, CreateCall, CreateSession, Event, Offer, Problem, Reject, Reply, Request,
    SessionId,
};
use gateway_core::sip;
use std::time::Duration;
use world::{PEER_RTP, World};

const SECOND: Duration = Duration::from_secs(1);

/// A G.711 answer or offer of the SIP side.
fn sip_sdp(codecs: &str, direction: &str, rtp: &str) -> String {
    let (ip, port) = rtp.split_once(':').unwrap();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {codecs}\r\na={direction}\r\n"
    )
}

fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn place(world: &mut World, session: &SessionId, to: &str) -> Result<CallId, Problem> {
    let offer = world.page.offer(false);
    place_offer(world, session, to, offer)
}

fn place_offer(
    world: &mut World,
    session: &SessionId,
    to: &str,
    offer: String,
) -> Result<CallId, Problem> {
    let body = CreateCall {
        to: to.into(),
        offer: Some(offer),
        ..CreateCall::default()
    };
    match world.request(Request::CreateCall(session.clone(), body))? {
        Reply::Call(view) => Ok(view.id),
        _ => panic!("a call view"),
    }
}

fn callee(world: &mut World) -> sip::CallHandle {
    world.peer_event("INVITE at the callee", |event| match event {
        sip::Event::Incoming { call, .. } => Some(*call),
        _ => None,
    })
}

/// From the page's call to media on both sides.
fn connect(world: &mut World) -> (SessionId, CallId, sip::CallHandle) {
    let session = world.guest();
    let call = place(world, &session, "echo").unwrap();
    let callee = callee(world);
    world
        .peer
        .accept(world.now, callee, sip_sdp("0 101", "sendrecv", PEER_RTP));
    world.settle();
    accept_answer(world);
    await_connected(world);
    (session, call, callee)
}

fn accept_answer(world: &mut World) {
    let answer = world.event("call.answer", |event| match event {
        Event::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    world.page.accept_answer(&answer);
    let now = world.now;
    world.page.handle_timeout(now);
}

fn await_connected(world: &mut World) {
    let codec = world.event("call.connected", |event| match event {
        Event::Connected { codec, .. } => Some(codec.clone()),
        _ => None,
    });
    assert_eq!(codec, "PCMU/8000");
    world.until(10 * SECOND, "the page is connected", |world| {
        world.page.connected
    });
}

/// `count` packets each way, 20 ms apart; numbers go on from `first`.
fn talk(world: &mut World, first: u16, count: u16) {
    for index in first..first + count {
        let timestamp = u32::from(index) * 160;
        let now = world.now;
        world
            .page
            .speak(now, u64::from(index), timestamp, &[0x55; 160]);
        let packet = rtp(0, index, timestamp, 0xabcd, &[0xd5; 160]);
        world.peer_speaks(PEER_RTP, packet);
        world.advance(Duration::from_millis(20));
    }
}

fn ended(world: &mut World) -> (String, Option<u16>) {
    world.event("call.ended", |event| match event {
        Event::Ended { by, status, .. } => Some((by.clone(), *status)),
        _ => None,
    })
}

fn idle(world: &mut World) {
    world.until(40 * SECOND, "the gateway is idle", |world| {
        world.gateway.is_idle()
    });
    nothing_is_left(world);
}

/// What calls held is given back: flows, ports, routes, requests.
fn nothing_is_left(world: &World) {
    assert_eq!(world.flow_count(), 0, "flows");
    assert_eq!(world.open_ports, [], "ports");
    assert_eq!(world.gateway.route_count(), 0, "routes");
    assert!(world.waiting.is_empty(), "requests without a reply");
}

#[test]
fn a_page_calls_and_every_packet_takes_the_flow_from_the_first_on() {
    let mut world = World::new(1);
    let (session, call, callee) = connect(&mut world);
    talk(&mut world, 1, 100);
    world.advance(SECOND);
    assert_eq!(world.missed, 0, "no RTP came up to the core");
    assert_eq!(world.peer_heard.len(), 100);
    assert_eq!(world.page.heard.len(), 100);
    assert!(
        world
            .peer_heard
            .iter()
            .all(|packet| packet.len() == 172 && packet[12..] == [0x55; 160])
    );
    assert!(
        world
            .page
            .heard
            .iter()
            .all(|(_, _, payload)| payload[..] == [0xd5; 160])
    );

    let Ok(Reply::Call(view)) = world.request(Request::Call(session.clone(), call.clone())) else {
        panic!("a view");
    };
    assert_eq!(
        (
            view.statistics.to_sip.packets,
            view.statistics.to_browser.packets
        ),
        (100, 100)
    );
    // What str0m takes first as DTLS server.
    assert_eq!(view.suite.as_deref(), Some("AEAD_AES_256_GCM"));

    assert!(matches!(
        world.request(Request::HangUp(session, call)),
        Ok(Reply::Done)
    ));
    assert_eq!(ended(&mut world).0, "browser");
    world.peer_event("BYE at the callee", |event| {
        matches!(event, sip::Event::Ended { call, by_peer: true, .. } if *call == callee)
            .then_some(())
    });
    idle(&mut world);
}

#[test]
fn rtcp_reports_reach_both_sides_and_give_a_round_trip() {
    let mut world = World::new(2);
    let (session, call, _) = connect(&mut world);
    talk(&mut world, 1, 1_000);
    assert!(!world.peer_rtcp.is_empty());
    assert!(
        world
            .peer_rtcp
            .iter()
            .all(|packet| packet[1] == 200 || packet[1] == 201),
        "SR or RR first"
    );
    let Ok(Reply::Call(view)) = world.request(Request::Call(session, call)) else {
        panic!("a view");
    };
    let rtt = view
        .statistics
        .browser_rtt_ms
        .expect("the browser answered a sender report");
    assert!(
        (9.0..60.0).contains(&rtt),
        "two ways of 5 ms and what the browser waits: {rtt}"
    );
}

#[test]
fn calls_come_up_through_loss_and_reordering() {
    for seed in 0..12 {
        let mut world = World::new(100 + seed);
        world.loss_percent = 15;
        world.jitter = Duration::from_millis(40);
        let (session, call, _) = connect(&mut world);
        assert!(matches!(
            world.request(Request::HangUp(session, call)),
            Ok(Reply::Done)
        ));
        idle(&mut world);
    }
}

#[test]
fn the_callee_hangs_up() {
    let mut world = World::new(3);
    let (_, _, callee) = connect(&mut world);
    world.peer.hang_up(world.now, callee);
    world.settle();
    assert_eq!(ended(&mut world).0, "sip");
    idle(&mut world);
}

#[test]
fn a_busy_callee_ends_the_call_with_its_status() {
    let mut world = World::new(4);
    let session = world.guest();
    place(&mut world, &session, "busy").unwrap();
    let callee = callee(&mut world);
    world.peer.reject(world.now, callee, 486, "Busy Here");
    assert_eq!(ended(&mut world), ("sip".into(), Some(486)));
    idle(&mut world);
}

#[test]
fn the_page_gives_up_while_it_rings() {
    let mut world = World::new(5);
    let session = world.guest();
    let call = place(&mut world, &session, "ring").unwrap();
    let callee = callee(&mut world);
    world.peer.provisional(world.now, callee, 180, None);
    world.event("call.ringing", |event| {
        matches!(event, Event::Ringing { status: 180, .. }).then_some(())
    });
    world
        .request(Request::HangUp(session, call))
        .map(|_| ())
        .unwrap();
    world.peer_event("CANCEL at the callee", |event| {
        matches!(event, sip::Event::Cancelled { .. }).then_some(())
    });
    idle(&mut world);
}

#[test]
fn nobody_answers_for_a_minute() {
    let mut world = World::new(6);
    let session = world.guest();
    place(&mut world, &session, "ring").unwrap();
    let callee = callee(&mut world);
    world.peer.provisional(world.now, callee, 180, None);
    world.advance(61 * SECOND);
    assert_eq!(ended(&mut world), ("gateway".into(), Some(408)));
    idle(&mut world);
}

#[test]
fn early_media_is_heard_before_the_callee_picks_up() {
    let mut world = World::new(7);
    let session = world.guest();
    place(&mut world, &session, "early").unwrap();
    let callee = callee(&mut world);
    world.peer.provisional(
        world.now,
        callee,
        183,
        Some(sip_sdp("0", "sendrecv", PEER_RTP)),
    );
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    for index in 0..50 {
        world.peer_speaks(
            PEER_RTP,
            rtp(0, index, u32::from(index) * 160, 7, &[0xd5; 160]),
        );
        world.advance(Duration::from_millis(20));
    }
    assert_eq!(world.page.heard.len(), 50);
    world
        .peer
        .accept(world.now, callee, sip_sdp("0", "sendrecv", PEER_RTP));
    world.settle();
    world.event("call.answered", |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
}

#[test]
fn a_codec_that_nobody_shares_is_refused() {
    let mut world = World::new(8);
    let session = world.guest();
    place(&mut world, &session, "g729").unwrap();
    let callee = callee(&mut world);
    world
        .peer
        .accept(world.now, callee, sip_sdp("18", "sendrecv", PEER_RTP));
    assert_eq!(ended(&mut world), ("gateway".into(), Some(488)));
    world.peer_event("BYE", |event| {
        matches!(event, sip::Event::Ended { .. }).then_some(())
    });
    idle(&mut world);
}

#[test]
fn bad_descriptions_get_4xx_and_change_nothing() {
    let mut world = World::new(9);
    let session = world.guest();
    for (offer, status) in [
        ("nonsense", 400),
        ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", 400),
    ] {
        let body = CreateCall {
            to: "echo".into(),
            offer: Some(offer.into()),
            ..CreateCall::default()
        };
        let Err(problem) = world.request(Request::CreateCall(session.clone(), body)) else {
            panic!("refused");
        };
        assert_eq!(problem.status, status, "{problem:?}");
    }
    for to in ["", "sip:", "a b", "sips:", "<sip:x@y>"] {
        let offer = world.page.offer(false);
        let body = CreateCall {
            to: to.into(),
            offer: Some(offer),
            ..CreateCall::default()
        };
        let Err(problem) = world.request(Request::CreateCall(session.clone(), body)) else {
            panic!("refused");
        };
        assert_eq!(
            (problem.status, problem.kind.as_str()),
            (400, "bad-address")
        );
    }
    assert!(world.gateway.is_idle());
}

#[test]
fn without_ports_a_call_gets_503_with_retry_after() {
    let mut world = World::new(10);
    let session = world.guest();
    world.no_ports = true;
    let problem = place(&mut world, &session, "echo").unwrap_err();
    assert_eq!((problem.status, problem.retry_after_s), (503, Some(5)));
    idle(&mut world);
}

#[test]
fn the_call_limit_is_503_and_a_sessions_own_limit_is_409() {
    let mut world = World::new(11);
    let session = world.guest();
    for _ in 0..2 {
        place(&mut world, &session, "ring").unwrap();
    }
    assert_eq!(place(&mut world, &session, "ring").unwrap_err().status, 409);
    let second = world.guest();
    for _ in 0..2 {
        place(&mut world, &second, "ring").unwrap();
    }
    let third = world.guest();
    let problem = place(&mut world, &third, "ring").unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (503, "call-limit"));
}

#[test]
fn a_new_source_port_of_the_signalled_host_is_latched_and_another_host_is_not() {
    let mut world = World::new(12);
    connect(&mut world);
    let packet = |sequence: u16| rtp(0, sequence, u32::from(sequence) * 160, 9, &[0xd5; 160]);
    world.peer_speaks("10.0.0.9:7000", packet(1));
    world.advance(SECOND);
    assert_eq!(
        (world.page.heard.len(), world.missed),
        (0, 1),
        "an alien source is not heard"
    );
    for sequence in 2..12 {
        world.peer_speaks("10.0.0.2:7600", packet(sequence));
        world.advance(Duration::from_millis(20));
    }
    assert_eq!(
        world.page.heard.len(),
        9,
        "the first packet moves the flow, the next ones take it"
    );
}

#[test]
fn hold_and_resume_by_the_sip_side_are_told_and_media_goes_on() {
    let mut world = World::new(13);
    let (_, _, callee) = connect(&mut world);
    talk(&mut world, 1, 10);
    world
        .peer
        .reinvite(world.now, callee, sip_sdp("0 101", "sendonly", PEER_RTP));
    world.settle();
    let held = |event: &Event| match event {
        Event::Held { held, .. } => Some(*held),
        _ => None,
    };
    assert!(world.event("held", held));
    let answer = world.peer_event("200 to the re-INVITE", |event| match event {
        sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
        _ => None,
    });
    assert!(answer.contains("a=recvonly"), "{answer}");
    world
        .peer
        .reinvite(world.now, callee, sip_sdp("0 101", "sendrecv", PEER_RTP));
    world.settle();
    assert!(!world.event("resumed", held));
    let heard = world.page.heard.len();
    talk(&mut world, 11, 10);
    world.advance(SECOND);
    assert_eq!(world.page.heard.len(), heard + 10);
}

#[test]
fn an_ice_restart_keeps_keys_and_media() {
    let mut world = World::new(14);
    let (session, call, _) = connect(&mut world);
    talk(&mut world, 1, 20);
    let offer = world.page.offer(true);
    let Ok(Reply::Answered(answered)) =
        world.request(Request::Offer(session, call, Offer { offer }))
    else {
        panic!("an answer");
    };
    world.page.accept_answer(&answered.answer);
    world.advance(2 * SECOND);
    let before = (world.peer_heard.len(), world.page.heard.len());
    talk(&mut world, 21, 20);
    world.advance(SECOND);
    assert_eq!(
        (world.peer_heard.len(), world.page.heard.len()),
        (before.0 + 20, before.1 + 20)
    );
}

#[test]
fn a_page_that_vanishes_loses_its_call_by_consent() {
    let mut world = World::new(15);
    connect(&mut world);
    world.cut = true;
    world.until(45 * SECOND, "consent lost", |world| world.flow_count() == 0);
    assert_eq!(ended(&mut world).0, "gateway");
    idle(&mut world);
    assert!(!world.unheard.is_empty(), "reports went on until then");
    let after = world
        .unheard
        .iter()
        .filter(|at| Some(**at) >= world.removed);
    assert_eq!(after.count(), 0, "no farewell without consent");
}

fn register(world: &mut World, user: &str) -> Result<Reply, Problem> {
    let body = CreateSession {
        user: Some(user.into()),
        password: Some("secret".into()),
        display_name: None,
        ..CreateSession::default()
    };
    world.request(Request::CreateSession(body, None))
}

#[test]
fn a_registered_page_is_called_and_answers() {
    let mut world = World::new(16);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered");
    };
    assert!(created.registered);
    let call = call_page(&mut world);
    let (id, offer) = incoming(&mut world);
    let answer = world.page.answer(&offer);
    let request = Request::Answer(created.id.clone(), id.clone(), Answer { answer });
    assert!(world.request(request).is_ok());
    world.peer_event("200 at the caller", |event| {
        matches!(event, sip::Event::Answered { call: answered, .. } if *answered == call)
            .then_some(())
    });
    await_connected(&mut world);
    talk(&mut world, 1, 50);
    world.advance(SECOND);
    assert_eq!((world.peer_heard.len(), world.page.heard.len()), (50, 50));
    world
        .request(Request::EndSession(created.id))
        .map(|_| ())
        .unwrap();
    idle(&mut world);
}

#[test]
fn a_wrong_password_is_401_within_two_seconds() {
    let mut world = World::new(17);
    let begin = world.now;
    let problem = register(&mut world, "mallory").map(|_| ()).unwrap_err();
    assert_eq!(problem.status, 401);
    assert!(world.now - begin < 2 * SECOND);
    assert_eq!(world.gateway.session_count(), 0);
}

#[test]
fn the_page_refuses_a_call() {
    let mut world = World::new(18);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered");
    };
    call_page(&mut world);
    let (id, _) = incoming(&mut world);
    let request = Request::Reject(created.id, id, Reject { status: Some(603) });
    assert!(world.request(request).is_ok());
    let status = world.peer_event("refusal at the caller", |event| match event {
        sip::Event::Rejected { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 603);
}

#[test]
fn the_caller_gives_up_while_the_page_rings() {
    let mut world = World::new(19);
    assert!(register(&mut world, "alice").is_ok());
    let call = call_page(&mut world);
    incoming(&mut world);
    world.peer.hang_up(world.now, call);
    world.settle();
    assert_eq!(ended(&mut world), ("sip".into(), Some(487)));
}

#[test]
fn a_drained_gateway_takes_nothing_new_and_keeps_its_calls() {
    let mut world = World::new(20);
    connect(&mut world);
    world
        .gateway
        .handle(world.now, gateway_core::gateway::Input::Drain);
    let body = CreateSession {
        user: None,
        password: None,
        display_name: None,
        ..CreateSession::default()
    };
    let problem = world
        .request(Request::CreateSession(body, None))
        .map(|_| ())
        .unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (503, "draining"));
    talk(&mut world, 1, 10);
    world.advance(SECOND);
    assert_eq!(world.peer_heard.len(), 10);
    world.gateway.shut_down(world.now);
    world.settle();
    idle(&mut world);
}

/// The SIP side calls the contact that the page registered.
fn call_page(world: &mut World) -> sip::CallHandle {
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: Some(sip_sdp("0 8", "sendrecv", PEER_RTP)),
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).unwrap();
    world.settle();
    call
}

fn incoming(world: &mut World) -> (CallId, String) {
    world.event("call.incoming", |event| match event {
        Event::Incoming { call, offer, .. } => Some((call.clone(), offer.clone())),
        _ => None,
    })
}
