//! Requests of ours inside an answered call that change nothing of it: INFO, MESSAGE, REFER, and NOTIFY about a REFER.
//!
//! They go out one after the other: a peer refuses one that another has overtaken (RFC 3261 section 12.2.2), and digits
//! have an order.

use std::collections::VecDeque;
use std::time::Instant;

use super::call::Call;
use super::event::{CallHandle, Content, Event, SipError};
use super::message::{Method, Response};
use super::outgoing::{Failure, Outgoing, Owner};
use super::stack::Stack;

/// More requests of one call do not wait.
const MAX_WAITING: usize = 64;

/// What a request inside a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Info,
    Message,
    Refer,
    /// How the call that the peer asked for goes.
    Progress,
}

impl Errand {
    fn method(self) -> Method {
        match self {
            Self::Info => Method::Info,
            Self::Message => Method::Message,
            Self::Refer => Method::Refer,
            Self::Progress => Method::Notify,
        }
    }
}

/// The requests of a call that wait for the one under way.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Letter>,
    under_way: bool,
}

struct Letter {
    errand: Errand,
    headers: Vec<(&'static str, String)>,
    content: Option<Content>,
}

impl Stack {
    /// Sends data of the application inside a call (RFC 6086): `RequestAnswered` says what became of it.
    pub fn info(
        &mut self,
        now: Instant,
        call: CallHandle,
        content: Content,
    ) -> Result<(), SipError> {
        self.post(now, call, Errand::Info, Vec::new(), Some(content))
    }

    /// Sends a message inside a call (RFC 3428): `RequestAnswered` says what became of it.
    pub fn message_in_call(
        &mut self,
        now: Instant,
        call: CallHandle,
        content: Content,
    ) -> Result<(), SipError> {
        self.post(now, call, Errand::Message, Vec::new(), Some(content))
    }

    pub(super) fn post(
        &mut self,
        now: Instant,
        call: CallHandle,
        errand: Errand,
        headers: Vec<(&'static str, String)>,
        content: Option<Content>,
    ) -> Result<(), SipError> {
        let sound = |content: &Content| !content.content_type.contains(char::is_control);
        if !content.as_ref().is_none_or(sound) {
            return Err(SipError::BadHeader("Content-Type".into()));
        }
        let room = self.has_room(true);
        let session = match self.calls.get_mut(&call) {
            Some(Call::Established(session)) if !session.is_leaving() => session,
            _ => return Err(SipError::WrongState),
        };
        let outbox = &mut session.outbox;
        if !room || outbox.waiting.len() >= MAX_WAITING {
            return Err(SipError::Busy);
        }
        outbox.waiting.push_back(Letter {
            errand,
            headers,
            content,
        });
        self.send_waiting(now, call);
        Ok(())
    }

    fn send_waiting(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if session.is_leaving() || session.outbox.under_way {
            return;
        }
        let Some(letter) = session.outbox.waiting.pop_front() else {
            return;
        };
        session.outbox.under_way = true;
        let mut request = session.dialog.request(letter.errand.method());
        for (name, value) in letter.headers {
            request.headers.push(name, value);
        }
        request
            .headers
            .push("User-Agent", self.io.config.user_agent.clone());
        if let Some(content) = letter.content {
            request.headers.push("Content-Type", content.content_type);
            request.body = content.body;
        }
        session.auth.apply(&mut request);
        // Only these may move the remote target (RFC 6665 section 4.4.1, RFC 3515 section 2.2).
        let refreshes = matches!(letter.errand, Errand::Refer | Errand::Progress);
        let contact_user = refreshes.then(|| session.dialog.contact_user.clone());
        let owner = Owner::Errand(call, letter.errand);
        self.send(
            now,
            Outgoing::new(owner, request, contact_user.as_deref(), true),
        );
    }

    pub(super) fn errand_final(
        &mut self,
        now: Instant,
        call: CallHandle,
        errand: Errand,
        response: &Response,
    ) {
        self.errand_done(now, call, errand, response.status, &response.reason);
    }

    pub(super) fn errand_failed(
        &mut self,
        now: Instant,
        call: CallHandle,
        errand: Errand,
        failure: Failure,
    ) {
        let (status, reason) = failure.status();
        self.errand_done(now, call, errand, status, reason);
    }

    fn errand_done(
        &mut self,
        now: Instant,
        call: CallHandle,
        errand: Errand,
        status: u16,
        reason: &str,
    ) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        session.outbox.under_way = false;
        match errand {
            Errand::Info | Errand::Message => self.io.event(Event::RequestAnswered {
                call,
                method: errand.method(),
                status,
            }),
            Errand::Refer => self.refer_answered(now, call, status, reason),
            Errand::Progress => self.progress_answered(call, status),
        }
        // RFC 5057 section 5.1: the peer has no such dialog any more.
        if status == 481 && matches!(errand, Errand::Info | Errand::Message) {
            return self.send_bye(now, call, "the peer does not know the call any more");
        }
        self.send_waiting(now, call);
    }
}
