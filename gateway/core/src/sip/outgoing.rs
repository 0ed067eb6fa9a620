//! Sends our requests: next hop (RFC 3263), one attempt per target, failover, and answers to digest challenges.
//!
//! 1. The next hop is the topmost loose Route, else the outbound proxies (outside dialogs), else the Request-URI.
//! 2. A name goes out as `Output::Resolve`; the request waits.
//! 3. Each target is a client transaction of its own. Time-out, 503 and unreachable go on to the next target, then to the next
//!    proxy, and at last to those that failed a short while ago.
//! 4. More than 1300 bytes go by TCP first, where we listen on it, and by UDP if that fails (RFC 3261 section 18.1.1).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::call::Call;
use super::config::{Listen, OutboundProxy, Peer, Proxies, Transport};
use super::dialog::is_loose;
use super::event::{
    CallHandle, MessageHandle, Output, QueryId, RegistrationHandle, RelayHandle, Resolve,
    WatchHandle,
};
use super::message::{NameAddr, Request, Response};
use super::outbox::Errand;
use super::refresh::min_expires;
use super::stack::Stack;
use super::timers::{Deadline, TimerId};
use super::transaction::{Client, ClientEnd, TransactionId};
use super::uri::{SipUri, escape_user, parse_ip};

/// Larger requests do not go by UDP.
const MAX_UDP_BYTES: usize = 1300;
/// How long a name may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a target that failed is tried last.
const AVOID: Duration = Duration::from_secs(60);
/// The longest Retry-After that is obeyed.
const MAX_AVOID: Duration = Duration::from_secs(600);
/// More targets of one name are not tried.
const MAX_HOPS: usize = 16;
/// More 422 to one INVITE are not obeyed.
const MAX_LENGTHENED: u8 = 3;
/// More failed targets are not remembered.
const MAX_AVOIDED: usize = 1024;

/// For whom a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Invite(CallHandle),
    Reinvite(CallHandle),
    Bye(CallHandle),
    /// In the dialog of that fork.
    Prack(CallHandle, usize),
    Update(CallHandle, usize),
    Errand(CallHandle, Errand),
    Message(MessageHandle),
    Register(RegistrationHandle),
    /// REGISTER of a user agent behind us.
    Relay(RelayHandle),
    /// OPTIONS to one target of a server.
    Watch(WatchHandle, Hop),
    /// ACK for a 2xx to that INVITE; not a transaction of its own.
    Ack(TransactionId),
    /// CANCEL, and BYE to a dialog that nobody wanted: nothing depends on the answer.
    Nobody,
}

/// One address to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) transport: Transport,
    pub(super) addr: SocketAddr,
}

/// A request of ours until its final response, over all attempts.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) owner: Owner,
    /// Without Via and Contact: both depend on the target.
    pub(super) request: Request,
    /// User part of the Contact, for requests that carry one.
    pub(super) contact_user: Option<String>,
    /// What stands behind it, for REGISTER.
    contact_params: String,
    pub(super) in_dialog: bool,
    /// The next hops outside of dialogs, where they do not follow from the request.
    proxies: Proxies,
    /// Places whose addresses were not asked for yet.
    places: VecDeque<OutboundProxy>,
    /// Targets left.
    hops: VecDeque<Hop>,
    /// Targets that failed lately: for when nothing else is left.
    reserve: VecDeque<Hop>,
    /// TCP was tried because of the size.
    tcp_tried: bool,
    /// Realms answered.
    answered: Vec<(bool, String)>,
    /// How often 422 was obeyed.
    lengthened: u8,
}

impl Outgoing {
    pub(super) fn new(
        owner: Owner,
        request: Request,
        contact_user: Option<&str>,
        in_dialog: bool,
    ) -> Self {
        Self {
            owner,
            request,
            contact_user: contact_user.map(str::to_owned),
            contact_params: String::new(),
            in_dialog,
            proxies: Proxies::default(),
            places: VecDeque::new(),
            hops: VecDeque::new(),
            reserve: VecDeque::new(),
            tcp_tried: false,
            answered: Vec::new(),
            lengthened: 0,
        }
    }

    /// By way of these proxies.
    pub(super) fn by(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// To this target and no other.
    pub(super) fn to(mut self, hop: Hop) -> Self {
        self.hops = VecDeque::from([hop]);
        self
    }

    /// Whether another target can be tried.
    pub(super) fn has_others(&self) -> bool {
        !(self.hops.is_empty() && self.places.is_empty() && self.reserve.is_empty())
    }

    pub(super) fn with_contact_params(mut self, params: String) -> Self {
        self.contact_params = params;
        self
    }

    /// For another target.
    pub(super) fn start_over(&mut self) {
        self.answered.clear();
        self.tcp_tried = false;
    }

    /// Asks for the session interval that a 422 names; `false` if that makes no sense.
    fn lengthen(&mut self, response: &Response) -> bool {
        let headers = &mut self.request.headers;
        let least = min_expires(&response.headers);
        if least <= min_expires(headers) || self.lengthened >= MAX_LENGTHENED {
            return false;
        }
        self.lengthened += 1;
        let least = least.as_secs().to_string();
        headers.set("Session-Expires", least.clone());
        headers.set("Min-SE", least);
        true
    }
}

/// Why a request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Unreachable,
}

impl Failure {
    /// The status that stands for it (RFC 3261 section 8.1.3.1).
    pub(super) fn status(self) -> (u16, &'static str) {
        match self {
            Self::Timeout => (408, "Request Timeout"),
            Self::Unreachable => (503, "Service Unavailable"),
        }
    }
}

/// A request that waits for its target's address.
pub(super) struct Waiting {
    outgoing: Outgoing,
    timer: Option<TimerId>,
}

impl Stack {
    /// Sends a request to wherever it belongs.
    pub(super) fn send(&mut self, now: Instant, mut outgoing: Outgoing) {
        (outgoing.hops, outgoing.reserve) = (VecDeque::new(), VecDeque::new());
        outgoing.places = places(&outgoing).unwrap_or_default();
        self.next_place(now, outgoing);
    }

    /// Asks where the next proxy is; without another one the targets that failed lately are left.
    fn next_place(&mut self, now: Instant, mut outgoing: Outgoing) {
        let Some(place) = outgoing.places.pop_front() else {
            outgoing.hops = std::mem::take(&mut outgoing.reserve);
            return match outgoing.hops.is_empty() {
                true => self.give_up(now, outgoing, Failure::Unreachable),
                false => self.attempt(now, outgoing),
            };
        };
        let OutboundProxy {
            host,
            port,
            transport,
        } = place;
        if let Some(ip) = parse_ip(&host) {
            let transport = transport.unwrap_or_else(|| self.usual_transport(ip));
            let addr = SocketAddr::new(ip, port.unwrap_or_else(|| transport.default_port()));
            return self.found(now, outgoing, vec![Hop { transport, addr }]);
        }
        if let Owner::Invite(call) = outgoing.owner
            && let Some(Call::Calling(calling)) = self.calls.get_mut(&call)
        {
            // Nothing is under way that could be cancelled.
            calling.transaction = None;
        }
        let query = QueryId(self.io.number());
        let timer = Some(
            self.io
                .timers
                .set(now + RESOLVE_TIMEOUT, Deadline::Query(query)),
        );
        self.waiting.insert(query, Waiting { outgoing, timer });
        self.io.outputs.push_back(Output::Resolve(Resolve {
            query,
            host,
            port,
            transport,
        }));
    }

    /// The targets of a waiting request came, or did not.
    pub(super) fn resolved(
        &mut self,
        now: Instant,
        query: QueryId,
        targets: Vec<(Transport, SocketAddr)>,
    ) {
        let Some(mut waiting) = self.waiting.remove(&query) else {
            return;
        };
        self.io.timers.cancel(&mut waiting.timer);
        let hops = targets.into_iter().take(MAX_HOPS);
        let hops = hops.map(|(transport, addr)| Hop { transport, addr });
        self.found(now, waiting.outgoing, hops.collect());
    }

    /// The targets of a place, the best first.
    fn found(&mut self, now: Instant, mut outgoing: Outgoing, hops: Vec<Hop>) {
        if let Owner::Watch(watch, _) = outgoing.owner {
            return self.targets_found(now, watch, outgoing, hops);
        }
        let avoided = |hop: &Hop| self.avoided.get(hop).is_some_and(|until| *until > now);
        let (failed, good): (Vec<Hop>, Vec<Hop>) = hops.into_iter().partition(avoided);
        outgoing.hops.extend(good);
        outgoing.reserve.extend(failed);
        if outgoing.in_dialog {
            let first = outgoing
                .hops
                .pop_front()
                .or_else(|| outgoing.reserve.pop_front());
            (outgoing.hops, outgoing.reserve) = (first.into_iter().collect(), VecDeque::new());
        }
        self.attempt(now, outgoing);
    }

    /// Starts a transaction with the next target that we can send to.
    pub(super) fn attempt(&mut self, now: Instant, mut outgoing: Outgoing) {
        if !self.is_wanted(outgoing.owner) {
            return;
        }
        while let Some(hop) = outgoing.hops.pop_front() {
            let Some(listen) = self.listen_for(hop) else {
                continue;
            };
            let (local, sent_by) = (listen.addr, listen.sent_by());
            let mut request = outgoing.request.clone();
            if let Some(user) = &outgoing.contact_user {
                // A switch because of size is no reason for the peer to answer by TCP for ever.
                let contact_hop = Hop {
                    transport: Transport::Udp,
                    ..hop
                };
                let contact_hop = if outgoing.tcp_tried { contact_hop } else { hop };
                let listen = self.listen_for(contact_hop).unwrap_or(listen);
                let contact = match outgoing.owner {
                    Owner::Register(_) | Owner::Relay(_) => {
                        self.plain_contact(&request.uri, user, listen)
                    }
                    _ => self.contact(&request.uri, user, listen),
                };
                let contact = contact + &outgoing.contact_params;
                request.headers.push("Contact", contact);
            }
            let branch = format!("z9hG4bK{}", self.io.random.token(20));
            let via = format!(
                "SIP/2.0/{} {sent_by};branch={branch};rport",
                hop.transport.as_str()
            );
            request.headers.prepend("Via", via);
            let bytes = request.to_bytes();
            if self.should_switch(now, hop, &outgoing, bytes.len()) {
                outgoing.tcp_tried = true;
                outgoing.hops.push_front(hop);
                outgoing.hops.push_front(Hop {
                    transport: Transport::Tcp,
                    ..hop
                });
                continue;
            }
            let peer = Peer {
                transport: hop.transport,
                local,
                remote: hop.addr,
                connection: None,
            };
            if let Owner::Ack(invite) = outgoing.owner {
                return self.transmit_ack(invite, &request, peer, bytes);
            }
            let client = Client::start(now, outgoing, request, bytes, hop, peer, &mut self.io);
            return self.add_client(client);
        }
        self.next_place(now, outgoing);
    }

    /// Sends CANCEL where its INVITE went, with the INVITE's branch.
    pub(super) fn send_beside(&mut self, now: Instant, invite: TransactionId, cancel: Request) {
        let Some((hop, peer)) = self
            .clients
            .get(&invite)
            .map(|client| (client.hop, client.peer))
        else {
            return;
        };
        let outgoing = Outgoing::new(Owner::Nobody, cancel.clone(), None, true);
        let bytes = cancel.to_bytes();
        let client = Client::start(now, outgoing, cancel, bytes, hop, peer, &mut self.io);
        self.add_client(client);
    }

    /// Ends a transaction without a response and goes on to the next target, if there is one.
    pub(super) fn attempt_failed(&mut self, now: Instant, id: TransactionId, failure: Failure) {
        let Some(client) = self.remove_client(id) else {
            return;
        };
        let hop = client.hop;
        let ClientEnd::TimedOut(outgoing) = client.finish(&mut self.io) else {
            return;
        };
        self.avoid(now, hop, AVOID);
        if outgoing.has_others() && self.is_wanted(outgoing.owner) {
            self.attempt(now, *outgoing);
        } else {
            self.give_up(now, *outgoing, failure);
        }
    }

    /// Tries again after 3xx, 401, 407, 422 or 503 where that helps; gives the request back where it does not.
    pub(super) fn try_again(
        &mut self,
        now: Instant,
        mut outgoing: Box<Outgoing>,
        hop: Hop,
        response: &Response,
    ) -> Option<Box<Outgoing>> {
        if !self.is_wanted(outgoing.owner) {
            return Some(outgoing);
        }
        match response.status {
            401 | 407 => {
                let Some((auth, number, io)) = self.auth_of(outgoing.owner) else {
                    return Some(outgoing);
                };
                if !auth.learn(response, &mut outgoing.answered, &mut io.random) {
                    return Some(outgoing);
                }
                *number += 1;
                let cseq = format!("{number} {}", outgoing.request.method);
                outgoing.request.headers.set("CSeq", cseq);
                auth.apply(&mut outgoing.request);
                outgoing.hops.push_front(hop);
            }
            422 if matches!(outgoing.owner, Owner::Invite(_)) && outgoing.lengthen(response) => {
                let Some((_, number, _)) = self.auth_of(outgoing.owner) else {
                    return Some(outgoing);
                };
                *number += 1;
                let cseq = format!("{number} INVITE");
                outgoing.request.headers.set("CSeq", cseq);
                outgoing.hops.push_front(hop);
            }
            503 if !outgoing.in_dialog && outgoing.has_others() => {
                self.avoid(now, hop, retry_after(response).unwrap_or(AVOID));
            }
            300.. => return self.redirect(now, outgoing, response),
            _ => return Some(outgoing),
        }
        self.attempt(now, *outgoing);
        None
    }

    /// The Contact value of a user: its GRUU, if the registrar gave one (RFC 5627 section 4.3), else at a listener.
    pub(super) fn contact(&self, target: &str, user: &str, listen: &Listen) -> String {
        let binding = self.bindings.get(user);
        match binding.and_then(|binding| binding.gruu.as_ref()) {
            Some(gruu) => format!("<{gruu}>"),
            None => self.plain_contact(target, user, listen),
        }
    }

    /// The Contact of a user at a listener, for a request to `target` (RFC 3261 section 8.1.1.8: `sips` asks for `sips`).
    fn plain_contact(&self, target: &str, user: &str, listen: &Listen) -> String {
        let transport = match listen.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
        };
        let secure = listen.transport == Transport::Tls && target.starts_with("sips:");
        let (scheme, transport) = if secure {
            ("sips", "")
        } else {
            ("sip", transport)
        };
        format!(
            "<{scheme}:{}@{}{transport}>",
            escape_user(user),
            listen.sent_by()
        )
    }

    /// The listener to send to a target from.
    pub(super) fn listen_for(&self, hop: Hop) -> Option<&Listen> {
        let fits = |listen: &&Listen| {
            listen.transport == hop.transport && listen.addr.is_ipv4() == hop.addr.is_ipv4()
        };
        self.io.config.listen.iter().find(fits)
    }

    /// The first that we speak in the family of an address.
    fn usual_transport(&self, ip: IpAddr) -> Transport {
        let addr = SocketAddr::new(ip, 0);
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|&transport| self.listen_for(Hop { transport, addr }).is_some())
            .unwrap_or(Transport::Udp)
    }

    fn should_switch(&self, now: Instant, hop: Hop, outgoing: &Outgoing, bytes: usize) -> bool {
        let tcp = Hop {
            transport: Transport::Tcp,
            ..hop
        };
        hop.transport == Transport::Udp
            && bytes > MAX_UDP_BYTES
            && !outgoing.tcp_tried
            && !matches!(outgoing.owner, Owner::Ack(_))
            && self.listen_for(tcp).is_some()
            && self.avoided.get(&tcp).is_none_or(|until| *until <= now)
    }

    /// Tries a target last for a while; who is registered there registers elsewhere, if there is another one.
    pub(super) fn avoid(&mut self, now: Instant, hop: Hop, time: Duration) {
        if self.avoided.len() >= MAX_AVOIDED {
            self.avoided.retain(|_, until| *until > now);
        }
        let before = (self.avoided.len() < MAX_AVOIDED)
            .then(|| self.avoided.insert(hop, now + time.min(MAX_AVOID)));
        if before.flatten().is_none_or(|until| until <= now) {
            self.flow_lost(now, hop);
        }
    }

    fn transmit_ack(
        &mut self,
        invite: TransactionId,
        request: &Request,
        peer: Peer,
        bytes: Vec<u8>,
    ) {
        self.io.transmit(peer, bytes.clone());
        if let Some(client) = self.clients.get_mut(&invite) {
            client.keep_ack(request.headers.to_tag().unwrap_or_default(), peer, bytes);
        }
    }

    pub(super) fn request_failed(&mut self, now: Instant, owner: Owner, failure: Failure) {
        match owner {
            Owner::Invite(call) => self.invite_failed(now, call, failure),
            Owner::Reinvite(call) => self.reinvite_failed(now, call, failure),
            Owner::Bye(call) => self.bye_done(call, "no answer to BYE"),
            Owner::Register(registration) => {
                let (status, reason) = failure.status();
                self.register_failed(now, registration, status, reason);
            }
            Owner::Update(call, fork) => self.update_failed(now, call, fork, failure),
            Owner::Errand(call, errand) => self.errand_failed(now, call, errand, failure),
            Owner::Message(message) => self.message_failed(message, failure),
            Owner::Relay(relay) => self.relay_failed(relay, failure),
            Owner::Watch(watch, hop) => self.target_silent(watch, hop),
            // Without PRACK the peer gives its INVITE up by itself.
            Owner::Prack(..) | Owner::Ack(_) | Owner::Nobody => {}
        }
    }
}

/// The places that a request goes to, the first one first (RFC 3261 section 8.1.2).
fn places(outgoing: &Outgoing) -> Option<VecDeque<OutboundProxy>> {
    let route = outgoing.request.headers.get("Route");
    let uri = match route.filter(|route| is_loose(route)) {
        Some(route) => SipUri::parse(&NameAddr::parse(route)?.uri)?,
        None if !outgoing.in_dialog && !outgoing.proxies.is_empty() => {
            return Some(outgoing.proxies.iter().cloned().collect());
        }
        None => SipUri::parse(&outgoing.request.uri)?,
    };
    let transport = uri.transport().ok()?;
    let place = OutboundProxy {
        host: uri.host,
        port: uri.port,
        transport,
    };
    (!place.host.is_empty()).then(|| VecDeque::from([place]))
}

/// How long a server asks to be left alone.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers.get("Retry-After")?;
    let seconds = value.split([' ', ';', '(']).next()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
