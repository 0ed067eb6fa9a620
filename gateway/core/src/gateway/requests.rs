//! Requests of pages and of the admin side.

use super::deadlines::Owner;
use super::isolation::{Owed, bug};
use super::{FlowId, Gateway, Output, RequestId};
use crate::api::{
    CallId, CallState, CreateCall, CreateSession, Direction, FlowView, Grant, Problem, Reply,
    Request, SessionCreated, SessionId, SessionView,
};
use crate::call::{By, Call, Opening, State, Wish, data_headers};
use crate::sdp::WebSession;
use crate::session::{Identity, Session, Standing, callee_address};
use crate::sip::{Credentials, Register, RegistrationHandle};
use crate::trunk::Over;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// A view that waits for fresh flow counters.
pub(super) struct Reading {
    request: RequestId,
    waiting: HashSet<FlowId>,
    what: Wanted,
}

/// What is answered once the counters are there.
enum Wanted {
    Call(CallId),
    Calls,
    Flows,
}

impl Gateway {
    pub(super) fn handle_request(&mut self, now: Instant, id: RequestId, request: Request) {
        if let Some(problem) = self.change_of_ended(&request) {
            return self.hub.reply(id, Err(problem));
        }
        let reply = match request {
            Request::CreateSession(body, grant) => self.create_session(now, id, body, grant),
            Request::CreatePhone(grant) => self.create_phone(now, grant).map(Some),
            Request::Register(session, body) => self.register_phone(now, id, &session, body),
            Request::LostPhone(session) => {
                self.lose_phone(now, &session);
                Ok(Some(Reply::Done))
            }
            Request::TakeOver(session, before) => self.take_over(now, &session, &before).map(Some),
            Request::Session(session) => self.view_session(now, &session).map(Some),
            Request::EndSession(session) => {
                self.end_session(now, &session, By::Browser, "signed out");
                Ok(Some(Reply::Done))
            }
            Request::CreateCall(session, body) => self.create_call(now, id, &session, body),
            Request::Call(session, call) => self.owned(&session, &call).map(|()| {
                let flows = self
                    .calls
                    .get(&call)
                    .map(|call| call.flows())
                    .unwrap_or_default();
                self.read(now, id, flows, Wanted::Call(call));
                None
            }),
            Request::Answer(session, call, body) => {
                self.on_call(now, &session, &call, |call, hub| {
                    call.handle_answer(hub, now, &body.answer)?;
                    Ok(Reply::Call(Box::new(call.view(hub, now))))
                })
            }
            Request::Offer(session, call, body) => self.owned(&session, &call).map(|()| {
                self.hub.owed.insert(id, Owed::Call(call.clone()));
                self.with_call(now, &call, |call, hub| {
                    call.handle_offer(hub, now, id, &body.offer)
                });
                None
            }),
            Request::Candidates(session, call, body) => {
                self.on_call(now, &session, &call, |call, hub| {
                    call.handle_candidates(hub, now, &body.candidates);
                    Ok(Reply::Done)
                })
            }
            Request::Reject(session, call, body) => self.reject(now, &session, &call, body.status),
            Request::HangUp(session, call) => self.on_call(now, &session, &call, |call, hub| {
                call.end(hub, now, By::Browser, None, "hung up by the page");
                Ok(Reply::Done)
            }),
            Request::Info(session, call, body) => {
                self.on_call(now, &session, &call, |call, hub| {
                    call.send_info(hub, now, body).map(|()| Reply::Done)
                })
            }
            Request::Dtmf(session, call, body) => {
                self.on_call(now, &session, &call, |call, hub| {
                    call.send_digits(hub, now, &body).map(|()| Reply::Done)
                })
            }
            Request::Mute(session, call, body) => {
                self.on_call(now, &session, &call, |call, hub| {
                    call.mute(hub, body);
                    Ok(Reply::Done)
                })
            }
            Request::Transfer(session, call, body) => self.transfer(now, &session, &call, &body),
            Request::Referred(session, call, body) => {
                self.answer_referral(now, &session, &call, body.accept)
            }
            Request::Message(session, body) => self.send_message(now, id, &session, body),
            Request::Trunks => Ok(Some(Reply::Trunks(self.hub.trunks.views()))),
            Request::AllCalls => {
                let flows = self.hub.routes.flow.keys().copied().collect();
                self.read(now, id, flows, Wanted::Calls);
                Ok(None)
            }
            Request::Flows => {
                let flows = self.hub.routes.flow.keys().copied().collect();
                self.read(now, id, flows, Wanted::Flows);
                Ok(None)
            }
        };
        match reply {
            Ok(Some(reply)) => self.hub.reply(id, Ok(reply)),
            Ok(None) => {}
            Err(problem) => self.hub.reply(id, Err(problem)),
        }
    }

    fn create_session(
        &mut self,
        now: Instant,
        request: RequestId,
        body: CreateSession,
        grant: Option<Grant>,
    ) -> Result<Option<Reply>, Problem> {
        self.admit(
            "session",
            self.sessions.len(),
            self.hub.config.limits.sessions,
        )?;
        let guest_user = format!("guest-{}", self.hub.random.token(8).to_lowercase());
        let granted = grant.is_some();
        let identity = Identity::parse(body, grant, &self.hub.config, &guest_user)?;
        let id = SessionId(self.hub.random.token(16));
        // 43 characters of 6 bits: 258 bits.
        let token = self.hub.random.token(43);
        let contact = self.hub.random.token(16);
        let (standing, reply) = match &identity.credentials {
            None => {
                let created = created(&id, token, &identity.address, false);
                (Standing::Unregistered, Some(Reply::SessionCreated(created)))
            }
            Some(credentials) => {
                let (address, credentials) = (identity.address.clone(), credentials.clone());
                let registration = self.register(now, address, credentials, contact.clone());
                self.registrations.insert(registration, id.clone());
                (
                    Standing::Registering {
                        request,
                        registration,
                        token,
                    },
                    None,
                )
            }
        };
        self.contacts.insert(contact.clone(), id.clone());
        let named = granted || identity.credentials.is_some();
        let session = Session::new(id.clone(), contact, identity, standing, now);
        self.deadlines.set(
            Owner::Session(id.clone()),
            Some(now + self.hub.config.limits.session_idle),
        );
        if named {
            self.users.insert(session.user().to_owned(), id.clone());
        }
        self.sessions.insert(id, session);
        Ok(reply)
    }

    /// Asks the SIP server of an address to send its calls to a Contact.
    fn register(
        &mut self,
        now: Instant,
        aor: String,
        credentials: Credentials,
        contact_user: String,
    ) -> RegistrationHandle {
        let host = aor.split_once('@').map_or("", |(_, host)| host);
        let proxies = Arc::clone(&self.hub.trunk_to(&aor).proxies);
        let register = Register {
            registrar: format!("sip:{host}"),
            aor,
            credentials,
            contact_user,
            expires: self.hub.config.registration_expires,
            // Every session is a user agent of its own (RFC 5626 section 4.1).
            instance: Some(self.hub.random.uuid_urn()),
            proxies,
        };
        self.hub.stack.register(now, register)
    }

    fn view_session(&mut self, now: Instant, id: &SessionId) -> Result<Reply, Problem> {
        let session = self.sessions.get_mut(id).ok_or_else(no_session)?;
        session.alive = now;
        let calls = session
            .calls
            .iter()
            .filter_map(|call| self.calls.get(call))
            .map(|call| call.view(&self.hub, now))
            .collect();
        Ok(Reply::Session(SessionView {
            id: id.clone(),
            address: session.address.clone(),
            registered: session.is_registered(now),
            calls,
        }))
    }

    fn create_call(
        &mut self,
        now: Instant,
        request: RequestId,
        session: &SessionId,
        body: CreateCall,
    ) -> Result<Option<Reply>, Problem> {
        let peer = callee_address(&body.to, &self.hub.config.domain)?;
        let web = body.offer.as_deref().map(WebSession::parse).transpose();
        let web = web.map_err(|error| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        })?;
        let data_headers = data_headers(&self.hub.config.data_prefix, &body.data)?;
        self.admit("call", self.calls.len(), self.hub.config.limits.calls)?;
        let trunk = self.hub.trunk_to(&peer);
        if let Some(name) = trunk.headers.refuses(&body.headers) {
            let detail = format!("pages may not send the header {name}");
            let title = "Header not allowed";
            return Err(Problem::new(403, "header-not-allowed", title, detail));
        }
        let session = self.sessions.get_mut(session).ok_or_else(no_session)?;
        session.alive = now;
        session.permits(&peer, &self.hub.config.domain)?;
        session.may_place_calls()?;
        if web.is_none() {
            session.may_call_without_offer()?;
        }
        if session.calls.len() >= self.hub.config.limits.calls_per_session {
            let detail = "this session has as many calls as it may have at once";
            return Err(Problem::new(
                409,
                "session-calls",
                "Too many calls of this session",
                detail,
            ));
        }
        let id = CallId(self.hub.random.token(16));
        let admitted = self.hub.trunks.admit(now, &trunk);
        admitted.map_err(|over| trunk_problem(over, &trunk.name))?;
        // The callee may offer video; what it does not want is closed again.
        let video = web.as_ref().is_none_or(|web| web.video().is_some());
        let media = trunk.codecs.media_count(video);
        let home = self.hub.trunk_to(&session.address);
        let wish = Wish {
            request,
            from: session.address.clone(),
            contact: session.contact.clone(),
            display_name: body
                .phone
                .display_name
                .or_else(|| session.display_name.clone()),
            credentials: session.credentials_at(&trunk, &home),
            web,
            headers: body.headers,
            data_headers,
            authorization: body.phone.authorization,
            only_final: body.phone.only_final,
        };
        session.calls.insert(id.clone());
        let call = Call {
            id: id.clone(),
            session: session.id.clone(),
            direction: Direction::Outgoing,
            peer,
            trunk,
            data: body.data,
            no_answer: session.no_answer,
            takes_offers: session.takes_offers,
            muted: false,
            causes: Vec::new(),
            state: State::Opening(Box::new(Opening::Outgoing(wish))),
        };
        self.hub.owed.insert(request, Owed::Call(id.clone()));
        self.calls.insert(id.clone(), call);
        self.hub.open_ports(id, media);
        Ok(None)
    }

    fn reject(
        &mut self,
        now: Instant,
        session: &SessionId,
        call: &CallId,
        status: Option<u16>,
    ) -> Result<Option<Reply>, Problem> {
        let status = status.unwrap_or(486);
        if !(400..=699).contains(&status) {
            let detail = "the status of a refusal is 400 to 699";
            return Err(Problem::new(400, "bad-status", "Bad status", detail));
        }
        self.on_call(now, session, call, |call, hub| {
            if !call.rings_at_page() {
                return Err(call.wrong_state("only a call that rings at the page can be refused"));
            }
            call.end(hub, now, By::Browser, Some(status), "refused by the page");
            Ok(Reply::Done)
        })
    }

    /// Refuses what exceeds a limit, or comes while the gateway drains.
    pub(super) fn admit(&self, what: &str, count: usize, limit: usize) -> Result<(), Problem> {
        if self.draining {
            let detail = "the gateway takes no new sessions and calls";
            return Err(
                Problem::new(503, "draining", "The gateway is being drained", detail)
                    .retry_after(30),
            );
        }
        if count >= limit {
            let (kind, title) = (
                format!("{what}-limit"),
                format!("The {what} limit is reached"),
            );
            let detail = format!("{limit} at once is what this gateway is configured for");
            return Err(Problem::new(503, &kind, &title, detail).retry_after(5));
        }
        Ok(())
    }

    /// A request that would change a call which is over: the page has not heard of its end yet.
    fn change_of_ended(&self, request: &Request) -> Option<Problem> {
        let (Request::Answer(session, call, _)
        | Request::Offer(session, call, _)
        | Request::Reject(session, call, _)
        | Request::Info(session, call, _)
        | Request::Dtmf(session, call, _)
        | Request::Mute(session, call, _)
        | Request::Transfer(session, call, _)
        | Request::Referred(session, call, _)) = request
        else {
            return None;
        };
        let ended = self.sessions.get(session)?.had(call);
        ended.then(|| Problem::wrong_state(CallState::Ended, None, "the call is over"))
    }

    pub(super) fn owned(&self, session: &SessionId, call: &CallId) -> Result<(), Problem> {
        match self.calls.get(call) {
            Some(found) if found.session == *session => Ok(()),
            _ => Err(Problem::new(
                404,
                "no-call",
                "No such call",
                "it is over or never was",
            )),
        }
    }

    pub(super) fn on_call(
        &mut self,
        now: Instant,
        session: &SessionId,
        id: &CallId,
        step: impl FnOnce(&mut Call, &mut super::Hub) -> Result<Reply, Problem>,
    ) -> Result<Option<Reply>, Problem> {
        self.owned(session, id)?;
        // What a panic leaves of it.
        let mut outcome = Err(bug());
        self.with_call(now, id, |call, hub| outcome = step(call, hub));
        if let Some(session) = self.sessions.get_mut(session) {
            session.alive = now;
        }
        outcome.map(Some)
    }

    /// Asks for counters and answers when they are all there; at once when there is nothing to ask for.
    fn read(&mut self, now: Instant, request: RequestId, flows: Vec<FlowId>, what: Wanted) {
        for flow in &flows {
            self.hub.outputs.push_back(Output::ReadFlow(*flow));
        }
        self.readings.push(Reading {
            request,
            waiting: flows.into_iter().collect(),
            what,
        });
        self.answer_readings(now);
    }

    /// A flow's counters arrived.
    pub(super) fn read_done(&mut self, now: Instant, flow: FlowId) {
        for reading in &mut self.readings {
            reading.waiting.remove(&flow);
        }
        self.answer_readings(now);
    }

    /// A call is over: its flows will not answer any more.
    pub(super) fn answer_readings_without(&mut self, now: Instant, _call: &CallId) {
        let alive = &self.hub.routes.flow;
        for reading in &mut self.readings {
            reading.waiting.retain(|flow| alive.contains_key(flow));
        }
        self.answer_readings(now);
    }

    fn answer_readings(&mut self, now: Instant) {
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.readings)
            .into_iter()
            .partition(|reading| reading.waiting.is_empty());
        self.readings = waiting;
        for reading in done {
            let reply = match reading.what {
                Wanted::Call(call) => match self.calls.get(&call) {
                    Some(call) => Ok(Reply::Call(Box::new(call.view(&self.hub, now)))),
                    None => Err(Problem::new(404, "no-call", "No such call", "it is over")),
                },
                Wanted::Calls => Ok(Reply::Calls(
                    self.calls
                        .values()
                        .map(|call| call.view(&self.hub, now))
                        .collect(),
                )),
                Wanted::Flows => Ok(Reply::Flows(self.view_flows(self.monotonic_ns))),
            };
            self.hub.reply(reading.request, reply);
        }
    }

    fn view_flows(&self, monotonic_ns: u64) -> Vec<FlowView> {
        self.calls
            .values()
            .flat_map(|call| call.flow_views(monotonic_ns))
            .collect()
    }
}

pub(super) fn created(
    id: &SessionId,
    token: String,
    address: &str,
    registered: bool,
) -> SessionCreated {
    SessionCreated {
        id: id.clone(),
        token,
        address: address.to_owned(),
        registered,
        // The shell knows them, and the time of day that their credentials need.
        ice_servers: Vec::new(),
    }
}

fn trunk_problem(over: Over, trunk: &str) -> Problem {
    let detail = match over {
        Over::Calls => format!("{trunk} has as many calls as it may have at once"),
        Over::Rate => format!("{trunk} has got as many calls in this second as it may get"),
    };
    let title = "The trunk's limit is reached";
    Problem::new(503, "trunk-limit", title, detail).retry_after(1)
}

pub(super) fn no_session() -> Problem {
    Problem::new(
        404,
        "no-session",
        "No such session",
        "it is over or never was",
    )
}
