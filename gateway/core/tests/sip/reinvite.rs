//! Changes of a session: both directions, refusal, glare, and the peer that has forgotten the call.

use std::time::Duration;

use gateway_core::sip::{CallHandle, Event};

use crate::calls::nothing_left;
use crate::link::{LATENCY, World, is_last};

fn offered(event: &Event) -> Option<(CallHandle, Option<String>)> {
    match event {
        Event::Reinvite { call, sdp } => Some((*call, sdp.clone())),
        _ => None,
    }
}

#[test]
fn either_side_can_change_the_session() {
    for from in 0..2 {
        let mut world = World::pair();
        let (ours, theirs) = world.talk();
        let (handle, other) = if from == 0 {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        let now = world.now;
        world.stack(from).reinvite(now, handle, "v=3\r\n".into());
        let got = world.until(1 - from, offered);
        assert_eq!(got, (other, Some("v=3\r\n".into())));
        let now = world.now;
        world
            .stack(1 - from)
            .answer_reinvite(now, other, Ok("v=4\r\n".into()));
        let answer = world.until(from, |event| match event {
            Event::ReinviteAnswered { sdp, .. } => Some(sdp.clone()),
            _ => None,
        });
        assert_eq!(answer.as_deref(), Some("v=4\r\n"));
        world.run(Duration::from_secs(40));
        assert_eq!(
            world.count(0, is_last) + world.count(1, is_last),
            0,
            "the call goes on"
        );
        let now = world.now;
        world.stack(0).hang_up(now, ours);
        nothing_left(&mut world);
    }
}

#[test]
fn a_refused_change_leaves_the_call_as_it_was() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.until(1, offered);
    let now = world.now;
    world.stack(1).answer_reinvite(now, theirs, Err(488));
    world.settle();
    assert_eq!(
        world.events[0].last().unwrap().1,
        Event::ReinviteFailed {
            call: ours,
            status: 488
        }
    );
    assert_eq!(world.count(1, is_last), 0);
    let now = world.now;
    world.stack(1).hang_up(now, theirs);
    nothing_left(&mut world);
}

#[test]
fn glare_is_resolved_by_the_waiting_times_of_the_rfc() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let (now, begin) = (world.now, world.ms());
    world.stack(0).reinvite(now, ours, "v=a\r\n".into());
    world.stack(1).reinvite(now, theirs, "v=b\r\n".into());
    // Bob (not the caller) is first again, within 2 s; Alice answers; then Alice's comes after 2.1 to 4 s.
    let call = world.until(0, offered).0;
    let bobs = world.ms() - begin;
    let now = world.now;
    world
        .stack(0)
        .answer_reinvite(now, call, Ok("v=b2\r\n".into()));
    let call = world.until(1, offered).0;
    let alices = world.ms() - begin;
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, call, Ok("v=a2\r\n".into()));
    world.until(0, |event| {
        matches!(event, Event::ReinviteAnswered { .. }).then_some(())
    });
    assert!(bobs <= 2000 + 50, "{bobs}");
    assert!((2100..=4000 + 50).contains(&alices), "{alices}");
    assert_eq!(
        world.times(0, "491 INVITE").len() + world.times(1, "491 INVITE").len(),
        2
    );
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    nothing_left(&mut world);
}

#[test]
fn hanging_up_while_a_change_is_open_ends_both() {
    for (from, who) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::pair();
        let (ours, theirs) = world.talk();
        let handles = [ours, theirs];
        let now = world.now;
        world
            .stack(from)
            .reinvite(now, handles[from], "v=3\r\n".into());
        world.until(1 - from, offered);
        let now = world.now;
        world.stack(who).hang_up(now, handles[who]);
        world.settle();
        for node in 0..2 {
            assert_eq!(world.count(node, is_last), 1, "{from} {who}");
        }
        nothing_left(&mut world);
    }
}

#[test]
fn a_change_whose_ack_is_lost_ends_the_call_only_after_64_t1() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    world.lose(|sent| sent.name() == "ACK");
    let now = world.now;
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.until(1, offered);
    let (now, begin) = (world.now, world.ms());
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=4\r\n".into()));
    world.settle();
    assert_eq!(world.times(1, "BYE"), [begin + 32_000]);
    assert_eq!(
        world.count(1, |event| matches!(event, Event::Confirmed { .. })),
        1,
        "only that of the call itself"
    );
    nothing_left(&mut world);
}

#[test]
fn a_peer_that_does_not_answer_or_does_not_know_the_call_ends_it() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    world.lose(|sent| sent.from == 0);
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.run(Duration::from_secs(100));
    assert!(matches!(
        &world.events[0].last().unwrap().1,
        Event::Ended { by_peer: false, .. }
    ));
    // Bob never heard of any of it; his own BYE finds nobody.
    world.lose(|_| false);
    let now = world.now;
    world.stack(1).hang_up(now, theirs);
    world.run(LATENCY * 3);
    assert_eq!(world.times(0, "481 BYE").len(), 1);
    assert_eq!(world.count(1, is_last), 1);
    nothing_left(&mut world);
}

#[test]
fn a_second_change_while_the_first_is_open_is_refused_for_now() {
    let mut world = World::pair();
    let (ours, _) = world.talk();
    let now = world.now;
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.until(1, offered);
    let first = world
        .log
        .iter()
        .rev()
        .find(|sent| sent.name() == "INVITE")
        .unwrap()
        .text
        .clone();
    let second = first
        .replace("CSeq: 2 INVITE", "CSeq: 3 INVITE")
        .replace("branch=z9hG4bK", "branch=z9hG4bKx");
    world.inject(crate::link::addr(0), 1, second.as_bytes());
    let refusal = world.log.last().unwrap();
    assert_eq!(refusal.name(), "500 INVITE");
    assert!(refusal.text.contains("Retry-After: "));
    // Out of order: lower than what was seen.
    let old = first
        .replace("CSeq: 2 INVITE", "CSeq: 1 INVITE")
        .replace("branch=z9hG4bK", "branch=z9hG4bKy");
    world.inject(crate::link::addr(0), 1, old.as_bytes());
    assert_eq!(world.log.last().unwrap().name(), "500 INVITE");
}

#[test]
fn a_change_without_offer_gets_ours_and_the_answer_comes_in_the_ack() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.until(1, offered);
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=4\r\n".into()));
    world.run(Duration::from_secs(1));
    let sent = |name: &str, world: &World| {
        world
            .log
            .iter()
            .rev()
            .find(|sent| sent.from == 0 && sent.name() == name)
            .unwrap()
            .text
            .clone()
    };
    let head = |text: &str| {
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let kept: Vec<&str> = head
            .lines()
            .filter(|line| !line.starts_with("Content-"))
            .collect();
        kept.join("\r\n")
            .replace("CSeq: 2", "CSeq: 3")
            .replace("branch=z9hG4bK", "branch=z9hG4bKx")
    };
    let invite = format!("{}\r\n\r\n", head(&sent("INVITE", &world)));
    world.inject(crate::link::addr(0), 1, invite.as_bytes());
    assert_eq!(
        world.events[1].last().unwrap().1,
        Event::Reinvite {
            call: theirs,
            sdp: None
        }
    );
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=5\r\n".into()));
    world.run(Duration::from_millis(1));
    // While our offer is open, another change is glare.
    let other = invite
        .replace("CSeq: 3", "CSeq: 4")
        .replace("z9hG4bKx", "z9hG4bKy");
    world.inject(crate::link::addr(0), 1, other.as_bytes());
    assert_eq!(world.log.last().unwrap().name(), "491 INVITE");
    let ack = format!(
        "{}\r\nContent-Type: application/sdp\r\n\r\nv=6\r\n",
        head(&sent("ACK", &world))
    );
    world.inject(crate::link::addr(0), 1, ack.as_bytes());
    let confirmed = Event::Confirmed {
        call: theirs,
        sdp: Some("v=6\r\n".into()),
    };
    assert_eq!(world.events[1].last().unwrap().1, confirmed);
}

#[test]
fn a_change_taken_back_by_cancel_leaves_the_call_as_it_was() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    world.stack(0).reinvite(now, ours, "v=3\r\n".into());
    world.until(1, offered);
    let invite = world
        .log
        .iter()
        .rev()
        .find(|sent| sent.name() == "INVITE")
        .unwrap()
        .text
        .clone();
    let cancel = invite
        .replace("INVITE", "CANCEL")
        .split("Content-")
        .next()
        .unwrap()
        .to_owned()
        + "\r\n";
    world.inject(crate::link::addr(0), 1, cancel.as_bytes());
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.events[0].last().unwrap().1,
        Event::ReinviteFailed {
            call: ours,
            status: 487
        }
    );
    // Too late: nothing is sent, and the call can be changed again.
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=4\r\n".into()));
    world.stack(0).reinvite(now, ours, "v=5\r\n".into());
    world.run(Duration::from_millis(100));
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=6\r\n".into()));
    world.until(0, |event| {
        matches!(event, Event::ReinviteAnswered { sdp: Some(sdp), .. } if sdp == "v=6\r\n")
            .then_some(())
    });
    let now = world.now;
    world.stack(1).hang_up(now, theirs);
    nothing_left(&mut world);
}
