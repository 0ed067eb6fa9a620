//! Calls and changes without an offer: the peer offers, the ACK answers; and peers that get it wrong.

use std::time::Duration;

use gateway_core::sip::{CallHandle, Event, Invite};

use crate::calls::nothing_left;
use crate::link::{LATENCY, World, incoming, invite, is_last};

fn ask(world: &mut World) -> (CallHandle, CallHandle) {
    let now = world.now;
    let without = Invite {
        sdp: None,
        ..invite()
    };
    let ours = world.stack(0).invite(now, without).expect("a good URI");
    let theirs = world.until(1, incoming);
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=offer\r\n".into());
    (ours, theirs)
}

fn offered(event: &Event) -> Option<String> {
    match event {
        Event::Offered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    }
}

#[test]
fn the_ack_waits_for_the_answer_and_carries_it() {
    let mut world = World::pair();
    let (ours, theirs) = ask(&mut world);
    assert_eq!(world.until(0, offered), "v=offer\r\n");
    world.run(Duration::from_secs(3));
    assert_eq!(world.times(0, "ACK").len(), 0);
    assert!(world.times(1, "200 INVITE").len() > 2, "it is repeated");
    let now = world.now;
    world
        .stack(0)
        .answer_offer(now, ours, 0, Ok("v=answer\r\n".into()));
    let confirmed = world.until(1, |event| match event {
        Event::Confirmed { call, sdp } if *call == theirs => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(confirmed.as_deref(), Some("v=answer\r\n"));
    let answered = Event::Answered {
        call: ours,
        fork: 0,
        sdp: None,
    };
    assert_eq!(world.events[0].last().unwrap().1, answered);
    world.run(Duration::from_secs(40));
    assert_eq!(world.count(0, |event| *event == answered), 1);
    let now = world.now;
    world.stack(1).hang_up(now, theirs);
    nothing_left(&mut world);
}

#[test]
fn a_lost_ack_is_sent_again_with_the_answer() {
    let mut world = World::pair();
    let mut lost = 0;
    world.lose(move |sent| {
        lost += u32::from(sent.name() == "ACK");
        sent.name() == "ACK" && lost == 1
    });
    let (ours, _) = ask(&mut world);
    world.until(0, offered);
    let now = world.now;
    world
        .stack(0)
        .answer_offer(now, ours, 0, Ok("v=answer\r\n".into()));
    world.until(1, |event| {
        matches!(event, Event::Confirmed { sdp: Some(sdp), .. } if sdp == "v=answer\r\n")
            .then_some(())
    });
    assert_eq!(world.times(0, "ACK").len(), 2);
}

#[test]
fn what_cannot_be_answered_is_acknowledged_and_hung_up() {
    for how in ["refuse", "silence", "hang up"] {
        let mut world = World::pair();
        let (ours, _) = ask(&mut world);
        world.until(0, offered);
        let now = world.now;
        match how {
            "refuse" => world.stack(0).answer_offer(now, ours, 0, Err(488)),
            "hang up" => world.stack(0).hang_up(now, ours),
            _ => {}
        }
        world.run(Duration::from_secs(20));
        assert!(!world.times(0, "ACK").is_empty(), "{how}");
        assert_eq!(world.times(0, "BYE").len(), 1, "{how}");
        for node in 0..2 {
            assert_eq!(world.count(node, is_last), 1, "{how}");
        }
        nothing_left(&mut world);
    }
}

#[test]
fn either_side_asks_for_a_new_offer() {
    for from in 0..2 {
        let mut world = World::pair();
        let (ours, theirs) = world.talk();
        let calls = [ours, theirs];
        let now = world.now;
        world.stack(from).request_offer(now, calls[from]);
        let other = 1 - from;
        world.until(other, |event| {
            matches!(event, Event::Reinvite { sdp: None, .. }).then_some(())
        });
        let now = world.now;
        world
            .stack(other)
            .answer_reinvite(now, calls[other], Ok("v=offer\r\n".into()));
        assert_eq!(world.until(from, offered), "v=offer\r\n");
        // While it is open, a change of the other side is glare.
        let now = world.now;
        world
            .stack(from)
            .answer_offer(now, calls[from], 0, Ok("v=answer\r\n".into()));
        let confirmed = world.until(other, |event| match event {
            Event::Confirmed { sdp: Some(sdp), .. } => Some(sdp.clone()),
            _ => None,
        });
        assert_eq!(confirmed, "v=answer\r\n");
        let event = Event::ReinviteAnswered {
            call: calls[from],
            sdp: None,
        };
        assert_eq!(world.events[from].last().unwrap().1, event);
        world.run(LATENCY);
        let now = world.now;
        world.stack(from).hang_up(now, calls[from]);
        nothing_left(&mut world);
    }
}
