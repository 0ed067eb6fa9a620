//! Scenarios of calls between two stacks, or one stack and a scripted peer, on a link without faults.

use std::time::Duration;

use gateway_core::sip::digest::{Algorithm, Answer, Challenge};
use gateway_core::sip::message::{Message, Method, Request, Response, parse, response_to};
use gateway_core::sip::{CallHandle, Event, Invite};

use crate::link::{LATENCY, Node, World, addr, incoming, invite, is_last, stack};

/// Sooner or later nothing may be left: no call, no transaction, no timer.
pub(crate) fn nothing_left(world: &mut World) {
    world.settle();
    for node in 0..world.nodes.len() {
        if let Node::Stack(stack) = &world.nodes[node] {
            assert_eq!(
                (stack.calls(), stack.transactions(), stack.poll_timeout()),
                (0, 0, None),
                "node {node}"
            );
        }
    }
}

pub(crate) fn names(world: &World) -> Vec<String> {
    world
        .log
        .iter()
        .map(|sent| format!("{} {}", sent.from, sent.name()))
        .collect()
}

pub(crate) fn status_of(world: &mut World, call: CallHandle) -> u16 {
    world.until(0, |event| match event {
        Event::Rejected {
            call: rejected,
            status,
            ..
        } if *rejected == call => Some(*status),
        _ => None,
    })
}

/// A scripted peer's 2xx or provisional: with tag, Contact and SDP.
pub(crate) fn answer(request: &Request, status: u16, tag: &str) -> Message {
    let mut response = response_to(request, status, "");
    let to = format!("{};tag={tag}", request.headers.get("To").expect("parsed"));
    response.headers.set("To", to);
    response.headers.push("Contact", "<sip:peer@192.0.2.2>");
    if (180..300).contains(&status) {
        response.headers.push("Content-Type", "application/sdp");
        response.body = b"v=0\r\no=peer\r\n".to_vec();
    }
    Message::Response(response)
}

pub(crate) fn plain(request: &Request, status: u16) -> Message {
    Message::Response(Response {
        ..response_to(request, status, "")
    })
}

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
    world.run(LATENCY * 3);
    let now = world.now;
    world
        .stack(1)
        .accept(now, theirs, "v=0\r\no=answer\r\n".into());
    let answer = world.until(0, |event| match event {
        Event::Answered { call, sdp, .. } if *call == ours => Some(sdp.clone()),
        _ => None,
    });
    // The reliable 183 had the answer; the 200 does not repeat it.
    assert_eq!(answer.as_deref(), Some("v=0\r\no=early\r\n"));
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
    let wanted = [
        "0 INVITE",
        "1 100 INVITE",
        "1 180 INVITE",
        "1 183 INVITE",
        "0 PRACK",
        "1 200 PRACK",
        "1 200 INVITE",
        "0 ACK",
        "0 BYE",
        "1 200 BYE",
    ];
    assert_eq!(names(&world), wanted);
    nothing_left(&mut world);
}

#[test]
fn a_rejection_reaches_the_caller_with_its_status() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    let now = world.now;
    world.stack(1).reject(now, theirs, 486, "");
    assert_eq!(status_of(&mut world, ours), 486);
    assert_eq!(
        names(&world)[..3],
        ["0 INVITE", "1 100 INVITE", "1 486 INVITE"]
    );
    nothing_left(&mut world);
    assert_eq!(world.times(0, "ACK").len(), 1);
    assert!(matches!(
        world.events[1].last(),
        Some((_, Event::Ended { by_peer: false, .. }))
    ));
}

#[test]
fn hanging_up_while_it_rings_cancels_the_call() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    world.run(LATENCY * 2);
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.settle();
    assert!(
        world.events[1]
            .iter()
            .any(|(_, event)| matches!(event, Event::Cancelled { call, .. } if *call == theirs))
    );
    assert!(matches!(
        &world.events[0].last().unwrap().1,
        Event::Ended { by_peer: false, .. }
    ));
    assert_eq!(
        names(&world)[2..],
        ["0 CANCEL", "1 200 CANCEL", "1 487 INVITE", "0 ACK"]
    );
    nothing_left(&mut world);
}

#[test]
fn cancel_waits_for_the_first_provisional_response() {
    let mut world = World::pair();
    let now = world.now;
    let ours = world.stack(0).invite(now, invite()).unwrap();
    world.stack(0).hang_up(now, ours);
    world.settle();
    // 10 ms there, 10 ms back: not before the 100.
    assert_eq!(world.times(0, "CANCEL"), [20]);
    assert_eq!(
        world.count(1, |event| matches!(event, Event::Cancelled { .. })),
        1
    );
    nothing_left(&mut world);
}

#[test]
fn cancel_that_crosses_the_answer_becomes_ack_and_bye() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    world.run(LATENCY * 2);
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.stack(0).hang_up(now, ours);
    world.settle();
    assert_eq!(
        world.count(0, |event| matches!(event, Event::Answered { .. })),
        0
    );
    assert_eq!(world.count(0, is_last), 1);
    assert!(matches!(
        &world.events[1].last().unwrap().1,
        Event::Ended { by_peer: true, .. }
    ));
    assert_eq!(world.count(1, is_last), 1);
    assert!(world.times(0, "ACK")[0] <= world.times(0, "BYE")[0]);
    nothing_left(&mut world);
}

#[test]
fn bye_that_crosses_bye_ends_the_call_once_on_both_sides() {
    let mut world = World::pair();
    let (ours, theirs) = world.talk();
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.stack(1).hang_up(now, theirs);
    world.settle();
    for node in 0..2 {
        assert_eq!(world.count(node, is_last), 1);
        assert!(matches!(
            world.events[node].last(),
            Some((_, Event::Ended { by_peer: false, .. }))
        ));
    }
    nothing_left(&mut world);
}

#[test]
fn a_called_party_that_hangs_up_at_once_waits_for_the_ack() {
    let mut world = World::pair();
    let (_, theirs) = world.ring();
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.stack(1).hang_up(now, theirs);
    world.settle();
    assert!(world.times(1, "BYE")[0] >= world.times(0, "ACK")[0] + 10);
    assert_eq!(
        world.count(0, |event| matches!(
            event,
            Event::Ended { by_peer: true, .. }
        )),
        1
    );
    assert_eq!(
        world.count(1, |event| matches!(event, Event::Confirmed { .. })),
        0
    );
    nothing_left(&mut world);
}

#[test]
fn an_invite_without_offer_gets_ours_and_the_answer_comes_in_the_ack() {
    let mut world = World::new(vec![Node::Script(Box::new(|_| Vec::new())), stack(1)]);
    let send = |world: &mut World, head: &str, to_tag: &str, body: &str| {
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let text = format!(
            "{head} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{head}\r\n\
             From: <sip:x@192.0.2.1>;tag=x\r\nTo: <sip:bob@192.0.2.2>{to_tag}\r\nCall-ID: c\r\nCSeq: 1 {head}\r\n\
             Contact: <sip:x@192.0.2.1>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        world.inject(addr(0), 1, text.as_bytes());
    };
    send(&mut world, "INVITE", "", "");
    let call = world.until(1, incoming);
    assert!(matches!(
        &world.events[1][0].1,
        Event::Incoming { sdp: None, .. }
    ));
    let now = world.now;
    world.stack(1).accept(now, call, "v=0\r\no=ours\r\n".into());
    world.run(LATENCY);
    let Ok(Message::Response(response)) = parse(world.log.last().unwrap().text.as_bytes()) else {
        panic!()
    };
    assert_eq!(response.body, b"v=0\r\no=ours\r\n");
    let tag = format!(";tag={}", response.headers.to_tag().unwrap());
    send(&mut world, "ACK", &tag, "v=0\r\no=theirs\r\n");
    let confirmed = Event::Confirmed {
        call,
        sdp: Some("v=0\r\no=theirs\r\n".into()),
    };
    assert_eq!(world.events[1].last().unwrap().1, confirmed);
}

#[test]
fn of_forked_answers_the_first_wins_and_the_others_are_hung_up() {
    let mut requests = Vec::new();
    let script = move |request: &Request| {
        requests.push(request.clone());
        match request.method {
            Method::Invite => ["a", "b", "b"]
                .map(|tag| answer(request, 200, tag))
                .to_vec(),
            Method::Bye => vec![plain(request, 200)],
            _ => Vec::new(),
        }
    };
    let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
    let now = world.now;
    world.stack(0).invite(now, invite()).unwrap();
    world.run(Duration::from_secs(40));
    assert_eq!(
        world.count(0, |event| matches!(event, Event::Answered { .. })),
        1
    );
    assert_eq!(world.count(0, is_last), 0);
    let tags = |name: &str| -> Vec<String> {
        let sent = world
            .log
            .iter()
            .filter(|sent| sent.from == 0 && sent.name() == name);
        sent.filter_map(|sent| match parse(sent.text.as_bytes()) {
            Ok(message) => message.headers().to_tag().map(str::to_owned),
            Err(_) => None,
        })
        .collect()
    };
    assert_eq!(
        tags("ACK"),
        ["a", "b", "b"],
        "the repeated answer gets its ACK again"
    );
    assert_eq!(tags("BYE"), ["b"]);
}

#[test]
fn challenges_to_invite_reinvite_and_bye_are_answered_and_the_ack_repeats_the_answer() {
    let nonce = std::cell::RefCell::new(0);
    let script = move |request: &Request| {
        if request.method == Method::Ack {
            let of_answer = matches!(request.headers.get("CSeq"), Some("2 ACK" | "4 ACK"));
            let authorized = request.headers.get("Proxy-Authorization").is_some();
            assert!(authorized || !of_answer, "RFC 3261 section 22.1");
            return Vec::new();
        }
        let current = format!("nonce{}", nonce.borrow());
        let given = request
            .headers
            .get("Proxy-Authorization")
            .and_then(Answer::parse);
        if given
            .is_some_and(|given| given.nonce == current && given.fits("secret", &request.method))
        {
            // One use per nonce: the BYE is challenged again.
            *nonce.borrow_mut() += 1;
            return vec![answer(request, 200, "t")];
        }
        let mut response = response_to(request, 407, "");
        let challenge = Challenge {
            realm: "proxy".into(),
            nonce: current,
            opaque: Some("o".into()),
            algorithm: Algorithm::Sha256,
            qop_auth: true,
            stale: false,
        };
        response
            .headers
            .push("Proxy-Authenticate", challenge.to_string());
        vec![Message::Response(response)]
    };
    let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
    let now = world.now;
    let call = world.stack(0).invite(now, invite()).unwrap();
    world.until(0, |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
    let now = world.now;
    world.stack(0).reinvite(now, call, "v=3\r\n".into());
    world.until(0, |event| {
        matches!(event, Event::ReinviteAnswered { .. }).then_some(())
    });
    let now = world.now;
    world.stack(0).hang_up(now, call);
    world.settle();
    assert!(matches!(
        &world.events[0].last().unwrap().1,
        Event::Ended { by_peer: false, .. }
    ));
    let sent: Vec<String> = names(&world)
        .into_iter()
        .filter(|name| name.starts_with('0'))
        .collect();
    assert_eq!(
        sent,
        [
            "0 INVITE", "0 ACK", "0 INVITE", "0 ACK", "0 INVITE", "0 ACK", "0 INVITE", "0 ACK",
            "0 BYE", "0 BYE"
        ]
    );
    nothing_left(&mut world);
}

#[test]
fn a_wrong_password_or_none_at_all_ends_in_the_challenge_status() {
    for credentials in [invite().credentials, None] {
        let tries = if credentials.is_some() { 2 } else { 1 };
        let script = |request: &Request| {
            let mut response = response_to(request, 401, "");
            response.headers.push(
                "WWW-Authenticate",
                "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"",
            );
            if request.method == Method::Ack {
                Vec::new()
            } else {
                vec![Message::Response(response)]
            }
        };
        let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
        let now = world.now;
        let call = world
            .stack(0)
            .invite(
                now,
                Invite {
                    credentials,
                    ..invite()
                },
            )
            .unwrap();
        assert_eq!(status_of(&mut world, call), 401);
        assert_eq!(world.times(0, "INVITE").len(), tries);
        nothing_left(&mut world);
    }
}

#[test]
fn a_call_that_rings_too_long_is_cancelled_and_reported_as_408() {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    let now = world.now;
    world.stack(1).provisional(now, theirs, 180, None);
    assert_eq!(status_of(&mut world, ours), 408);
    assert_eq!(world.times(0, "CANCEL"), [180_020]);
    // RFC 3261 section 13.3.1.1: the 180 comes again every minute.
    assert_eq!(world.times(1, "180 INVITE"), [10, 60_010, 120_010, 180_010]);
    nothing_left(&mut world);
}

#[test]
fn bad_uris_and_headers_are_refused_before_anything_is_sent() {
    let mut world = World::pair();
    let now = world.now;
    for broken in [
        Invite {
            to: "bob".into(),
            ..invite()
        },
        Invite {
            to: "tel:+1".into(),
            ..invite()
        },
        Invite {
            to: "sip:a@b\r\nVia: x".into(),
            ..invite()
        },
        Invite {
            from: "sip:".into(),
            ..invite()
        },
        Invite {
            headers: vec![("Via".into(), "x".into())],
            ..invite()
        },
        Invite {
            headers: vec![("v".into(), "x".into())],
            ..invite()
        },
        Invite {
            headers: vec![("X-A".into(), "x\r\nVia: y".into())],
            ..invite()
        },
        Invite {
            headers: vec![("X A".into(), "x".into())],
            ..invite()
        },
    ] {
        assert!(
            world.stack(0).invite(now, broken.clone()).is_err(),
            "{broken:?}"
        );
    }
    nothing_left(&mut world);
    assert!(world.log.is_empty());
}
