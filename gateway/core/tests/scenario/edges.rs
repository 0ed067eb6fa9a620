//! Calls at their edges: orders of events that are rare, and inputs of those who are no party of the call.

use super::*;
use crate::page::Page;
use gateway_core::api::{Callee, Grant};
use gateway_core::gateway::Input;
use world::MEDIA;

/// A binding request (RFC 8489) with a user name and no proof that its sender knows the password.
pub(crate) fn unauthenticated_check(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:attacker");
    let padded = name.len().next_multiple_of(4);
    let mut attributes = vec![0x00, 0x06];
    attributes.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
    attributes.extend(name.as_bytes());
    attributes.resize(4 + padded, 0);
    let mut message = vec![0x00, 0x01];
    message.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    message.extend([0x21, 0x12, 0xa4, 0x42]);
    message.extend([7; 12]);
    message.extend(attributes);
    message
}

pub(crate) fn ufrag_of(sdp: &str) -> String {
    sdp.lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_page_that_takes_the_active_role_is_connected() {
    let mut world = World::new(30);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered");
    };
    call_page(&mut world);
    let (id, offer) = incoming(&mut world);
    assert!(offer.contains("a=setup:actpass\r\n"), "{offer}");
    // What browsers answer; str0m would rather wait.
    let offer = offer.replace("a=setup:actpass", "a=setup:passive");
    let answer = world.page.answer(&offer);
    assert!(answer.contains("a=setup:active\r\n"), "{answer}");
    let request = Request::Answer(created.id, id, Answer { answer });
    assert!(world.request(request).is_ok());
    await_connected(&mut world);
    talk(&mut world, 1, 20);
    world.advance(SECOND);
    assert_eq!((world.peer_heard.len(), world.page.heard.len()), (20, 20));
}

#[test]
fn early_media_that_nobody_answers_ends_like_any_unanswered_call() {
    let mut world = World::new(31);
    let session = world.guest();
    place(&mut world, &session, "early").unwrap();
    let callee = callee(&mut world);
    let early = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.provisional(world.now, callee, 183, Some(early));
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    world.advance(70 * SECOND);
    assert_eq!(ended(&mut world), ("gateway".into(), Some(408)));
    idle(&mut world);
}

#[test]
pub(crate) fn unauthenticated_checks_open_no_way_to_a_call_and_push_none_out() {
    let mut world = World::new(32);
    let session = world.guest();
    place(&mut world, &session, "echo").unwrap();
    let callee = callee(&mut world);
    let sdp = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, sdp);
    world.settle();
    let answer = world.event("call.answer", |event| match event {
        Event::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    world.page.accept_answer(&answer);
    let now = world.now;
    world.page.handle_timeout(now);
    await_connected(&mut world);
    let routes = world.gateway.route_count();
    let check = unauthenticated_check(&ufrag_of(&answer));
    for port in 1..=64 {
        let media = MEDIA.parse().unwrap();
        world.inject(media, &format!("203.0.113.9:{port}"), check.clone());
    }
    world.advance(Duration::from_millis(10));
    assert_eq!(world.gateway.route_count(), routes);
}

#[test]
fn only_rtp_moves_the_flow_to_another_source_port() {
    let mut world = World::new(33);
    connect(&mut world);
    let local = world.ports.last().unwrap().rtp;
    for stray in [vec![], vec![0; 4], b"hello".to_vec(), vec![0x16; 20]] {
        world.inject(local, "10.0.0.2:7600", stray);
        world.advance(3 * SECOND);
    }
    world.peer_speaks(PEER_RTP, rtp(0, 1, 160, 9, &[0xd5; 160]));
    world.advance(SECOND);
    assert_eq!((world.page.heard.len(), world.missed), (1, 0));
}

#[test]
fn a_sign_in_that_the_gateway_ends_is_answered() {
    let mut world = World::new(34);
    world.registrar_away = true;
    let body = CreateSession {
        user: Some("alice".into()),
        password: Some("secret".into()),
        display_name: None,
        ..CreateSession::default()
    };
    let request = world.ask(Request::CreateSession(body, None));
    world.advance(SECOND);
    world.gateway.shut_down(world.now);
    world.settle();
    let problem = world.reply(request).unwrap().map(|_| ()).unwrap_err();
    assert_eq!(problem.status, 503);
    idle(&mut world);
}

#[test]
fn a_lost_registration_is_told_and_does_not_keep_the_gateway_from_stopping() {
    let mut world = World::new(35);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered");
    };
    world.registrar_away = true;
    for _ in 0..1500 {
        world
            .gateway
            .handle(world.now, Input::SessionAlive(created.id.clone()));
        world.advance(SECOND);
    }
    world.event("registration lost", |event| {
        matches!(event, Event::RegistrationFailed { .. }).then_some(())
    });
    let Ok(Reply::Session(view)) = world.request(Request::Session(created.id)) else {
        panic!("a view");
    };
    assert!(!view.registered);
    world.gateway.shut_down(world.now);
    world.settle();
    idle(&mut world);
}

#[test]
fn the_answer_in_the_ack_of_an_empty_reinvite_moves_the_media() {
    let mut world = World::new(36);
    let (_, _, callee) = connect(&mut world);
    talk(&mut world, 1, 5);
    world.ack_sdp = Some(sip_sdp("0", "sendrecv", "10.0.0.3:7100"));
    world.peer.reinvite(world.now, callee, String::new());
    world.settle();
    world.advance(SECOND);
    let ports = world.ports.last().unwrap().rtp;
    world.inject(ports, "10.0.0.3:7100", rtp(0, 6, 960, 0xabcd, &[0xd5; 160]));
    world.advance(SECOND);
    assert_eq!((world.page.heard.len(), world.missed), (6, 0));
}

#[test]
fn a_page_cannot_take_over_the_address_that_carries_another_call() {
    let mut world = World::new(40);
    let (session, first, _) = connect(&mut world);
    talk(&mut world, 1, 5);
    let mut thief = Page::new(world.now, world.page.addr);
    std::mem::swap(&mut world.page, &mut thief);
    place(&mut world, &session, "echo").unwrap();
    let callee = callee(&mut world);
    world
        .peer
        .accept(world.now, callee, sip_sdp("0", "sendrecv", "10.0.0.2:7002"));
    world.settle();
    accept_answer(&mut world);
    assert_eq!(ended(&mut world).0, "gateway");
    std::mem::swap(&mut world.page, &mut thief);
    world.ports.truncate(1);
    assert_eq!(world.flow_count(), 2, "the first call's flows stay");
    let heard = world.page.heard.len();
    talk(&mut world, 6, 10);
    world.advance(SECOND);
    assert_eq!(world.page.heard.len(), heard + 10);
    assert!(world.request(Request::Call(session, first)).is_ok());
}

#[test]
fn a_token_says_who_the_page_is_and_whom_it_may_call() {
    let mut world = World::new(36);
    let body = |user: Option<&str>| CreateSession {
        user: user.map(str::to_owned),
        password: None,
        display_name: None,
        ..CreateSession::default()
    };
    let grant = || Grant {
        user: "alice".into(),
        display_name: Some("Alice".into()),
        may_call: Some(vec![Callee("echo@*".into())]),
    };
    let Ok(Reply::SessionCreated(created)) =
        world.request(Request::CreateSession(body(None), Some(grant())))
    else {
        panic!("a token signs in");
    };
    assert_eq!(created.address, "sip:alice@example.org");
    let other = Request::CreateSession(body(Some("bob")), Some(grant()));
    let problem = world.request(other).map(|_| ()).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (403, "other-user"));
    let problem = place(&mut world, &created.id, "bob").unwrap_err();
    assert_eq!(
        (problem.status, problem.kind.as_str()),
        (403, "not-granted")
    );
    assert!(place(&mut world, &created.id, "echo").is_ok());
}
