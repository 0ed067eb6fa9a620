//! What a request gets that cannot be served, by table, and the limits of the tables.

use gateway_core::sip::message::{Message, Response, parse};
use gateway_core::sip::{Config, Event, SipError};

use crate::calls::nothing_left;
use crate::link::{Node, World, addr, config, incoming, invite, stack, stack_with};

/// A request to node 1 with the given start line and further headers.
fn request(method: &str, uri: &str, extra: &str, body: &str) -> String {
    let max_forwards = if extra.contains("Max-Forwards") {
        ""
    } else {
        "Max-Forwards: 70\r\n"
    };
    let to = if extra.lines().any(|line| line.starts_with("To: ")) {
        ""
    } else {
        "To: <sip:bob@192.0.2.2>\r\n"
    };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{method}1\r\n{max_forwards}{to}\
         From: <sip:x@192.0.2.1>;tag=x\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContact: <sip:x@192.0.2.1>\r\n{extra}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn lone() -> World {
    World::new(vec![Node::Script(Box::new(|_| Vec::new())), stack(1)])
}

fn last_response(world: &World) -> Response {
    match parse(world.log.last().expect("an answer").text.as_bytes()) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_that_cannot_be_served_gets_the_status_of_the_rfc() {
    const URI: &str = "sip:bob@192.0.2.2";
    let sdp = "Content-Type: application/sdp\r\n";
    let rows: &[(&str, &str, &str, &str, u16, &str)] = &[
        (
            "OPTIONS",
            URI,
            "",
            "",
            200,
            "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY, REFER, MESSAGE",
        ),
        (
            "OPTIONS",
            URI,
            "Max-Forwards: 0\r\n",
            "",
            200,
            "Accept: application/sdp",
        ),
        (
            "OPTIONS",
            URI,
            "To: <sip:bob@192.0.2.2>;tag=none\r\n",
            "",
            481,
            "",
        ),
        (
            "BYE",
            URI,
            "To: <sip:bob@192.0.2.2>;tag=none\r\n",
            "",
            481,
            "",
        ),
        (
            "INVITE",
            URI,
            "To: <sip:bob@192.0.2.2>;tag=none\r\n",
            "",
            481,
            "",
        ),
        ("BYE", URI, "", "", 481, ""),
        ("CANCEL", URI, "", "", 481, ""),
        ("NOTIFY", URI, "", "", 481, ""),
        ("REFER", URI, "Refer-To: <sip:x@h>\r\n", "", 403, ""),
        ("PRACK", URI, "RAck: 1 1 INVITE\r\n", "", 481, ""),
        ("UPDATE", URI, "", "", 481, ""),
        ("PUBLISH", URI, "", "", 405, "Allow: "),
        ("REGISTER", URI, "", "", 405, "Allow: "),
        ("SUBSCRIBE", URI, "", "", 405, "Allow: "),
        ("INFO", URI, "", "", 481, ""),
        ("FROBNICATE", URI, "", "", 501, ""),
        (
            "INVITE",
            URI,
            "Require: foo, bar\r\n",
            "",
            420,
            "Unsupported: foo, bar",
        ),
        (
            "INVITE",
            URI,
            "Require: precondition, timer\r\n",
            "",
            420,
            "Unsupported: precondition",
        ),
        ("INVITE", URI, "Max-Forwards: 0\r\n", "", 483, ""),
        ("INVITE", URI, "Max-Forwards: many\r\n", "", 400, ""),
        (
            "INVITE",
            URI,
            "Content-Type: text/plain\r\n",
            "hello",
            415,
            "Accept: application/sdp",
        ),
        (
            "INVITE",
            URI,
            "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n",
            "x",
            415,
            "Accept-Encoding",
        ),
        ("INVITE", "nobodyKnowsThisScheme:x", sdp, "v=0", 416, ""),
        ("INVITE", "sip:bob@", sdp, "v=0", 400, ""),
    ];
    for (method, uri, extra, body, status, header) in rows {
        let mut world = lone();
        world.inject(addr(0), 1, request(method, uri, extra, body).as_bytes());
        let response = last_response(&world);
        assert_eq!(response.status, *status, "{method} {uri} {extra}");
        assert!(
            world.log.last().unwrap().text.contains(header),
            "{method} {extra}: {header}"
        );
        assert!(response.headers.to_tag().is_some());
        assert!(world.events[1].is_empty());
        nothing_left(&mut world);
    }
}

#[test]
fn supported_extensions_change_nothing_by_themselves() {
    let mut world = lone();
    let extra = "Supported: timer, 100rel\r\nSession-Expires: 90;refresher=uac\r\nMin-SE: 90\r\n";
    world.inject(
        addr(0),
        1,
        request("INVITE", "sip:bob@192.0.2.2", extra, "").as_bytes(),
    );
    assert_eq!(last_response(&world).status, 100);
    assert_eq!(world.count(1, |event| incoming(event).is_some()), 1);
}

#[test]
fn the_same_call_over_two_paths_is_merged_but_two_users_behind_us_are_not() {
    let mut world = lone();
    let first = request("INVITE", "sip:bob@192.0.2.2", "", "");
    world.inject(addr(0), 1, first.as_bytes());
    world.inject(
        addr(0),
        1,
        first.replace("z9hG4bKINVITE1", "z9hG4bKINVITE2").as_bytes(),
    );
    assert_eq!(last_response(&world).status, 482);
    let other = first
        .replace("z9hG4bKINVITE1", "z9hG4bKINVITE3")
        .replace("INVITE sip:bob@", "INVITE sip:carol@");
    world.inject(addr(0), 1, other.as_bytes());
    assert_eq!(last_response(&world).status, 100);
    assert_eq!(world.count(1, |event| incoming(event).is_some()), 2);
    // A repetition is no merge: it gets the 100 again.
    world.inject(addr(0), 1, first.as_bytes());
    assert_eq!(last_response(&world).status, 100);
    assert_eq!(world.count(1, |event| incoming(event).is_some()), 2);
}

#[test]
fn requests_inside_a_call_are_answered_by_kind() {
    let rows: &[(&str, &str, &str, u16)] = &[
        ("OPTIONS", "", "", 200),
        ("INFO", "", "", 200),
        (
            "INFO",
            "Content-Type: application/dtmf-relay\r\n",
            "Signal=1",
            200,
        ),
        ("INFO", "Content-Type: application/foo\r\n", "x", 415),
        ("INFO", "Info-Package: dtmf\r\n", "", 469),
        ("NOTIFY", "Event: talk\r\n", "", 200),
        ("NOTIFY", "Event: presence\r\n", "", 489),
        ("NOTIFY", "", "", 489),
        ("NOTIFY", "Event: refer\r\n", "", 481),
        ("UPDATE", "", "", 200),
        ("PRACK", "", "", 400),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", 481),
        ("SUBSCRIBE", "", "", 405),
        ("REFER", "", "", 400),
        (
            "REFER",
            "Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n",
            "",
            400,
        ),
        ("FROB", "", "", 501),
        ("OPTIONS", "Require: foo\r\n", "", 420),
        ("BYE", "Require: foo\r\n", "", 200),
    ];
    for early in [true, false] {
        for (method, extra, body, status) in rows {
            let mut world = lone();
            world.inject(
                addr(0),
                1,
                request("INVITE", "sip:bob@192.0.2.2", "", "").as_bytes(),
            );
            let call = world.until(1, incoming);
            let now = world.now;
            if early {
                world.stack(1).provisional(now, call, 180, None);
            } else {
                world.stack(1).accept(now, call, "v=0\r\n".into());
            }
            world.run(std::time::Duration::from_millis(1));
            let tag = last_response(&world).headers.to_tag().unwrap().to_owned();
            let to = format!("{extra}To: <sip:bob@192.0.2.2>;tag={tag}\r\n");
            let text =
                request(method, "sip:bob@192.0.2.2", &to, body).replace("CSeq: 1 ", "CSeq: 2 ");
            world.inject(addr(0), 1, text.as_bytes());
            let name = format!("{status} {method}");
            assert!(
                world.log.iter().any(|sent| sent.name() == name),
                "{early} {name}: {:?}",
                world.names_sent()
            );
        }
    }
}

#[test]
fn a_bye_to_a_ringing_call_cancels_it() {
    let mut world = lone();
    world.inject(
        addr(0),
        1,
        request("INVITE", "sip:bob@192.0.2.2", "", "").as_bytes(),
    );
    let call = world.until(1, incoming);
    let now = world.now;
    world.stack(1).provisional(now, call, 180, None);
    world.run(std::time::Duration::from_millis(1));
    let tag = last_response(&world).headers.to_tag().unwrap().to_owned();
    let to = format!("To: <sip:bob@192.0.2.2>;tag={tag}\r\n");
    let bye = request("BYE", "sip:bob@192.0.2.2", &to, "").replace("CSeq: 1 ", "CSeq: 2 ");
    world.inject(addr(0), 1, bye.as_bytes());
    let cancelled = Event::Cancelled {
        call,
        causes: Vec::new(),
    };
    assert_eq!(world.events[1].last().unwrap().1, cancelled);
    assert!(world.log.iter().any(|sent| sent.name() == "487 INVITE"));
}

#[test]
fn an_invite_without_contact_is_refused() {
    let mut world = lone();
    let text = request("INVITE", "sip:bob@192.0.2.2", "", "")
        .replace("Contact: <sip:x@192.0.2.1>\r\n", "");
    world.inject(addr(0), 1, text.as_bytes());
    assert_eq!(last_response(&world).status, 400);
}

#[test]
fn full_tables_answer_503_with_retry_after_and_other_calls_go_on() {
    let small = Config {
        max_dialogs: 2,
        ..config(1)
    };
    let mut world = World::new(vec![stack(0), stack_with(1, small)]);
    let (ours, _) = world.talk();
    let now = world.now;
    world.stack(0).invite(now, invite()).unwrap();
    world.run(std::time::Duration::from_secs(1));
    let third = world.stack(0).invite(now, invite()).unwrap();
    let retry_after = world.until(0, |event| match event {
        Event::Rejected {
            call,
            status: 503,
            retry_after,
            ..
        } if *call == third => Some(*retry_after),
        _ => None,
    });
    assert_eq!(retry_after, Some(5));
    assert_eq!(world.stack(1).invite(now, invite()), Err(SipError::Busy));
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.until(0, |event| {
        matches!(event, Event::Ended { .. }).then_some(())
    });

    let mut world = World::new(vec![
        stack(0),
        stack_with(
            1,
            Config {
                max_transactions: 3,
                ..config(1)
            },
        ),
    ]);
    for number in 0..6 {
        let text = request("OPTIONS", "sip:bob@192.0.2.2", "", "")
            .replace("z9hG4bKOPTIONS1", &format!("z9hG4bK{number}"))
            .replace("Call-ID: c", &format!("Call-ID: {number}"));
        world.inject(addr(0), 1, text.as_bytes());
        assert_eq!(
            last_response(&world).status,
            if number < 3 { 200 } else { 503 }
        );
    }
    assert!(world.log.last().unwrap().text.contains("Retry-After: 5"));
}

#[test]
fn what_is_refused_unasked_is_counted_by_its_reason_and_a_flood_of_one_source_ends_there() {
    let limited = Config {
        requests_per_second: 5,
        max_headers: 20,
        ..config(1)
    };
    let mut world = World::new(vec![stack(0), stack_with(1, limited)]);
    let request = |method: &str, number: usize, more: &str| {
        format!(
            "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{number}\r\n\
             From: <sip:a@b>;tag=f\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: {number}\r\nCSeq: 1 {method}\r\n{more}\
             Content-Length: 0\r\n\r\n"
        )
    };
    let flood = "X-A: 1\r\n".repeat(30);
    for (number, (method, more)) in [
        ("FOO", ""),
        ("OPTIONS", flood.as_str()),
        ("INVITE", "Max-Forwards: 0\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        world.inject(addr(0), 1, request(method, number, more).as_bytes());
    }
    for number in 10..40 {
        world.inject(addr(0), 1, request("OPTIONS", number, "").as_bytes());
    }
    // Two seconds' worth, of which two went before; what was not even read does not count.
    assert_eq!(world.times(1, "200 OPTIONS").len(), 8);
    let refused: Vec<_> = world.stack(1).refused().collect();
    assert_eq!(
        refused,
        [
            ("rate", 22),
            ("too_many_headers", 1),
            ("too_many_hops", 1),
            ("unknown_method", 1)
        ]
    );
    // Another source is served.
    world.inject(addr(2), 1, request("OPTIONS", 99, "").as_bytes());
    assert_eq!(world.stack(1).refused().next(), Some(("rate", 22)));
}
