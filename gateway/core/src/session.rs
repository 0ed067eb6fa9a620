//! A browser session: who is signed in, its registration at the SIP server, its calls.
//!
//! Owned by [`crate::gateway::Gateway`]; ends by sign-out, by silence of the page, or when the gateway stops.

use crate::api::{CallId, Callee, CreateSession, Grant, Problem, SessionId};
use crate::gateway::{Config, RequestId};
use crate::sip::{Credentials, RegistrationHandle};
use crate::trunk::Trunk;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A signed-in page.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Own SIP address, `sip:alice@example.org`.
    pub(crate) address: String,
    /// User part of its Contact: under it the SIP side reaches this page and no other.
    pub(crate) contact: String,
    pub(crate) display_name: Option<String>,
    /// Present for SIP users: answers challenges of the SIP server.
    pub(crate) credentials: Option<Credentials>,
    /// What the page's token lets it call; `None` = everything.
    pub(crate) may_call: Option<Vec<Callee>>,
    pub(crate) standing: Standing,
    pub(crate) calls: HashSet<CallId>,
    /// The last calls that are over.
    ended: VecDeque<CallId>,
    /// Calls that nobody answers end after this long.
    pub(crate) no_answer: Duration,
    /// Whether the page takes offers within its calls.
    pub(crate) takes_offers: bool,
    /// When the page was last heard of.
    pub(crate) alive: Instant,
}

/// Most ended calls that a session remembers.
const ENDED: usize = 32;

/// Where a session stands with the SIP server.
pub(crate) enum Standing {
    /// No registration: a guest, or a user whose registration was lost.
    Unregistered,
    /// REGISTER is out; the page waits for its reply with the token.
    Registering {
        request: RequestId,
        registration: RegistrationHandle,
        token: String,
    },
    /// Registered, refreshed by the stack.
    Registered(RegistrationHandle),
    /// A SIP user agent in the page, which registers by itself.
    Phone(Phone),
}

/// See [`Standing::Phone`].
#[derive(Default)]
pub(crate) struct Phone {
    /// Call-ID of its REGISTERs.
    pub(crate) call_id: String,
    /// The user that its token was made out for.
    pub(crate) granted: Option<String>,
    /// Whether it may call as the guest that it is, before it has registered.
    pub(crate) guest: bool,
    /// Until when its registration stands.
    pub(crate) until: Option<Instant>,
    /// Which user agent it is, once it has registered.
    pub(crate) instance: Option<String>,
    /// Its connection broke: then it has to be back by then.
    pub(crate) back_by: Option<Instant>,
}

impl Session {
    /// The registration behind the session, in whatever state.
    pub(crate) fn registration(&self) -> Option<RegistrationHandle> {
        match &self.standing {
            Standing::Unregistered | Standing::Phone(_) => None,
            Standing::Registering { registration, .. } => Some(*registration),
            Standing::Registered(registration) => Some(*registration),
        }
    }
}

impl Session {
    /// User part of its address.
    pub(crate) fn user(&self) -> &str {
        let (_, place) = self.address.split_once(':').unwrap_or(("", &self.address));
        place.split('@').next().unwrap_or_default()
    }

    /// What answers challenges on a call over `trunk`: the user's password is for the server where the user is at home.
    pub(crate) fn credentials_at(
        &self,
        trunk: &Arc<Trunk>,
        home: &Arc<Trunk>,
    ) -> Option<Credentials> {
        let own = self.credentials.clone();
        let own = own.filter(|_| Arc::ptr_eq(trunk, home));
        own.or_else(|| trunk.credentials.clone())
    }

    /// A session that begins now.
    pub(crate) fn new(
        id: SessionId,
        contact: String,
        identity: Identity,
        standing: Standing,
        now: Instant,
    ) -> Self {
        Self {
            id,
            address: identity.address,
            contact,
            display_name: identity.display_name,
            credentials: identity.credentials,
            may_call: identity.may_call,
            standing,
            calls: HashSet::new(),
            ended: VecDeque::new(),
            no_answer: identity.no_answer,
            takes_offers: identity.takes_offers,
            alive: now,
        }
    }

    /// A call is over.
    pub(crate) fn forget(&mut self, call: &CallId) {
        if self.calls.remove(call) {
            if self.ended.len() == ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(call.clone());
        }
    }

    /// Whether the call was one of this session's not long ago.
    pub(crate) fn had(&self, call: &CallId) -> bool {
        self.ended.contains(call)
    }

    /// Whether a registration stands behind it.
    pub(crate) fn is_registered(&self, now: Instant) -> bool {
        match &self.standing {
            Standing::Registered(_) => true,
            Standing::Phone(phone) => phone.until.is_some_and(|until| until > now),
            Standing::Unregistered | Standing::Registering { .. } => false,
        }
    }

    /// Whether its page is away, to come back within a short time or never.
    pub(crate) fn is_away(&self) -> bool {
        matches!(&self.standing, Standing::Phone(phone) if phone.back_by.is_some())
    }

    /// When it ends unless the page is heard of.
    pub(crate) fn ends_at(&self, idle: Duration) -> Instant {
        let idle = self.alive + idle;
        match &self.standing {
            Standing::Phone(phone) => phone.back_by.map_or(idle, |back| back.min(idle)),
            Standing::Unregistered | Standing::Registering { .. } | Standing::Registered(_) => idle,
        }
    }

    /// Whether both are the same user agent, which proved to be the same user each time.
    pub(crate) fn is_same_agent(&self, other: &Self) -> bool {
        let (Standing::Phone(one), Standing::Phone(two)) = (&self.standing, &other.standing) else {
            return false;
        };
        self.id != other.id
            && self.address == other.address
            && one.instance.is_some()
            && one.instance == two.instance
    }

    /// Refuses calls of a user agent that has not said who it is, where guests are not wanted.
    pub(crate) fn may_place_calls(&self) -> Result<(), Problem> {
        match &self.standing {
            Standing::Phone(phone) if !phone.guest => {
                let detail = "register first, or connect with a token";
                Err(guests_refused(detail))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a call without an offer of a page that would not know what to do with the callee's.
    pub(crate) fn may_call_without_offer(&self) -> Result<(), Problem> {
        // A SIP user agent gets it as SIP has it, in the answer to its INVITE.
        if self.takes_offers || matches!(self.standing, Standing::Phone(_)) {
            return Ok(());
        }
        let detail =
            "a call without an offer is answered by `call.offer`: sign in with `takes_offers`";
        Err(Problem::new(400, "no-offer", "No offer", detail))
    }

    /// Whether the page's token lets it call `peer`, a complete SIP address.
    pub(crate) fn permits(&self, peer: &str, domain: &str) -> Result<(), Problem> {
        let Some(callees) = &self.may_call else {
            return Ok(());
        };
        let (_, peer) = peer.split_once(':').unwrap_or(("", peer));
        if callees.iter().any(|callee| callee.covers(peer, domain)) {
            return Ok(());
        }
        let detail = "the token of this session does not let it call this address";
        Err(Problem::new(403, "not-granted", "Call not allowed", detail))
    }
}

impl Callee {
    /// Whether `peer` (`user@host`) is one of these addresses. Host names compare without case (RFC 3261 section 19.1.4).
    pub(crate) fn covers(&self, peer: &str, domain: &str) -> bool {
        let (user, host) = self.0.rsplit_once('@').unwrap_or((&self.0, domain));
        let Some((peer_user, peer_host)) = peer.rsplit_once('@') else {
            return false;
        };
        // Parameters and headers of the URI stand behind the host.
        let peer_host = peer_host.split([';', '?']).next().unwrap_or_default();
        let (host, peer_host) = (host.to_ascii_lowercase(), peer_host.to_ascii_lowercase());
        matches(user.as_bytes(), peer_user.as_bytes())
            && matches(host.as_bytes(), peer_host.as_bytes())
    }
}

/// Whether `text` is `pattern` with each `*` replaced by some run of bytes. Linear in memory and, per star, in the text: after a
/// mismatch only the last star can take more.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                at = place + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Who signs in, checked.
pub(crate) struct Identity {
    pub(crate) address: String,
    pub(crate) display_name: Option<String>,
    pub(crate) credentials: Option<Credentials>,
    /// What its token lets it call; `None` = everything.
    pub(crate) may_call: Option<Vec<Callee>>,
    /// How long its calls wait for an answer.
    pub(crate) no_answer: Duration,
    /// Whether it takes offers within its calls.
    pub(crate) takes_offers: bool,
}

/// Shortest time that a page may let its calls wait.
const LEAST_NO_ANSWER: Duration = Duration::from_secs(5);

impl Identity {
    /// Reads a sign-in request; `guest_user` names a guest. A token names the user itself: the body may repeat it, not change it.
    pub(crate) fn parse(
        mut body: CreateSession,
        grant: Option<Grant>,
        config: &Config,
        guest_user: &str,
    ) -> Result<Self, Problem> {
        let (domain, guests) = (config.domain.as_str(), config.guests);
        let most = config.limits.no_answer;
        let no_answer = body.no_answer_s.map_or(most, Duration::from_secs);
        if body.no_answer_s.is_some() && !(LEAST_NO_ANSWER..=most).contains(&no_answer) {
            let detail = format!("`no_answer_s` has to be 5 to {}", most.as_secs());
            return Err(Problem::new(422, "bad-time", "Bad time", detail));
        }
        let takes_offers = body.takes_offers;
        let may_call = grant.as_ref().and_then(|grant| grant.may_call.clone());
        let granted = match grant {
            None => None,
            Some(grant) => {
                let address = sip_address(&grant.user, domain)?;
                if let Some(user) = &body.user
                    && sip_address(user, domain)? != address
                {
                    let detail = "the token was made out for another user";
                    return Err(Problem::new(403, "other-user", "Not this user", detail));
                }
                body.display_name = body.display_name.or(grant.display_name);
                body.user = Some(grant.user);
                Some(address)
            }
        };
        let display_name = body.display_name.or_else(|| match body.password {
            Some(_) => None,
            None => body.user.clone(),
        });
        if display_name
            .as_deref()
            .is_some_and(|name| name.len() > 64 || name.chars().any(char::is_control))
        {
            return Err(Problem::new(
                400,
                "bad-name",
                "Bad name",
                "the name has over 64 bytes or control characters",
            ));
        }
        let Some(password) = body.password else {
            if granted.is_none() && !guests {
                return Err(guests_refused(
                    "sign in with a SIP user and password, or with a token",
                ));
            }
            let address = granted.unwrap_or_else(|| format!("sip:{guest_user}@{domain}"));
            return Ok(Self {
                address,
                display_name,
                credentials: None,
                may_call,
                no_answer,
                takes_offers,
            });
        };
        let Some(user) = body.user else {
            return Err(Problem::new(
                400,
                "no-user",
                "No user",
                "a password needs a user",
            ));
        };
        let address = sip_address(&user, domain)?;
        let user_part = address["sip:".len()..]
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned();
        let credentials = Some(Credentials {
            user: user_part,
            password,
        });
        Ok(Self {
            address,
            display_name,
            credentials,
            may_call,
            no_answer,
            takes_offers,
        })
    }
}

fn guests_refused(detail: &str) -> Problem {
    Problem::new(403, "guests-not-allowed", "Guests are not allowed", detail)
}

/// Completes what a person wants to call; `sips:` asks for TLS on every hop.
pub(crate) fn callee_address(typed: &str, domain: &str) -> Result<String, Problem> {
    match typed.trim().strip_prefix("sips:") {
        None => sip_address(typed, domain),
        Some(rest) => Ok(sip_address(rest, domain)?.replacen("sip:", "sips:", 1)),
    }
}

/// Completes what a person typed (`echo`, `echo@host`, `sip:echo@host`) to a SIP URI.
pub(crate) fn sip_address(typed: &str, domain: &str) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::new(400, "bad-address", "Bad SIP address", detail);
    let typed = typed.trim();
    if typed.is_empty() || typed.len() > 256 {
        return Err(bad("an address has 1 to 256 bytes"));
    }
    if typed
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || b"<>\"{}|\\^`".contains(&byte))
    {
        return Err(bad(
            "an address has only printable ASCII without spaces and angle brackets",
        ));
    }
    if typed.starts_with("sips:") || typed.starts_with("tel:") {
        return Err(bad("this has to be a sip: address"));
    }
    let rest = typed.strip_prefix("sip:").unwrap_or(typed);
    let (user, host) = rest.split_once('@').unwrap_or((rest, domain));
    if user.is_empty() || host.is_empty() || host.contains('@') {
        return Err(bad("user or host is missing"));
    }
    Ok(format!("sip:{user}@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, peer: &str) -> bool {
        Callee(pattern.into()).covers(peer, "example.org")
    }

    #[test]
    fn callees_are_patterns_of_user_and_host() {
        assert!(covers("echo", "echo@example.org"));
        assert!(covers("echo", "echo@EXAMPLE.org;transport=tcp"));
        assert!(!covers("echo", "echo@example.net"));
        assert!(covers("*@*", "anyone@anywhere"));
        assert!(covers("5*", "5001@example.org"));
        assert!(!covers("5*", "4001@example.org"));
        assert!(covers("a*b*c", "aXbYbZc@example.org"));
        assert!(!covers("a*b*c", "aXbYbZ@example.org"));
        // A star does not reach over the `@`: else `5*` would allow 5@elsewhere.
        assert!(!covers("5*", "5@example.net"));
        assert!(!covers("", "echo@example.org"));
    }
}
