//! Forked calls: several early dialogs, the first answer wins, and each description stays with its dialog.

use std::time::Duration;

use gateway_core::sip::message::Message;
use gateway_core::sip::{CallHandle, Event};

use crate::calls::answer;
use crate::link::{LATENCY, Node, World, addr, invite, is_last, stack};

fn world() -> (World, CallHandle) {
    let silent = Node::Script(Box::new(|_| Vec::new()));
    let mut world = World::new(vec![stack(0), silent]);
    let now = world.now;
    let call = world.stack(0).invite(now, invite()).expect("a good URI");
    world.run(LATENCY * 2);
    (world, call)
}

fn respond(world: &mut World, status: u16, tag: &str, contact: &str, sdp: &str) {
    let Message::Response(mut response) = answer(&world.request(0, "INVITE"), status, tag) else {
        unreachable!()
    };
    response.headers.set("Contact", contact);
    response.body = sdp.as_bytes().to_vec();
    if sdp.is_empty() {
        response.headers.remove("Content-Type");
    }
    world.inject(addr(1), 0, &response.to_bytes());
}

#[test]
fn early_media_stays_with_its_dialog_and_the_answer_is_that_of_the_winner() {
    let (mut world, call) = world();
    respond(&mut world, 183, "a", "<sip:a@192.0.2.2>", "v=a\r\n");
    respond(&mut world, 183, "b", "<sip:b@192.0.2.2>", "v=b\r\n");
    // The winner's 200 says nothing new: what its own 183 said holds, not the other's.
    respond(&mut world, 200, "a", "<sip:a2@192.0.2.2>", "");
    let answered = Event::Answered {
        call,
        fork: 0,
        sdp: Some("v=a\r\n".into()),
    };
    assert_eq!(world.events[0].last().unwrap().1, answered);
    let ack = world.request(0, "ACK");
    assert_eq!(
        (ack.uri.as_str(), ack.headers.to_tag()),
        ("sip:a2@192.0.2.2", Some("a"))
    );
    // The other answers a little later: ACK and BYE go to it, and the call goes on.
    respond(&mut world, 200, "b", "<sip:b@192.0.2.2>", "v=b\r\n");
    world.run(Duration::from_millis(1));
    let (ack, bye) = (world.request(0, "ACK"), world.request(0, "BYE"));
    assert_eq!(
        (ack.uri.as_str(), bye.uri.as_str()),
        ("sip:b@192.0.2.2", "sip:b@192.0.2.2")
    );
    assert_eq!(
        (ack.headers.to_tag(), bye.headers.to_tag()),
        (Some("b"), Some("b"))
    );
    assert_eq!(world.count(0, is_last), 0);
}

#[test]
fn a_fork_that_ended_takes_no_more_requests() {
    let (mut world, _) = world();
    respond(&mut world, 180, "a", "<sip:a@192.0.2.2>", "");
    respond(&mut world, 180, "b", "<sip:b@192.0.2.2>", "");
    respond(&mut world, 199, "a", "<sip:a@192.0.2.2>", "");
    let from_tag = world.request(0, "INVITE");
    let info = |world: &mut World, tag: &str| {
        let text = format!(
            "OPTIONS sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{tag}\r\n\
             From: <sip:bob@192.0.2.2>;tag={tag}\r\nTo: <sip:alice@192.0.2.1>;tag={}\r\nCall-ID: {}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            from_tag.headers.from_tag().unwrap(),
            from_tag.headers.call_id()
        );
        world.inject(addr(1), 0, text.as_bytes());
        world.log.last().unwrap().name()
    };
    assert_eq!(info(&mut world, "a"), "481 OPTIONS");
    assert_eq!(info(&mut world, "b"), "200 OPTIONS");
    let rings = world.count(0, |event| matches!(event, Event::Provisional { .. }));
    assert_eq!(rings, 2, "199 is nothing to ring for");
}

#[test]
fn the_place_of_a_fork_that_still_rings_can_be_taken() {
    let (mut world, call) = world();
    respond(&mut world, 180, "a", "<sip:a@192.0.2.2>", "");
    respond(&mut world, 180, "b", "<sip:b@192.0.2.2>", "");
    respond(&mut world, 199, "a", "<sip:a@192.0.2.2>", "");
    let ours = world.request(0, "INVITE");
    let pick_up = |world: &mut World, tag: &str| {
        let text = format!(
            "INVITE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKp{tag}\r\n\
             From: <sip:dave@192.0.2.2>;tag=d{tag}\r\nTo: <sip:alice@192.0.2.1>\r\nCall-ID: {tag}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:dave@192.0.2.2>\r\nReplaces: {};to-tag={};from-tag={tag}\r\n\
             Content-Length: 0\r\n\r\n",
            ours.headers.call_id(),
            ours.headers.from_tag().unwrap(),
        );
        world.inject(addr(1), 0, text.as_bytes());
        world.log.last().unwrap().name()
    };
    assert_eq!(pick_up(&mut world, "a"), "481 INVITE");
    assert_eq!(pick_up(&mut world, "b"), "100 INVITE");
    let dave = world.until(0, |event| match event {
        Event::Incoming {
            call: dave,
            replaces: Some(replaced),
            ..
        } if *replaced == call => Some(*dave),
        _ => None,
    });
    let now = world.now;
    world.stack(0).accept(now, dave, "v=x\r\n".into());
    world.run(Duration::from_millis(1));
    let cancel = world.request(0, "CANCEL");
    assert_eq!(cancel.headers.call_id(), ours.headers.call_id());
    let reason = cancel.headers.get("Reason").unwrap_or_default();
    assert!(reason.contains("cause=200"), "{reason}");
    assert_eq!(pick_up(&mut world, "b2"), "481 INVITE");
}

#[test]
fn more_forks_than_are_kept_still_ring() {
    let (mut world, _) = world();
    for fork in 0..100 {
        respond(
            &mut world,
            180,
            &format!("t{fork}"),
            "<sip:a@192.0.2.2>",
            "",
        );
    }
    let rings = world.count(0, |event| matches!(event, Event::Provisional { .. }));
    assert_eq!(rings, 100);
    respond(&mut world, 200, "t99", "<sip:a@192.0.2.2>", "v=x\r\n");
    assert_eq!(
        world.count(0, |event| matches!(event, Event::Answered { .. })),
        1
    );
    assert_eq!(world.request(0, "ACK").headers.to_tag(), Some("t99"));
}
