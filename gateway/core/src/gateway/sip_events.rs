//! What the SIP stack reports: incoming calls, progress of ours, registrations.

use super::requests::created;
use super::{Gateway, Output};
use crate::api::{CallId, Direction, Event, Origin, Problem, Reply};
use crate::call::{By, Call, Offered, Opening, State};
use crate::sdp::SipSession;
use crate::session::Standing;
use crate::sip;
use std::time::Instant;

/// Who calls.
struct Caller {
    address: String,
    name: Option<String>,
    origin: Origin,
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
            E::Incoming {
                call,
                contact_user,
                from_uri,
                from_name,
                sdp,
                headers,
                ..
            } => {
                let caller = Caller {
                    address: from_uri,
                    name: from_name,
                    origin: Origin::of(&headers),
                };
                self.handle_incoming(now, call, &contact_user, caller, sdp.as_deref());
            }
            E::Provisional { call, .. }
            | E::Offered { call, .. }
            | E::EarlyAnswer { call, .. }
            | E::Answered { call, .. }
            | E::Rejected { call, .. }
            | E::Cancelled { call }
            | E::Ended { call, .. }
            | E::Reinvite { call, .. }
            | E::Confirmed { call, .. }
            | E::ReinviteAnswered { call, .. }
            | E::Info { call, .. }
            | E::Control { call, .. }
            | E::RequestAnswered { call, .. }
            | E::Transfer { call, .. }
            | E::Refer { call, .. }
            | E::ReinviteFailed { call, .. } => {
                self.on_sip_call(now, call, |call, hub| call.handle_sip(hub, now, event));
            }
            E::Message { .. } | E::MessagesWaiting { .. } => self.handle_standalone(now, event),
            E::MessageAnswered {
                message,
                status,
                reason,
            } => self.message_answered(message, status, reason),
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

    fn handle_incoming(
        &mut self,
        now: Instant,
        handle: sip::CallHandle,
        contact_user: &str,
        caller: Caller,
        sdp: Option<&str>,
    ) {
        let admitted = self.admit("call", self.calls.len(), self.hub.config.limits.calls);
        let session = self
            .contacts
            .get(contact_user)
            .and_then(|id| self.sessions.get_mut(id));
        let offer = sdp.map(SipSession::parse).transpose();
        let refusal = match (&admitted, &session, &offer) {
            (Err(_), _, _) => Some((503, "Call limit reached".to_owned())),
            (_, None, _) => Some((404, "Nobody is signed in under this contact".to_owned())),
            (_, Some(session), _)
                if session.calls.len() >= self.hub.config.limits.calls_per_session =>
            {
                Some((486, "Busy Here".to_owned()))
            }
            (_, _, Err(error)) => Some((488, error.to_string())),
            (Ok(()), Some(_), Ok(_)) => None,
        };
        if let Some((status, reason)) = refusal {
            self.hub.stack.reject(now, handle, status, &reason);
            return;
        }
        let (Some(session), Ok(offer)) = (session, offer) else {
            return;
        };
        let id = CallId(self.hub.random.token(16));
        let media = self
            .hub
            .media_count(offer.as_ref().is_some_and(SipSession::shows_video));
        session.calls.insert(id.clone());
        self.hub.routes.sip.insert(handle, id.clone());
        let call = Call {
            id: id.clone(),
            session: session.id.clone(),
            direction: Direction::Incoming,
            peer: caller.address,
            state: State::Opening(Box::new(Opening::Incoming(Offered {
                sip: handle,
                from_name: caller.name,
                origin: caller.origin,
                offer,
            }))),
        };
        self.calls.insert(id.clone(), call);
        self.hub.open_ports(id, media);
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
    fn handle_registration_failed(
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
            Standing::Unregistered | Standing::Registered(_) => {
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
