//! Transfers: blind and attended, followed and refused, their subscriptions, and calls that take another's place.

use std::time::Duration;

use gateway_core::sip::{CallHandle, Event, Invite, Refer, SipError};

use crate::calls::nothing_left;
use crate::link::{LATENCY, Node, World, addr, incoming, invite, is_last, stack};

fn blind(world: &mut World, call: CallHandle) {
    let refer = Refer {
        to: Some("sip:carol@192.0.2.3".into()),
        replaces: None,
        referred_by: Some("sip:alice@192.0.2.1".into()),
    };
    let now = world.now;
    world
        .stack(0)
        .refer(now, call, refer)
        .expect("an answered call");
}

fn asked(event: &Event) -> Option<(String, Option<String>, Option<String>)> {
    match event {
        Event::Refer {
            to,
            replaces,
            referred_by,
            ..
        } => Some((to.clone(), replaces.clone(), referred_by.clone())),
        _ => None,
    }
}

fn told(world: &World) -> Vec<(u16, bool)> {
    let events = world.events[0].iter();
    let told = events.filter_map(|(_, event)| match event {
        Event::Transfer { status, over, .. } => Some((*status, *over)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_blind_transfer_is_followed_and_its_progress_told() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    blind(&mut world, ours);
    let (to, replaces, by) = world.until(1, asked);
    assert_eq!(
        (to.as_str(), replaces, by.as_deref()),
        ("sip:carol@192.0.2.3", None, Some("sip:alice@192.0.2.1"))
    );
    let now = world.now;
    world.stack(1).answer_refer(now, theirs, Ok(()));
    world.run(LATENCY * 5);
    let now = world.now;
    world.stack(1).refer_progress(now, theirs, 180, "Ringing");
    world.run(LATENCY * 5);
    let now = world.now;
    world.stack(1).refer_progress(now, theirs, 200, "OK");
    world.run(LATENCY * 5);
    assert_eq!(
        told(&world),
        [(202, false), (100, false), (180, false), (200, true)]
    );
    let notifies = world.messages(1, "NOTIFY");
    assert_eq!(notifies.len(), 3);
    for (place, notify) in notifies.iter().enumerate() {
        let state = notify.headers().get("Subscription-State").unwrap();
        assert_eq!(state.starts_with("terminated"), place == 2, "{state}");
        assert!(notify.headers().get("Contact").is_some());
    }
    // The subscription is gone, so another transfer may begin; the call itself is still there.
    assert_eq!(world.count(0, is_last), 0);
    blind(&mut world, ours);
    world.run(LATENCY * 5);
    assert_eq!(world.count(1, |event| asked(event).is_some()), 2);
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    nothing_left(&mut world);
}

#[test]
fn a_refused_transfer_and_one_under_way_say_so() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    blind(&mut world, ours);
    let again = Refer {
        to: Some("sip:x@192.0.2.3".into()),
        ..Refer::default()
    };
    let now = world.now;
    assert_eq!(
        world.stack(0).refer(now, ours, again.clone()),
        Err(SipError::Busy)
    );
    world.until(1, asked);
    let now = world.now;
    world.stack(1).answer_refer(now, theirs, Err(603));
    world.run(LATENCY * 5);
    assert_eq!(told(&world), [(603, true)]);
    let bad = Refer {
        to: Some("tel:123".into()),
        ..again
    };
    let refused = world.stack(0).refer(now, ours, bad);
    assert_eq!(refused, Err(SipError::BadUri("tel:123".into())));
}

#[test]
fn a_transfer_without_word_ends_by_its_timers() {
    // Nobody decides, and the request runs out.
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    blind(&mut world, ours);
    world.run(Duration::from_secs(70));
    assert_eq!(told(&world), [(408, true)]);
    // Too late: nothing is sent.
    let now = world.now;
    world.stack(1).answer_refer(now, theirs, Ok(()));
    world.run(LATENCY);
    assert_eq!(world.times(1, "202 REFER").len(), 0);

    // Accepted, and then nothing: the notifier ends the subscription.
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    blind(&mut world, ours);
    world.until(1, asked);
    let now = world.now;
    world.stack(1).answer_refer(now, theirs, Ok(()));
    world.run(Duration::from_secs(200));
    assert_eq!(told(&world), [(202, false), (100, false), (408, true)]);

    // Accepted, and the notifier is gone.
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    blind(&mut world, ours);
    world.until(1, asked);
    let now = world.now;
    world.stack(1).answer_refer(now, theirs, Ok(()));
    world.lose(|sent| sent.name() == "NOTIFY");
    let begin = world.ms();
    world.run(Duration::from_secs(100));
    assert_eq!(told(&world), [(202, false), (408, true)]);
    let at = world.events[0].last().unwrap().0 - begin;
    assert!((32_000..33_000).contains(&at), "{at}");
}

#[test]
fn an_attended_transfer_takes_the_place_of_the_other_call() {
    // Alice (0) talks to Bob (1) and to Carol (2), then connects the two.
    let mut world = World::new(vec![stack(0), stack(1), stack(2)]);
    let (bob, at_bob) = world.talk();
    let now = world.now;
    let to_carol = Invite {
        to: "sip:carol@192.0.2.3".into(),
        ..invite()
    };
    let carol = world.stack(0).invite(now, to_carol).unwrap();
    let at_carol = world.until(2, incoming);
    let now = world.now;
    world.stack(2).accept(now, at_carol, "v=carol\r\n".into());
    world.until(2, |event| {
        matches!(event, Event::Confirmed { .. }).then_some(())
    });
    let now = world.now;
    let refer = Refer {
        to: None,
        replaces: Some(carol),
        referred_by: None,
    };
    world.stack(0).refer(now, bob, refer).unwrap();
    let (to, replaces, _) = world.until(1, asked);
    assert_eq!(to, "sip:carol@192.0.2.3:5060");
    let now = world.now;
    world.stack(1).answer_refer(now, at_bob, Ok(()));
    let with_replaces = Invite {
        to,
        from: "sip:bob@192.0.2.2".into(),
        headers: vec![("Replaces".into(), replaces.unwrap())],
        ..invite()
    };
    world.stack(1).invite(now, with_replaces).unwrap();
    let (new, replaced) = world.until(2, |event| match event {
        Event::Incoming {
            call,
            replaces: Some(replaces),
            ..
        } => Some((*call, *replaces)),
        _ => None,
    });
    assert_eq!(replaced, at_carol);
    let now = world.now;
    world.stack(2).accept(now, new, "v=carol2\r\n".into());
    world.run(Duration::from_secs(1));
    // Carol's first call is ended towards Alice, and Bob tells her that the transfer worked.
    assert_eq!(world.times(2, "BYE").len(), 1);
    let ended = world.count(
        0,
        |event| matches!(event, Event::Ended { call, by_peer: true, .. } if *call == carol),
    );
    assert_eq!(ended, 1);
    let now = world.now;
    world.stack(1).refer_progress(now, at_bob, 200, "OK");
    world.run(Duration::from_secs(1));
    assert_eq!(told(&world).last(), Some(&(200, true)));
    let now = world.now;
    world.stack(0).hang_up(now, bob);
    world.stack(2).hang_up(now, new);
    nothing_left(&mut world);
}

/// An INVITE with that Replaces to Bob, who talks to Alice: the status that it gets.
fn replacing(early: bool, value: impl Fn(&str, &str, &str) -> String) -> (String, World) {
    let mut world = World::pair();
    let (_, theirs) = if early { world.ring() } else { world.talk() };
    if early {
        let now = world.now;
        world.stack(1).provisional(now, theirs, 180, None);
        world.run(LATENCY * 2);
    }
    let sent = world.request(0, "INVITE");
    let name = if early { "180 INVITE" } else { "200 INVITE" };
    let bob = world.messages(1, name)[0]
        .headers()
        .to_tag()
        .expect("Bob's tag")
        .to_owned();
    let alice = sent.headers.from_tag().expect("Alice's tag");
    let value = value(sent.headers.call_id(), &bob, alice);
    let text = format!(
        "INVITE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKr\r\n\
         From: <sip:carol@192.0.2.3>;tag=c\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: other\r\nCSeq: 1 INVITE\r\n\
         Require: replaces\r\nReplaces: {value}\r\nContact: <sip:carol@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
    );
    world.inject(addr(0), 1, text.as_bytes());
    (world.log.last().expect("an answer").name(), world)
}

#[test]
fn only_a_call_that_is_there_can_be_replaced() {
    type Value = fn(&str, &str, &str) -> String;
    let right: Value = |id, to, from| format!("{id};to-tag={to};from-tag={from}");
    let rows: [(bool, Value, &str); 7] = [
        (false, right, "100 INVITE"),
        (true, right, "481 INVITE"),
        (
            false,
            |id, to, from| format!("{id};early-only;to-tag={to};from-tag={from}"),
            "486 INVITE",
        ),
        (
            false,
            |id, to, from| format!("{id};to-tag={from};from-tag={to}"),
            "481 INVITE",
        ),
        (
            false,
            |id, to, _| format!("{id};to-tag={to};from-tag=x"),
            "481 INVITE",
        ),
        (
            false,
            |_, to, from| format!("nothing;to-tag={to};from-tag={from}"),
            "481 INVITE",
        ),
        (false, |id, _, _| id.to_owned(), "400 INVITE"),
    ];
    for (early, value, status) in rows {
        assert_eq!(replacing(early, value).0, status);
    }
    // A call that is refused leaves the old one as it was.
    let (_, mut world) = replacing(false, right);
    let new = world.until(1, |event| match event {
        Event::Incoming {
            call,
            replaces: Some(_),
            ..
        } => Some(*call),
        _ => None,
    });
    let now = world.now;
    world.stack(1).reject(now, new, 486, "");
    world.run(LATENCY);
    assert_eq!(world.times(1, "BYE").len(), 0);
}

#[test]
fn a_notify_with_anything_in_it_breaks_nothing() {
    let silent = Node::Script(Box::new(|_| Vec::new()));
    let mut world = World::new(vec![stack(0), stack(1), silent]);
    let (ours, _) = world.talk();
    blind(&mut world, ours);
    world.run(LATENCY * 3);
    let refer = world.request(0, "REFER");
    let (ours_tag, theirs_tag) = (
        refer.headers.from_tag().unwrap().to_owned(),
        refer.headers.to_tag().unwrap().to_owned(),
    );
    let mut number = 10;
    for (state, kind, body) in [
        ("active;expires=nonsense", "message/sipfrag", "SIP/2.0"),
        ("", "text/plain", "SIP/2.0 200 OK"),
        (
            "active",
            "message/sipfrag;version=2.0",
            "SIP/2.0 999999 No\r\n",
        ),
        ("active;expires=4294967295", "message/sipfrag", "\u{0}"),
        ("active", "message/sipfrag", "SIP/2.0 183"),
    ] {
        number += 1;
        let text = format!(
            "NOTIFY sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK{number}\r\n\
             From: <sip:bob@192.0.2.2>;tag={theirs_tag}\r\nTo: <sip:alice@192.0.2.1>;tag={ours_tag}\r\n\
             Call-ID: {}\r\nCSeq: {number} NOTIFY\r\nEvent: refer\r\nSubscription-State: {state}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            refer.headers.call_id(),
            body.len()
        );
        world.inject(addr(1), 0, text.as_bytes());
        assert_eq!(world.log.last().unwrap().name(), "200 NOTIFY", "{body}");
    }
    assert_eq!(told(&world), [(183, false)]);
}
