//! The gateway's HTTP API v1, blocking, with the types of `gateway_core::api`.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway_core::api::{
    Answer, Answered, CallId, CallView, CreateCall, CreateSession, Event, Offer, Problem, Reject,
    SessionCreated, SessionId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::Response;
use ureq::{Agent, Body, RequestBuilder};

/// Longest wait of a request; a long poll is at most [`POLL_SECONDS`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// Longest wait of one long poll.
const POLL_SECONDS: u64 = 25;

/// A request that the gateway refused, with its problem document.
#[derive(Debug)]
pub struct Refused(pub Problem);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            status,
            title,
            detail,
            ..
        } = &self.0;
        write!(f, "{status} {title}")?;
        detail
            .as_ref()
            .map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl std::error::Error for Refused {}

/// An API endpoint and, after [`Api::sign_in`], a session's token.
pub struct Api {
    agent: Agent,
    base: String,
    session: Option<(SessionId, String)>,
}

/// Events of one long poll.
#[derive(Deserialize)]
struct Events {
    events: Vec<Numbered>,
    last: u64,
}

#[derive(Deserialize)]
struct Numbered {
    #[serde(flatten)]
    event: Event,
}

impl Api {
    /// An endpoint by the gateway's base URL, `http://host:port`.
    pub fn new(gateway: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            // Problem documents are read from the body.
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            base: format!("{}/api/v1", gateway.trim_end_matches('/')),
            session: None,
        }
    }

    /// Creates a session and keeps its token.
    pub fn sign_in(&mut self, request: &CreateSession) -> Result<SessionCreated> {
        let created: SessionCreated = self.post("/sessions".to_string(), request)?;
        self.session = Some((created.id.clone(), created.token.clone()));
        Ok(created)
    }

    /// Ends the session.
    pub fn sign_out(&mut self) -> Result<()> {
        self.delete(self.path("")?)?;
        self.session = None;
        Ok(())
    }

    /// Places a call.
    pub fn create_call(&self, request: &CreateCall) -> Result<CallView> {
        self.post(self.path("/calls")?, request)
    }

    /// Takes an incoming call.
    pub fn answer(&self, call: &CallId, answer: String) -> Result<CallView> {
        self.post(self.call_path(call, "/answer")?, &Answer { answer })
    }

    /// Renegotiates; returns the gateway's SDP answer.
    pub fn offer(&self, call: &CallId, offer: String) -> Result<String> {
        let answered: Answered = self.post(self.call_path(call, "/offer")?, &Offer { offer })?;
        Ok(answered.answer)
    }

    /// Refuses an incoming call.
    pub fn reject(&self, call: &CallId, status: Option<u16>) -> Result<()> {
        let request = self.agent.post(self.url(&self.call_path(call, "/reject")?));
        checked(self.authorised(request).send_json(Reject { status }))?;
        Ok(())
    }

    /// The gateway's view of a call.
    pub fn call(&self, call: &CallId) -> Result<CallView> {
        self.get(self.call_path(call, "")?)
    }

    /// Ends a call.
    pub fn hang_up(&self, call: &CallId) -> Result<()> {
        self.delete(self.call_path(call, "")?)
    }

    /// Events after number `after`, and the number of the last one; waits for the first at most the whole seconds of
    /// `wait`.
    pub fn events(&self, after: u64, wait: Duration) -> Result<(Vec<Event>, u64)> {
        let wait = wait.as_secs().min(POLL_SECONDS);
        let path = self.path(&format!("/events?after={after}&wait={wait}"))?;
        let events: Events = self.get(path)?;
        Ok((
            events
                .events
                .into_iter()
                .map(|numbered| numbered.event)
                .collect(),
            events.last,
        ))
    }

    fn get<T: DeserializeOwned>(&self, path: String) -> Result<T> {
        let request = self.authorised(self.agent.get(self.url(&path)));
        let reply = checked(request.call()).with_context(|| format!("GET {path}"))?;
        read(reply).with_context(|| format!("GET {path}"))
    }

    fn post<T: DeserializeOwned>(&self, path: String, body: &impl Serialize) -> Result<T> {
        let request = self.authorised(self.agent.post(self.url(&path)));
        let reply = checked(request.send_json(body)).with_context(|| format!("POST {path}"))?;
        read(reply).with_context(|| format!("POST {path}"))
    }

    fn delete(&self, path: String) -> Result<()> {
        let request = self.authorised(self.agent.delete(self.url(&path)));
        checked(request.call()).with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn path(&self, rest: &str) -> Result<String> {
        let (SessionId(id), _) = self.session.as_ref().context("not signed in")?;
        Ok(format!("/sessions/{id}{rest}"))
    }

    fn call_path(&self, call: &CallId, rest: &str) -> Result<String> {
        self.path(&format!("/calls/{}{rest}", call.0))
    }

    fn authorised<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.session {
            Some((_, token)) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }
}

/// The reply, if it is a good one.
fn checked(reply: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>> {
    let mut reply = reply?;
    let status = reply.status().as_u16();
    if status < 400 {
        return Ok(reply);
    }
    // A proxy in between may answer in its own words.
    let unknown = |_| Problem::new(status, "unknown", "HTTP error", "no problem document");
    Err(Refused(reply.body_mut().read_json().unwrap_or_else(unknown)).into())
}

fn read<T: DeserializeOwned>(mut reply: Response<Body>) -> Result<T> {
    Ok(reply.body_mut().read_json()?)
}
