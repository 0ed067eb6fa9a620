//! What the SIP stack reports: incoming calls, progress of ours, registrations.

use super::requests::created;
use super::{Gateway, Output};
use crate::api::{
    CallId, Direction, Event, Header, Origin, PhoneRegistered, Problem, Reply, SessionId,
};
use crate::call::{By, Call, Newcomer, Offered, Opening, Referral, State, data_of};
use crate::sdp::SipSession;
use crate::session::Standing;
use crate::sip;
use crate::trunk::{ReferPolicy, Trunk};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// A call of the SIP side.
struct Arrival {
    handle: sip::CallHandle,
    /// User part of the Request-URI.
    user: String,
    source: IpAddr,
    /// Who calls.
    from: String,
    from_name: Option<String>,
    headers: Vec<(String, String)>,
    sdp: Option<String>,
}

/// Where an [`Arrival`] belongs.
struct Destination {
    session: SessionId,
    trunk: Arc<Trunk>,
    offer: Option<SipSession>,
}

impl Gateway {
    /// Takes everything the stack has to say; called after every input.
    pub(super) fn drain_stack(&mut self, now: Instant) {
        while let Some(output) = self.hub.stack.poll_output() {
            match output {
                sip::Output::Transmit(transmit) => {
                    self.hub.outputs.push_back(Output::SipTransmit(transmit))
                }
                sip::Output::Resolve(resolve) => {
                    self.hub.outputs.push_back(Output::SipResolve(resolve))
                }
                sip::Output::Close(connection) => {
                    self.hub.outputs.push_back(Output::SipClose(connection))
                }
                sip::Output::Event(event) => self.handle_sip_event(now, event),
            }
        }
    }

    fn handle_sip_event(&mut self, now: Instant, event: sip::Event) {
        use sip::Event as E;
        match event {
            E::Incoming { .. } => self.handle_arrival(now, event),
            E::Provisional { call, .. }
            | E::Offered { call, .. }
            | E::EarlyAnswer { call, .. }
            | E::Answered { call, .. }
            | E::Challenged { call, .. }
            | E::Rejected { call, .. }
            | E::Cancelled { call, .. }
            | E::Ended { call, .. }
            | E::Reinvite { call, .. }
            | E::Confirmed { call, .. }
            | E::ReinviteAnswered { call, .. }
            | E::Info { call, .. }
            | E::Control { call, .. }
            | E::RequestAnswered { call, .. }
            | E::Transfer { call, .. }
            | E::ReinviteFailed { call, .. } => {
                let handle = call;
                self.on_sip_call(now, handle, |call, hub| {
                    call.handle_sip(hub, now, handle, event);
                });
            }
            E::Refer {
                call,
                to,
                replaces,
                referred_by,
            } => {
                let referral = Referral {
                    to,
                    replaces,
                    referred_by,
                };
                self.handle_referral(now, call, referral);
            }
            E::Message { .. } | E::MessagesWaiting { .. } => self.handle_standalone(now, event),
            E::MessageAnswered {
                message,
                status,
                reason,
            } => self.message_answered(message, status, reason),
            E::RegisterRelayed {
                relay,
                status,
                reason,
                expires,
                headers,
            } => {
                let headers = headers.into_iter().map(Header::from).collect();
                let expires_s = expires.as_secs();
                let answer = PhoneRegistered {
                    status,
                    reason,
                    expires_s,
                    headers,
                    before: None,
                };
                self.phone_registered(now, relay, answer);
            }
            E::Registered {
                registration,
                expires,
                ..
            } => self.handle_registered(registration, expires.as_secs()),
            E::RegistrationFailed {
                registration,
                status,
                reason,
            } => {
                self.handle_registration_failed(now, registration, status, reason);
            }
            E::Unregistered { registration } => {
                self.registrations.remove(&registration);
            }
            E::Target {
                watch,
                transport,
                addr,
                alive,
            } => self.hub.trunks.target(watch, (transport, addr), alive),
        }
    }

    /// An INVITE: a new call, or one that takes the place of another.
    fn handle_arrival(&mut self, now: Instant, event: sip::Event) {
        let sip::Event::Incoming {
            call,
            contact_user,
            source,
            from_uri,
            from_name,
            sdp,
            replaces,
            headers,
            ..
        } = event
        else {
            return;
        };
        let arrival = Arrival {
            handle: call,
            user: contact_user,
            source,
            from: from_uri,
            from_name,
            headers,
            sdp,
        };
        match replaces {
            None => self.handle_incoming(now, arrival),
            Some(replaced) => self.handle_replacing(now, arrival, replaced),
        }
    }

    fn on_sip_call(
        &mut self,
        now: Instant,
        handle: sip::CallHandle,
        step: impl FnOnce(&mut Call, &mut super::Hub),
    ) {
        if let Some(call) = self.hub.routes.sip.get(&handle).cloned() {
            self.with_call(now, &call, step);
        }
    }

    fn handle_incoming(&mut self, now: Instant, arrival: Arrival) {
        let id = CallId(self.hub.random.token(16));
        let destination = match self.destination(now, &arrival) {
            Ok(destination) => destination,
            Err((status, reason)) => {
                self.hub.stack.reject(now, arrival.handle, status, &reason);
                return;
            }
        };
        let Destination {
            session,
            trunk,
            offer,
        } = destination;
        let mut no_answer = self.hub.config.limits.no_answer;
        let mut takes_offers = false;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.calls.insert(id.clone());
            no_answer = session.no_answer;
            takes_offers = session.takes_offers;
        }
        self.hub.routes.sip.insert(arrival.handle, id.clone());
        let video = offer.as_ref().is_some_and(SipSession::shows_video);
        let media = trunk.codecs.media_count(video);
        let call = Call {
            id: id.clone(),
            session,
            direction: Direction::Incoming,
            peer: trunk.incoming_caller(arrival.from),
            data: data_of(&self.hub.config.data_prefix, &arrival.headers),
            no_answer,
            takes_offers,
            muted: false,
            state: State::Opening(Box::new(Opening::Incoming(Offered {
                sip: arrival.handle,
                from_name: arrival.from_name,
                origin: Origin::of(&arrival.headers),
                headers: trunk.headers.shown(&arrival.headers),
                offer,
            }))),
            causes: Vec::new(),
            trunk,
        };
        self.calls.insert(id.clone(), call);
        self.hub.open_ports(id, media);
    }

    /// A call that takes the place of another one (RFC 3891): the page keeps its call, with another party.
    fn handle_replacing(&mut self, now: Instant, arrival: Arrival, replaced: sip::CallHandle) {
        let Some(id) = self.hub.routes.sip.get(&replaced).cloned() else {
            return self.hub.stack.reject(now, arrival.handle, 481, "");
        };
        self.with_call(now, &id, |call, hub| {
            let newcomer = Newcomer {
                sip: arrival.handle,
                replaces: replaced,
                peer: call.trunk.incoming_caller(arrival.from),
                name: arrival.from_name,
                sdp: arrival.sdp,
            };
            call.replaced(hub, now, newcomer);
        });
    }

    /// The SIP side wants somebody else called.
    fn handle_referral(&mut self, now: Instant, handle: sip::CallHandle, referral: Referral) {
        let id = self.hub.routes.sip.get(&handle).cloned();
        let Some((id, policy)) = id.and_then(|id| {
            let policy = self.calls.get(&id)?.trunk.refer;
            Some((id, policy))
        }) else {
            return self.hub.stack.answer_refer(now, handle, Err(481));
        };
        match policy {
            ReferPolicy::Refuse => self.hub.stack.answer_refer(now, handle, Err(603)),
            ReferPolicy::Page => {
                self.with_call(now, &id, |call, hub| call.ask_page(hub, now, referral));
            }
            ReferPolicy::Follow => {
                // The refusal says it all.
                let _ = self.follow(now, &id, referral);
            }
        }
    }

    /// The page's word on what it was asked.
    pub(super) fn answer_referral(
        &mut self,
        now: Instant,
        session: &SessionId,
        id: &CallId,
        accept: bool,
    ) -> Result<Option<Reply>, Problem> {
        self.owned(session, id)?;
        let call = self
            .calls
            .get_mut(id)
            .ok_or_else(super::requests::no_session)?;
        let referral = call.take_asked()?;
        if accept {
            self.follow(now, id, referral)?;
        } else {
            self.with_call(now, id, |call, hub| call.refuse_referral(hub, now, 603));
        }
        Ok(Some(Reply::Done))
    }

    /// Calls whom the SIP side names, for the page of a call; the REFER is refused where that cannot be.
    fn follow(&mut self, now: Instant, id: &CallId, referral: Referral) -> Result<(), Problem> {
        let Some((call, session)) = self.calls.get(id).and_then(|call| {
            let session = self.sessions.get(&call.session)?;
            Some((call, session))
        }) else {
            return Ok(());
        };
        let domain = &self.hub.config.domain;
        let (trunk, home) = (
            self.hub.trunk_to(&referral.to),
            self.hub.trunk_to(&session.address),
        );
        let by = referral.referred_by.unwrap_or_else(|| call.peer.clone());
        let mut headers = vec![("Referred-By".to_owned(), format!("<{by}>"))];
        headers.extend(
            referral
                .replaces
                .map(|value| ("Replaces".to_owned(), value)),
        );
        let invite = sip::Invite {
            to: trunk.callee(&referral.to, domain),
            from: trunk.caller(&session.address, domain),
            display_name: session.display_name.clone(),
            contact_user: Some(session.contact.clone()),
            credentials: session.credentials_at(&trunk, &home),
            authorization: Vec::new(),
            sdp: None,
            only_final: false,
            headers,
            proxies: Arc::clone(&trunk.proxies),
        };
        let mut outcome = Ok(());
        self.with_call(now, id, |call, hub| {
            outcome = call.follow(hub, now, invite, referral.to);
            if let Err(problem) = &outcome {
                let status = if problem.status == 400 { 400 } else { 603 };
                call.refuse_referral(hub, now, status);
            }
        });
        outcome
    }

    /// Whom a call is for, and by which trunk it came; or the refusal.
    fn destination(
        &mut self,
        now: Instant,
        arrival: &Arrival,
    ) -> Result<Destination, (u16, String)> {
        let limits = self.hub.config.limits;
        if self.admit("call", self.calls.len(), limits.calls).is_err() {
            return Err((503, "Call limit reached".to_owned()));
        }
        let from = self.hub.trunks.from(arrival.source);
        // Only a trunk may call users by name: all others have to know the Contact, which only the registrar does.
        let named = from.as_ref().and_then(|trunk| {
            let user = trunk.incoming_callee(&arrival.user);
            self.users.get(&user)
        });
        let found = self.contacts.get(&arrival.user).or(named);
        let Some(session) = found.and_then(|id| self.sessions.get(id)) else {
            return Err((404, "Nobody is signed in under this contact".to_owned()));
        };
        if session.is_away() {
            return Err((480, "The page is away".to_owned()));
        }
        if session.calls.len() >= limits.calls_per_session {
            return Err((486, "Busy Here".to_owned()));
        }
        let offer = arrival.sdp.as_deref().map(SipSession::parse).transpose();
        let offer = offer.map_err(|error| (488, error.to_string()))?;
        let trunk = from.unwrap_or_else(|| self.hub.trunk_to(&session.address));
        let session = session.id.clone();
        let admitted = self.hub.trunks.admit(now, &trunk);
        admitted.map_err(|_| (503, "Trunk limit reached".to_owned()))?;
        Ok(Destination {
            session,
            trunk,
            offer,
        })
    }

    fn handle_registered(&mut self, registration: sip::RegistrationHandle, expires_s: u64) {
        let Some(id) = self.registrations.get(&registration).cloned() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut session.standing, Standing::Registered(registration));
        if let Standing::Registering { request, token, .. } = before {
            let created = created(&id, token, &session.address, true);
            self.hub.reply(request, Ok(Reply::SessionCreated(created)));
        }
        self.hub.event(&id, Event::Registered { expires_s });
    }

    /// The first registration decides over the session; a lost one leaves it, but nobody can call the page any more. The stack
    /// has given up trying and forgotten the handle.
    pub(super) fn handle_registration_failed(
        &mut self,
        now: Instant,
        registration: sip::RegistrationHandle,
        status: u16,
        reason: String,
    ) {
        let Some(id) = self.registrations.remove(&registration) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut session.standing, Standing::Unregistered) {
            Standing::Registering { request, .. } => {
                self.hub
                    .reply(request, Err(registration_problem(status, &reason)));
                self.end_session(now, &id, By::Gateway, "not registered");
            }
            Standing::Unregistered | Standing::Registered(_) | Standing::Phone(_) => {
                self.hub
                    .event(&id, Event::RegistrationFailed { status, reason });
            }
        }
    }
}

fn registration_problem(status: u16, reason: &str) -> Problem {
    let detail = format!("the SIP server answered {status} {reason}");
    match status {
        401 | 403 | 407 => Problem::new(401, "not-registered", "User or password is wrong", detail),
        404 => Problem::new(
            401,
            "not-registered",
            "The SIP server does not know this user",
            detail,
        ),
        408 | 503 => Problem::new(
            504,
            "registrar-unreachable",
            "The SIP server does not answer",
            detail,
        ),
        _ => Problem::new(
            502,
            "registration-failed",
            "The SIP server refused the registration",
            detail,
        ),
    }
}
