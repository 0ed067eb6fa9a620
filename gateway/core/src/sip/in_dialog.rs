//! Requests inside a dialog, by method; what they mean is in the files of the methods.

use std::time::Instant;

use super::call::Call;
use super::event::CallHandle;
use super::message::{Method, Request};
use super::receive::{ALLOW, unsupported};
use super::stack::Stack;
use super::transaction::TransactionId;

impl Stack {
    /// A request with our tag, of a dialog that we know.
    pub(super) fn handle_in_dialog(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let number = request.headers.cseq().map_or(0, |(number, _)| number);
        let tag = request.headers.from_tag().unwrap_or_default();
        let Some((dialog, _)) = self
            .calls
            .get_mut(&call)
            .and_then(|call| call.with_tag(tag))
        else {
            return self.respond(now, id, 481, &[]);
        };
        if !dialog.accept_cseq(number) {
            return self.respond(now, id, 500, &[]);
        }
        dialog.learn(&request.headers);
        let unsupported = unsupported(&request.headers, &self.io.config);
        if let Some(tags) = unsupported.filter(|_| request.method != Method::Bye) {
            return self.respond(now, id, 420, &[("Unsupported", &tags)]);
        }
        match &request.method {
            Method::Invite => self.handle_reinvite(now, id, call, request),
            Method::Update => self.handle_update(now, id, call, request),
            Method::Prack => self.handle_prack(now, id, call, request),
            Method::Bye => self.handle_bye(now, id, call, &request.headers),
            Method::Options => self.respond_options(now, id),
            Method::Info => self.handle_info(now, id, call, request),
            Method::Notify => self.handle_notify(now, id, call, request),
            Method::Refer => self.handle_refer(now, id, call, request),
            Method::Message => self.handle_instant_message(id, Some(call), request),
            _ => self.respond(now, id, 405, &[("Allow", ALLOW)]),
        }
    }

    /// 415 for a body in which no session description can be found.
    pub(super) fn refuse_body(&mut self, now: Instant, id: TransactionId) {
        let accept = [
            ("Accept", "application/sdp, multipart/mixed"),
            ("Accept-Encoding", "identity"),
        ];
        self.respond(now, id, 415, &accept);
    }

    /// 500 with a random Retry-After (RFC 3261 section 14.2, RFC 3311 section 5.2).
    pub(super) fn refuse_for_now(&mut self, now: Instant, id: TransactionId) {
        let seconds = (self.io.random.u32() % 11).to_string();
        self.respond(now, id, 500, &[("Retry-After", &seconds)]);
    }

    /// A response without a body that names us in a Contact.
    pub(super) fn respond_with_contact(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        status: u16,
    ) {
        let response = self.invite_response(id, call, status, "", None);
        if let (Some(response), Some(server)) = (response, self.servers.get_mut(&id)) {
            server.respond(now, &response, &mut self.io);
        }
    }

    /// Whether a call is there and nobody ends it.
    pub(super) fn is_going_on(&self, call: CallHandle) -> bool {
        match self.calls.get(&call) {
            Some(Call::Established(session)) => !session.is_leaving(),
            Some(Call::Calling(calling)) => calling.leaving.is_none(),
            Some(Call::Ringing(_)) => true,
            None => false,
        }
    }
}
