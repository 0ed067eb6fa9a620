//! Two or more stacks and scripted peers on a link under virtual time: loss, reordering, and a log of all that was sent.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_core::Random;
use gateway_core::sip::message::{Message, Request, parse};
use gateway_core::sip::{
    CallHandle, Config, Credentials, Event, Invite, Listen, Output, Peer, Resolve, Stack, Transport,
};

/// One way over the link takes this long.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);

/// What answers at an address.
pub(crate) enum Node {
    Stack(Box<Stack>),
    /// Gets each request and returns the messages to send back to where it came from.
    Script(Script),
}

pub(crate) type Script = Box<dyn FnMut(&Request) -> Vec<Message>>;

/// One message as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) ms: u64,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) transport: Transport,
    pub(crate) text: String,
}

impl Sent {
    /// `INVITE`, `200 INVITE`, ...
    pub(crate) fn name(&self) -> String {
        match parse(self.text.as_bytes()) {
            Ok(Message::Request(request)) => request.method.to_string(),
            Ok(Message::Response(response)) => {
                format!(
                    "{} {}",
                    response.status,
                    response.headers.cseq().expect("parsed").1
                )
            }
            Err(_) => "?".into(),
        }
    }
}

/// What the link does with a message: its delay, or none if it is lost.
pub(crate) type Fate = Box<dyn FnMut(&Sent) -> Option<Duration>>;

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) log: Vec<Sent>,
    pub(crate) events: Vec<Vec<(u64, Event)>>,
    pub(crate) fate: Fate,
    pub(crate) names: BTreeMap<String, Vec<(Transport, SocketAddr)>>,
    /// Where nothing listens: an attempt is reported as unreachable.
    pub(crate) dead: Vec<(Transport, SocketAddr)>,
    in_flight: BTreeMap<(Instant, u64), (usize, Peer, Vec<u8>)>,
    count: u64,
}

/// The address of a node.
pub(crate) fn addr(node: usize) -> SocketAddr {
    format!("192.0.2.{}:5060", node + 1)
        .parse()
        .expect("an address")
}

pub(crate) fn seeded(seed: u64) -> Random {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Random::new(move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 24) as u8;
        }
    })
}

pub(crate) fn config(node: usize) -> Config {
    let listen = |transport| Listen {
        transport,
        addr: addr(node),
        advertised: None,
    };
    Config {
        listen: vec![listen(Transport::Udp), listen(Transport::Tcp)],
        ..Config::default()
    }
}

pub(crate) fn stack(node: usize) -> Node {
    stack_with(node, config(node))
}

pub(crate) fn stack_with(node: usize, config: Config) -> Node {
    Node::Stack(Box::new(Stack::new(config, seeded(node as u64 + 77))))
}

/// An INVITE from node 0's user to a user at node 1.
pub(crate) fn invite() -> Invite {
    Invite {
        to: "sip:bob@192.0.2.2".into(),
        from: "sip:alice@192.0.2.1".into(),
        display_name: Some("Alice \"A\"".into()),
        credentials: Some(Credentials {
            user: "alice".into(),
            password: "secret".into(),
        }),
        sdp: Some("v=0\r\no=offer\r\n".into()),
        headers: vec![("X-Ticket".into(), "42".into())],
        ..Invite::default()
    }
}

impl World {
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            events: nodes.iter().map(|_| Vec::new()).collect(),
            nodes,
            log: Vec::new(),
            fate: Box::new(|_| Some(LATENCY)),
            names: BTreeMap::new(),
            dead: Vec::new(),
            in_flight: BTreeMap::new(),
            count: 0,
        }
    }

    /// Two user agents without loss.
    pub(crate) fn pair() -> Self {
        Self::new(vec![stack(0), stack(1)])
    }

    /// Loses the messages whose place in the log fits.
    pub(crate) fn lose(&mut self, mut lost: impl FnMut(&Sent) -> bool + 'static) {
        self.fate = Box::new(move |sent| (!lost(sent)).then_some(LATENCY));
    }

    pub(crate) fn stack(&mut self, node: usize) -> &mut Stack {
        match &mut self.nodes[node] {
            Node::Stack(stack) => stack,
            Node::Script(_) => panic!("node {node} is a script"),
        }
    }

    pub(crate) fn ms(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    /// Goes on for a time; whatever falls into it happens.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.drain();
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.advance(next);
        }
        self.now = end;
    }

    /// Goes on until an event of a node fits, and returns what `pick` makes of it.
    pub(crate) fn until<T>(&mut self, node: usize, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut seen = 0;
        loop {
            self.drain();
            if let Some(found) = self.events[node][seen..]
                .iter()
                .find_map(|(_, event)| pick(event))
            {
                return found;
            }
            seen = self.events[node].len();
            let Some(next) = self
                .next()
                .filter(|next| *next < self.start + Duration::from_secs(4000))
            else {
                panic!(
                    "never happened; events {:#?}, sent {:#?}",
                    self.events,
                    self.names_sent()
                );
            };
            self.advance(next);
        }
    }

    /// Goes on until nothing is left to happen, at most for an hour.
    pub(crate) fn settle(&mut self) {
        self.drain();
        let end = self.now + Duration::from_secs(3600);
        while let Some(next) = self.next().filter(|next| *next < end) {
            self.advance(next);
        }
    }

    /// Who sent what, as `0 INVITE`.
    pub(crate) fn names_sent(&self) -> Vec<String> {
        self.log
            .iter()
            .map(|sent| format!("{} {} {}", sent.ms, sent.from, sent.name()))
            .collect()
    }

    /// When a node sent messages of that name.
    pub(crate) fn times(&self, from: usize, name: &str) -> Vec<u64> {
        self.log
            .iter()
            .filter(|sent| sent.from == from && sent.name() == name)
            .map(|sent| sent.ms)
            .collect()
    }

    /// What a node sent under that name.
    pub(crate) fn messages(&self, from: usize, name: &str) -> Vec<Message> {
        let sent = self.log.iter();
        let sent = sent.filter(|sent| sent.from == from && sent.name() == name);
        sent.map(|sent| parse(sent.text.as_bytes()).expect("a message"))
            .collect()
    }

    /// A header of the last message of that name.
    pub(crate) fn header(&self, from: usize, name: &str, header: &str) -> Option<String> {
        let last = self.messages(from, name).pop()?;
        last.headers().get(header).map(str::to_owned)
    }

    /// The last request of that method that a node sent.
    pub(crate) fn request(&self, from: usize, name: &str) -> Request {
        match self.messages(from, name).pop() {
            Some(Message::Request(request)) => request,
            other => panic!("no {name}: {other:?}"),
        }
    }

    /// How many events of a node fit.
    pub(crate) fn count(&self, node: usize, fits: impl Fn(&Event) -> bool) -> usize {
        self.events[node]
            .iter()
            .filter(|(_, event)| fits(event))
            .count()
    }

    /// Alice calls, Bob answers, and the ACK has come: both handles.
    pub(crate) fn talk(&mut self) -> (CallHandle, CallHandle) {
        let (ours, theirs) = self.ring();
        let now = self.now;
        self.stack(1)
            .accept(now, theirs, "v=0\r\no=answer\r\n".into());
        self.until(0, |event| {
            matches!(event, Event::Answered { .. }).then_some(())
        });
        self.until(1, |event| {
            matches!(event, Event::Confirmed { .. }).then_some(())
        });
        (ours, theirs)
    }

    /// Alice calls and Bob's side has the call.
    pub(crate) fn ring(&mut self) -> (CallHandle, CallHandle) {
        let now = self.now;
        let ours = self.stack(0).invite(now, invite()).expect("a good URI");
        (ours, self.until(1, incoming))
    }

    /// Lets bytes arrive at a node at a time after the start.
    pub(crate) fn later(&mut self, at: Duration, from: SocketAddr, to: usize, bytes: Vec<u8>) {
        let peer = Peer {
            transport: Transport::Udp,
            local: addr(to),
            remote: from,
            connection: None,
        };
        self.count += 1;
        self.in_flight
            .insert((self.start + at, self.count), (to, peer, bytes));
    }

    /// Sends bytes of no stack to a node.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let (now, peer) = (
            self.now,
            Peer {
                transport: Transport::Udp,
                local: addr(to),
                remote: from,
                connection: None,
            },
        );
        self.stack(to).handle_datagram(now, peer, bytes);
        self.drain();
    }

    fn next(&self) -> Option<Instant> {
        let timeouts = self.nodes.iter().filter_map(|node| match node {
            Node::Stack(stack) => stack.poll_timeout(),
            Node::Script(_) => None,
        });
        timeouts
            .chain(self.in_flight.keys().map(|(at, _)| *at))
            .min()
    }

    fn advance(&mut self, next: Instant) {
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self
            .in_flight
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            let (to, peer, bytes) = entry.remove();
            self.deliver(to, peer, &bytes);
            self.drain();
        }
        for node in 0..self.nodes.len() {
            if let Node::Stack(stack) = &mut self.nodes[node]
                && stack.poll_timeout().is_some_and(|at| at <= now)
            {
                stack.handle_timeout(now);
                self.drain();
            }
        }
    }

    fn deliver(&mut self, to: usize, peer: Peer, bytes: &[u8]) {
        let now = self.now;
        match &mut self.nodes[to] {
            Node::Stack(stack) if peer.transport == Transport::Tcp => {
                stack.handle_stream(now, peer, bytes)
            }
            Node::Stack(stack) => stack.handle_datagram(now, peer, bytes),
            Node::Script(script) => {
                let Ok(Message::Request(request)) = parse(bytes) else {
                    return;
                };
                let back = Peer {
                    local: peer.local,
                    remote: peer.remote,
                    ..peer
                };
                for message in script(&request) {
                    self.put(to, back, message.to_bytes());
                }
            }
        }
    }

    fn drain(&mut self) {
        for node in 0..self.nodes.len() {
            let mut outputs = VecDeque::new();
            if let Node::Stack(stack) = &mut self.nodes[node] {
                outputs.extend(std::iter::from_fn(|| stack.poll_output()));
            }
            let any = !outputs.is_empty();
            for output in outputs {
                self.output(node, output);
            }
            if any {
                return self.drain();
            }
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let (now, ms) = (self.now, self.ms());
        match output {
            Output::Transmit(transmit)
                if self
                    .dead
                    .contains(&(transmit.peer.transport, transmit.peer.remote)) =>
            {
                self.stack(node).handle_unreachable(
                    now,
                    transmit.peer.remote,
                    transmit.peer.transport,
                );
            }
            Output::Transmit(transmit) => self.put(node, transmit.peer, transmit.bytes),
            Output::Resolve(Resolve { query, host, .. }) => {
                let found = self
                    .names
                    .get(&host)
                    .cloned()
                    .ok_or_else(|| "no such name".to_owned());
                self.stack(node).handle_resolved(now, query, found);
            }
            Output::Close(_) => {}
            Output::Event(event) => self.events[node].push((ms, event)),
        }
    }

    fn put(&mut self, from: usize, peer: Peer, bytes: Vec<u8>) {
        let Some(to) = (0..self.nodes.len()).find(|node| addr(*node).ip() == peer.remote.ip())
        else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let sent = Sent {
            ms: self.ms(),
            from,
            to,
            transport: peer.transport,
            text,
        };
        self.log.push(sent.clone());
        let Some(delay) = (self.fate)(&sent) else {
            return;
        };
        self.count += 1;
        let connection = (peer.transport == Transport::Tcp).then(|| {
            gateway_core::sip::ConnectionId(1 + from.min(to) as u64 * 100 + from.max(to) as u64)
        });
        let arrival = Peer {
            transport: peer.transport,
            local: peer.remote,
            remote: addr(from),
            connection,
        };
        self.in_flight
            .insert((self.now + delay, self.count), (to, arrival, bytes));
    }
}

pub(crate) fn incoming(event: &Event) -> Option<CallHandle> {
    match event {
        Event::Incoming { call, .. } => Some(*call),
        _ => None,
    }
}

pub(crate) fn is_last(event: &Event) -> bool {
    matches!(
        event,
        Event::Rejected { .. } | Event::Cancelled { .. } | Event::Ended { .. }
    )
}
