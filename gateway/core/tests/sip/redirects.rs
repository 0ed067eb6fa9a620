//! Redirected calls: order, bounds, loops, and what ends the search.

use gateway_core::sip::message::{Message, Method, Request};
use gateway_core::sip::{CallHandle, Config, Event};

use crate::calls::{answer, nothing_left, plain, status_of};
use crate::link::{LATENCY, Node, World, addr, config, invite, stack, stack_with};

/// A server at node 1 that answers by the user of the Request-URI: a status, and Contacts for 3xx.
fn server(rules: &'static [(&'static str, u16, &'static [&'static str])]) -> Node {
    Node::Script(Box::new(move |request: &Request| {
        if request.method != Method::Invite {
            return match request.method {
                Method::Ack => Vec::new(),
                _ => vec![plain(request, 200)],
            };
        }
        let user = request.uri.split([':', '@']).nth(1).unwrap_or_default();
        let rule = rules.iter().find(|(name, ..)| *name == user);
        let Some((_, status, contacts)) = rule else {
            return vec![plain(request, 404)];
        };
        let Message::Response(mut response) = answer(request, *status, user) else {
            unreachable!()
        };
        if *status >= 300 {
            response.headers.remove("Contact");
        }
        for contact in *contacts {
            response.headers.push("Contact", *contact);
        }
        vec![Message::Response(response)]
    }))
}

fn call(rules: &'static [(&'static str, u16, &'static [&'static str])]) -> (World, CallHandle) {
    let mut world = World::new(vec![stack(0), server(rules)]);
    let now = world.now;
    let call = world.stack(0).invite(now, invite()).expect("a good URI");
    (world, call)
}

fn tried(world: &World) -> Vec<String> {
    let invites = world.messages(0, "INVITE");
    let uris = invites.iter().map(|message| match message {
        Message::Request(request) => request.uri.clone(),
        Message::Response(_) => unreachable!(),
    });
    uris.collect()
}

#[test]
fn targets_are_tried_in_the_order_of_their_q_values_within_one_call() {
    let (mut world, ours) = call(&[
        (
            "bob",
            302,
            &[
                "<sip:low@192.0.2.2>;q=0.1",
                "<sip:high@192.0.2.2?Replaces=x>;q=0.7",
                "<sip:no@192.0.2.2;transport=sctp>;q=0.9",
                "<mailto:bob@example.com>",
            ],
        ),
        ("high", 486, &[]),
        ("low", 200, &[]),
    ]);
    world.until(0, |event| {
        matches!(event, Event::Answered { call, .. } if *call == ours).then_some(())
    });
    assert_eq!(
        tried(&world),
        [
            "sip:bob@192.0.2.2",
            "sip:high@192.0.2.2",
            "sip:low@192.0.2.2"
        ]
    );
    let invites = world.messages(0, "INVITE");
    let field = |name: &str| -> Vec<String> {
        let values = invites.iter().map(|invite| invite.headers().get(name));
        values.map(|value| value.unwrap().to_owned()).collect()
    };
    assert_eq!(field("CSeq"), ["1 INVITE", "2 INVITE", "3 INVITE"]);
    for name in ["Call-ID", "From", "To"] {
        let values = field(name);
        assert!(values.iter().all(|value| *value == values[0]), "{name}");
    }
    assert_eq!(world.times(0, "ACK").len(), 3, "each final response");
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    nothing_left(&mut world);
}

#[test]
fn loops_end_with_the_redirection_itself() {
    let (mut world, ours) = call(&[
        ("bob", 302, &["<sip:a@192.0.2.2>"]),
        ("a", 301, &["<sip:b@192.0.2.2>"]),
        ("b", 302, &["<sip:bob@192.0.2.2:5060>", "<sip:a@192.0.2.2>"]),
    ]);
    assert_eq!(status_of(&mut world, ours), 302);
    assert_eq!(tried(&world).len(), 3);
    nothing_left(&mut world);
}

#[test]
fn the_number_of_targets_is_bounded() {
    const MANY: &[&str] = &[
        "<sip:t1@192.0.2.2>",
        "<sip:t2@192.0.2.2>",
        "<sip:t3@192.0.2.2>",
        "<sip:t4@192.0.2.2>",
        "<sip:t5@192.0.2.2>",
        "<sip:t6@192.0.2.2>",
        "<sip:t7@192.0.2.2>",
    ];
    let (mut world, ours) = call(&[("bob", 300, MANY)]);
    assert_eq!(status_of(&mut world, ours), 404, "that of the last one");
    assert_eq!(tried(&world).len(), 6);
    let none = Config {
        max_redirects: 0,
        ..config(0)
    };
    let mut world = World::new(vec![stack_with(0, none), server(&[("bob", 300, MANY)])]);
    let now = world.now;
    let ours = world.stack(0).invite(now, invite()).unwrap();
    assert_eq!(status_of(&mut world, ours), 300);
    assert_eq!(tried(&world).len(), 1);
}

#[test]
fn six_hundreds_end_the_search_and_silence_does_not() {
    let (mut world, ours) = call(&[
        ("bob", 302, &["<sip:a@192.0.2.2>", "<sip:b@192.0.2.2>"]),
        ("a", 603, &[]),
        ("b", 200, &[]),
    ]);
    assert_eq!(status_of(&mut world, ours), 603);
    let (mut world, _) = call(&[
        ("bob", 302, &["<sip:a@192.0.2.9>", "<sip:b@192.0.2.2>"]),
        ("b", 200, &[]),
    ]);
    world.until(0, |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
    assert!(tried(&world).contains(&"sip:b@192.0.2.2".to_owned()));
}

#[test]
fn hanging_up_between_two_targets_ends_the_call() {
    let silent = Node::Script(Box::new(|_| Vec::new()));
    let rules = server(&[("bob", 302, &["<sip:x@192.0.2.3>"])]);
    let mut world = World::new(vec![stack(0), rules, silent]);
    let now = world.now;
    let ours = world.stack(0).invite(now, invite()).unwrap();
    world.run(LATENCY * 3);
    assert_eq!(tried(&world).len(), 2);
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    // It rings there: now CANCEL may go.
    let Message::Response(ringing) = answer(&world.request(0, "INVITE"), 180, "x") else {
        unreachable!()
    };
    world.inject(addr(2), 0, &ringing.to_bytes());
    assert_eq!(world.log.last().unwrap().name(), "CANCEL");
    assert_eq!(world.log.last().unwrap().to, 2);
    nothing_left(&mut world);
}
