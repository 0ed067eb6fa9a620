//! A bug somewhere in a call: the call ends, all else goes on. The panics come out of the gateway's source of random bytes, which
//! calls, browser legs, reports and the SIP stack all draw from, so they happen where the code really is.

use super::world::{PEER_RTP, World};
use super::*;
use gateway_core::gateway::Input;
use std::sync::atomic::Ordering;

fn light(world: &World, draws: u32) {
    world.fuse.store(draws, Ordering::Relaxed);
}

fn burnt(world: &World) -> bool {
    world.fuse.load(Ordering::Relaxed) == 0
}

#[test]
fn a_panic_in_a_running_call_ends_that_call_alone() {
    let mut world = World::new(90);
    let (session, call, theirs) = connect(&mut world);
    // The other call rings at its callee meanwhile.
    let offer = page::Page::new(world.now, "198.51.100.9:9".parse().unwrap()).offer(false);
    let body = CreateCall {
        to: "other".into(),
        offer: Some(offer),
        ..CreateCall::default()
    };
    let Ok(Reply::Call(other)) = world.request(Request::CreateCall(session.clone(), body)) else {
        panic!("a call");
    };
    let other_callee = callee(&mut world);
    let routes = world.gateway.route_count();
    // The next one to draw is the interval of the running call's reports.
    light(&world, 1);
    world.until(20 * SECOND, "the panic", |world| burnt(world));
    assert_eq!(world.gateway.panics(), 1);
    assert_eq!(world.flow_count(), 0, "its flows are removed");
    assert!(world.gateway.route_count() < routes);
    let (id, reason) = world.event("call.ended", |event| match event {
        Event::Ended { call, reason, .. } => Some((call.clone(), reason.clone())),
        _ => None,
    });
    assert_eq!((id, reason.as_str()), (call, "internal error"));
    world.peer_event("BYE at the callee", |event| {
        matches!(event, sip::Event::Ended { call, by_peer: true, .. } if *call == theirs)
            .then_some(())
    });
    // The other one is answered as if nothing were, and the session can go on.
    let answer = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, other_callee, answer);
    let answered = world.event("call.answered", |event| match event {
        Event::Answered { call } => Some(call.clone()),
        _ => None,
    });
    assert_eq!(answered, other.id);
    assert!(
        world
            .request(Request::HangUp(session.clone(), other.id))
            .is_ok()
    );
    world.page = page::Page::new(world.now, "198.51.100.7:52000".parse().unwrap());
    place(&mut world, &session, "echo").unwrap();
    let again = callee(&mut world);
    let answer = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, again, answer);
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    talk(&mut world, 1, 20);
    world.advance(SECOND);
    assert_eq!(world.peer_heard.len(), 20);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_panic_at_any_draw_of_a_call_that_is_placed_leaves_nothing_behind() {
    for draws in 1..40 {
        let mut world = World::new(91);
        let session = world.guest();
        light(&world, draws);
        let offer = world.page.offer(false);
        let body = CreateCall {
            to: "echo".into(),
            offer: Some(offer),
            ..CreateCall::default()
        };
        let placed = world.request(Request::CreateCall(session.clone(), body));
        if let Err(problem) = &placed {
            assert_eq!((problem.status, problem.kind.as_str()), (500, "bug"));
        }
        world.advance(SECOND);
        light(&world, 0);
        assert!(world.request(Request::EndSession(session)).is_ok());
        idle(&mut world);
    }
}

/// Where the registration itself broke, HTTP gives the sign-in up, and the session ends with the page's silence.
#[test]
fn after_a_panic_in_a_sign_in_the_next_one_is_served() {
    for draws in 1..12 {
        let mut world = World::new(92);
        light(&world, draws);
        let body = CreateSession {
            user: Some("alice".into()),
            password: Some("secret".into()),
            ..CreateSession::default()
        };
        let first = world.ask(Request::CreateSession(body, None));
        world.advance(40 * SECOND);
        if let Some(Err(problem)) = world.reply(first) {
            assert!(problem.status >= 500, "{problem:?}");
        }
        light(&world, 0);
        assert!(register(&mut world, "alice").is_ok());
        world.gateway.shut_down(world.now);
        world.gateway.handle(world.now, Input::Timeout);
        world.settle();
        assert_eq!(world.gateway.session_count(), 0);
        nothing_is_left(&world);
    }
}
