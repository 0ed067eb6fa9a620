//! Sends our requests: next hop (RFC 3263), one attempt per target, failover, and answers to digest challenges.
//!
//! 1. The next hop is the topmost loose Route, else the outbound proxy (outside dialogs), else the Request-URI.
//! 2. A name goes out as `Output::Resolve`; the request waits.
//! 3. Each target is a client transaction of its own. Time-out, 503 and unreachable go on to the next target.
//! 4. More than 1300 bytes go by TCP first, where we listen on it, and by UDP if that fails (RFC 3261 section 18.1.1).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::config::{Listen, Peer, Transport};
use super::dialog::is_loose;
use super::event::{CallHandle, MessageHandle, Output, QueryId, RegistrationHandle, Resolve};
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
    /// Targets left.
    hops: VecDeque<Hop>,
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
        let contact_user = contact_user.map(str::to_owned);
        let (hops, answered) = (VecDeque::new(), Vec::new());
        Self {
            owner,
            request,
            contact_user,
            contact_params: String::new(),
            in_dialog,
            hops,
            tcp_tried: false,
            answered,
            lengthened: 0,
        }
    }

    pub(super) fn with_contact_params(mut self, params: String) -> Self {
        self.contact_params = params;
        self
    }

    /// For another target.
    pub(super) fn start_over(&mut self) {
        self.hops.clear();
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
        let Some((host, port, transport)) = self.next_hop(&outgoing) else {
            return self.give_up(now, outgoing, Failure::Unreachable);
        };
        if let Some(ip) = parse_ip(&host) {
            let transport = transport.unwrap_or_else(|| self.usual_transport(ip));
            let addr = SocketAddr::new(ip, port.unwrap_or_else(|| transport.default_port()));
            outgoing.hops = VecDeque::from([Hop { transport, addr }]);
            return self.attempt(now, outgoing);
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
        let mut outgoing = waiting.outgoing;
        outgoing.hops = targets
            .into_iter()
            .take(16)
            .map(|(transport, addr)| Hop { transport, addr })
            .collect();
        let avoided = |hop: &Hop| self.avoided.get(hop).is_some_and(|until| *until > now);
        outgoing.hops.make_contiguous().sort_by_key(avoided);
        if outgoing.in_dialog {
            outgoing.hops.truncate(1);
        }
        self.attempt(now, outgoing);
    }

    /// Starts a transaction with the next target that we can send to.
    fn attempt(&mut self, now: Instant, mut outgoing: Outgoing) {
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
                    Owner::Register(_) => self.plain_contact(&request.uri, user, listen),
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
        self.give_up(now, outgoing, Failure::Unreachable);
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
        self.avoid(now, hop);
        if outgoing.hops.is_empty() || !self.is_wanted(outgoing.owner) {
            self.give_up(now, *outgoing, failure);
        } else {
            self.attempt(now, *outgoing);
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
            503 if !outgoing.in_dialog && !outgoing.hops.is_empty() => self.avoid(now, hop),
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
    fn listen_for(&self, hop: Hop) -> Option<&Listen> {
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

    fn next_hop(&self, outgoing: &Outgoing) -> Option<(String, Option<u16>, Option<Transport>)> {
        let route = outgoing
            .request
            .headers
            .get("Route")
            .filter(|route| is_loose(route));
        let uri = match (route, &self.io.config.outbound_proxy) {
            (Some(route), _) => SipUri::parse(&NameAddr::parse(route)?.uri)?,
            (None, Some(proxy)) if !outgoing.in_dialog => {
                return Some((proxy.host.clone(), proxy.port, proxy.transport));
            }
            (None, _) => SipUri::parse(&outgoing.request.uri)?,
        };
        let transport = uri.transport().ok()?;
        (!uri.host.is_empty()).then_some((uri.host, uri.port, transport))
    }

    fn avoid(&mut self, now: Instant, hop: Hop) {
        if self.avoided.len() >= MAX_AVOIDED {
            self.avoided.retain(|_, until| *until > now);
        }
        if self.avoided.len() < MAX_AVOIDED {
            self.avoided.insert(hop, now + AVOID);
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
            // Without PRACK the peer gives its INVITE up by itself.
            Owner::Prack(..) | Owner::Ack(_) | Owner::Nobody => {}
        }
    }
}
