//! Users, their digest authentication and their contacts (RFC 3261 section 10.3, RFC 8760).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gateway_core::Random;
use gateway_core::sip::SipUri;
use gateway_core::sip::digest::{Algorithm, Answer, Challenge};
use gateway_core::sip::message::{NameAddr, Request, Response, response_to};

use super::core::Hop;
use super::report::{Counters, Event};

const NONCE_LIFE: Duration = Duration::from_secs(300);
const MAX_NONCES: usize = 10_000;
/// Contacts of one user; the oldest goes for a new one.
const MAX_BINDINGS: usize = 8;
const DEFAULT_EXPIRES_S: u64 = 600;
const MAX_EXPIRES_S: u64 = 3600;

/// A contact of a user.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    /// The Contact URI.
    pub(super) uri: String,
    /// Where requests to it go.
    pub(super) hop: Hop,
    expires: Instant,
    call_id: String,
    cseq: u32,
}

/// Why a request is not let through.
#[derive(Debug)]
pub(super) enum Refusal {
    /// To be answered with these challenges.
    Challenge(Vec<Challenge>),
    /// Wrong user, password, or user of another.
    Forbidden,
}

/// The registrar's tables.
pub(super) struct Registrar {
    users: HashMap<String, String>,
    realm: String,
    algorithms: Vec<Algorithm>,
    bindings: HashMap<String, Vec<Binding>>,
    nonces: HashMap<String, Nonce>,
}

/// A nonce that was given out.
struct Nonce {
    expires: Instant,
    /// Highest count that was used with it.
    count: u32,
}

impl Registrar {
    pub(super) fn new(
        users: HashMap<String, String>,
        realm: String,
        algorithms: Vec<Algorithm>,
    ) -> Self {
        Self {
            users,
            realm,
            algorithms,
            bindings: HashMap::new(),
            nonces: HashMap::new(),
        }
    }

    pub(super) fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// The newest contact of a user that has not expired.
    pub(super) fn binding(&self, user: &str, now: Instant) -> Option<&Binding> {
        let bindings = self.bindings.get(user)?;
        bindings.iter().rev().find(|binding| binding.expires > now)
    }

    /// The contact, of any user, whose address and user part a URI names: requests inside dialogs carry it.
    pub(super) fn by_contact(&self, uri: &SipUri, now: Instant) -> Option<&Binding> {
        let all = self.bindings.values().flatten();
        all.filter(|binding| binding.expires > now).find(|binding| {
            SipUri::parse(&binding.uri).is_some_and(|contact| {
                (contact.user.as_deref(), contact.address()) == (uri.user.as_deref(), uri.address())
            })
        })
    }

    /// Answers a REGISTER.
    pub(super) fn register(
        &mut self,
        now: Instant,
        from: Hop,
        request: &Request,
        random: &mut Random,
        counters: &mut Counters,
    ) -> (Response, Option<Event>) {
        let refuse = |status| (response_to(request, status, ""), None);
        let to = request.headers.get("To").and_then(NameAddr::parse);
        let Some(user) = to
            .and_then(|to| SipUri::parse(&to.uri))
            .and_then(|uri| uri.user)
        else {
            return refuse(400);
        };
        match self.authenticate(now, request, "Authorization", &user, random) {
            Ok(()) => {}
            Err(Refusal::Forbidden) => {
                counters.wrong_passwords += 1;
                return refuse(403);
            }
            Err(Refusal::Challenge(challenges)) => {
                counters.challenges += 1;
                let mut response = response_to(request, 401, "");
                for challenge in challenges {
                    response
                        .headers
                        .push("WWW-Authenticate", challenge.to_string());
                }
                return (response, None);
            }
        }
        match self.bind(now, from, request, &user) {
            Ok(event) => {
                counters.registrations += 1;
                let mut response = response_to(request, 200, "");
                self.list(now, &user, &mut response);
                (response, event)
            }
            Err(status) => refuse(status),
        }
    }

    /// Checks who sends a request.
    pub(super) fn authenticate(
        &mut self,
        now: Instant,
        request: &Request,
        header: &str,
        user: &str,
        random: &mut Random,
    ) -> Result<(), Refusal> {
        let answers = request.headers.get_all(header);
        let answer = answers
            .filter_map(Answer::parse)
            .find(|answer| answer.realm == self.realm);
        let Some(answer) = answer else {
            return Err(self.challenge(now, false, random));
        };
        let password = self.users.get(&answer.user);
        let fits = password.is_some_and(|password| answer.fits(password, &request.method));
        if !fits || answer.user != user || answer.uri != request.uri {
            return Err(Refusal::Forbidden);
        }
        let count = answer.qop.as_ref().map(|(count, _)| *count);
        match self.nonces.get_mut(&answer.nonce) {
            Some(nonce) if nonce.expires > now && count.is_none_or(|count| count > nonce.count) => {
                nonce.count = count.unwrap_or(nonce.count);
                Ok(())
            }
            // The password was right: only the nonce is too old, or its count was used.
            Some(_) | None => Err(self.challenge(now, true, random)),
        }
    }

    fn challenge(&mut self, now: Instant, stale: bool, random: &mut Random) -> Refusal {
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.retain(|_, nonce| nonce.expires > now);
        }
        let nonce = random.token(24);
        if self.nonces.len() < MAX_NONCES {
            let expires = now + NONCE_LIFE;
            self.nonces
                .insert(nonce.clone(), Nonce { expires, count: 0 });
        }
        let challenge = |algorithm: &Algorithm| Challenge {
            realm: self.realm.clone(),
            nonce: nonce.clone(),
            opaque: None,
            algorithm: *algorithm,
            qop_auth: true,
            stale,
        };
        Refusal::Challenge(self.algorithms.iter().map(challenge).collect())
    }

    fn bind(
        &mut self,
        now: Instant,
        from: Hop,
        request: &Request,
        user: &str,
    ) -> Result<Option<Event>, u16> {
        let general = match request.headers.get("Expires") {
            Some(expires) => expires.trim().parse().map_err(|_| 400u16)?,
            None => DEFAULT_EXPIRES_S,
        };
        let call_id = request.headers.call_id();
        let cseq = request.headers.cseq().map_or(0, |(number, _)| number);
        let unregistered = || Event::Unregistered {
            user: user.to_owned(),
        };
        let mut event = None;
        for contact in request.headers.get_all("Contact") {
            if contact.trim() == "*" {
                if general != 0 {
                    return Err(400);
                }
                self.bindings.remove(user);
                event = Some(unregistered());
                continue;
            }
            let contact = NameAddr::parse(contact).ok_or(400u16)?;
            let uri = SipUri::parse(&contact.uri).ok_or(400u16)?;
            let expires = match contact.param("expires") {
                Some(expires) => expires.parse().map_err(|_| 400u16)?,
                None => general,
            };
            let expires = expires.min(MAX_EXPIRES_S);
            let bindings = self.bindings.entry(user.to_owned()).or_default();
            let known = bindings
                .iter()
                .position(|binding| binding.uri == contact.uri);
            if let Some(known) = known {
                let old = bindings.remove(known);
                if old.call_id == call_id && old.cseq >= cseq {
                    // RFC 3261 section 10.3 step 7: it came late.
                    bindings.insert(known, old);
                    return Err(500);
                }
            }
            if expires == 0 {
                event = Some(unregistered());
                continue;
            }
            if bindings.len() == MAX_BINDINGS {
                bindings.remove(0);
            }
            bindings.push(Binding {
                hop: Hop::of_contact(&uri, from),
                uri: contact.uri.clone(),
                expires: now + Duration::from_secs(expires),
                call_id: call_id.to_owned(),
                cseq,
            });
            event = Some(Event::Registered {
                user: user.to_owned(),
                contact: contact.uri,
                expires,
            });
        }
        Ok(event)
    }

    fn list(&self, now: Instant, user: &str, response: &mut Response) {
        let bindings = self.bindings.get(user).into_iter().flatten();
        for binding in bindings.filter(|binding| binding.expires > now) {
            // Rounded up, so that a fresh binding shows what was asked for.
            let left = (binding.expires - now).as_millis().div_ceil(1000);
            let contact = format!("<{}>;expires={left}", binding.uri);
            response.headers.push("Contact", contact);
        }
    }
}
