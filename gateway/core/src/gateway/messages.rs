//! What pages exchange with the SIP side outside of calls: messages and voice mail notices; and requests that name two calls.

use super::Gateway;
use crate::api::{Event, MessageAnswered, OutgoingMessage, Problem, Reply, SessionId, Transfer};
use crate::call::refused;
use crate::session::sip_address;
use crate::sip;
use std::sync::Arc;
use std::time::Instant;

/// Messages of pages that wait for their final response.
const MAX_MESSAGES: usize = 1000;

impl Gateway {
    /// Sends a message; the reply waits for what the SIP side says to it.
    pub(super) fn send_message(
        &mut self,
        now: Instant,
        request: super::RequestId,
        session: &SessionId,
        message: OutgoingMessage,
    ) -> Result<Option<Reply>, Problem> {
        self.admit("message", self.messages.len(), MAX_MESSAGES)?;
        let to = sip_address(&message.to, &self.hub.config.domain)?;
        let session = self
            .sessions
            .get_mut(session)
            .ok_or_else(super::requests::no_session)?;
        session.alive = now;
        session.permits(&to, &self.hub.config.domain)?;
        let domain = &self.hub.config.domain;
        let (trunk, home) = (self.hub.trunk_to(&to), self.hub.trunk_to(&session.address));
        let message = sip::InstantMessage {
            to: trunk.callee(&to, domain),
            from: trunk.caller(&session.address, domain),
            display_name: session.display_name.clone(),
            credentials: session.credentials_at(&trunk, &home),
            content: message.content.into(),
            headers: Vec::new(),
            proxies: Arc::clone(&trunk.proxies),
        };
        let handle = self
            .hub
            .stack
            .message(now, message)
            .map_err(|error| refused(&error))?;
        self.messages.insert(handle, request);
        Ok(None)
    }

    pub(super) fn message_answered(
        &mut self,
        message: sip::MessageHandle,
        status: u16,
        reason: String,
    ) {
        if let Some(request) = self.messages.remove(&message) {
            let answered = MessageAnswered { status, reason };
            self.hub
                .reply(request, Ok(Reply::MessageAnswered(answered)));
        }
    }

    /// A message for a page, or a voice mail notice; 404 where nobody is signed in under that Contact.
    pub(super) fn handle_standalone(&mut self, now: Instant, event: sip::Event) {
        let (request, contact, inside, event) = match event {
            sip::Event::Message {
                request,
                call,
                contact_user,
                from_uri,
                from_name,
                content,
                ..
            } => {
                let call = call.and_then(|call| self.hub.routes.sip.get(&call).cloned());
                let event = Event::Message {
                    from: from_uri,
                    from_name,
                    call: call.clone(),
                    content: content.into(),
                };
                (request, contact_user, call, event)
            }
            sip::Event::MessagesWaiting {
                request,
                contact_user,
                summary,
            } => {
                let event = Event::MessagesWaiting {
                    waiting: summary.waiting,
                    account: summary.account,
                    new: summary.new,
                    old: summary.old,
                };
                (request, contact_user, None, event)
            }
            _ => return,
        };
        let session = match inside.and_then(|call| self.calls.get(&call)) {
            Some(call) => Some(call.session.clone()),
            None => self.contacts.get(&contact).cloned(),
        };
        let status = if session.is_some() { 200 } else { 404 };
        self.hub.stack.answer_request(now, request, status);
        if let Some(session) = session {
            self.hub.event(&session, event);
        }
    }

    /// Sends the other party of a call to an address, or to the other party of another call of the same session.
    pub(super) fn transfer(
        &mut self,
        now: Instant,
        session: &SessionId,
        call: &crate::api::CallId,
        transfer: &Transfer,
    ) -> Result<Option<Reply>, Problem> {
        transfer.check()?;
        let domain = self.hub.config.domain.clone();
        let to = transfer
            .to
            .as_deref()
            .map(|to| sip_address(to, &domain))
            .transpose()?;
        let found = self
            .sessions
            .get(session)
            .ok_or_else(super::requests::no_session)?;
        if let Some(to) = &to {
            found.permits(to, &domain)?;
        }
        let by = found.address.clone();
        let replaces = match &transfer.call {
            Some(other) => {
                self.owned(session, other)?;
                let other = self.calls.get(other).filter(|_| other != call);
                let other = other.ok_or_else(|| {
                    let detail = "a call cannot be transferred to itself";
                    Problem::new(422, "bad-transfer", "Bad transfer", detail)
                })?;
                Some(other.answered("only to an answered call can another be transferred")?)
            }
            None => None,
        };
        self.on_call(now, session, call, |call, hub| {
            call.transfer(hub, now, to, replaces, by)?;
            Ok(Reply::Done)
        })
    }
}
