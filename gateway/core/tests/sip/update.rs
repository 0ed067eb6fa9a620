//! UPDATE (RFC 3311): early and in an answered call, glare, and peers that do not take it.

use std::time::Duration;

use gateway_core::sip::message::{Message, Method, Request};
use gateway_core::sip::{CallHandle, Event};

use crate::calls::{answer, nothing_left, plain};
use crate::link::{LATENCY, Node, World, addr, invite, stack};

fn offered(event: &Event) -> Option<(CallHandle, Option<String>)> {
    match event {
        Event::Reinvite { call, sdp } => Some((*call, sdp.clone())),
        _ => None,
    }
}

fn update(world: &mut World, node: usize, call: CallHandle, sdp: &str) {
    let now = world.now;
    world.stack(node).update(now, call, sdp.into());
}

/// Node `to` answers the change of the other, which gets the answer.
fn change(world: &mut World, to: usize, sdp: &str) {
    let (call, _) = world.until(to, offered);
    let now = world.now;
    world
        .stack(to)
        .answer_reinvite(now, call, Ok(sdp.to_owned()));
    let got = world.until(1 - to, |event| match event {
        Event::ReinviteAnswered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(got.as_deref(), Some(sdp));
}

#[test]
fn either_side_of_an_answered_call_changes_it_without_ack() {
    for from in 0..2 {
        let mut world = World::pair();
        let (ours, theirs) = world.talk();
        let call = [ours, theirs][from];
        update(&mut world, from, call, "v=3\r\n");
        change(&mut world, 1 - from, "v=4\r\n");
        assert_eq!(world.times(from, "UPDATE").len(), 1);
        assert_eq!(world.times(1 - from, "200 UPDATE").len(), 1);
        let now = world.now;
        world.stack(from).hang_up(now, call);
        nothing_left(&mut world);
    }
}

#[test]
fn either_side_changes_an_early_session_once_its_first_offer_is_answered() {
    for from in 0..2 {
        let mut world = World::pair();
        let (ours, theirs) = world.ring();
        let call = [ours, theirs][from];
        let now = world.now;
        world.stack(1).provisional(now, theirs, 180, None);
        world.run(LATENCY * 3);
        update(&mut world, from, call, "v=3\r\n");
        world.run(Duration::from_millis(1));
        assert_eq!(world.times(from, "UPDATE").len(), 0, "no answer yet");
        assert!(
            world.events[from].last().unwrap().1 == Event::ReinviteFailed { call, status: 491 }
        );
        let now = world.now;
        world
            .stack(1)
            .provisional(now, theirs, 183, Some("v=early\r\n".into()));
        world.run(LATENCY * 5);
        update(&mut world, from, call, "v=3\r\n");
        change(&mut world, 1 - from, "v=4\r\n");
        let now = world.now;
        world.stack(1).accept(now, theirs, "v=early\r\n".into());
        world.until(1, |event| {
            matches!(event, Event::Confirmed { .. }).then_some(())
        });
        // The numbers go on: nothing is refused as out of order.
        let now = world.now;
        world.stack(from).hang_up(now, call);
        nothing_left(&mut world);
        assert_eq!(world.times(1 - from, "200 BYE").len(), 1);
    }
}

#[test]
fn an_offer_before_the_first_answer_is_refused_for_now() {
    let mut world = World::pair();
    let (_, theirs) = world.ring();
    let now = world.now;
    world.stack(1).provisional(now, theirs, 180, None);
    world.run(LATENCY * 3);
    let invite = world.request(0, "INVITE");
    let tag = world.messages(1, "180 INVITE")[0]
        .headers()
        .to_tag()
        .unwrap()
        .to_owned();
    let send = |world: &mut World, number: u32, body: &str| {
        let mut request = Request {
            method: Method::Update,
            ..invite.clone()
        };
        let headers = &mut request.headers;
        let branch = format!("z9hG4bKu{number}");
        let via = headers.get("Via").unwrap().replace("z9hG4bK", &branch);
        headers.set("Via", via);
        let to = format!("{};tag={tag}", headers.get("To").unwrap());
        headers.set("To", to);
        headers.set("CSeq", format!("{number} UPDATE"));
        request.body = body.as_bytes().to_vec();
        world.inject(addr(0), 1, &request.to_bytes());
        world.log.last().unwrap().clone()
    };
    let refusal = send(&mut world, 2, "v=3\r\n");
    assert_eq!(refusal.name(), "500 UPDATE");
    assert!(refusal.text.contains("Retry-After: "));
    // One without an offer only refreshes the target.
    let taken = send(&mut world, 3, "");
    assert_eq!(taken.name(), "200 UPDATE");
    assert!(taken.text.contains("Contact: <sip:bob@192.0.2.2:5060>"));
}

#[test]
fn offers_that_cross_are_glare() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    update(&mut world, 0, ours, "v=3\r\n");
    update(&mut world, 1, theirs, "v=30\r\n");
    world.run(LATENCY * 3);
    assert_eq!(world.times(0, "491 UPDATE").len(), 1);
    assert_eq!(world.times(1, "491 UPDATE").len(), 1);
    change(&mut world, 0, "v=31\r\n");
    change(&mut world, 1, "v=4\r\n");
}

#[test]
fn a_peer_that_does_not_take_it_gets_a_reinvite() {
    for refuses in [false, true] {
        let script = move |request: &Request| {
            let Message::Response(mut ok) = answer(request, 200, "a") else {
                unreachable!()
            };
            if request.headers.to_tag().is_some() {
                ok.headers.set("To", request.headers.get("To").unwrap());
            }
            if refuses {
                ok.headers.push("Allow", "INVITE, ACK, BYE, UPDATE");
            }
            match request.method {
                Method::Ack => Vec::new(),
                Method::Update => vec![plain(request, 501)],
                _ => vec![Message::Response(ok)],
            }
        };
        let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
        let now = world.now;
        let call = world.stack(0).invite(now, invite()).unwrap();
        world.until(0, |event| {
            matches!(event, Event::Answered { .. }).then_some(())
        });
        update(&mut world, 0, call, "v=3\r\n");
        world.until(0, |event| {
            matches!(event, Event::ReinviteAnswered { .. }).then_some(())
        });
        assert_eq!(world.times(0, "UPDATE").len(), usize::from(refuses));
        assert_eq!(world.times(0, "INVITE").len(), 2);
    }
}
