//! Sessions of SIP user agents in pages (SIP over WebSocket): they register by themselves, through us, and prove by it who they are.

use super::deadlines::Owner;
use super::requests::{created, no_session};
use super::{Gateway, RequestId};
use crate::api::{Grant, Header, PhoneRegister, PhoneRegistered, Problem, Reply, SessionId};
use crate::call::{By, refused};
use crate::session::{Identity, Phone, Session, Standing, sip_address};
use crate::sip;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// REGISTERs under way at once.
const MAX_REGISTERING: usize = 1000;
/// The longest lifetime asked for: a page that is closed without a word leaves its binding behind for as long.
const MAX_EXPIRES_S: u32 = 3600;

/// How long the calls of a page whose connection broke wait for it: as long as its consent to media lasts.
const AWAY: Duration = Duration::from_secs(30);

/// A REGISTER that waits for its answer.
pub(super) struct Registering {
    request: RequestId,
    session: SessionId,
    aor: String,
    display_name: Option<String>,
    instance: Option<String>,
}

impl Gateway {
    /// A user agent connected. Without a token it is a guest until it has registered.
    pub(super) fn create_phone(
        &mut self,
        now: Instant,
        grant: Option<Grant>,
    ) -> Result<Reply, Problem> {
        let limit = self.hub.config.limits.sessions;
        self.admit("session", self.sessions.len(), limit)?;
        let domain = &self.hub.config.domain;
        let granted = grant
            .as_ref()
            .map(|grant| sip_address(&grant.user, domain))
            .transpose()?;
        let guest = format!("guest-{}", self.hub.random.token(8).to_lowercase());
        let address = granted
            .clone()
            .unwrap_or_else(|| format!("sip:{guest}@{domain}"));
        let id = SessionId(self.hub.random.token(16));
        let token = self.hub.random.token(43);
        let contact = self.hub.random.token(16);
        let phone = Phone {
            call_id: self.hub.random.token(24),
            guest: granted.is_some() || self.hub.config.guests,
            granted,
            until: None,
            instance: None,
            back_by: None,
        };
        let (display_name, may_call) = match grant {
            Some(grant) => (grant.display_name, grant.may_call),
            None => (None, None),
        };
        let named = phone.granted.is_some();
        let identity = Identity {
            address: address.clone(),
            display_name,
            credentials: None,
            may_call,
            no_answer: self.hub.config.limits.no_answer,
            takes_offers: false,
        };
        let standing = Standing::Phone(phone);
        let session = Session::new(id.clone(), contact.clone(), identity, standing, now);
        if named {
            self.users.insert(session.user().to_owned(), id.clone());
        }
        let idle = now + self.hub.config.limits.session_idle;
        self.deadlines.set(Owner::Session(id.clone()), Some(idle));
        self.contacts.insert(contact, id.clone());
        self.sessions.insert(id.clone(), session);
        Ok(Reply::SessionCreated(created(&id, token, &address, false)))
    }

    /// Its REGISTER, to the server of the address.
    pub(super) fn register_phone(
        &mut self,
        now: Instant,
        request: RequestId,
        session: &SessionId,
        body: PhoneRegister,
    ) -> Result<Option<Reply>, Problem> {
        self.admit("registration", self.phones.len(), MAX_REGISTERING)?;
        let aor = sip_address(&body.aor, &self.hub.config.domain)?;
        let proxies = Arc::clone(&self.hub.trunk_to(&aor).proxies);
        let session = self.sessions.get_mut(session).ok_or_else(no_session)?;
        session.alive = now;
        let Standing::Phone(phone) = &session.standing else {
            let detail = "this session registers by itself";
            return Err(Problem::new(409, "no-phone", "Not a user agent", detail));
        };
        if phone.granted.as_ref().is_some_and(|user| *user != aor) {
            let detail = "the token was made out for another user";
            return Err(Problem::new(403, "other-user", "Not this user", detail));
        }
        let register = sip::RelayedRegister {
            aor: aor.clone(),
            registrar: body.registrar,
            contact_user: session.contact.clone(),
            expires: Duration::from_secs(body.expires_s.min(MAX_EXPIRES_S).into()),
            call_id: phone.call_id.clone(),
            cseq: body.cseq,
            authorization: body.authorization.into_iter().map(Header::into).collect(),
            proxies,
        };
        let registering = Registering {
            request,
            session: session.id.clone(),
            aor,
            display_name: body.display_name,
            instance: body.instance,
        };
        let relayed = self.hub.stack.relay_register(now, register);
        let relay = relayed.map_err(|error| refused(&error))?;
        self.phones.insert(relay, registering);
        Ok(None)
    }

    /// The server accepted it, asks for credentials, or refused.
    pub(super) fn phone_registered(
        &mut self,
        now: Instant,
        relay: sip::RelayHandle,
        mut answer: PhoneRegistered,
    ) {
        let Some(registering) = self.phones.remove(&relay) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&registering.session)
            && let Standing::Phone(phone) = &mut session.standing
            && (200..300).contains(&answer.status)
        {
            let lifetime = Duration::from_secs(answer.expires_s);
            phone.until = (!lifetime.is_zero()).then(|| now + lifetime);
            if phone.until.is_some() {
                // The server has verified the password: from now on this is its user.
                phone.guest = true;
                phone.instance = registering.instance;
                session.address = registering.aor;
                if registering.display_name.is_some() {
                    session.display_name = registering.display_name;
                }
                let user = session.user().to_owned();
                self.users.insert(user, session.id.clone());
            }
        }
        answer.before = self.session_before(now, &registering.session);
        let reply = Ok(Reply::Registered(answer));
        self.hub.reply(registering.request, reply);
    }

    /// A session of the same user agent that has calls, where this one is registered.
    fn session_before(&self, now: Instant, id: &SessionId) -> Option<SessionId> {
        let session = self.sessions.get(id)?;
        if !session.is_registered(now) {
            return None;
        }
        let mut others = self.sessions.values();
        let before =
            others.find(|other| !other.calls.is_empty() && session.is_same_agent(other))?;
        Some(before.id.clone())
    }

    /// The connection of a user agent broke. Who has proved nothing cannot prove to be the same again.
    pub(super) fn lose_phone(&mut self, now: Instant, id: &SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (busy, back_by) = (!session.calls.is_empty(), now + AWAY);
        match &mut session.standing {
            Standing::Phone(phone) if phone.instance.is_some() && busy => {
                phone.back_by = Some(back_by);
                let owner = Owner::Session(id.clone());
                self.deadlines.set(owner, Some(back_by));
            }
            _ => self.end_session(now, id, By::Browser, "the connection broke"),
        }
    }

    /// The same user agent is back. What it said before its registration does not count: both have to stand as the same user's.
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        id: &SessionId,
        before: &SessionId,
    ) -> Result<Reply, Problem> {
        let (session, old) = (self.sessions.get(id), self.sessions.get(before));
        let (session, old) = session.zip(old).ok_or_else(no_session)?;
        if !session.is_registered(now) || !session.is_same_agent(old) {
            let detail = "the calls are those of another user agent";
            return Err(Problem::new(403, "other-agent", "Not its calls", detail));
        }
        let old = self.sessions.get_mut(before).ok_or_else(no_session)?;
        let moved = std::mem::take(&mut old.calls);
        for id_of_call in &moved {
            if let Some(call) = self.calls.get_mut(id_of_call) {
                call.session = id.clone();
            }
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.alive = now;
            session.calls.extend(moved);
        }
        self.end_session(now, before, By::Browser, "the page came back");
        Ok(Reply::Done)
    }
}
