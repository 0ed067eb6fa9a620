//! Where requests and responses go: resolution, failover, outbound proxy, routes, TCP by size, rport, TCP streams.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::sip::message::{Message, Request, parse, response_to};
use gateway_core::sip::{
    Config, ConnectionId, Event, Invite, Listen, OutboundProxy, Output, Peer, Stack, Transmit,
    Transport,
};

use crate::link::{Node, World, addr, config, incoming, invite, seeded, stack, stack_with};

fn status(status: u16) -> Node {
    Node::Script(Box::new(move |request: &Request| {
        let mut response = response_to(request, status, "");
        if request.method.as_str() == "ACK" {
            return Vec::new();
        }
        response.headers.push("Retry-After", "7");
        vec![Message::Response(response)]
    }))
}

fn to(uri: &str) -> Invite {
    Invite {
        to: uri.into(),
        ..invite()
    }
}

fn udp(node: usize) -> (Transport, SocketAddr) {
    (Transport::Udp, addr(node))
}

#[test]
fn a_name_is_resolved_and_a_dead_or_busy_target_gives_way_to_the_next() {
    let mut world = World::new(vec![
        stack(0),
        status(503),
        Node::Script(Box::new(|_| Vec::new())),
        stack(3),
    ]);
    world
        .names
        .insert("example.com".into(), vec![udp(1), udp(9), udp(2), udp(3)]);
    world.dead.push(udp(9));
    let now = world.now;
    world
        .stack(0)
        .invite(now, to("sip:bob@example.com"))
        .unwrap();
    world.until(3, incoming);
    // 503 at once, unreachable at once, 4 s of silence.
    assert_eq!(world.ms(), 4_030);
    assert_eq!(world.events[0].len(), 0);
    // The next call remembers and begins with the one that works.
    let now = world.now;
    world
        .stack(0)
        .invite(now, to("sip:bob@example.com"))
        .unwrap();
    world.run(Duration::from_millis(50));
    assert_eq!(world.count(3, |event| incoming(event).is_some()), 2);
}

#[test]
fn the_last_503_is_reported_with_its_retry_after_and_silence_as_408() {
    let mut world = World::new(vec![stack(0), status(503)]);
    let now = world.now;
    world.stack(0).invite(now, invite()).unwrap();
    world.settle();
    assert!(matches!(
        world.events[0][..],
        [(
            20,
            Event::Rejected {
                status: 503,
                retry_after: Some(7),
                ..
            }
        )]
    ));
    for (host, expected) in [("no.such.name", 503), ("192.0.2.77", 408)] {
        let mut world = World::new(vec![stack(0)]);
        let now = world.now;
        world
            .stack(0)
            .invite(now, to(&format!("sip:bob@{host}")))
            .unwrap();
        world.settle();
        assert!(
            matches!(world.events[0][..], [(_, Event::Rejected { status, .. })] if status == expected),
            "{host}"
        );
    }
}

#[test]
fn a_name_that_is_never_resolved_times_out_and_hanging_up_meanwhile_ends_the_call_at_once() {
    let mut stack = Stack::new(config(0), seeded(1));
    let now = std::time::Instant::now();
    let first = stack.invite(now, to("sip:bob@slow.example")).unwrap();
    let second = stack.invite(now, to("sip:bob@slow.example")).unwrap();
    stack.hang_up(now, second);
    let outputs: Vec<Output> = std::iter::from_fn(|| stack.poll_output()).collect();
    assert!(
        matches!(&outputs[2], Output::Event(Event::Ended { call, by_peer: false, .. }) if *call == second)
    );
    let later = stack.poll_timeout().unwrap();
    assert_eq!(later - now, Duration::from_secs(10));
    stack.handle_timeout(later);
    let event = stack.poll_output();
    assert!(
        matches!(event, Some(Output::Event(Event::Rejected { call, status: 503, .. })) if call == first)
    );
    assert_eq!(
        (stack.poll_output(), stack.poll_timeout(), stack.calls()),
        (None, None, 0)
    );
}

#[test]
fn the_outbound_proxy_takes_requests_outside_dialogs_only() {
    let proxy = OutboundProxy {
        host: "192.0.2.3".into(),
        port: None,
        transport: None,
    };
    // A proxy that answers for Bob, whose Contact is elsewhere.
    let script = |request: &Request| {
        let mut response = response_to(request, 200, "");
        response.headers.set(
            "To",
            format!("{};tag=b", request.headers.get("To").unwrap()),
        );
        response.headers.push("Contact", "<sip:bob@192.0.2.2>");
        vec![Message::Response(response)]
    };
    let mut world = World::new(vec![stack(0), stack(1), Node::Script(Box::new(script))]);
    let now = world.now;
    let by_proxy = Invite {
        proxies: [proxy].into(),
        ..to("sip:bob@example.com")
    };
    world.stack(0).invite(now, by_proxy).unwrap();
    world.until(0, |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
    let sent: Vec<(String, usize)> = world
        .log
        .iter()
        .filter(|sent| sent.from == 0)
        .map(|sent| (sent.name(), sent.to))
        .collect();
    assert_eq!(sent, [("INVITE".into(), 2), ("ACK".into(), 1)]);
    assert!(
        world.log[0]
            .text
            .starts_with("INVITE sip:bob@example.com SIP/2.0\r\n")
    );
}

#[test]
fn a_large_request_goes_by_tcp_and_by_udp_where_tcp_fails() {
    let large = || Invite {
        sdp: Some("a".repeat(1300)),
        ..invite()
    };
    let mut world = World::pair();
    let now = world.now;
    world.stack(0).invite(now, large()).unwrap();
    world.until(1, incoming);
    assert_eq!(world.log[0].transport, Transport::Tcp);
    assert!(
        world.log[0]
            .text
            .contains("Via: SIP/2.0/TCP 192.0.2.1:5060;")
    );

    let mut world = World::pair();
    world.dead.push((Transport::Tcp, addr(1)));
    for _ in 0..2 {
        let now = world.now;
        world.stack(0).invite(now, large()).unwrap();
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.count(1, |event| incoming(event).is_some()), 2);
    assert!(
        world
            .log
            .iter()
            .all(|sent| sent.transport == Transport::Udp)
    );

    let only_udp = Config {
        listen: vec![config(0).listen.remove(0)],
        ..config(0)
    };
    let mut world = World::new(vec![stack_with(0, only_udp), stack(1)]);
    let now = world.now;
    world.stack(0).invite(now, large()).unwrap();
    world.until(1, incoming);
    assert_eq!(world.log[0].transport, Transport::Udp);
}

#[test]
fn the_advertised_address_stands_in_via_and_contact() {
    let listen = Listen {
        transport: Transport::Udp,
        addr: "0.0.0.0:5060".parse().unwrap(),
        advertised: Some(("2001:db8::5".into(), 5080)),
    };
    let mut stack = Stack::new(
        Config {
            listen: vec![listen],
            ..Config::default()
        },
        seeded(1),
    );
    let now = std::time::Instant::now();
    stack
        .invite(
            now,
            Invite {
                contact_user: Some("s 1>".into()),
                ..invite()
            },
        )
        .unwrap();
    let Some(Output::Transmit(Transmit { bytes, .. })) = stack.poll_output() else {
        panic!()
    };
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.contains("Via: SIP/2.0/UDP [2001:db8::5]:5080;branch=z9hG4bK"),
        "{text}"
    );
    assert!(
        text.contains("Contact: <sip:s%201%3E@[2001:db8::5]:5080>\r\n"),
        "{text}"
    );
}

const OPTIONS: &str = "OPTIONS sip:x@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5070;RPORT;branch=z9hG4bK1\r\n\
    From: <sip:a@b>;tag=1\r\nTo: <sip:x@192.0.2.2>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

#[test]
fn responses_go_to_the_source_port_with_rport_and_to_sent_by_without() {
    let source: SocketAddr = "192.0.2.1:41000".parse().unwrap();
    for (via, port, wanted) in [
        ("10.0.0.9:5070;RPORT", 41000, "received=192.0.2.1"),
        ("10.0.0.9:5070", 5070, "received=192.0.2.1"),
        ("10.0.0.9", 5060, "received=192.0.2.1"),
        ("192.0.2.1", 5060, "192.0.2.1;branch"),
    ] {
        let mut stack = Stack::new(config(1), seeded(1));
        let peer = Peer {
            transport: Transport::Udp,
            local: addr(1),
            remote: source,
            connection: None,
        };
        let text = OPTIONS.replace("10.0.0.9:5070;RPORT", via);
        stack.handle_datagram(std::time::Instant::now(), peer, text.as_bytes());
        let Some(Output::Transmit(transmit)) = stack.poll_output() else {
            panic!("{via}")
        };
        assert_eq!(
            transmit.peer.remote,
            SocketAddr::new(source.ip(), port),
            "{via}"
        );
        let text = String::from_utf8(transmit.bytes).unwrap();
        assert!(text.contains(wanted), "{text}");
        assert_eq!(text.contains("RPORT=41000"), via.contains("RPORT"));
    }
}

#[test]
fn a_stream_is_framed_pinged_and_closed_when_its_framing_is_lost() {
    let mut stack = Stack::new(config(1), seeded(1));
    let now = std::time::Instant::now();
    let connection = ConnectionId(5);
    let peer = Peer {
        transport: Transport::Tcp,
        local: addr(1),
        remote: "192.0.2.1:41000".parse().unwrap(),
        connection: Some(connection),
    };
    for byte in OPTIONS.as_bytes().chunks(7) {
        assert_eq!(stack.poll_output(), None);
        stack.handle_stream(now, peer, byte);
    }
    let Some(Output::Transmit(transmit)) = stack.poll_output() else {
        panic!()
    };
    assert_eq!(transmit.peer, peer, "on the same connection");
    stack.handle_stream(now, peer, b"\r\n\r\n");
    assert_eq!(
        stack.poll_output(),
        Some(Output::Transmit(Transmit {
            peer,
            bytes: b"\r\n".to_vec()
        }))
    );
    for (length, status) in [
        ("Content-Length: x", "400"),
        ("Content-Length: 99999999999", "413"),
        ("X: y", "400"),
    ] {
        let text = OPTIONS
            .replace("Content-Length: 0", length)
            .replace("z9hG4bK1", "z9hG4bK2");
        stack.handle_stream(now, peer, text.as_bytes());
        let Some(Output::Transmit(transmit)) = stack.poll_output() else {
            panic!("{length}")
        };
        assert!(
            transmit
                .bytes
                .starts_with(format!("SIP/2.0 {status} ").as_bytes()),
            "{length}"
        );
        assert_eq!(stack.poll_output(), Some(Output::Close(connection)));
        stack.handle_closed(now, connection);
    }
    let endless = vec![b'A'; 70_000];
    stack.handle_stream(now, peer, &endless);
    assert_eq!(stack.poll_output(), Some(Output::Close(connection)));
}

#[test]
fn a_connection_that_closes_fails_what_waits_on_it_and_moves_the_responses() {
    let mut stack = Stack::new(config(1), seeded(1));
    let now = std::time::Instant::now();
    let remote = addr(0);
    let peer = Peer {
        transport: Transport::Tcp,
        local: addr(1),
        remote,
        connection: Some(ConnectionId(1)),
    };
    let call = stack
        .invite(now, to("sip:a@192.0.2.1;transport=tcp"))
        .unwrap();
    assert!(matches!(
        stack.poll_output(),
        Some(Output::Transmit(Transmit {
            peer: Peer {
                connection: None,
                ..
            },
            ..
        }))
    ));
    let text = OPTIONS
        .replace("OPTIONS sip", "INVITE sip")
        .replace("1 OPTIONS", "1 INVITE")
        .replace(
            "Content-Length: 0",
            "Contact: <sip:a@192.0.2.1>\r\nContent-Length: 0",
        );
    stack.handle_stream(now, peer, text.as_bytes());
    let outputs: Vec<Output> = std::iter::from_fn(|| stack.poll_output()).collect();
    let theirs = outputs.iter().find_map(|output| match output {
        Output::Event(event) => incoming(event),
        _ => None,
    });
    stack.handle_closed(now, ConnectionId(1));
    let event = stack.poll_output();
    assert!(
        matches!(event, Some(Output::Event(Event::Rejected { call: failed, status: 503, .. })) if failed == call)
    );
    stack.reject(now, theirs.unwrap(), 486, "");
    let Some(Output::Transmit(transmit)) = stack.poll_output() else {
        panic!()
    };
    assert_eq!(transmit.peer.connection, None);
    assert_eq!(transmit.peer.remote, "192.0.2.1:5070".parse().unwrap());
}

#[test]
fn an_ack_whose_address_must_be_resolved_first_goes_once_and_again_with_each_repeated_answer() {
    let mut stack = Stack::new(config(0), seeded(1));
    let now = std::time::Instant::now();
    stack.invite(now, invite()).unwrap();
    let Some(Output::Transmit(sent)) = stack.poll_output() else {
        panic!()
    };
    let Ok(Message::Request(request)) = parse(&sent.bytes) else {
        panic!()
    };
    let mut response = response_to(&request, 200, "");
    response.headers.set("To", "<sip:bob@192.0.2.2>;tag=b");
    response.headers.push("Contact", "<sip:bob@far.example>");
    response
        .headers
        .push("Record-Route", "<sip:near.example;transport=tcp;lr>");
    let bytes = response.to_bytes();
    let from = Peer {
        transport: Transport::Udp,
        local: addr(0),
        remote: addr(1),
        connection: None,
    };
    stack.handle_datagram(now, from, &bytes);
    let outputs: Vec<Output> = std::iter::from_fn(|| stack.poll_output()).collect();
    let [
        Output::Resolve(resolve),
        Output::Event(Event::Answered { .. }),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    let wanted = ("near.example", None, Some(Transport::Tcp));
    assert_eq!(
        (resolve.host.as_str(), resolve.port, resolve.transport),
        wanted
    );
    // The answer again, before the name is known: neither a fork nor a second question.
    stack.handle_datagram(now, from, &bytes);
    assert_eq!(stack.poll_output(), None);
    stack.handle_resolved(now, resolve.query, Ok(vec![(Transport::Tcp, addr(5))]));
    let Some(Output::Transmit(ack)) = stack.poll_output() else {
        panic!()
    };
    assert!(
        ack.bytes
            .starts_with(b"ACK sip:bob@far.example SIP/2.0\r\n")
    );
    assert_eq!(
        (ack.peer.transport, ack.peer.remote),
        (Transport::Tcp, addr(5))
    );
    stack.handle_datagram(now, from, &bytes);
    assert_eq!(stack.poll_output(), Some(Output::Transmit(ack)));
    assert_eq!(stack.poll_output(), None);
}

#[test]
fn a_sips_target_goes_by_tls_with_a_sips_contact() {
    let now = std::time::Instant::now();
    let config = Config {
        listen: vec![Listen {
            transport: Transport::Tls,
            addr: addr(1),
            advertised: None,
        }],
        ..Config::default()
    };
    let mut stack = Stack::new(config, seeded(7));
    let invite = Invite {
        to: "sips:bob@192.0.2.9".into(),
        from: "sip:alice@example.org".into(),
        sdp: Some("v=0\r\n".into()),
        ..Invite::default()
    };
    stack.invite(now, invite).unwrap();
    let Some(Output::Transmit(Transmit { peer, bytes })) = stack.poll_output() else {
        panic!("an INVITE goes out");
    };
    assert_eq!(peer.transport, Transport::Tls);
    assert_eq!(peer.remote, "192.0.2.9:5061".parse().unwrap());
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("Via: SIP/2.0/TLS "), "{text}");
    assert!(text.contains("Contact: <sips:"), "{text}");
}
