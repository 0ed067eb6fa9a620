//! Requests outside of calls: MESSAGE in both directions (RFC 3428), and NOTIFY of waiting messages (RFC 3842), which servers
//! send to registered phones unasked.

use std::time::Instant;

use super::auth::Auth;
use super::event::{
    CallHandle, Event, InstantMessage, MessageHandle, MessageSummary, RequestHandle, SipError,
};
use super::extra::{check_extra, usable_uri};
use super::info::{PACKAGES, content, package};
use super::message::{Method, NameAddr, Request, Response, media_type};
use super::outgoing::{Failure, Outgoing, Owner};
use super::stack::Stack;
use super::transaction::TransactionId;
use super::uri::SipUri;

/// Our MESSAGE until its final response.
pub(super) struct Sending {
    auth: Auth,
    cseq: u32,
}

impl Sending {
    pub(super) fn auth(&mut self) -> (&mut Auth, &mut u32) {
        (&mut self.auth, &mut self.cseq)
    }
}

impl Stack {
    /// Sends a message outside of calls: `MessageAnswered` says what became of it.
    pub fn message(
        &mut self,
        now: Instant,
        message: InstantMessage,
    ) -> Result<MessageHandle, SipError> {
        usable_uri(&message.to, &["sip", "sips"])?;
        usable_uri(&message.from, &["sip"])?;
        check_extra(&message.headers)?;
        if message.content.content_type.contains(char::is_control) {
            return Err(SipError::BadHeader("Content-Type".into()));
        }
        if !self.has_room(false) {
            return Err(SipError::Busy);
        }
        let handle = MessageHandle(self.io.number());
        let from = NameAddr {
            name: message.display_name,
            uri: message.from,
            params: vec![("tag".into(), Some(self.io.random.token(16)))],
        };
        let mut request = Request::new(Method::Message, message.to.clone());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", from.to_string());
        headers.push("To", format!("<{}>", message.to));
        headers.push("Call-ID", self.io.random.token(24));
        headers.push("CSeq", "1 MESSAGE");
        headers.push("User-Agent", self.io.config.user_agent.clone());
        for (name, value) in &message.headers {
            headers.push(name, value.as_str());
        }
        headers.push("Content-Type", message.content.content_type);
        request.body = message.content.body;
        let sending = Sending {
            auth: Auth::new(message.credentials),
            cseq: 1,
        };
        self.messages.insert(handle, sending);
        let owner = Owner::Message(handle);
        let outgoing = Outgoing::new(owner, request, None, false);
        self.send(now, outgoing.by(message.proxies));
        Ok(handle)
    }

    pub(super) fn message_final(&mut self, message: MessageHandle, response: &Response) {
        self.message_done(message, response.status, &response.reason);
    }

    pub(super) fn message_failed(&mut self, message: MessageHandle, failure: Failure) {
        let (status, reason) = failure.status();
        self.message_done(message, status, reason);
    }

    fn message_done(&mut self, message: MessageHandle, status: u16, reason: &str) {
        if self.messages.remove(&message).is_some() {
            self.io.event(Event::MessageAnswered {
                message,
                status,
                reason: reason.to_owned(),
            });
        }
    }

    /// A peer's MESSAGE, inside a call or not.
    pub(super) fn handle_instant_message(
        &mut self,
        id: TransactionId,
        call: Option<CallHandle>,
        request: &Request,
    ) {
        let from = request.headers.get("From").and_then(NameAddr::parse);
        let to = request.headers.get("To").and_then(NameAddr::parse);
        self.io.event(Event::Message {
            request: RequestHandle(id.0),
            call,
            contact_user: user_of(request),
            from_name: from.as_ref().and_then(|from| from.name.clone()),
            from_uri: from.map(|from| from.uri).unwrap_or_default(),
            to_uri: to.map(|to| to.uri).unwrap_or_default(),
            content: content(request),
        });
    }

    /// A NOTIFY outside of dialogs: only of waiting messages, for we subscribe to nothing (RFC 6665 section 4.1.3).
    pub(super) fn handle_unasked_notify(
        &mut self,
        now: Instant,
        id: TransactionId,
        request: &Request,
    ) {
        if package(&request.headers) != "message-summary" {
            return self.respond(now, id, 481, &[("Allow-Events", PACKAGES)]);
        }
        let summary = match media_type(&request.headers).as_str() {
            "application/simple-message-summary" => MessageSummary::parse(&request.body),
            "" if request.body.is_empty() => Some(MessageSummary::default()),
            _ => {
                let accept = [("Accept", "application/simple-message-summary")];
                return self.respond(now, id, 415, &accept);
            }
        };
        let Some(summary) = summary else {
            return self.respond(now, id, 400, &[]);
        };
        self.io.event(Event::MessagesWaiting {
            request: RequestHandle(id.0),
            contact_user: user_of(request),
            summary,
        });
    }

    /// Answers `Event::Message` or `Event::MessagesWaiting`; too late after 64*T1.
    pub fn answer_request(&mut self, now: Instant, request: RequestHandle, status: u16) {
        let status = if (200..700).contains(&status) {
            status
        } else {
            500
        };
        self.respond(now, TransactionId(request.0), status, &[]);
    }
}

/// Whose Contact the Request-URI is.
fn user_of(request: &Request) -> String {
    SipUri::parse(&request.uri)
        .and_then(|uri| uri.user)
        .unwrap_or_default()
}

impl MessageSummary {
    /// Reads a summary (RFC 3842 section 5.2); `None` without its mandatory first line.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut summary = Self::default();
        let mut told = false;
        for line in text.lines().take(32) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "messages-waiting" => {
                    told = true;
                    summary.waiting = value.eq_ignore_ascii_case("yes");
                }
                "message-account" => summary.account = Some(value.to_owned()),
                "voice-message" => {
                    let counts = value.split(['(', ' ']).next().unwrap_or_default();
                    let (new, old) = counts.split_once('/')?;
                    summary.new = new.trim().parse().ok()?;
                    summary.old = old.trim().parse().ok()?;
                }
                _ => {}
            }
        }
        told.then_some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read_and_nonsense_is_not() {
        let text = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@vmail.example.com\r\nVoice-Message: 2/8 (0/2)\r\n";
        let summary = MessageSummary {
            waiting: true,
            account: Some("sip:alice@vmail.example.com".into()),
            new: 2,
            old: 8,
        };
        assert_eq!(MessageSummary::parse(text.as_bytes()), Some(summary));
        assert_eq!(
            MessageSummary::parse(b"Messages-Waiting: no\n"),
            Some(MessageSummary::default())
        );
        for bad in [
            "",
            "Voice-Message: 2/8",
            "Messages-Waiting: yes\nVoice-Message: x",
        ] {
            assert_eq!(MessageSummary::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
