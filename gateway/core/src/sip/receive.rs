//! Sorts what arrives: responses to their client transactions, requests to server transactions, dialogs and calls, and
//! refuses what cannot be served, in the order of RFC 3261 section 8.2.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Instant;

use super::config::{Config, Peer, Transport};
use super::event::CallHandle;
use super::info::PACKAGES;
use super::message::{
    FramingError, Headers, Message, Method, ParseError, Request, Response, Via, parse_with,
    response_to,
};
use super::outgoing::Owner;
use super::stack::Stack;
use super::transaction::{Received, Server, TransactionId, merge_key, server_key};
use super::uri::{SipUri, parse_ip};

/// What we take (RFC 3261 section 20.5).
pub(super) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY, REFER, MESSAGE";
/// Seconds after which a refused peer may try again.
const RETRY_AFTER: &str = "5";

impl Stack {
    /// One whole message.
    pub(super) fn handle_message(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        match parse_with(bytes, &self.limits()) {
            Ok(Message::Response(response)) => self.handle_response(now, &response),
            Ok(Message::Request(mut request)) => {
                let peer = note_source(&mut request, peer);
                self.handle_request(now, peer, request);
            }
            Err(error) => self.refuse(peer, &error),
        }
    }

    /// Answers what could not be read, as far as it names a sender; without state.
    pub(super) fn refuse(&mut self, peer: Peer, error: &ParseError) {
        tracing::debug!(
            status = error.status,
            reason = error.reason,
            "SIP message refused"
        );
        self.io.count_refused(match (error.status, error.reason) {
            (_, "Too Many Headers") => "too_many_headers",
            (413 | 513, _) => "too_large",
            (505, _) => "version",
            _ => "malformed",
        });
        let Some(request) = &error.request else {
            return;
        };
        let mut request = request.as_ref().clone();
        let peer = note_source(&mut request, peer);
        self.respond_stateless(peer, &request, error.status, error.reason);
    }

    /// Answers the head that broke a stream's framing, if it is that of a request.
    pub(super) fn refuse_frame(&mut self, peer: Peer, rest: &[u8], error: FramingError) {
        let request = match parse_with(rest, &self.limits()) {
            Ok(Message::Request(request)) => Some(Box::new(request)),
            Ok(Message::Response(_)) => None,
            Err(refused) => refused.request,
        };
        let (status, reason) = match error {
            FramingError::HeadTooLarge => (513, "Message Too Large"),
            FramingError::BadLength => (400, "Bad Content-Length"),
            FramingError::TooLarge => (413, "Request Entity Too Large"),
        };
        self.refuse(
            peer,
            &ParseError {
                status,
                reason,
                request,
            },
        );
    }

    fn handle_response(&mut self, now: Instant, response: &Response) {
        // More than one Via: not ours (RFC 3261 section 8.1.3.3).
        let Some(via) = response
            .headers
            .via()
            .filter(|_| response.headers.get_all("Via").count() == 1)
        else {
            return;
        };
        let Some((_, method)) = response.headers.cseq() else {
            return;
        };
        let key = format!("{}|{method}", via.branch());
        let Some(id) = self.client_keys.get(&key).copied() else {
            return;
        };
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let (owner, hop) = (client.owner, client.hop);
        match client.handle_response(now, response, &mut self.io) {
            Received::Absorbed => {}
            Received::Provisional => {
                if let Owner::Invite(call) = owner {
                    self.invite_progress(now, call, id, response);
                }
            }
            Received::Forked => self.forked(now, id, owner, response),
            Received::Final(outgoing) => {
                if self.try_again(now, outgoing, hop, response).is_some() {
                    self.handle_final(now, id, owner, response);
                }
            }
        }
    }

    fn handle_final(&mut self, now: Instant, id: TransactionId, owner: Owner, response: &Response) {
        match owner {
            Owner::Invite(call) => self.invite_final(now, call, id, response),
            Owner::Reinvite(call) => self.reinvite_final(now, call, id, response),
            Owner::Bye(call) => self.bye_done(call, "hung up"),
            Owner::Register(registration) => {
                if let Some(hop) = self.clients.get(&id).map(|client| client.hop) {
                    self.registered_at(now, registration, hop);
                }
                self.register_final(now, registration, response);
            }
            Owner::Update(call, fork) => self.update_final(now, call, fork, response),
            Owner::Errand(call, errand) => self.errand_final(now, call, errand, response),
            Owner::Message(message) => self.message_final(message, response),
            Owner::Relay(relay) => self.relay_final(relay, response),
            Owner::Watch(watch, hop) => self.target_answered(now, watch, hop, response),
            Owner::Prack(..) | Owner::Ack(_) | Owner::Nobody => {}
        }
    }

    fn handle_request(&mut self, now: Instant, peer: Peer, request: Request) {
        let key = server_key(&request, &request.method);
        let known = self.server_keys.get(&key).copied();
        if request.method == Method::Ack {
            let refused = known
                .and_then(|id| self.servers.get_mut(&id))
                .is_some_and(|server| server.handle_ack(now, &mut self.io));
            if !refused {
                self.handle_ack(now, &request);
            }
            return;
        }
        if let Some(server) = known.and_then(|id| self.servers.get(&id)) {
            return server.handle_again(&mut self.io);
        }
        let in_dialog = request.headers.to_tag().is_some();
        let most = self.io.config.requests_per_second;
        let cancels = request.method == Method::Cancel;
        if !in_dialog && !cancels && !self.sources.admit(now, peer.remote.ip(), most) {
            self.io.count_refused("rate");
            // To whom a flood seems to come from nothing is sent.
            if peer.transport.is_reliable() {
                self.respond_stateless(peer, &request, 503, "Too Many Requests");
            }
            return;
        }
        if !self.has_room(in_dialog || request.method == Method::Cancel) {
            self.io.count_refused("busy");
            return self.respond_stateless(peer, &request, 503, "Too Many Transactions");
        }
        let merged = merge_key(&request)
            .filter(|key| self.merge_keys.contains_key(key))
            .is_some();
        let mut server = Server::new(now, request.clone(), peer, key.clone(), &mut self.io);
        if merged {
            server.merge_key = None;
        }
        let id = server.id;
        self.server_keys.insert(key, id);
        if let Some(key) = &server.merge_key {
            self.merge_keys.insert(key.clone(), id);
        }
        self.servers.insert(id, server);
        match check(&request, merged) {
            Some((status, extra)) => {
                self.io.count_refused(match status {
                    501 => "unknown_method",
                    482 => "loop",
                    483 => "too_many_hops",
                    _ => "bad_uri",
                });
                self.respond(now, id, status, &extra);
            }
            None => self.serve(now, id, &request),
        }
    }

    fn serve(&mut self, now: Instant, id: TransactionId, request: &Request) {
        if request.method == Method::Cancel {
            return self.handle_cancel(now, id, request);
        }
        if let Some(tag) = request.headers.to_tag() {
            let call = self.tags.get(tag).copied();
            return match call.filter(|call| self.belongs(*call, request)) {
                Some(call) => self.handle_in_dialog(now, id, call, request),
                None => self.respond(now, id, 481, &[]),
            };
        }
        if let Some(tags) = unsupported(&request.headers, &self.io.config) {
            return self.respond(now, id, 420, &[("Unsupported", &tags)]);
        }
        match request.method {
            Method::Invite => self.handle_invite(now, id, request),
            Method::Options => self.respond_options(now, id),
            Method::Message => self.handle_instant_message(id, None, request),
            Method::Notify => self.handle_unasked_notify(now, id, request),
            // These belong to a dialog.
            Method::Bye | Method::Prack | Method::Update | Method::Info => {
                self.respond(now, id, 481, &[])
            }
            // Whom to obey outside of a call nobody has told us.
            Method::Refer => self.respond(now, id, 403, &[]),
            _ => self.respond(now, id, 405, &[("Allow", ALLOW)]),
        }
    }

    /// Whether a request with our tag in To is one of that call's dialogs.
    fn belongs(&mut self, call: CallHandle, request: &Request) -> bool {
        let (call_id, tag) = (
            request.headers.call_id(),
            request.headers.from_tag().unwrap_or_default(),
        );
        let found = self.calls.get_mut(&call);
        let dialog = found.and_then(|call| call.with_tag(tag));
        dialog.is_some_and(|(dialog, _)| dialog.call_id == call_id)
    }

    pub(super) fn respond_options(&mut self, now: Instant, id: TransactionId) {
        let supported = supported(&self.io.config);
        self.respond(
            now,
            id,
            200,
            &[
                ("Allow", ALLOW),
                ("Accept", "application/sdp, multipart/mixed"),
                ("Allow-Events", PACKAGES),
                ("Supported", supported),
            ],
        );
    }

    /// Sends a response without a body through its transaction.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: TransactionId,
        status: u16,
        extra: &[(&str, &str)],
    ) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let mut response = response_to(&server.request, status, "");
        if status > 100 && response.headers.to_tag().is_none() {
            // CANCEL is answered with the tag of its INVITE (RFC 3261 section 9.2).
            let call = server.call.and_then(|call| self.calls.get(&call));
            let tag = call.map(|call| call.local_tag().to_owned());
            add_to_tag(
                &mut response,
                &tag.unwrap_or_else(|| self.io.random.token(16)),
            );
        }
        response
            .headers
            .push("Server", self.io.config.user_agent.clone());
        for (name, value) in extra {
            response.headers.push(name, *value);
        }
        server.respond(now, &response, &mut self.io);
    }

    fn respond_stateless(&mut self, peer: Peer, request: &Request, status: u16, reason: &str) {
        if request.method == Method::Ack {
            return;
        }
        let mut response = response_to(request, status, reason);
        if response.headers.to_tag().is_none() {
            // The same request must get the same tag again (RFC 3261 section 8.2.7).
            let mut hasher = DefaultHasher::new();
            (request.headers.get("Via"), request.headers.call_id()).hash(&mut hasher);
            add_to_tag(&mut response, &format!("{:016x}", hasher.finish()));
        }
        response
            .headers
            .push("Server", self.io.config.user_agent.clone());
        if status == 503 {
            response.headers.push("Retry-After", RETRY_AFTER);
        }
        self.io.transmit(peer, response.to_bytes());
    }
}

/// Method, Request-URI, loops, hops, extensions and body, in the RFC's order. CANCEL and dialogs come later.
fn check(request: &Request, merged: bool) -> Option<(u16, Vec<(&'static str, &'static str)>)> {
    let headers = &request.headers;
    if !request.method.is_known() {
        return Some((501, vec![("Allow", ALLOW)]));
    }
    if request.method == Method::Cancel {
        return None;
    }
    let scheme = request
        .uri
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    if SipUri::parse(&request.uri).is_none() {
        return Some((
            if matches!(scheme.as_str(), "sip" | "sips" | "tel") {
                400
            } else {
                416
            },
            Vec::new(),
        ));
    }
    if merged {
        return Some((482, Vec::new()));
    }
    let is_last_hop = headers
        .get("Max-Forwards")
        .is_some_and(|hops| hops.trim() == "0");
    if is_last_hop && headers.to_tag().is_none() && request.method != Method::Options {
        return Some((483, Vec::new()));
    }
    None
}

/// The extensions that we take in a call (RFC 3261 section 20.37).
pub(super) fn supported(config: &Config) -> &'static str {
    if config.reliable_provisional {
        "100rel, replaces, timer"
    } else {
        UNRELIABLE
    }
}

/// The same for who takes no reliable provisional responses.
pub(super) const UNRELIABLE: &str = "replaces, timer";

/// The tags of Require that we do not know, for `Unsupported`.
pub(super) fn unsupported(headers: &Headers, config: &Config) -> Option<String> {
    let known = |tag: &&str| {
        let mut ours = supported(config).split(", ");
        !ours.any(|known| known.eq_ignore_ascii_case(tag))
    };
    let tags: Vec<&str> = headers
        .get_all("Require")
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .filter(known)
        .collect();
    (!tags.is_empty()).then(|| tags.join(", "))
}

/// Adds our tag to To.
pub(super) fn add_to_tag(response: &mut Response, tag: &str) {
    if response.headers.to_tag().is_none() {
        let to = format!(
            "{};tag={tag}",
            response.headers.get("To").unwrap_or_default()
        );
        response.headers.set("To", to);
    }
}

/// Writes `received` and `rport` into the top Via (RFC 3261 section 18.2.1, RFC 3581) and says where responses go.
fn note_source(request: &mut Request, peer: Peer) -> Peer {
    let Some(mut via) = request.headers.via() else {
        return peer;
    };
    let source = peer.remote.ip();
    let wants_port = via.param("rport").is_some();
    if wants_port || parse_ip(&via.host) != Some(source) {
        via.set_param("received", &source.to_string());
        if wants_port {
            via.set_param("rport", &peer.remote.port().to_string());
        }
        request.headers.replace_first("Via", via.to_string());
    }
    match peer.transport {
        Transport::Tcp | Transport::Tls => peer,
        Transport::Udp if wants_port => peer,
        Transport::Udp => Peer {
            remote: SocketAddr::new(source, sent_by_port(&via)),
            ..peer
        },
    }
}

fn sent_by_port(via: &Via) -> u16 {
    via.port.unwrap_or(5060)
}
