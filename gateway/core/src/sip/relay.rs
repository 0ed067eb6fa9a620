//! REGISTER passed on for a user agent behind us (SIP over WebSocket, RFC 7118): the registrar's challenge goes to the user agent, its
//! answer to the registrar. The password stays where it is; what we put in is our own Contact, so that calls come by way of us.

use std::time::{Duration, Instant};

use super::event::{Event, RelayHandle, RelayedRegister, SipError};
use super::extra::{check_authorization, usable_uri};
use super::message::{Headers, Method, NameAddr, Request, Response};
use super::outgoing::{Failure, Outgoing, Owner};
use super::stack::Stack;
use super::uri::{SipUri, escape_user};

/// What asks for credentials.
pub(super) const CHALLENGES: [&str; 2] = ["WWW-Authenticate", "Proxy-Authenticate"];
/// What else of a refusal the user agent acts on.
const ADVICE: [&str; 4] = [CHALLENGES[0], CHALLENGES[1], "Min-Expires", "Retry-After"];

/// A REGISTER until its final response.
pub(super) struct Relay {
    contact_user: String,
    expires: Duration,
}

impl Stack {
    /// Passes a REGISTER on: `RegisterRelayed` says what became of it.
    ///
    /// # Errors
    /// Something in it is not usable, or too much is under way; nothing was sent.
    pub fn relay_register(
        &mut self,
        now: Instant,
        register: RelayedRegister,
    ) -> Result<RelayHandle, SipError> {
        usable_uri(&register.aor, &["sip"])?;
        usable_uri(&register.registrar, &["sip", "sips"])?;
        check_authorization(&register.authorization)?;
        if register.call_id.is_empty() || register.call_id.contains(char::is_control) {
            return Err(SipError::BadHeader("Call-ID".into()));
        }
        if !self.has_room(false) {
            return Err(SipError::Busy);
        }
        let handle = RelayHandle(self.io.number());
        let from = NameAddr {
            name: None,
            uri: register.aor.clone(),
            params: vec![("tag".into(), Some(self.io.random.token(16)))],
        };
        let mut request = Request::new(Method::Register, register.registrar);
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", from.to_string());
        headers.push("To", format!("<{}>", register.aor));
        headers.push("Call-ID", register.call_id);
        headers.push("CSeq", format!("{} REGISTER", register.cseq));
        headers.push("Expires", register.expires.as_secs().to_string());
        headers.push("Supported", "path");
        headers.push("User-Agent", self.io.config.user_agent.clone());
        for (name, value) in &register.authorization {
            headers.push(name, value.as_str());
        }
        let owner = Owner::Relay(handle);
        let outgoing = Outgoing::new(owner, request, Some(&register.contact_user), false);
        let relay = Relay {
            contact_user: register.contact_user,
            expires: register.expires,
        };
        self.relays.insert(handle, relay);
        self.send(now, outgoing.by(register.proxies));
        Ok(handle)
    }

    pub(super) fn relay_final(&mut self, handle: RelayHandle, response: &Response) {
        let Some(relay) = self.relays.remove(&handle) else {
            return;
        };
        let expires = match response.status {
            200..300 => relay.granted(&response.headers),
            _ => Duration::ZERO,
        };
        self.io.event(Event::RegisterRelayed {
            relay: handle,
            status: response.status,
            reason: response.reason.clone(),
            expires,
            headers: copied(&response.headers, &ADVICE),
        });
    }

    pub(super) fn relay_failed(&mut self, handle: RelayHandle, failure: Failure) {
        if self.relays.remove(&handle).is_some() {
            let (status, reason) = failure.status();
            self.io.event(Event::RegisterRelayed {
                relay: handle,
                status,
                reason: reason.to_owned(),
                expires: Duration::ZERO,
                headers: Vec::new(),
            });
        }
    }
}

impl Relay {
    /// The lifetime that a 200 gives our Contact (RFC 3261 section 10.2.4): none, where it does not list it any more.
    fn granted(&self, headers: &Headers) -> Duration {
        let user = escape_user(&self.contact_user);
        let ours = |contact: &NameAddr| {
            SipUri::parse(&contact.uri).and_then(|uri| uri.user) == Some(user.clone())
        };
        let mut contacts = headers.get_all("Contact").filter_map(NameAddr::parse);
        let Some(contact) = contacts.find(ours) else {
            return Duration::ZERO;
        };
        let seconds = contact.param("expires").or_else(|| headers.get("Expires"));
        let seconds = seconds.and_then(|text| text.trim().parse().ok());
        seconds.map_or(self.expires, |seconds: u32| {
            Duration::from_secs(seconds.into())
        })
    }
}

/// The headers of these names.
pub(super) fn copied(headers: &Headers, names: &[&str]) -> Vec<(String, String)> {
    let all = names.iter().flat_map(|name| {
        let values = headers.get_all(name);
        values.map(|value| ((*name).to_owned(), value.to_owned()))
    });
    all.take(8).collect()
}
