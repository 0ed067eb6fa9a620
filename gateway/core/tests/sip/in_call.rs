//! INFO, MESSAGE and NOTIFY inside a call: order, content, refusals, and what a lost call looks like.

use std::time::Duration;

use gateway_core::sip::message::Method;
use gateway_core::sip::{Content, Control, Event, SipError};

use crate::calls::nothing_left;
use crate::link::{LATENCY, World, addr, is_last};

fn digit(digit: char) -> Content {
    Content {
        content_type: "application/dtmf-relay".into(),
        body: format!("Signal={digit}\r\nDuration=160\r\n").into_bytes(),
    }
}

fn digits(world: &World, node: usize) -> String {
    let events = world.events[node].iter();
    let infos = events.filter_map(|(_, event)| match event {
        Event::Info { content, .. } => Some(char::from(content.body[7])),
        _ => None,
    });
    infos.collect()
}

#[test]
fn digits_arrive_in_their_order_whatever_is_lost() {
    for from in 0..2 {
        let mut world = World::pair();
        let (ours, theirs) = world.talk();
        let call = [ours, theirs][from];
        let mut count = 0;
        world.lose(move |_| {
            count += 1;
            count % 3 == 1
        });
        let now = world.now;
        for letter in "0123456789*#ABCD".chars() {
            world.stack(from).info(now, call, digit(letter)).unwrap();
        }
        world.run(Duration::from_secs(120));
        assert_eq!(digits(&world, 1 - from), "0123456789*#ABCD");
        let answers = world.count(from, |event| {
            matches!(
                event,
                Event::RequestAnswered {
                    method: Method::Info,
                    status: 200,
                    ..
                }
            )
        });
        assert_eq!(answers, 16);
        world.lose(|_| false);
        let now = world.now;
        world.stack(from).hang_up(now, call);
        nothing_left(&mut world);
    }
}

#[test]
fn what_the_peer_does_not_take_is_reported_and_the_call_goes_on() {
    let mut world = World::pair();
    let (ours, _) = world.talk();
    let odd = Content {
        content_type: "application/odd".into(),
        body: b"x".to_vec(),
    };
    let now = world.now;
    world.stack(0).info(now, ours, odd).unwrap();
    let status = world.until(0, |event| match event {
        Event::RequestAnswered { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 415);
    assert!(
        world
            .header(1, "415 INFO", "Accept")
            .unwrap()
            .contains("application/dtmf-relay")
    );
    assert_eq!(world.count(0, is_last), 0);
    let split = Content {
        content_type: "a/b\r\nX: y".into(),
        body: Vec::new(),
    };
    let refused = world.stack(0).info(now, ours, split);
    assert_eq!(refused, Err(SipError::BadHeader("Content-Type".into())));
}

#[test]
fn a_peer_that_has_lost_the_call_ends_it() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    world.lose(|sent| sent.from == 1);
    let now = world.now;
    world.stack(1).hang_up(now, theirs);
    world.run(Duration::from_secs(40));
    world.lose(|_| false);
    assert_eq!(world.count(0, is_last), 0, "its BYE was lost");
    let now = world.now;
    world.stack(0).info(now, ours, digit('1')).unwrap();
    world.run(LATENCY * 10);
    assert_eq!(world.times(1, "481 INFO").len(), 1);
    assert_eq!(world.count(0, is_last), 1);
    nothing_left(&mut world);
}

#[test]
fn the_number_of_waiting_requests_is_bounded_and_only_answered_calls_take_them() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    let now = world.now;
    for (node, call) in [(0, ours), (1, theirs)] {
        assert_eq!(
            world.stack(node).info(now, call, digit('1')),
            Err(SipError::WrongState)
        );
    }
    let mut world = World::pair();
    let (ours, _) = world.talk();
    let now = world.now;
    let mut sent = 0;
    while world.stack(0).info(now, ours, digit('1')).is_ok() {
        sent += 1;
        assert!(sent < 1000);
    }
    assert_eq!(sent, 65, "one under way, 64 waiting");
}

#[test]
fn a_message_inside_a_call_is_answered_by_the_application() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    let text = Content {
        content_type: "text/plain".into(),
        body: b"hello".to_vec(),
    };
    world
        .stack(0)
        .message_in_call(now, ours, text.clone())
        .unwrap();
    let (request, call, content) = world.until(1, |event| match event {
        Event::Message {
            request,
            call,
            content,
            ..
        } => Some((*request, *call, content.clone())),
        _ => None,
    });
    assert_eq!((call, content), (Some(theirs), text));
    let now = world.now;
    world.stack(1).answer_request(now, request, 200);
    world.until(0, |event| {
        let status = 200;
        let method = Method::Message;
        let wanted = Event::RequestAnswered {
            call: ours,
            method,
            status,
        };
        (*event == wanted).then_some(())
    });
}

#[test]
fn a_server_steers_the_phone_by_notify() {
    for (name, control) in [("talk", Control::Talk), ("Hold;id=1", Control::Hold)] {
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
        let text = format!(
            "NOTIFY sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKn\r\n\
             From: <sip:alice@192.0.2.1>;tag={}\r\nTo: <sip:bob@192.0.2.2>;tag={tag}\r\nCall-ID: {}\r\n\
             CSeq: 2 NOTIFY\r\nEvent: {name}\r\nContent-Length: 0\r\n\r\n",
            invite.headers.from_tag().unwrap(),
            invite.headers.call_id()
        );
        world.inject(addr(0), 1, text.as_bytes());
        let event = Event::Control {
            call: theirs,
            control,
        };
        assert_eq!(world.events[1].last().unwrap().1, event);
        assert_eq!(world.log.last().unwrap().name(), "200 NOTIFY");
    }
}
