//! A page, the gateway core and a SIP peer on a virtual network with virtual time, loss and reordering from a seed.
//!
//! Flows are executed by `flow::forward_payload` as the userspace datapath does it. After every step the world checks that the
//! installed flows are exactly those of connected calls.

mod daemon;
mod network;

use crate::page::Page;
use flow::{
    Egress, Exit, FlowEntry, FlowKey, FlowSpec, FlowState, FlowStats, Scratch, forward_payload,
};
use gateway_core::Random;
use gateway_core::api::{
    CallId, CallState, Event, Path, PathView, Problem, Reply, Request, SessionId,
};
use gateway_core::gateway::{
    Config, FlowId, Gateway, Input, Latching, Limits, MediaPorts, Output, PortsError, RequestId,
    Web,
};
use gateway_core::sdp::{CodecPolicy, SrtpPolicy, SrtpUse};
use gateway_core::sip;
use gateway_core::trunk::{HeaderPolicy, Numbers, ReferPolicy, Trunk};
use gateway_core::webrtc::Certificate;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ONE_WAY: Duration = Duration::from_millis(5);
pub(crate) const MEDIA: &str = "192.0.2.1:40000";
const PAGE: &str = "198.51.100.7:50000";
const GATEWAY_SIP: &str = "10.0.0.1:5060";
pub(crate) const PEER_SIP: &str = "10.0.0.2:5060";
pub(crate) const PEER_RTP: &str = "10.0.0.2:7000";
pub(crate) const PEER_VIDEO: &str = "10.0.0.2:7002";

/// What crosses the virtual network.
enum Packet {
    ToGateway {
        local: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    ToPage {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// To the place in [`World::phones`].
    ToPhone {
        phone: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    SipToGateway(Vec<u8>),
    SipToPeer(Vec<u8>),
}

struct Installed {
    key: FlowKey,
    entry: FlowEntry,
    state: FlowState,
    stats: FlowStats,
    /// By medium.
    egress: [Option<(SocketAddr, SocketAddr)>; flow::MEDIA],
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) gateway: Gateway,
    pub(crate) page: Page,
    /// The SIP side's, where it runs ICE and DTLS.
    pub(crate) phones: Vec<Page>,
    pub(crate) peer: sip::Stack,
    pub(crate) peer_events: VecDeque<sip::Event>,
    pub(crate) events: Vec<Event>,
    replies: HashMap<u64, Result<Reply, Problem>>,
    /// Requests without a reply.
    pub(crate) waiting: HashSet<u64>,
    next_request: u64,
    queue: BTreeMap<(Instant, u64), Packet>,
    serial: u64,
    random: Random,
    /// The gateway panics when it draws random bytes for the so-manieth time from now on; 0 = it does not.
    pub(crate) fuse: Arc<AtomicU32>,
    pub(crate) loss_percent: u32,
    pub(crate) jitter: Duration,
    /// Media between page and gateway is cut.
    pub(crate) cut: bool,
    /// When something was sent to a page that is cut off.
    pub(crate) unheard: Vec<Instant>,
    /// When a flow was last removed.
    pub(crate) removed: Option<Instant>,
    flows: BTreeMap<FlowId, Installed>,
    scratch: Box<Scratch>,
    pub(crate) ports: Vec<MediaPorts>,
    pub(crate) no_ports: bool,
    /// Ports are opened only by [`Self::answer_ports`].
    pub(crate) slow_ports: bool,
    opening: Vec<(CallId, Result<Vec<MediaPorts>, PortsError>)>,
    /// Calls of which nothing may be told any more.
    over: HashSet<CallId>,
    /// Ports of calls that are not over.
    pub(crate) open_ports: Vec<MediaPorts>,
    /// The description that the SIP side puts into its next ACK.
    pub(crate) ack_sdp: Option<String>,
    /// The dialog that the peer's newest REFER names, as the value of a Replaces header.
    pub(crate) replaces: Option<String>,
    /// The dialog that somebody rings in since lately, as the value of a Replaces header for the gateway.
    pub(crate) ringing: Option<String>,
    /// What the gateway sent to the SIP side.
    pub(crate) sip_log: Vec<String>,
    /// The registrar does not answer.
    pub(crate) registrar_away: bool,
    /// RTP that the SIP side got, in order.
    pub(crate) peer_heard: Vec<Vec<u8>>,
    /// The same of its video port.
    pub(crate) peer_seen: Vec<Vec<u8>>,
    /// RTCP that the SIP side got.
    pub(crate) peer_rtcp: Vec<Vec<u8>>,
    /// RTP datagrams that no flow took.
    pub(crate) missed: usize,
    start: Instant,
    /// INFO requests that the SIP side got, whatever became of them.
    pub(crate) peer_infos: usize,
    /// Contact user of the newest REGISTER.
    pub(crate) contact_user: Option<String>,
}

pub(crate) fn seeded(seed: u64) -> Random {
    let mut state = seed;
    Random::new(move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        }
    })
}

/// The same bytes, from a source that panics when its fuse has burnt down.
fn fused(mut random: Random, fuse: &Arc<AtomicU32>) -> Random {
    let fuse = Arc::clone(fuse);
    Random::new(move |bytes| {
        let burn = |left: u32| left.checked_sub(1);
        let before = fuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, burn);
        assert_ne!(before, Ok(1), "the fuse of the test");
        random.fill(bytes);
    })
}

pub(crate) fn sip_config(addr: &str) -> sip::Config {
    let listen = sip::Listen {
        transport: sip::Transport::Udp,
        addr: addr.parse().unwrap(),
        advertised: None,
    };
    sip::Config {
        listen: vec![listen],
        ..sip::Config::default()
    }
}

/// The SIP peer as a trunk, with nothing agreed beforehand.
pub(crate) fn trunk(name: &str) -> Trunk {
    let proxy = sip::OutboundProxy {
        host: "10.0.0.2".into(),
        port: Some(5060),
        transport: Some(sip::Transport::Udp),
    };
    Trunk {
        name: name.into(),
        proxies: [proxy].into(),
        domain: None,
        credentials: None,
        destinations: Vec::new(),
        sources: Vec::new(),
        codecs: CodecPolicy {
            audio: ["PCMU", "PCMA", "G722", "opus"].map(String::from).to_vec(),
            video: ["VP8", "H264"].map(String::from).to_vec(),
        },
        srtp: SrtpPolicy {
            usage: SrtpUse::Accept,
            suites: flow::Suite::ALL.to_vec(),
        },
        headers: HeaderPolicy::default(),
        numbers: Numbers::default(),
        calls: None,
        calls_per_second: None,
        refer: ReferPolicy::Refuse,
        watch: None,
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::configured(seed, |_| {})
    }

    /// With another configuration than the usual one.
    pub(crate) fn configured(seed: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let now = Instant::now();
        let mut random = seeded(seed);
        let certificate = Arc::new(Certificate::generate(&mut random, SystemTime::now()).unwrap());
        let mut config = Config {
            sip: sip_config(GATEWAY_SIP),
            domain: "example.org".into(),
            data_prefix: "X-Data-".into(),
            guests: true,
            web: Web {
                listen: vec![MEDIA.parse().unwrap()],
                advertised: Vec::new(),
                tcp: Vec::new(),
                connect_timeout: Duration::from_secs(15),
                srtp_suites: gateway_core::webrtc::DTLS_SUITES.to_vec(),
            },
            trunks: vec![trunk("default")],
            latching: Latching::Signalled,
            sip_media_ipv6: false,
            sip_dscp: 46,
            web_dscp: 46,
            packet_rate_margin: 8,
            registration_expires: Duration::from_secs(600),
            limits: Limits {
                calls: 4,
                sessions: 4,
                calls_per_session: 2,
                no_answer: Duration::from_secs(60),
                reconnect: Duration::ZERO,
                session_idle: Duration::from_secs(3600),
            },
        };
        configure(&mut config);
        let fuse = Arc::new(AtomicU32::new(0));
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self {
            now,
            gateway: Gateway::new(config, fused(random.fork(), &fuse), certificate, now, wall),
            page: Page::new(now, PAGE.parse().unwrap()),
            phones: Vec::new(),
            peer: sip::Stack::new(sip_config(PEER_SIP), random.fork()),
            peer_events: VecDeque::new(),
            events: Vec::new(),
            replies: HashMap::new(),
            waiting: HashSet::new(),
            next_request: 1,
            queue: BTreeMap::new(),
            serial: 0,
            random,
            fuse,
            loss_percent: 0,
            jitter: Duration::ZERO,
            cut: false,
            unheard: Vec::new(),
            removed: None,
            flows: BTreeMap::new(),
            scratch: Box::new(Scratch::new()),
            ports: Vec::new(),
            no_ports: false,
            slow_ports: false,
            opening: Vec::new(),
            over: HashSet::new(),
            open_ports: Vec::new(),
            ack_sdp: None,
            replaces: None,
            ringing: None,
            sip_log: Vec::new(),
            registrar_away: false,
            peer_heard: Vec::new(),
            peer_seen: Vec::new(),
            peer_rtcp: Vec::new(),
            missed: 0,
            start: now,
            peer_infos: 0,
            contact_user: None,
        }
    }

    fn monotonic_ns(&self) -> u64 {
        1_000_000_000 + u64::try_from((self.now - self.start).as_nanos()).unwrap()
    }

    /// Sends a request without waiting for its reply.
    pub(crate) fn ask(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        self.waiting.insert(id);
        self.gateway
            .handle(self.now, Input::Request(RequestId(id), request));
        self.settle();
        id
    }

    /// The reply to [`Self::ask`], if it came.
    pub(crate) fn reply(&mut self, id: u64) -> Option<Result<Reply, Problem>> {
        self.replies.remove(&id)
    }

    /// Sends a request and returns its reply, which may take virtual time.
    pub(crate) fn request(&mut self, request: Request) -> Result<Reply, Problem> {
        let id = self.ask(request);
        for _ in 0..400 {
            if let Some(reply) = self.replies.remove(&id) {
                return reply;
            }
            self.advance(Duration::from_millis(100));
        }
        panic!("no reply within 40 s of virtual time");
    }

    /// Runs until the condition holds or the virtual time is over.
    pub(crate) fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) {
        let end = self.now + limit;
        while !done(self) {
            assert!(
                self.now < end,
                "not within {limit:?}: {what}; events {:?}",
                self.events
            );
            self.advance(Duration::from_millis(5));
        }
    }

    /// Runs everything that happens in this span.
    pub(crate) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timers = [
                self.gateway.poll_timeout(),
                self.peer.poll_timeout(),
                Some(self.page.poll_timeout()),
                next,
            ];
            let phones = self.phones.iter().map(|phone| Some(phone.poll_timeout()));
            let timers = timers.into_iter().chain(phones);
            let Some(at) = timers.flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
        self.step();
    }

    fn step(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let packet = entry.remove();
            self.deliver(packet);
        }
        if self.gateway.poll_timeout().is_some_and(|at| at <= self.now) {
            self.gateway.handle(self.now, Input::Timeout);
        }
        if self.peer.poll_timeout().is_some_and(|at| at <= self.now) {
            self.peer.handle_timeout(self.now);
        }
        if self.page.poll_timeout() <= self.now {
            self.page.handle_timeout(self.now);
        }
        for phone in &mut self.phones {
            if phone.poll_timeout() <= self.now {
                phone.handle_timeout(self.now);
            }
        }
        self.settle();
    }

    /// Drains everybody until nothing is left to do at this moment.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(output) = self.gateway.poll_output() {
                quiet = false;
                self.execute(output);
            }
            while let Some(output) = self.peer.poll_output() {
                quiet = false;
                match output {
                    sip::Output::Transmit(transmit) => self.peer_sends(transmit.bytes),
                    sip::Output::Event(event) => self.peer_events.push_back(event),
                    sip::Output::Resolve(_) | sip::Output::Close(_) => {
                        panic!("the peer has fixed addresses")
                    }
                }
            }
            for (to, bytes) in std::mem::take(&mut self.page.sent) {
                quiet = false;
                if !self.cut {
                    let packet = Packet::ToGateway {
                        local: to,
                        remote: self.page.addr,
                        bytes,
                    };
                    self.send(packet, true);
                }
            }
            for index in 0..self.phones.len() {
                let remote = self.phones[index].addr;
                for (local, bytes) in std::mem::take(&mut self.phones[index].sent) {
                    quiet = false;
                    let packet = Packet::ToGateway {
                        local,
                        remote,
                        bytes,
                    };
                    self.send(packet, true);
                }
            }
            if quiet {
                break;
            }
        }
        let count = |wanted: CallState| {
            let in_state = self.gateway.calls().filter(|state| *state == wanted);
            in_state.count()
        };
        // Two flows each, three with video. Calls with early media have flows before they are answered.
        let (flows, connected) = (self.flows.len(), count(CallState::Connected));
        assert!(flows >= 2 * connected, "a call without flows");
        assert!(
            flows <= 3 * (connected + count(CallState::Ringing)),
            "flows without a call"
        );
    }

    pub(crate) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// The next event of the SIP peer that the function takes.
    pub(crate) fn peer_event<T>(
        &mut self,
        what: &str,
        mut take: impl FnMut(&sip::Event) -> Option<T>,
    ) -> T {
        let mut found = None;
        self.until(Duration::from_secs(40), what, |world| {
            while let Some(event) = world.peer_events.pop_front() {
                found = take(&event);
                if found.is_some() {
                    return true;
                }
            }
            false
        });
        found.expect("until() returned")
    }

    /// The next event of the page that the function takes; earlier ones are dropped.
    pub(crate) fn event<T>(&mut self, what: &str, mut take: impl FnMut(&Event) -> Option<T>) -> T {
        let mut found = None;
        self.until(Duration::from_secs(40), what, |world| {
            while !world.events.is_empty() {
                let event = world.events.remove(0);
                found = take(&event);
                if found.is_some() {
                    return true;
                }
            }
            false
        });
        found.expect("until() returned")
    }

    pub(crate) fn guest(&mut self) -> SessionId {
        let body = gateway_core::api::CreateSession {
            user: None,
            password: None,
            display_name: None,
            ..gateway_core::api::CreateSession::default()
        };
        match self.request(Request::CreateSession(body, None)) {
            Ok(Reply::SessionCreated(created)) => created.id,
            _ => panic!("a guest signs in"),
        }
    }
}
