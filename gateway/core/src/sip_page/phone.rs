//! The page as a whole: its messages in, what waits to be sent, and its registration.

use super::message::{ALLOW, HOST, response};
use super::talk::Talk;
use crate::Random;
use crate::api::{
    CallId, Content, CreateCall, Header, OutgoingMessage, PhoneRegister, PhoneRegistered, Problem,
    Reply, Transfer,
};
use crate::sip::message::{Limits, Message, Method, NameAddr, Request, Response, parse_with};
use std::collections::{HashMap, VecDeque};

/// More calls of one page are refused before the gateway is asked.
pub(super) const CALLS: usize = 16;
/// Asks of a page that wait for their reply.
const WAITING: usize = 64;
/// Messages that wait to be sent; a page that reads none is given up by the shell.
const OUTBOX: usize = 256;
/// Seconds of a registration that says none (RFC 3261 section 10.2).
const USUAL_EXPIRES_S: u32 = 600;

/// Something to ask the gateway; its reply goes to [`Phone::handle_reply`] under the same number.
pub struct Ask {
    /// Names the ask.
    pub number: u64,
    /// What is asked.
    pub kind: AskKind,
}

/// What is asked; see the request of API v1 of the same name.
pub enum AskKind {
    /// `Request::Register`.
    Register(PhoneRegister),
    /// `Request::CreateCall`.
    Call(CreateCall),
    /// `Request::Answer`.
    Answer(CallId, String),
    /// `Request::Offer`.
    Offer(CallId, String),
    /// `Request::Reject`.
    Reject(CallId, u16),
    /// `Request::HangUp`.
    HangUp(CallId),
    /// `Request::Info`.
    Info(CallId, Content),
    /// `Request::Transfer`.
    Transfer(CallId, Transfer),
    /// `Request::Message`.
    Message(OutgoingMessage),
}

/// What the reply to an ask is for.
pub(super) enum Waiting {
    Registering(Request),
    /// The call of this Call-ID.
    Placing(String),
    Answering(String),
    Changing(String),
    /// This request is answered by what the gateway says.
    Answer(Request),
    Nothing,
}

/// See the module.
pub struct Phone {
    pub(super) random: Random,
    pub(super) talks: Vec<Talk>,
    /// The page's Contact, while it is registered.
    pub(super) contact: Option<String>,
    pub(super) address: String,
    outbox: VecDeque<Vec<u8>>,
    asks: VecDeque<Ask>,
    waiting: HashMap<u64, Waiting>,
    asked: u64,
}

impl Phone {
    /// A page that has just connected.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            talks: Vec::new(),
            contact: None,
            address: format!("sip:anonymous@{HOST}"),
            outbox: VecDeque::new(),
            asks: VecDeque::new(),
            waiting: HashMap::new(),
            asked: 0,
        }
    }

    /// The next message for the page.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// The next thing to ask the gateway.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Puts a message back that could not be sent.
    pub fn put_back(&mut self, message: Vec<u8>) {
        self.outbox.push_front(message);
    }

    /// The connection broke. A page's library gives up what it had asked for and not heard of; the other calls wait for it.
    pub fn lose_connection(&mut self) {
        let talks = std::mem::take(&mut self.talks);
        for mut talk in talks {
            talk.changing = None;
            match (talk.is_placed(), &talk.call) {
                (true, Some(call)) => self.ask(AskKind::HangUp(call.clone()), Waiting::Nothing),
                (true, None) => {}
                (false, _) => self.talks.push(talk),
            }
        }
    }

    /// Whether there are calls that the page may come back to.
    pub fn has_calls(&self) -> bool {
        !self.talks.is_empty()
    }

    /// Goes on with the calls that the same page had over an earlier connection.
    pub fn take_over(&mut self, before: Self) {
        self.outbox.extend(before.outbox);
        self.talks.extend(before.talks);
        for ask in before.asks {
            self.ask(ask.kind, Waiting::Nothing);
        }
    }

    /// Whether the page has said what it is here for: it registered or has a call.
    pub fn is_settled(&self) -> bool {
        self.contact.is_some() || !self.talks.is_empty()
    }

    /// A message of the page, one WebSocket frame (RFC 7118 section 4.2). Line breaks alone are its keep-alive (RFC 5626 section 4.4.1).
    pub fn handle_message(&mut self, bytes: &[u8]) {
        if bytes == b"\r\n\r\n" {
            self.outbox.push_back(b"\r\n".to_vec());
            return;
        }
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return;
        }
        match parse_with(bytes, &Limits::default()) {
            Ok(Message::Request(request)) => self.handle_request(request),
            Ok(Message::Response(response)) => self.handle_response(&response),
            Err(error) => {
                if let Some(request) = &error.request {
                    self.respond_with(request, error.status, error.reason);
                }
            }
        }
    }

    fn handle_request(&mut self, request: Request) {
        if self.waiting.len() >= WAITING && request.method != Method::Ack {
            return self.respond(&request, 503);
        }
        if request.headers.to_tag().is_some() {
            return self.handle_inside(request);
        }
        match request.method {
            Method::Register => self.handle_register(request),
            Method::Invite => self.handle_invite(request),
            Method::Cancel => self.handle_cancel(&request),
            Method::Message => self.handle_instant_message(request),
            Method::Options => {
                let mut answer = self.answer(&request, 200);
                answer.headers.push("Allow", ALLOW);
                answer.headers.push("Accept", "application/sdp");
                self.send(answer.to_bytes());
            }
            Method::Ack => {}
            _ => self.refuse_method(&request),
        }
    }

    pub(super) fn refuse_method(&mut self, request: &Request) {
        let status = if request.method.is_known() { 405 } else { 501 };
        let mut answer = self.answer(request, status);
        answer.headers.push("Allow", ALLOW);
        self.send(answer.to_bytes());
    }

    fn handle_register(&mut self, request: Request) {
        let headers = &request.headers;
        let to = headers.get("To").and_then(NameAddr::parse);
        let (Some(to), Some((cseq, _))) = (to, headers.cseq()) else {
            return self.respond(&request, 400);
        };
        let register = PhoneRegister {
            aor: to.uri,
            registrar: request.uri.clone(),
            display_name: to.name,
            expires_s: expires(&request),
            cseq,
            authorization: authorization(&request),
            instance: instance(&request),
        };
        self.ask(AskKind::Register(register), Waiting::Registering(request));
    }

    fn registered(&mut self, request: &Request, reply: Result<PhoneRegistered, Problem>) {
        let registered = match reply {
            Ok(registered) => registered,
            Err(problem) => return self.refuse(request, &problem),
        };
        let mut answer = self.answer(request, registered.status);
        answer.reason.clone_from(&registered.reason);
        for header in registered.headers {
            answer.headers.push(&header.name, header.value);
        }
        if (200..300).contains(&registered.status) {
            self.contact = None;
            let contact = request.headers.get("Contact").and_then(NameAddr::parse);
            if let Some(mut contact) = contact.filter(|_| registered.expires_s > 0) {
                self.contact = Some(contact.uri.clone());
                let to = request.headers.get("To").and_then(NameAddr::parse);
                self.address = to.map_or_else(|| self.address.clone(), |to| to.uri);
                let expires = ("expires".to_owned(), Some(registered.expires_s.to_string()));
                contact.params.retain(|(name, _)| name != "expires");
                contact.params.push(expires);
                answer.headers.push("Contact", contact.to_string());
            }
        }
        self.send(answer.to_bytes());
    }

    fn handle_instant_message(&mut self, request: Request) {
        let content = content(&request);
        let to = request.uri.clone();
        let message = OutgoingMessage { to, content };
        self.ask(AskKind::Message(message), Waiting::Answer(request));
    }

    /// The gateway's reply to an ask.
    pub fn handle_reply(&mut self, number: u64, reply: Result<Reply, Problem>) {
        match self.waiting.remove(&number) {
            Some(Waiting::Registering(request)) => {
                let reply = reply.map(|reply| match reply {
                    Reply::Registered(registered) => registered,
                    _ => PhoneRegistered {
                        status: 500,
                        reason: String::new(),
                        expires_s: 0,
                        headers: Vec::new(),
                        before: None,
                    },
                });
                self.registered(&request, reply);
            }
            Some(Waiting::Placing(call_id)) => self.placed(&call_id, reply),
            Some(Waiting::Answering(call_id)) => self.answered(&call_id, reply),
            Some(Waiting::Changing(call_id)) => self.changed(&call_id, reply),
            Some(Waiting::Answer(request)) => match reply {
                Ok(Reply::MessageAnswered(answered)) => {
                    self.respond_with(&request, answered.status, &answered.reason);
                }
                Ok(_) if request.method == Method::Refer => self.respond(&request, 202),
                Ok(_) => self.respond(&request, 200),
                Err(problem) => self.refuse(&request, &problem),
            },
            Some(Waiting::Nothing) | None => {}
        }
    }

    pub(super) fn ask(&mut self, kind: AskKind, waiting: Waiting) {
        self.asked += 1;
        self.waiting.insert(self.asked, waiting);
        let number = self.asked;
        self.asks.push_back(Ask { number, kind });
    }

    pub(super) fn answer(&mut self, request: &Request, status: u16) -> Response {
        let tag = self.random.token(16);
        response(request, status, "", &tag)
    }

    pub(super) fn respond(&mut self, request: &Request, status: u16) {
        self.respond_with(request, status, "");
    }

    pub(super) fn respond_with(&mut self, request: &Request, status: u16, reason: &str) {
        if request.method == Method::Ack {
            return;
        }
        let tag = self.random.token(16);
        self.send(response(request, status, reason, &tag).to_bytes());
    }

    /// What the gateway refused, in the words of SIP.
    pub(super) fn refuse(&mut self, request: &Request, problem: &Problem) {
        let mut answer = self.answer(request, status_of(problem));
        if let Some(seconds) = problem.retry_after_s {
            answer.headers.push("Retry-After", seconds.to_string());
        }
        let detail = problem.detail.as_deref().unwrap_or(&problem.title);
        let text = detail.replace(['"', '\\'], "'");
        answer
            .headers
            .push("Warning", format!("399 {HOST} \"{text}\""));
        self.send(answer.to_bytes());
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(bytes);
        }
    }

    /// Whether so much waits that the page cannot be reading.
    pub fn is_stuck(&self) -> bool {
        self.outbox.len() >= OUTBOX
    }
}

/// The SIP status for a problem (RFC 3261 section 21).
pub(super) fn status_of(problem: &Problem) -> u16 {
    match problem.status {
        // The page's offer cannot be used.
        422 => 488,
        // Something else changes the call at this moment.
        409 => 491,
        429 => 503,
        status @ (400 | 401 | 403 | 404 | 503 | 504) => status,
        400..500 => 400,
        _ => 500,
    }
}

/// The lifetime that a REGISTER asks for: that of its Contact, else Expires.
fn expires(request: &Request) -> u32 {
    let contact = request.headers.get("Contact").and_then(NameAddr::parse);
    let own = contact
        .as_ref()
        .and_then(|contact| contact.param("expires"));
    let text = own.or_else(|| request.headers.get("Expires"));
    text.and_then(|text| text.trim().parse().ok())
        .unwrap_or(USUAL_EXPIRES_S)
}

/// Which user agent it is. A Contact without an instance is that of one user agent, too: libraries make up its user and host.
fn instance(request: &Request) -> Option<String> {
    let contact = request.headers.get("Contact").and_then(NameAddr::parse)?;
    let instance = contact.param("+sip.instance").map(str::to_owned);
    instance
        .or(Some(contact.uri))
        .filter(|name| !name.is_empty())
}

/// The answers to challenges in a request.
pub(super) fn authorization(request: &Request) -> Vec<Header> {
    let named = |name: &'static str| {
        let values = request.headers.get_all(name);
        values.map(move |value| Header::from((name.to_owned(), value.to_owned())))
    };
    let all = named("Authorization").chain(named("Proxy-Authorization"));
    all.take(4).collect()
}

/// The body of a request.
pub(super) fn content(request: &Request) -> Content {
    let content_type = request.headers.get("Content-Type");
    Content {
        content_type: content_type.unwrap_or("text/plain").to_owned(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
    }
}
