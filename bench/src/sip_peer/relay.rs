//! The proxy: stateless (RFC 3261 section 16.11), between registered users and whoever calls them.
//!
//! It stays out of dialogs (no Record-Route); a request inside one comes here only from clients that send everything to their
//! proxy, and is passed on to the contact that it names.

use std::time::Instant;

use gateway_core::sip::SipUri;
use gateway_core::sip::message::{Method, NameAddr, Request, Response, response_to};

use super::core::{Core, Hop};
use super::registrar::Refusal;

/// Max-Forwards where a request brings none (RFC 3261 section 16.6 step 3).
const MAX_FORWARDS: u8 = 70;

/// The URI of a Route value.
pub(super) fn route_uri(value: &str) -> Option<SipUri> {
    SipUri::parse(&NameAddr::parse(value)?.uri)
}

impl Core {
    pub(super) fn relay_request(&mut self, now: Instant, request: &Request) {
        let hops = match request.headers.get("Max-Forwards") {
            Some(hops) => hops.trim().parse().unwrap_or(MAX_FORWARDS),
            None => MAX_FORWARDS,
        };
        if hops == 0 {
            self.answer(now, request, 483, "");
            return;
        }
        let (hop, uri) = match self.target(now, request) {
            Ok(target) => target,
            Err(status) => {
                self.answer(now, request, status, "");
                return;
            }
        };
        if request.method == Method::Invite
            && request.headers.to_tag().is_none()
            && !self.admit(now, request)
        {
            return;
        }
        let Some(via) = request.headers.via() else {
            return;
        };
        let mut onward = request.clone();
        onward.uri = uri;
        onward.headers.set("Max-Forwards", (hops - 1).to_string());
        onward.headers.remove("Proxy-Authorization");
        let branch = self.relay_branch(&via);
        onward
            .headers
            .prepend("Via", self.via(hop.transport, &branch));
        self.counters.relayed_requests += 1;
        self.send(hop, onward.to_bytes());
    }

    pub(super) fn relay_response(&mut self, mut response: Response) {
        let top = response.headers.remove_first("Via");
        let ours = top
            .as_deref()
            .and_then(gateway_core::sip::message::Via::parse);
        let ours = ours.is_some_and(|via| {
            via.port == Some(self.local.port()) && via.branch().starts_with("z9hG4bKvia")
        });
        if ours {
            self.counters.relayed_responses += 1;
            self.send_response(&response);
        }
    }

    /// Where a request goes, and with which Request-URI; or the status that refuses it.
    fn target(&self, now: Instant, request: &Request) -> Result<(Hop, String), u16> {
        let uri = SipUri::parse(&request.uri).ok_or(416u16)?;
        let binding = if self.is_own(&uri) {
            let user = uri.user.as_deref().ok_or(404u16)?;
            if !self.registrar.knows(user) {
                return Err(404);
            }
            Some(self.registrar.binding(user, now).ok_or(480u16)?)
        } else {
            self.registrar.by_contact(&uri, now)
        };
        if let Some(binding) = binding {
            let lost =
                !self.is_connected(&binding.hop.remote) && binding.hop.transport.is_reliable();
            let direct = SipUri::parse(&binding.uri).as_ref().and_then(Hop::of_uri);
            // The connection of the registration is gone: its contact's address may still take a new one.
            let hop = direct.filter(|_| lost).unwrap_or(binding.hop);
            return Ok((hop, binding.uri.clone()));
        }
        // Callers need not be registered: inside a dialog a contact's address is good enough.
        if request.headers.to_tag().is_some() || request.method == Method::Cancel {
            let route = request.headers.get("Route").and_then(route_uri);
            let next = Hop::of_uri(route.as_ref().unwrap_or(&uri)).ok_or(404u16)?;
            return Ok((next, request.uri.clone()));
        }
        Err(404)
    }

    /// Challenges calls in the name of a known user, if that is asked for.
    fn admit(&mut self, now: Instant, request: &Request) -> bool {
        let from = request.headers.get("From").and_then(route_uri);
        let user = from
            .filter(|uri| self.is_own(uri))
            .and_then(|uri| uri.user)
            .filter(|user| self.registrar.knows(user));
        let Some(user) = user.filter(|_| self.config.authenticate_calls) else {
            return true;
        };
        let header = "Proxy-Authorization";
        match self
            .registrar
            .authenticate(now, request, header, &user, &mut self.random)
        {
            Ok(()) => true,
            Err(Refusal::Forbidden) => {
                self.counters.wrong_passwords += 1;
                self.answer(now, request, 403, "");
                false
            }
            Err(Refusal::Challenge(challenges)) => {
                self.counters.challenges += 1;
                let mut response = response_to(request, 407, "");
                for challenge in challenges {
                    response
                        .headers
                        .push("Proxy-Authenticate", challenge.to_string());
                }
                self.respond(now, request, response);
                false
            }
        }
    }
}
