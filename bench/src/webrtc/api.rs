//! The gateway's API v1, blocking, with the types of `gateway_core::api`: by HTTP with long polls, or over one WebSocket.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway_core::api::{
    Answer, Answered, CallId, CallView, CreateCall, CreateSession, Event, Offer, Problem, Reject,
    SessionCreated, SessionId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request};

use super::socket::Socket;

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

/// How a page reaches the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// HTTP requests and long polls.
    #[default]
    Http,
    /// One WebSocket.
    #[value(name = "websocket")]
    WebSocket,
}

/// An API endpoint and, after [`Api::sign_in`], a session's token.
pub struct Api {
    carrier: Carrier,
    session: Option<(SessionId, String)>,
}

enum Carrier {
    Http { agent: Agent, base: String },
    Socket(Box<RefCell<Socket>>),
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
    /// An endpoint by the gateway's base URL, `http://host:port`; a WebSocket is opened at once.
    pub fn new(gateway: &str, transport: Transport) -> Result<Self> {
        let carrier = match transport {
            Transport::Http => {
                let config = Agent::config_builder()
                    .timeout_global(Some(REQUEST_TIMEOUT))
                    // Problem documents are read from the body.
                    .http_status_as_error(false)
                    .build();
                let base = gateway.trim_end_matches('/').to_owned();
                let agent = config.into();
                Carrier::Http { agent, base }
            }
            Transport::WebSocket => Carrier::Socket(Box::new(RefCell::new(Socket::open(gateway)?))),
        };
        Ok(Self {
            carrier,
            session: None,
        })
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
        let body = serde_json::to_value(Reject { status })?;
        self.exchange(Method::POST, &self.call_path(call, "/reject")?, Some(body))?;
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

    /// Events after number `after`, and the number of the last one; waits for the first at most `wait`, by HTTP its whole seconds. A
    /// WebSocket has each event once.
    pub fn events(&self, after: u64, wait: Duration) -> Result<(Vec<Event>, u64)> {
        if let Carrier::Socket(socket) = &self.carrier {
            let events = socket.borrow_mut().events(wait)?;
            return Ok(events.unwrap_or((Vec::new(), after)));
        }
        // A poll waits whole seconds; the last part is waited for here.
        if wait < Duration::from_secs(1) {
            std::thread::sleep(wait);
        }
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
        Ok(serde_json::from_value(self.exchange(
            Method::GET,
            &path,
            None,
        )?)?)
    }

    fn post<T: DeserializeOwned>(&self, path: String, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_value(body)?;
        Ok(serde_json::from_value(self.exchange(
            Method::POST,
            &path,
            Some(body),
        )?)?)
    }

    fn delete(&self, path: String) -> Result<()> {
        self.exchange(Method::DELETE, &path, None)?;
        Ok(())
    }

    /// The body of the reply, if it is a good one.
    fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let path = format!("/api/v1{path}");
        let what = || format!("{method} {path}");
        let (status, reply) = match &self.carrier {
            Carrier::Http { agent, base } => {
                self.by_http(agent, &method, &format!("{base}{path}"), body)
            }
            Carrier::Socket(socket) => socket.borrow_mut().request(method.as_str(), &path, body),
        }
        .with_context(what)?;
        if status < 400 {
            return Ok(reply);
        }
        // A proxy in between may answer in its own words.
        let unknown = |_| Problem::new(status, "unknown", "HTTP error", "no problem document");
        let problem = serde_json::from_value(reply).unwrap_or_else(unknown);
        Err(anyhow::Error::new(Refused(problem)).context(what()))
    }

    fn by_http(
        &self,
        agent: &Agent,
        method: &Method,
        url: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value)> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some((_, token)) = &self.session {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut reply = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                agent.run(request.body(body.to_string())?)
            }
            None => agent.run(request.body(())?),
        }?;
        let text = reply.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok((reply.status().as_u16(), body))
    }

    fn path(&self, rest: &str) -> Result<String> {
        let (SessionId(id), _) = self.session.as_ref().context("not signed in")?;
        Ok(format!("/sessions/{id}{rest}"))
    }

    fn call_path(&self, call: &CallId, rest: &str) -> Result<String> {
        self.path(&format!("/calls/{}{rest}", call.0))
    }
}
