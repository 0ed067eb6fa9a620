//! Scenarios of calls between two stacks.

use std::time::Duration;

use gateway_core::sip::message::{Message, parse, response_to};
use gateway_core::sip::{Event, Stack, Transport};

use crate::link::{LATENCY, Node, World, addr, incoming, invite, is_last, stack};

#[test]
fn a_call_is_set_up_answered_and_hung_up() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    let incoming = &world.events[1][0].1;
    let Event::Incoming {
        contact_user,
        from_uri,
        from_name,
        to_uri,
        sdp,
        headers,
        ..
    } = incoming
    else {
        panic!("{incoming:?}")
    };
    assert_eq!(
        (contact_user.as_str(), from_uri.as_str()),
        ("bob", "sip:alice@192.0.2.1")
    );
    assert_eq!(
        (from_name.as_deref(), to_uri.as_str()),
        (Some("Alice \"A\""), "sip:bob@192.0.2.2")
    );
    assert_eq!(sdp.as_deref(), Some("v=0\r\no=offer\r\n"));
    assert!(headers.contains(&("X-Ticket".into(), "42".into())));
    let now = world.now;
    world.stack(1).provisional(now, theirs, 180, None);
    world.until(0, |event| {
        matches!(
            event,
            Event::Provisional {
                status: 180,
                sdp: None,
                ..
            }
        )
        .then_some(())
    });
    let now = world.now;
    world
        .stack(1)
        .provisional(now, theirs, 183, Some("v=0\r\no=early\r\n".into()));
    world.until(0, |event| {
        matches!(
            event,
            Event::Provisional {
                status: 183,
                sdp: Some(_),
                ..
            }
        )
        .then_some(())
    });
    let now = world.now;
    world
        .stack(1)
        .accept(now, theirs, "v=0\r\no=answer\r\n".into());
    let answer = world.until(0, |event| match event {
        Event::Answered { call, sdp } if *call == ours => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(answer.as_deref(), Some("v=0\r\no=answer\r\n"));
    world.until(1, |event| {
        matches!(event, Event::Confirmed { sdp: None, .. }).then_some(())
    });
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.settle();
    assert!(matches!(
        &world.events[0].last().unwrap().1,
        Event::Ended { by_peer: false, .. }
    ));
    assert!(matches!(
        &world.events[1].last().unwrap().1,
        Event::Ended { by_peer: true, .. }
    ));
    let names: Vec<String> = world
        .log
        .iter()
        .map(|sent| format!("{} {}", sent.from, sent.name()))
        .collect();
    assert_eq!(
        names,
        [
            "0 INVITE",
            "1 100 INVITE",
            "1 180 INVITE",
            "1 183 INVITE",
            "1 200 INVITE",
            "0 ACK",
            "0 BYE",
            "1 200 BYE"
        ]
    );
    nothing_left(&mut world);
}

fn nothing_left(world: &mut World) {
    for node in 0..world.nodes.len() {
        if let Node::Stack(stack) = &world.nodes[node] {
            let left = |stack: &Stack| (stack.calls(), stack.transactions(), stack.poll_timeout());
            assert_eq!(left(stack), (0, 0, None), "node {node}");
        }
        let last = world.count(node, is_last);
        let begun = world.count(node, |event| incoming(event).is_some());
        assert!(last >= begun, "every incoming call has one last event");
    }
}
