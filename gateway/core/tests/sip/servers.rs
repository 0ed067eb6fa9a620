//! Servers that fail and come back: lists of proxies, Retry-After, OPTIONS and CRLF as signs of life, bindings that move.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use gateway_core::sip::message::{Message, Method, Request, response_to};
use gateway_core::sip::{
    ConnectionId, Event, Invite, OutboundProxy, Output, Peer, Proxies, Register, Stack, Transport,
    Watch,
};

use crate::link::{Node, World, addr, config, incoming, invite, seeded, stack};
use crate::registration::register;

fn proxy(host: &str) -> OutboundProxy {
    OutboundProxy {
        host: host.into(),
        port: None,
        transport: Some(Transport::Udp),
    }
}

fn proxies(nodes: &[usize]) -> Proxies {
    nodes
        .iter()
        .map(|node| proxy(&addr(*node).ip().to_string()))
        .collect()
}

fn by(proxies: Proxies) -> Invite {
    Invite {
        to: "sip:bob@example.com".into(),
        proxies,
        ..invite()
    }
}

/// A registrar and proxy that answers as it is told, or not at all.
fn server(alive: &Rc<Cell<bool>>, status: u16) -> Node {
    let alive = Rc::clone(alive);
    Node::Script(Box::new(move |request: &Request| {
        if !alive.get() || request.method == Method::Ack {
            return Vec::new();
        }
        let mut response = response_to(request, status, "");
        if let Some(contact) = request.headers.get("Contact") {
            response
                .headers
                .push("Contact", format!("{contact};expires=600"));
        }
        if status == 503 {
            response.headers.push("Retry-After", "20");
        }
        vec![Message::Response(response)]
    }))
}

fn on() -> Rc<Cell<bool>> {
    Rc::new(Cell::new(true))
}

fn off() -> Rc<Cell<bool>> {
    Rc::new(Cell::new(false))
}

#[test]
fn a_silent_proxy_gives_way_to_the_next_of_the_list_and_is_tried_last_from_then_on() {
    let mut world = World::new(vec![stack(0), server(&off(), 200), stack(2)]);
    let list = proxies(&[1, 2]);
    let now = world.now;
    world.stack(0).invite(now, by(list.clone())).unwrap();
    world.until(2, incoming);
    assert_eq!(world.ms(), 4_010);
    let now = world.now;
    world.stack(0).invite(now, by(list)).unwrap();
    world.run(Duration::from_millis(20));
    assert_eq!(world.count(2, |event| incoming(event).is_some()), 2);
}

#[test]
fn retry_after_is_obeyed_and_after_that_the_first_proxy_is_the_first_again() {
    let mut world = World::new(vec![stack(0), server(&on(), 503), stack(2)]);
    let list = proxies(&[1, 2]);
    let mut tried = Vec::new();
    for wait in [0, 10, 12] {
        world.run(Duration::from_secs(wait));
        let before = world.times(0, "INVITE").len();
        let now = world.now;
        world.stack(0).invite(now, by(list.clone())).unwrap();
        world.run(Duration::from_millis(100));
        tried.push(world.times(0, "INVITE").len() - before);
    }
    // 503 and the next; the next at once; 503 and the next.
    assert_eq!(tried, [2, 1, 2]);
}

#[test]
fn when_all_proxies_failed_lately_they_are_tried_all_the_same() {
    let mut world = World::new(vec![stack(0), stack(1)]);
    world.dead = vec![(Transport::Udp, addr(1)), (Transport::Udp, addr(2))];
    let list = proxies(&[1, 2]);
    let now = world.now;
    world.stack(0).invite(now, by(list.clone())).unwrap();
    assert_eq!(world.until(0, rejected), 503);
    world.dead.clear();
    let now = world.now;
    world.stack(0).invite(now, by(list)).unwrap();
    world.until(1, incoming);
}

#[test]
fn a_call_that_is_hung_up_while_the_next_proxy_is_looked_up_ends_at_once() {
    let mut stack = Stack::new(config(0), seeded(9));
    let now = std::time::Instant::now();
    let dead = OutboundProxy {
        host: "192.0.2.9".into(),
        port: None,
        transport: Some(Transport::Udp),
    };
    let call = stack
        .invite(now, by([dead, proxy("slow.test")].into()))
        .unwrap();
    stack.handle_unreachable(now, "192.0.2.9:5060".parse().unwrap(), Transport::Udp);
    stack.hang_up(now, call);
    let outputs: Vec<Output> = std::iter::from_fn(|| stack.poll_output()).collect();
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Resolve(_)))
    );
    assert!(
        matches!(outputs.last(), Some(Output::Event(Event::Ended { call: of, .. })) if *of == call)
    );
    assert_eq!(stack.calls(), 0);
}

fn rejected(event: &Event) -> Option<u16> {
    match event {
        Event::Rejected { status, .. } => Some(*status),
        _ => None,
    }
}

fn watch(proxies: Proxies) -> Watch {
    Watch {
        proxies,
        uri: "sip:example.com".into(),
        every: Duration::from_secs(30),
    }
}

/// What was told of targets: node and whether it lives.
fn told(world: &World) -> Vec<(SocketAddr, Option<bool>)> {
    let events = world.events[0].iter();
    let told = events.filter_map(|(_, event)| match event {
        Event::Target { addr, alive, .. } => Some((*addr, *alive)),
        _ => None,
    });
    told.collect()
}

#[test]
fn servers_are_asked_for_signs_of_life_and_the_silent_one_is_left_out_until_it_is_back() {
    let first = on();
    let mut world = World::new(vec![stack(0), server(&first, 486), stack(2)]);
    let list = proxies(&[1, 2]);
    let now = world.now;
    world.stack(0).watch(now, watch(list.clone()));
    world.run(Duration::from_secs(1));
    assert_eq!(told(&world), [(addr(1), Some(true)), (addr(2), Some(true))]);
    first.set(false);
    world.run(Duration::from_secs(90));
    assert_eq!(told(&world)[2..], [(addr(1), Some(false))]);
    // The call does not have to find out.
    let now = world.now;
    world.stack(0).invite(now, by(list.clone())).unwrap();
    world.run(Duration::from_millis(20));
    assert_eq!(world.count(2, |event| incoming(event).is_some()), 1);
    first.set(true);
    world.run(Duration::from_secs(60));
    assert_eq!(told(&world)[3..], [(addr(1), Some(true))]);
    let now = world.now;
    world.stack(0).invite(now, by(list)).unwrap();
    assert_eq!(
        world.until(0, rejected),
        486,
        "it is the first choice again"
    );
    // Two targets every 30 s, and what is repeated to the silent one.
    let asked = world.times(0, "OPTIONS").len();
    assert!((8..60).contains(&asked), "{asked}");
}

#[test]
fn targets_that_dns_names_no_more_are_forgotten_and_kept_while_dns_is_away() {
    let mut world = World::new(vec![stack(0), stack(1), stack(2)]);
    let udp = |node| (Transport::Udp, addr(node));
    world.names.insert("pbx.test".into(), vec![udp(1), udp(2)]);
    let now = world.now;
    world.stack(0).watch(now, watch([proxy("pbx.test")].into()));
    world.run(Duration::from_secs(1));
    world.names.clear();
    world.run(Duration::from_secs(31));
    assert_eq!(told(&world).len(), 2);
    world.names.insert("pbx.test".into(), vec![udp(2)]);
    world.run(Duration::from_secs(31));
    assert_eq!(told(&world)[2..], [(addr(1), None)]);
}

#[test]
fn a_binding_moves_to_the_next_proxy_when_its_own_falls_silent() {
    let first = on();
    let mut world = World::new(vec![stack(0), server(&first, 200), server(&on(), 200)]);
    let list = proxies(&[1, 2]);
    let now = world.now;
    world.stack(0).watch(now, watch(list.clone()));
    let binding = Register {
        registrar: "sip:example.com".into(),
        proxies: list,
        ..register()
    };
    world.stack(0).register(now, binding);
    world.run(Duration::from_secs(1));
    let to = |world: &World| -> Vec<usize> {
        let sent = world.log.iter();
        let sent = sent.filter(|sent| sent.from == 0 && sent.name() == "REGISTER");
        sent.map(|sent| sent.to).collect()
    };
    assert_eq!(to(&world), [1]);
    first.set(false);
    // 30 s to the next OPTIONS, 32 s of patience, 2 s of spread: long before the refresh at 500 s.
    world.run(Duration::from_secs(66));
    assert_eq!(to(&world), [1, 2]);
    assert_eq!(
        world.count(0, |event| matches!(event, Event::Registered { .. })),
        2
    );
}

/// A stack that is registered over a TCP connection, and that connection.
fn registered_over_tcp() -> (Stack, std::time::Instant, Peer) {
    let mut stack = Stack::new(config(0), seeded(5));
    let now = std::time::Instant::now();
    let binding = Register {
        registrar: "sip:192.0.2.2;transport=tcp".into(),
        ..register()
    };
    stack.register(now, binding);
    let Some(Output::Transmit(sent)) = stack.poll_output() else {
        panic!("REGISTER goes out")
    };
    let peer = Peer {
        connection: Some(ConnectionId(7)),
        ..sent.peer
    };
    let Ok(Message::Request(request)) = gateway_core::sip::message::parse(&sent.bytes) else {
        panic!("a request")
    };
    let mut response = response_to(&request, 200, "");
    let contact = request.headers.get("Contact").expect("REGISTER has one");
    response
        .headers
        .push("Contact", format!("{contact};expires=3600"));
    stack.handle_stream(now, peer, &response.to_bytes());
    assert!(matches!(
        stack.poll_output(),
        Some(Output::Event(Event::Registered { .. }))
    ));
    (stack, now, peer)
}

/// Goes on to the next thing that is sent.
fn next_sent(stack: &mut Stack) -> (std::time::Instant, Vec<Output>) {
    loop {
        let at = stack.poll_timeout().expect("something is to come");
        stack.handle_timeout(at);
        let outputs: Vec<Output> = std::iter::from_fn(|| stack.poll_output()).collect();
        if !outputs.is_empty() {
            return (at, outputs);
        }
    }
}

#[test]
fn a_connection_behind_which_somebody_is_registered_is_pinged_and_its_pong_awaited() {
    let (mut stack, start, peer) = registered_over_tcp();
    let mut before = start;
    for _ in 0..3 {
        let (at, outputs) = next_sent(&mut stack);
        assert!(
            matches!(&outputs[..], [Output::Transmit(sent)] if sent.bytes == b"\r\n\r\n"),
            "{outputs:?}"
        );
        let waited = (at - before).as_secs();
        assert!((95..=120).contains(&waited), "{waited} s");
        stack.handle_stream(at, peer, b"\r\n");
        assert_eq!(stack.poll_output(), None, "a pong is not half a ping");
        before = at;
    }
}

#[test]
fn a_connection_without_a_pong_is_closed_and_its_binding_made_anew() {
    let (mut stack, _, _) = registered_over_tcp();
    let (at, _) = next_sent(&mut stack);
    let (closed, outputs) = next_sent(&mut stack);
    assert_eq!(closed - at, Duration::from_secs(10));
    assert_eq!(outputs, [Output::Close(ConnectionId(7))]);
    let (again, outputs) = next_sent(&mut stack);
    assert!(again - closed <= Duration::from_secs(2));
    assert!(
        matches!(&outputs[..], [Output::Transmit(sent)] if sent.bytes.starts_with(b"REGISTER ")),
        "{outputs:?}"
    );
}
