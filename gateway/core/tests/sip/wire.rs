//! The wire front: odd messages in the spirit of RFC 4475, agreement with `rsip`, and mutated bytes for the whole stack.

use std::time::{Duration, Instant};

use gateway_core::sip::message::{Message, Method, parse};
use gateway_core::sip::{ConnectionId, Event, Peer, Stack, Transport};
use proptest::prelude::*;

use crate::link::{World, addr, config, incoming, invite, seeded};

const HEAD: &str = "INVITE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
    From: <sip:a@b>;tag=1\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n";

/// The head with one line replaced or added.
fn with(old: &str, new: &str) -> Vec<u8> {
    format!("{}\r\n", HEAD.replace(old, new)).into_bytes()
}

#[test]
fn odd_but_valid_messages_are_mended() {
    let check = |bytes: &[u8], name: &str, value: &str| match parse(bytes) {
        Ok(Message::Request(request)) => assert_eq!(request.headers.get(name), Some(value)),
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    };
    check(
        &with("Via:", "v:"),
        "Via",
        "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
    );
    check(&with("To: <", "TO :\r\n  \t<"), "To", "<sip:bob@192.0.2.2>");
    check(&with("Call-ID: 1", "i : 1"), "Call-ID", "1");
    check(
        &with("CSeq: 1 INVITE", "cseq:\r\n 0001\r\n\tINVITE"),
        "CSeq",
        "0001 INVITE",
    );
    check(&with("From:", "f:"), "From", "<sip:a@b>;tag=1");
    check(
        &with("Call-ID", "Subject: a\r\n b\r\n\tc\r\nCall-ID"),
        "Subject",
        "a b c",
    );
    check(&with("Call-ID", "Empty:\r\nCall-ID"), "Empty", "");
    check(
        &with("Call-ID", "X-Y: \"a:b\" : c\r\nCall-ID"),
        "X-Y",
        "\"a:b\" : c",
    );
    check(
        &HEAD
            .replace("\r\n", "\n")
            .into_bytes()
            .iter()
            .chain(b"\n")
            .copied()
            .collect::<Vec<_>>(),
        "Call-ID",
        "1",
    );
    check(
        &[b"\r\n\r\n".to_vec(), with("1 INVITE", "1 INVITE")].concat(),
        "Call-ID",
        "1",
    );
    let mut latin = with("Call-ID", "Subject: caf#\r\nCall-ID");
    latin
        .iter_mut()
        .filter(|byte| **byte == b'#')
        .for_each(|byte| *byte = 0xe9);
    check(&latin, "Subject", "café");
    check(
        &with(
            "To: <sip:bob@192.0.2.2>",
            "To: \"J \\\" <x>, R\" <sip:bob@h;a=b>;c",
        ),
        "To",
        "\"J \\\" <x>, R\" <sip:bob@h;a=b>;c",
    );
    // A list in one line becomes one header each; quotes and brackets hold it together.
    let Ok(Message::Request(request)) = parse(&with(
        "Via: ",
        "Route: <sip:a,b;lr>, \"x,y\" <sip:c>\r\nVia: SIP/2.0/TCP p;branch=q , ",
    )) else {
        panic!()
    };
    assert_eq!(
        request.headers.get_all("Route").collect::<Vec<_>>(),
        ["<sip:a,b;lr>", "\"x,y\" <sip:c>"]
    );
    assert_eq!(request.headers.get_all("Via").count(), 2);
}

#[test]
fn methods_schemes_and_bodies_of_all_kinds_pass_the_wire_front() {
    let request = |bytes: &[u8]| match parse(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    };
    let odd = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(
        request(
            HEAD.replace("INVITE", odd)
                .as_bytes()
                .iter()
                .chain(b"\r\n")
                .copied()
                .collect::<Vec<_>>()
                .as_slice()
        )
        .method,
        Method::from(odd)
    );
    assert_eq!(
        request(&with("INVITE sip:bob@192.0.2.2 ", "INVITE tel:+1555 ")).uri,
        "tel:+1555"
    );
    assert_eq!(
        request(&with(
            "INVITE sip:bob@192.0.2.2 ",
            "INVITE soap.beep://192.0.2.2 "
        ))
        .uri,
        "soap.beep://192.0.2.2"
    );
    let body = |length: &str, body: &[u8]| {
        request(&[with("Call-ID", &format!("{length}Call-ID")), body.to_vec()].concat()).body
    };
    assert_eq!(
        body("", b"all of it"),
        b"all of it",
        "RFC 3261 section 18.3: a datagram needs no length"
    );
    assert_eq!(body("l: 3\r\n", b"abc and more"), b"abc");
    assert_eq!(body("Content-Length: 0\r\nl: 0\r\n", b"ignored"), b"");
    assert_eq!(
        body("Content-Length: 4\r\n", &[0, 255, 13, 10]),
        [0, 255, 13, 10]
    );
}

#[test]
fn broken_messages_are_refused_with_their_status() {
    let many = "X: y\r\n".repeat(200);
    let rows: Vec<(Vec<u8>, u16, bool)> = vec![
        (with("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), 505, true),
        (with("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia"), 400, false),
        (
            with("INVITE sip:bob@192.0.2.2 ", "INVITE <sip:bob@192.0.2.2> "),
            400,
            true,
        ),
        (
            with("INVITE sip:bob@192.0.2.2 ", "INVITE sip:bob@192.0.2.2; lr "),
            400,
            true,
        ),
        (
            with("INVITE sip:bob@192.0.2.2 ", "INVITE  sip:bob@192.0.2.2 "),
            400,
            true,
        ),
        (with("INVITE sip:bob@192.0.2.2 ", "INVITE bob "), 400, true),
        (with("From: <sip:a@b>;tag=1\r\n", ""), 400, true),
        (with("Call-ID: 1", "Call-ID: 1\r\nCall-ID: 2"), 400, true),
        (with("Call-ID: 1", "Call-ID:"), 400, true),
        (with("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"), 400, true),
        (
            with("CSeq: 1 INVITE", "CSeq: 36893488147419103232 INVITE"),
            400,
            true,
        ),
        (with("CSeq: 1 INVITE", "CSeq: 2147483648 INVITE"), 400, true),
        (with("CSeq: 1 INVITE", "CSeq: INVITE"), 400, true),
        (
            with("To: <sip:bob@192.0.2.2>", "To: \"open <sip:bob@h>"),
            400,
            true,
        ),
        (with("From: <sip:a@b>", "From: <sip:a@b"), 400, true),
        (
            with("Via: SIP/2.0/UDP 192.0.2.1;", "Via: SIP/2.0/UDP ;;,;"),
            400,
            false,
        ),
        (
            with("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n", ""),
            400,
            false,
        ),
        (with("Call-ID: 1", "Call-ID: a\0b"), 400, true),
        (with("Call-ID: 1", "No colon here\r\nCall-ID: 1"), 400, true),
        (with("Call-ID: 1", "Bad name: x\r\nCall-ID: 1"), 400, true),
        (with("Call-ID: 1", "l: -1\r\nCall-ID: 1"), 400, true),
        (with("Call-ID: 1", "l: 1\r\nl: 2\r\nCall-ID: 1"), 400, true),
        (
            with("Call-ID: 1", "l: 18446744073709551615\r\nCall-ID: 1"),
            400,
            true,
        ),
        (
            with("Call-ID: 1", "l: 99999999999999999999999999\r\nCall-ID: 1"),
            400,
            true,
        ),
        (
            with("Call-ID: 1", "Max-Forwards: 300\r\nCall-ID: 1"),
            400,
            true,
        ),
        (
            with("Call-ID: 1", &format!("Call-ID: 1\r\n{many}")),
            400,
            true,
        ),
        (HEAD.as_bytes().to_vec(), 400, true),
        ([with("a@b", "a@b"), vec![b'x'; 70_000]].concat(), 513, true),
        (b"\r\n".to_vec(), 400, false),
        (b"INVITE".to_vec(), 400, false),
        (b"SIP/2.0 99 x\r\n\r\n".to_vec(), 400, false),
        (b"SIP/2.0 +20 x\r\n\r\n".to_vec(), 400, false),
        (vec![0xff; 400], 400, false),
    ];
    for (bytes, status, answerable) in rows {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let error = parse(&bytes).expect_err(&text);
        assert_eq!(
            (error.status, error.request.is_some()),
            (status, answerable),
            "{text}: {error}"
        );
        // The stack says so to whoever can be told.
        let mut stack = Stack::new(config(1), seeded(1));
        let peer = Peer {
            transport: Transport::Udp,
            local: addr(1),
            remote: addr(0),
            connection: None,
        };
        stack.handle_datagram(Instant::now(), peer, &bytes);
        assert_eq!(stack.poll_output().is_some(), answerable, "{text}");
        assert_eq!((stack.calls(), stack.transactions()), (0, 0));
    }
    let mut latin = with("Call-ID: 1", "Call-ID: #");
    latin
        .iter_mut()
        .filter(|byte| **byte == b'#')
        .for_each(|byte| *byte = 0xe9);
    assert_eq!(parse(&latin).unwrap_err().reason, "Header Is Not UTF-8");
}

/// All messages of a whole call with challenge-free registration left out: the seeds of the mutators.
fn real_messages() -> Vec<Vec<u8>> {
    let mut world = World::pair();
    let (ours, theirs) = world.ring();
    let now = world.now;
    world
        .stack(1)
        .provisional(now, theirs, 183, Some("v=0\r\n".into()));
    world.run(Duration::from_millis(100));
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.run(Duration::from_millis(100));
    let now = world.now;
    world.stack(1).reinvite(now, theirs, "v=1\r\n".into());
    world.run(Duration::from_millis(100));
    let now = world.now;
    world.stack(0).answer_reinvite(now, ours, Err(488));
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.stack(0).hang_up(now, ours);
    world.settle();
    world
        .log
        .iter()
        .map(|sent| sent.text.clone().into_bytes())
        .collect()
}

#[test]
fn what_we_print_is_what_we_read_and_rsip_reads_the_same() {
    for bytes in real_messages() {
        let message = parse(&bytes).expect("our own message");
        let again = parse(&message.to_bytes()).expect("printed again");
        assert_eq!(message, again);
        let oracle = rsip::SipMessage::try_from(bytes.as_slice()).expect("rsip reads it");
        use rsip::prelude::{HeadersExt, ToTypedHeader, UntypedHeader};
        assert_eq!(
            oracle.call_id_header().unwrap().value(),
            message.headers().call_id()
        );
        let (number, method) = message.headers().cseq().unwrap();
        assert_eq!(oracle.cseq_header().unwrap().seq().unwrap(), number);
        assert_eq!(
            oracle.cseq_header().unwrap().method().unwrap().to_string(),
            method.to_string()
        );
        let tag = oracle
            .from_header()
            .unwrap()
            .tag()
            .unwrap()
            .map(|tag| tag.to_string());
        assert_eq!(tag.as_deref(), message.headers().from_tag());
        assert_eq!(
            oracle
                .via_header()
                .unwrap()
                .typed()
                .unwrap()
                .branch()
                .unwrap()
                .to_string(),
            message.headers().via().unwrap().branch()
        );
    }
}

/// Two stacks in the middle of calls, to be shot at.
fn target() -> World {
    let mut world = World::pair();
    world.talk();
    let now = world.now;
    world.stack(0).invite(now, invite()).expect("a good URI");
    world.run(Duration::from_millis(100));
    world
}

fn shoot(world: &mut World, bytes: &[u8]) {
    let now = world.now;
    for node in 0..2 {
        world.inject(addr(1 - node), node, bytes);
        for connection in [7, 8] {
            let peer = Peer {
                transport: Transport::Tcp,
                local: addr(node),
                remote: addr(1 - node),
                connection: Some(ConnectionId(connection)),
            };
            world.stack(node).handle_stream(now, peer, bytes);
            let cut = bytes.len() / 2;
            world.stack(node).handle_stream(now, peer, &bytes[cut..]);
            while world.stack(node).poll_output().is_some() {}
            world
                .stack(node)
                .handle_closed(now, ConnectionId(connection));
        }
    }
}

#[test]
fn twenty_thousand_mutants_of_real_messages_break_nothing() {
    let seeds = real_messages();
    let mut random = seeded(4475);
    let mut world = target();
    const PIECES: [&str; 12] = [
        "\r\n",
        "\r\n\r\n",
        ":",
        ";",
        "\"",
        "<",
        ">",
        ",",
        "z9hG4bK",
        "Content-Length: 9",
        "SIP/2.0",
        "\0",
    ];
    for round in 0..20_000 {
        if round % 500 == 0 {
            world = target();
        }
        let mut bytes = seeds[random.u32() as usize % seeds.len()].clone();
        for _ in 0..1 + random.u32() % 6 {
            let place = random.u32() as usize % bytes.len();
            let piece = PIECES[random.u32() as usize % PIECES.len()].bytes();
            match random.u32() % 5 {
                0 => bytes[place] = random.u32() as u8,
                1 => bytes[place] ^= 1 << (random.u32() % 8),
                2 => drop(bytes.splice(place..place, piece)),
                3 => bytes.truncate(place.max(1)),
                _ => {
                    let end = (place + random.u32() as usize % 40).min(bytes.len());
                    bytes.drain(place..end.max(place + 1).min(bytes.len()));
                    bytes.push(b'\n');
                }
            }
        }
        shoot(&mut world, &bytes);
    }
    world.settle();
    let mut fresh = World::pair();
    fresh.talk();
    // The stack that was shot at still serves.
    let now = world.now;
    let before = world.count(1, |event| incoming(event).is_some());
    world.stack(0).invite(now, invite()).unwrap();
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.count(1, |event| incoming(event).is_some()),
        before + 1
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(message) = parse(&bytes) {
            prop_assert!(parse(&message.to_bytes()).is_ok());
        }
    }

    #[test]
    fn any_header_lines_are_read_or_refused(lines in proptest::collection::vec("[A-Za-z-]{1,12} ?: ?[ -~\\t]{0,40}", 0..20)) {
        let text = format!("{HEAD}{}\r\n\r\n", lines.join("\r\n"));
        if let Ok(message) = parse(text.as_bytes()) {
            let again = parse(&message.to_bytes());
            let plain = |message: Message| match message {
                Message::Request(mut request) => {
                    request.headers.remove("Content-Length");
                    Some(request)
                }
                Message::Response(_) => None,
            };
            prop_assert_eq!(again.ok().and_then(plain), plain(message));
        }
        let mut stack = Stack::new(config(1), seeded(1));
        let peer = Peer { transport: Transport::Udp, local: addr(1), remote: addr(0), connection: None };
        stack.handle_datagram(Instant::now(), peer, text.as_bytes());
        while let Some(output) = stack.poll_output() {
            if let gateway_core::sip::Output::Event(Event::Incoming { call, .. }) = output {
                stack.accept(Instant::now(), call, "v=0\r\n".into());
            }
        }
    }

    #[test]
    fn any_uri_is_read_or_refused(text in "(sip|sips|tel|SIP):[ -~]{0,40}") {
        if let Some(uri) = gateway_core::sip::SipUri::parse(&text) {
            let printed = uri.to_string();
            let again = gateway_core::sip::SipUri::parse(&printed);
            prop_assert_eq!(again, Some(uri));
        }
    }
}
