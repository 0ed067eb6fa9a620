//! The peer without sockets and clock: messages and time in, messages and events out.
//!
//! 1. A request gets the address that it came from into its Via; a retransmission of one that was answered here is answered alike.
//! 2. Requests inside our own calls go to `uas`, REGISTER to the registrar, calls to a service to `uas`, all else to `relay`.
//! 3. A response under a branch of ours goes to `uac`, all others on to the next Via.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway_core::Random;
use gateway_core::sip::message::{
    Message, Method, Request, Response, Via, find_param, parse, response_to,
};
use gateway_core::sip::{SipUri, Transport};

use super::call::{Call, Key, Phase, Service};
use super::registrar::Registrar;
use super::report::{CallReport, Counters, Event};
use super::{Config, relay};
use crate::media::{Endpoint, MediaStats, Plan};

/// 64*T1 (RFC 3261 section 17): how long answers are kept for retransmissions.
const KEEP: Duration = Duration::from_secs(32);
const MAX_RECENT: usize = 20_000;
const MAX_CALLS: usize = 2000;
const MAX_ENDED: usize = 1000;
/// Of every request that we understand.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, INFO";
/// Branches of our own requests begin so; the proxy's do not.
pub(super) const OWN_BRANCH: &str = "z9hG4bKown";

/// Where a message goes, or came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) transport: Transport,
    pub(super) remote: SocketAddr,
}

/// What the shell has to do.
#[derive(Debug)]
pub(super) enum Output {
    /// Send; over TCP by an open connection with that address, or by a new one.
    Send(Hop, Vec<u8>),
    /// Tell.
    Event(Box<Event>),
}

/// One end of a call's media, as the calls see it.
pub(super) trait MediaEnd {
    fn local(&self) -> SocketAddr;
    fn start(&self, plan: Plan);
    fn stats(&self) -> MediaStats;
}

impl MediaEnd for Endpoint {
    fn local(&self) -> SocketAddr {
        self.local()
    }

    fn start(&self, plan: Plan) {
        self.start(plan);
    }

    fn stats(&self) -> MediaStats {
        self.stats()
    }
}

pub(super) type OpenMedia = Box<dyn FnMut() -> io::Result<Box<dyn MediaEnd>>>;

/// The peer.
pub(super) struct Core {
    pub(super) config: Config,
    /// The bound address.
    pub(super) local: SocketAddr,
    pub(super) random: Random,
    pub(super) registrar: Registrar,
    pub(super) counters: Counters,
    pub(super) calls: HashMap<Key, Call>,
    pub(super) open_media: OpenMedia,
    ended: VecDeque<(u64, CallReport)>,
    recent: HashMap<String, (Instant, Vec<u8>)>,
    /// Open TCP connections by their far address.
    connections: HashSet<SocketAddr>,
    out: VecDeque<Output>,
    /// Numbers the calls.
    serial: u64,
    /// Makes the proxy's branches unlike those of another.
    salt: String,
}

impl Core {
    pub(super) fn new(
        config: Config,
        local: SocketAddr,
        mut random: Random,
        open_media: OpenMedia,
    ) -> Self {
        let registrar = Registrar::new(
            config.users.clone(),
            config.domain.clone(),
            config.algorithms.clone(),
        );
        Self {
            local,
            registrar,
            counters: Counters::default(),
            calls: HashMap::new(),
            open_media,
            ended: VecDeque::new(),
            recent: HashMap::new(),
            connections: HashSet::new(),
            out: VecDeque::new(),
            serial: 0,
            salt: random.token(8),
            random,
            config,
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(super) fn handle_connected(&mut self, remote: SocketAddr) {
        self.connections.insert(remote);
    }

    pub(super) fn handle_closed(&mut self, remote: SocketAddr) {
        self.connections.remove(&remote);
    }

    pub(super) fn is_connected(&self, remote: &SocketAddr) -> bool {
        self.connections.contains(remote)
    }

    /// Takes one message in.
    pub(super) fn handle_message(&mut self, now: Instant, from: Hop, bytes: &[u8]) {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match parse(bytes) {
            Ok(Message::Request(request)) => {
                self.counters.requests += 1;
                self.handle_request(now, from, request);
            }
            Ok(Message::Response(response)) => {
                self.counters.responses += 1;
                self.handle_response(now, response);
            }
            Err(error) => {
                self.counters.malformed += 1;
                if let Some(mut request) = error.request {
                    stamp(&mut request, from);
                    self.answer(now, &request, error.status, error.reason);
                }
            }
        }
    }

    /// A message could not be sent over TCP. Who waits for an answer gets one.
    pub(super) fn handle_unreachable(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(Message::Request(mut request)) = parse(bytes) else {
            return;
        };
        if request.method == Method::Ack {
            return;
        }
        let own = request
            .headers
            .via()
            .is_some_and(|via| via.branch().starts_with(OWN_BRANCH));
        let mut response = response_to(&request, 503, "");
        if own {
            self.handle_response(now, response);
        } else {
            request.headers.remove_first("Via");
            response.headers.remove_first("Via");
            self.send_response(&response);
        }
    }

    fn handle_request(&mut self, now: Instant, from: Hop, mut request: Request) {
        stamp(&mut request, from);
        let known = self.recent.get(&recent_key(&request));
        if let Some((_, bytes)) = known.filter(|_| request.method != Method::Ack) {
            let bytes = bytes.clone();
            if let Some(hop) = request.headers.via().as_ref().and_then(Hop::of_via) {
                self.send(hop, bytes);
            }
            return;
        }
        // A route to us has brought the request here and is done.
        let route = request.headers.get("Route").and_then(relay::route_uri);
        if route.is_some_and(|route| self.is_own(&route)) {
            request.headers.remove_first("Route");
        }
        if let Some(key) = self.own_call(&request) {
            self.handle_own(now, &key, request);
            return;
        }
        let uri = SipUri::parse(&request.uri).filter(|uri| self.is_own(uri));
        let Some(uri) = uri else {
            self.relay_request(now, &request);
            return;
        };
        let service = uri.user.as_deref().and_then(Service::of_user);
        match (&request.method, service) {
            (Method::Register, _) => self.register(now, from, &request),
            (Method::Ack, Some(_)) => {}
            (Method::Cancel, Some(_)) => self.answer(now, &request, 481, ""),
            (Method::Invite, Some(service)) if request.headers.to_tag().is_none() => {
                self.incoming(now, from, request, service);
            }
            (Method::Options, service) if service.is_some() || uri.user.is_none() => {
                self.answer(now, &request, 200, "");
            }
            (_, Some(_)) if request.headers.to_tag().is_some() => {
                self.answer(now, &request, 481, "");
            }
            (_, Some(_)) => self.answer(now, &request, 405, ""),
            (_, None) => self.relay_request(now, &request),
        }
    }

    fn handle_response(&mut self, now: Instant, response: Response) {
        let Some(via) = response.headers.via() else {
            return;
        };
        if via.branch().starts_with(OWN_BRANCH) {
            self.handle_own_response(now, via.branch(), &response);
        } else {
            self.relay_response(response);
        }
    }

    fn register(&mut self, now: Instant, from: Hop, request: &Request) {
        let (response, event) =
            self.registrar
                .register(now, from, request, &mut self.random, &mut self.counters);
        self.respond(now, request, response);
        if let Some(event) = event {
            self.tell(event);
        }
    }

    /// The call of ours that a request belongs to: by the tags of its dialog, or by the INVITE's branch.
    fn own_call(&self, request: &Request) -> Option<Key> {
        let call_id = request.headers.call_id();
        if let Some(tag) = request.headers.to_tag() {
            let key = Key::new(call_id, tag);
            return self.calls.contains_key(&key).then_some(key);
        }
        let branch = request.headers.via()?.branch().to_owned();
        let wanted = |call: &&Call| call.key.call_id == call_id && call.invite_branch() == branch;
        let call = self.calls.values().find(wanted)?;
        Some(call.key.clone())
    }

    /// Whether a URI names this peer: its domain, or the address that it listens on.
    pub(super) fn is_own(&self, uri: &SipUri) -> bool {
        let port = uri.port.unwrap_or(5060);
        let ours = uri.host.eq_ignore_ascii_case(&self.config.domain)
            && uri.port.is_none_or(|port| port == self.local.port());
        let name = uri.host.eq_ignore_ascii_case("localhost") && self.local.ip().is_loopback();
        let address = uri.ip() == Some(self.local.ip());
        let bare = uri.ip() == Some(self.local.ip()) && uri.port.is_none();
        ours || bare || ((name || address) && port == self.local.port())
    }

    /// Answers a request with a status that ends its transaction, in or outside of dialogs.
    pub(super) fn answer(&mut self, now: Instant, request: &Request, status: u16, reason: &str) {
        let mut response = response_to(request, status, reason);
        response.headers.push("Allow", ALLOW);
        self.respond(now, request, response);
    }

    /// Sends a final response, and keeps it for retransmissions of the request.
    pub(super) fn respond(&mut self, now: Instant, request: &Request, mut response: Response) {
        self.add_to_tag(&mut response);
        if request.method == Method::Ack {
            return;
        }
        self.remember(now, recent_key(request), response.to_bytes());
        self.send_response(&response);
    }

    pub(super) fn add_to_tag(&mut self, response: &mut Response) {
        let to = response.headers.get("To").unwrap_or_default().to_owned();
        if response.status > 100 && find_param(&to, "tag").is_none() {
            let tag = self.random.token(10);
            response.headers.set("To", format!("{to};tag={tag}"));
        }
    }

    /// Sends a response where its topmost Via says.
    pub(super) fn send_response(&mut self, response: &Response) {
        if let Some(hop) = response.headers.via().as_ref().and_then(Hop::of_via) {
            self.send(hop, response.to_bytes());
        }
    }

    pub(super) fn send(&mut self, hop: Hop, bytes: Vec<u8>) {
        self.out.push_back(Output::Send(hop, bytes));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(Box::new(event)));
    }

    pub(super) fn remember(&mut self, now: Instant, key: String, bytes: Vec<u8>) {
        if self.recent.len() >= MAX_RECENT {
            self.recent.retain(|_, (until, _)| *until > now);
        }
        if self.recent.len() < MAX_RECENT {
            self.recent.insert(key, (now + KEEP, bytes));
        }
    }

    pub(super) fn remembered(&self, key: &str) -> Option<&Vec<u8>> {
        self.recent.get(key).map(|(_, bytes)| bytes)
    }

    /// The Via of a request that leaves.
    pub(super) fn via(&self, transport: Transport, branch: &str) -> String {
        format!(
            "SIP/2.0/{} {};branch={branch};rport",
            transport.as_str(),
            self.local
        )
    }

    /// The branch under which a request is passed on: always the same for the same incoming branch, so that CANCEL and the ACK of
    /// a refusal find their INVITE's transaction (RFC 3261 section 16.11).
    pub(super) fn relay_branch(&self, via: &Via) -> String {
        let text = format!("{}|{}|{:?}|{}", self.salt, via.host, via.port, via.branch());
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hex: String = digest.as_ref()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("z9hG4bKvia{hex}")
    }

    /// Takes a call out, lets it change, and puts it back or away.
    pub(super) fn with_call(&mut self, key: &Key, change: impl FnOnce(&mut Self, &mut Call)) {
        let Some(mut call) = self.calls.remove(key) else {
            return;
        };
        change(self, &mut call);
        if matches!(call.phase, Phase::Over) {
            self.finish(&call);
        } else {
            self.calls.insert(call.key.clone(), call);
        }
    }

    pub(super) fn finish(&mut self, call: &Call) {
        let report = call.report();
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((call.serial, report.clone()));
        self.tell(Event::CallEnded(report));
    }

    pub(super) fn has_room(&self) -> bool {
        self.calls.len() < MAX_CALLS
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// All calls in the order of their beginning.
    pub(super) fn reports(&self, _now: Instant) -> Vec<CallReport> {
        let live = self.calls.values().map(|call| (call.serial, call.report()));
        let mut all: Vec<_> = self.ended.iter().cloned().chain(live).collect();
        all.sort_by_key(|(serial, _)| *serial);
        all.into_iter().map(|(_, report)| report).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.calls.values().filter_map(Call::deadline).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let due = self
            .calls
            .values()
            .filter(|call| call.deadline().is_some_and(|at| at <= now));
        let due: Vec<Key> = due.map(|call| call.key.clone()).collect();
        for key in due {
            self.with_call(&key, |core, call| core.call_timeout(now, call));
        }
    }
}

impl Hop {
    /// The address of a URI whose host is an IP literal.
    pub(super) fn of_uri(uri: &SipUri) -> Option<Self> {
        Some(Self {
            transport: uri.transport().ok()?.unwrap_or(Transport::Udp),
            remote: uri.address()?,
        })
    }

    /// Where requests to a contact go: over the connection by which it was told, else to its address, else back.
    pub(super) fn of_contact(uri: &SipUri, from: Self) -> Self {
        if from.transport == Transport::Tcp {
            return from;
        }
        Self::of_uri(uri).unwrap_or(from)
    }

    /// Where a response goes (RFC 3261 section 18.2.2, RFC 3581 section 4).
    pub(super) fn of_via(via: &Via) -> Option<Self> {
        let host = via.param("received").unwrap_or(&via.host);
        let ip = host.trim_matches(['[', ']']).parse().ok()?;
        let rport = via.param("rport").and_then(|port| port.parse().ok());
        Some(Self {
            transport: via.known_transport()?,
            remote: SocketAddr::new(ip, rport.or(via.port).unwrap_or(5060)),
        })
    }
}

/// Notes in the topmost Via where the request came from. Over TCP always with the port, by which the connection is found again.
fn stamp(request: &mut Request, from: Hop) {
    let Some(mut via) = request.headers.via() else {
        return;
    };
    via.set_param("received", &from.remote.ip().to_string());
    if from.transport == Transport::Tcp || via.param("rport").is_some() {
        via.set_param("rport", &from.remote.port().to_string());
    }
    request.headers.replace_first("Via", via.to_string());
}

/// What tells the transactions of requests apart (RFC 3261 section 17.2.3).
fn recent_key(request: &Request) -> String {
    let branch = request.headers.via().map(|via| via.branch().to_owned());
    let cseq = request.headers.get("CSeq").unwrap_or_default();
    format!(
        "{}|{}|{cseq}",
        branch.unwrap_or_default(),
        request.headers.call_id()
    )
}
