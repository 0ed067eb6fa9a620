//! Calls on a bad link: every message lost in turn, then random loss, duplication and reordering by seed.

use std::time::Duration;

use gateway_core::sip::{CallHandle, Event};

use crate::calls::nothing_left;
use crate::link::{LATENCY, World, incoming, is_last, seeded};

/// A whole call: ring, 180, answer, re-INVITE, hang up. Whether it was answered at both ends.
fn whole_call(world: &mut World) -> bool {
    let now = world.now;
    let ours = world
        .stack(0)
        .invite(now, crate::link::invite())
        .expect("a good URI");
    world.run(Duration::from_secs(4));
    let Some(theirs) = world.events[1]
        .iter()
        .find_map(|(_, event)| incoming(event))
    else {
        world.settle();
        return false;
    };
    let now = world.now;
    world.stack(1).provisional(now, theirs, 180, None);
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.run(Duration::from_secs(20));
    change(world, theirs);
    world.run(Duration::from_secs(20));
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.settle();
    let answered = world.count(0, |event| matches!(event, Event::Answered { .. })) == 1;
    answered && world.count(1, |event| matches!(event, Event::Confirmed { .. })) == 1
}

/// Bob's side changes the session, Alice's agrees.
fn change(world: &mut World, theirs: CallHandle) {
    let now = world.now;
    world.stack(1).reinvite(now, theirs, "v=1\r\n".into());
    world.run(Duration::from_secs(15));
    let offered = world.events[0].iter().find_map(|(_, event)| match event {
        Event::Reinvite { call, .. } => Some(*call),
        _ => None,
    });
    if let Some(call) = offered {
        let now = world.now;
        world
            .stack(0)
            .answer_reinvite(now, call, Ok("v=2\r\n".into()));
    }
}

fn one_end_each(world: &mut World, what: &str) {
    for node in 0..2 {
        assert_eq!(
            world.count(node, is_last),
            1,
            "{what}, node {node}: {:#?} {:#?}",
            world.events,
            world.names_sent()
        );
    }
    nothing_left(world);
}

#[test]
fn a_call_survives_the_loss_of_every_message_in_turn() {
    let mut clean = World::pair();
    assert!(whole_call(&mut clean));
    let messages = clean.log.len();
    assert!(messages >= 11, "{:?}", clean.names_sent());
    for lost in 0..messages {
        let mut world = World::pair();
        let mut count = 0;
        world.lose(move |_| {
            count += 1;
            count == lost + 1
        });
        assert!(
            whole_call(&mut world),
            "message {lost} lost: {:#?}",
            world.names_sent()
        );
        assert_eq!(
            world.count(1, |event| matches!(event, Event::ReinviteAnswered { .. })),
            1,
            "message {lost} lost"
        );
        one_end_each(&mut world, &format!("message {lost} lost"));
    }
}

#[test]
fn a_call_survives_the_repetition_of_every_message() {
    for doubled in 0..11 {
        let mut world = World::pair();
        let mut twice = World::pair();
        // The link cannot duplicate, but a late copy is the same as one injected by hand.
        whole_call(&mut twice);
        let Some(sent) = twice.log.get(doubled).cloned() else {
            break;
        };
        let at = Duration::from_millis(sent.ms) + LATENCY * 3;
        let (from, to) = (crate::link::addr(sent.from), sent.to);
        let bytes = sent.text.into_bytes();
        world.later(at, from, to, bytes);
        assert!(
            whole_call(&mut world),
            "copy of {doubled}: {:#?}",
            world.names_sent()
        );
        one_end_each(&mut world, &format!("copy of message {doubled}"));
    }
}

#[test]
fn a_lossy_reordering_link_never_leaves_a_call_behind() {
    let mut answered = 0;
    for seed in 1..=150 {
        let mut world = World::pair();
        let mut random = seeded(seed);
        world.fate = Box::new(move |_| {
            let draw = random.u32();
            // A quarter is lost, the rest takes up to 400 ms and so overtakes.
            (!draw.is_multiple_of(4)).then(|| Duration::from_millis(u64::from(draw >> 8) % 400))
        });
        answered += usize::from(whole_call(&mut world));
        for node in 0..2 {
            let begun = if node == 0 {
                1
            } else {
                world.count(1, |event| incoming(event).is_some())
            };
            assert_eq!(
                world.count(node, is_last),
                begun,
                "seed {seed}: {:#?} {:#?}",
                world.events,
                world.names_sent()
            );
        }
        nothing_left(&mut world);
    }
    assert!(answered > 130, "{answered} of 150 calls were answered");
}
