//! Video that the SIP side adds to a call: the page is asked by an offer within the call.

use super::video::{ALL_FEEDBACK, talk_and_show, with_video};
use super::*;
use str0m::media::Direction;

/// A call with audio alone, of a page that takes offers.
fn connected(world: &mut World, takes_offers: bool) -> (SessionId, CallId, sip::CallHandle) {
    let body = CreateSession {
        takes_offers,
        ..CreateSession::default()
    };
    let Ok(Reply::SessionCreated(created)) = world.request(Request::CreateSession(body, None))
    else {
        panic!("a guest signs in");
    };
    let session = created.id;
    let call = place(world, &session, "echo").unwrap();
    let callee = callee(world);
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, answer);
    world.settle();
    accept_answer(world);
    await_connected(world);
    (session, call, callee)
}

fn reinvite(world: &mut World, callee: sip::CallHandle) {
    let offer = with_video("sendrecv", 7002, ALL_FEEDBACK);
    world.peer.reinvite(world.now, callee, offer);
    world.settle();
}

fn reanswered(world: &mut World) -> String {
    world.peer_event("answer to the re-INVITE", |event| match event {
        sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
        _ => None,
    })
}

fn offered(world: &mut World) -> String {
    world.event("call.offer", |event| match event {
        Event::Offer { offer, .. } => Some(offer.clone()),
        _ => None,
    })
}

fn video_line(sdp: &str) -> &str {
    let line = sdp.lines().find(|line| line.starts_with("m=video "));
    line.unwrap_or_else(|| panic!("m=video in {sdp}"))
}

#[test]
fn video_that_the_sip_side_adds_reaches_the_page_and_comes_back() {
    let mut world = World::new(330);
    let (session, call, callee) = connected(&mut world, true);
    talk(&mut world, 1, 10);
    reinvite(&mut world, callee);
    let offer = offered(&mut world);
    assert!(offer.contains("a=setup:actpass"), "{offer}");
    let answer = world.page.answer(&offer);
    let request = Request::Answer(session.clone(), call.clone(), Answer { answer });
    world.request(request).map(|_| ()).unwrap();
    let answer = reanswered(&mut world);
    assert_eq!(video_line(&answer).split(' ').nth(1), Some("20002"));
    assert_eq!(world.flow_count(), 3);
    let before = world.page.heard.len();
    talk_and_show(&mut world, 11, 50);
    world.advance(SECOND);
    assert_eq!((world.page.seen.len(), world.peer_seen.len()), (50, 50));
    assert_eq!(world.page.heard.len(), before + 50);
    // A hold of the whole afterwards needs no page.
    world.peer.reinvite(
        world.now,
        callee,
        with_video("sendonly", 7002, ALL_FEEDBACK),
    );
    assert!(!video_line(&reanswered(&mut world)).starts_with("m=video 0 "));
    world.peer.hang_up(world.now, callee);
    world.settle();
    idle(&mut world);
}

#[test]
fn without_the_pages_word_the_call_goes_on_without_the_video() {
    // It takes no offers, or it says nothing in time.
    for takes_offers in [false, true] {
        let mut world = World::new(331);
        let (_, _, callee) = connected(&mut world, takes_offers);
        reinvite(&mut world, callee);
        let begin = world.now;
        let answer = reanswered(&mut world);
        assert!(video_line(&answer).starts_with("m=video 0 "), "{answer}");
        let waited = world.now - begin;
        assert_eq!(waited >= 15 * SECOND, takes_offers, "{waited:?}");
        assert!(waited < 17 * SECOND);
        assert_eq!((world.flow_count(), world.open_ports.len()), (2, 1));
        talk(&mut world, 1, 10);
        world.peer.hang_up(world.now, callee);
        world.settle();
        idle(&mut world);
    }
}

#[test]
fn a_page_that_refuses_the_video_keeps_its_voice() {
    let mut world = World::new(332);
    let (session, call, callee) = connected(&mut world, true);
    reinvite(&mut world, callee);
    let offer = offered(&mut world);
    let answer = world.page.answer(&offer);
    let (head, video) = answer.split_once("m=video 9 ").unwrap();
    let answer = format!("{head}m=video 0 {video}");
    let request = Request::Answer(session, call, Answer { answer });
    world.request(request).map(|_| ()).unwrap();
    assert!(video_line(&reanswered(&mut world)).starts_with("m=video 0 "));
    let audio = world.open_ports[0].rtp;
    for index in 1..11 {
        let (now, timestamp) = (world.now, u32::from(index) * 160);
        world.page.speak(now, index.into(), timestamp, &[0x55; 160]);
        world.inject(
            audio,
            PEER_RTP,
            rtp(0, index, timestamp, 0xabcd, &[0xd5; 160]),
        );
        world.advance(Duration::from_millis(20));
    }
    world.advance(SECOND);
    assert_eq!((world.page.heard.len(), world.peer_heard.len()), (10, 10));
    assert_eq!((world.flow_count(), world.open_ports.len()), (2, 1));
}

#[test]
fn while_the_page_is_asked_other_changes_wait_and_the_end_takes_all_back() {
    let mut world = World::new(333);
    let (session, call, callee) = connected(&mut world, true);
    reinvite(&mut world, callee);
    offered(&mut world);
    let offer = world.page.offer_audio(Direction::SendOnly);
    let body = Offer { offer };
    let request = Request::Offer(session.clone(), call.clone(), body);
    let problem = world.request(request).map(|_| ()).unwrap_err();
    assert_eq!(problem.status, 409);
    let answer = Answer {
        answer: "v=0".into(),
    };
    let request = Request::Answer(session.clone(), call.clone(), answer);
    assert_eq!(world.request(request).map(|_| ()).unwrap_err().status, 400);
    world
        .request(Request::HangUp(session, call))
        .map(|_| ())
        .unwrap();
    idle(&mut world);
}

#[test]
fn without_ports_the_added_video_is_refused() {
    let mut world = World::new(334);
    let (_, _, callee) = connected(&mut world, true);
    world.no_ports = true;
    reinvite(&mut world, callee);
    assert!(video_line(&reanswered(&mut world)).starts_with("m=video 0 "));
    talk(&mut world, 1, 10);
}
