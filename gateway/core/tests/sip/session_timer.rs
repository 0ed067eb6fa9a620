//! Session timers (RFC 4028): who refreshes, how, 422, and what ends a call whose peer has vanished.

use std::time::Duration;

use gateway_core::sip::message::{Message, Method, Request};
use gateway_core::sip::{Config, Event};

use crate::calls::{answer, nothing_left};
use crate::link::{Node, World, addr, config, incoming, invite, is_last, stack, stack_with};

const HOUR: Duration = Duration::from_secs(3600);

fn with(node: usize, session_expires: Option<u64>, min: u64) -> Node {
    stack_with(
        node,
        Config {
            session_expires: session_expires.map(Duration::from_secs),
            min_session_expires: Duration::from_secs(min),
            ..config(node)
        },
    )
}

/// A peer that grants `fields` and takes UPDATE or not.
fn grants(fields: &'static [(&'static str, &'static str)]) -> Node {
    Node::Script(Box::new(move |request: &Request| {
        let Message::Response(mut ok) = answer(request, 200, "a") else {
            unreachable!()
        };
        if request.headers.to_tag().is_some() {
            ok.headers
                .set("To", request.headers.get("To").expect("parsed"));
        }
        if request.method == Method::Update {
            ok.headers.remove("Content-Type");
            ok.body.clear();
        }
        for (name, value) in fields {
            ok.headers.push(name, *value);
        }
        let silent = request.method == Method::Ack;
        if silent {
            Vec::new()
        } else {
            vec![Message::Response(ok)]
        }
    }))
}

#[test]
fn the_caller_refreshes_at_half_the_interval_for_hours() {
    let mut world = World::pair();
    let (ours, _) = world.talk();
    let answered = world.ms();
    assert_eq!(
        world.header(1, "200 INVITE", "Session-Expires").as_deref(),
        Some("1800;refresher=uac")
    );
    assert_eq!(
        world.header(1, "200 INVITE", "Require").as_deref(),
        Some("timer")
    );
    world.run(HOUR * 3);
    let refreshes = world.times(0, "UPDATE");
    assert_eq!(refreshes.len(), 11);
    assert!(
        refreshes
            .windows(2)
            .all(|pair| (900_000..901_000).contains(&(pair[1] - pair[0])))
    );
    assert!((899_000..901_000).contains(&(refreshes[0] - answered)));
    assert_eq!(world.times(1, "UPDATE").len(), 0);
    for node in 0..2 {
        assert_eq!(world.count(node, is_last), 0);
        let changes = world.count(node, |event| {
            matches!(
                event,
                Event::Reinvite { .. } | Event::ReinviteAnswered { .. }
            )
        });
        assert_eq!(changes, 0, "a refresh is no change");
    }
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    nothing_left(&mut world);
}

#[test]
fn both_sides_end_a_call_that_is_not_refreshed() {
    let mut world = World::pair();
    world.talk();
    let answered = world.ms();
    world.lose(|_| true);
    world.run(Duration::from_secs(2000));
    // The caller's refresh gets no answer: the peer is gone. The called party waits until 32 s before the end.
    let ends = |node: usize| world.times(node, "BYE")[0] - answered;
    assert!((931_000..934_000).contains(&ends(0)), "{}", ends(0));
    assert!((1_767_000..1_769_000).contains(&ends(1)), "{}", ends(1));
    assert!(
        matches!(&world.events[1].last().unwrap().1, Event::Ended { by_peer: false, reason, .. }
            if reason == "the session was not refreshed")
    );
    nothing_left(&mut world);
}

#[test]
fn an_interval_that_is_too_short_is_lengthened_once_by_either_side() {
    let mut world = World::new(vec![with(0, Some(120), 90), with(1, None, 600)]);
    let (ours, theirs) = world.talk();
    assert_eq!(world.times(1, "422 INVITE").len(), 1);
    assert_eq!(
        world.header(1, "422 INVITE", "Min-SE").as_deref(),
        Some("600")
    );
    let again = world.request(0, "INVITE");
    assert_eq!(again.headers.get("Session-Expires"), Some("600"));
    assert_eq!(again.headers.get("Min-SE"), Some("600"));
    assert_eq!(again.headers.get("CSeq"), Some("2 INVITE"));
    assert_eq!(world.count(1, |event| incoming(event).is_some()), 1);
    // Changes keep to it.
    let now = world.now;
    world.stack(0).update(now, ours, "v=3\r\n".into());
    world.until(1, |event| {
        matches!(event, Event::Reinvite { .. }).then_some(())
    });
    let now = world.now;
    world
        .stack(1)
        .answer_reinvite(now, theirs, Ok("v=4\r\n".into()));
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.header(0, "UPDATE", "Session-Expires").as_deref(),
        Some("600;refresher=uac")
    );
    assert_eq!(world.header(0, "UPDATE", "Min-SE").as_deref(), Some("600"));
}

#[test]
fn a_422_that_never_ends_is_a_refusal() {
    let mut least = 100;
    let script = move |request: &Request| {
        let Message::Response(mut refusal) = answer(request, 422, "a") else {
            unreachable!()
        };
        least += 10_000;
        refusal.headers.push("Min-SE", least.to_string());
        match request.method {
            Method::Invite => vec![Message::Response(refusal)],
            _ => Vec::new(),
        }
    };
    let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
    let now = world.now;
    let call = world.stack(0).invite(now, invite()).unwrap();
    assert_eq!(crate::calls::status_of(&mut world, call), 422);
    assert!(world.times(0, "INVITE").len() <= 5);
    nothing_left(&mut world);
}

#[test]
fn a_peer_without_update_is_refreshed_by_the_same_offer_again() {
    const FIELDS: &[(&str, &str)] = &[
        ("Session-Expires", "90;refresher=uac"),
        ("Require", "timer"),
        ("Allow", "INVITE, ACK, BYE"),
    ];
    let mut world = World::new(vec![stack(0), grants(FIELDS)]);
    let now = world.now;
    world.stack(0).invite(now, invite()).unwrap();
    world.run(Duration::from_secs(300));
    let invites = world.messages(0, "INVITE");
    assert_eq!(invites.len(), 7, "every 45 s");
    for message in &invites[1..] {
        let Message::Request(request) = message else {
            unreachable!()
        };
        assert_eq!(request.body, b"v=0\r\no=offer\r\n");
        assert_eq!(
            request.headers.get("Session-Expires"),
            Some("90;refresher=uac")
        );
    }
    let changes = world.count(0, |event| matches!(event, Event::ReinviteAnswered { .. }));
    assert_eq!(changes, 0, "the answer is the same");
    assert_eq!(world.count(0, is_last), 0);
}

#[test]
fn a_peer_that_refreshes_itself_is_left_to_it_and_one_without_timers_too() {
    const THEIRS: &[(&str, &str)] = &[("Session-Expires", "90;refresher=uas")];
    for (fields, ends) in [(THEIRS, true), (&[], false)] {
        let mut world = World::new(vec![stack(0), grants(fields)]);
        let now = world.now;
        world.stack(0).invite(now, invite()).unwrap();
        world.run(HOUR);
        let refreshes = world.times(0, "INVITE").len() + world.times(0, "UPDATE").len();
        assert_eq!(refreshes, 1, "only the call itself");
        assert_eq!(world.times(0, "BYE").len(), usize::from(ends));
        if ends {
            // 30 s before the end: a third of the interval is less than 32 s.
            assert!((60_000..61_000).contains(&world.times(0, "BYE")[0]));
        }
    }
}

/// An INVITE written by hand, and what our 200 says.
fn called(fields: &str) -> (World, Option<String>) {
    let mut world = World::new(vec![Node::Script(Box::new(|_| Vec::new())), stack(1)]);
    let text = format!(
        "INVITE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
         From: <sip:x@192.0.2.1>;tag=x\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@192.0.2.1>\r\n{fields}Content-Type: application/sdp\r\n\r\nv=0\r\n"
    );
    world.inject(addr(0), 1, text.as_bytes());
    let call = world.until(1, incoming);
    let now = world.now;
    world.stack(1).accept(now, call, "v=answer\r\n".into());
    world.run(Duration::from_millis(1));
    let tag = world.messages(1, "200 INVITE")[0]
        .headers()
        .to_tag()
        .expect("our tag")
        .to_owned();
    let ack = text
        .replace("INVITE", "ACK")
        .replace(
            "To: <sip:bob@192.0.2.2>",
            &format!("To: <sip:bob@192.0.2.2>;tag={tag}"),
        )
        .split("Content-Type")
        .next()
        .unwrap_or_default()
        .to_owned();
    world.inject(addr(0), 1, format!("{ack}\r\n").as_bytes());
    let field = world.header(1, "200 INVITE", "Session-Expires");
    (world, field)
}

#[test]
fn a_called_party_grants_by_the_table_of_the_rfc() {
    for (fields, granted) in [
        ("Session-Expires: 400\r\n", Some("400;refresher=uas")),
        ("Supported: timer\r\nx: 400\r\n", Some("400;refresher=uac")),
        (
            "Supported: timer\r\nSession-Expires: 400;refresher=uac\r\n",
            Some("400;refresher=uac"),
        ),
        (
            "Supported: timer\r\nSession-Expires: 400;refresher=uas\r\n",
            Some("400;refresher=uas"),
        ),
        ("Supported: timer\r\n", Some("1800;refresher=uac")),
        ("", None),
        // A proxy asked for less than we grant, of a caller that could not understand 422.
        ("Session-Expires: 30\r\n", Some("90;refresher=uas")),
    ] {
        assert_eq!(called(fields).1.as_deref(), granted, "{fields}");
    }
    // By UPDATE only where the caller says that it takes it.
    for (fields, method) in [("", "INVITE"), ("Allow: UPDATE\r\n", "UPDATE")] {
        let (mut world, _) = called(&format!("{fields}Session-Expires: 400\r\n"));
        world.run(Duration::from_secs(201));
        assert_eq!(world.times(1, method).first(), Some(&200_000), "{method}");
    }
}
