//! Outgoing calls until they are answered: INVITE, provisional responses, CANCEL and its races, forked answers.
//!
//! 1. INVITE goes out; 401, 407, 503 and time-outs are tried again by `outgoing`.
//! 2. 1xx: reported. If the caller has hung up meanwhile, now CANCEL may go (RFC 3261 section 9.1).
//! 3. 2xx: ACK, and the call is a session. If the caller has hung up: BYE at once.
//! 4. 2xx of other forks: ACK and BYE (RFC 3261 section 13.2.2.4); an offer in one is refused in the ACK.
//! 5. 300..699: reported; the transaction has sent the ACK.

use std::sync::Arc;
use std::time::Instant;

use super::auth::Auth;
use super::call::{Call, Calling, Leaving};
use super::dialog::Dialog;
use super::event::{CallHandle, Event, Invite, SipError};
use super::extra::{check_authorization, check_extra, usable_uri};
use super::message::{Method, NameAddr, Request, Response, sdp_of};
use super::outgoing::{Failure, Outgoing, Owner, retry_after};
use super::reason::Cause;
use super::receive::{ALLOW, UNRELIABLE, supported};
use super::redirect::Redirects;
use super::refresh::min_expires;
use super::relay::{CHALLENGES, copied};
use super::session::Session;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline};
use super::transaction::{ClientEnd, TransactionId};

impl Stack {
    /// Places a call.
    pub fn invite(&mut self, now: Instant, invite: Invite) -> Result<CallHandle, SipError> {
        usable_uri(&invite.to, &["sip", "sips"])?;
        let from = usable_uri(&invite.from, &["sip"])?;
        check_extra(&invite.headers)?;
        check_authorization(&invite.authorization)?;
        if self.calls.len() >= self.io.config.max_dialogs || !self.has_room(false) {
            return Err(SipError::Busy);
        }
        let call = CallHandle(self.io.number());
        let local_tag = self.io.random.token(16);
        let contact_user = invite
            .contact_user
            .clone()
            .or(from.user)
            .unwrap_or_else(|| "anonymous".into());
        let mut request = self.first_request(Method::Invite, &invite, &local_tag);
        let headers = &mut request.headers;
        self.add_service_route(&contact_user, &invite.proxies, headers);
        headers.push("Allow", ALLOW);
        headers.push(
            "Supported",
            match invite.only_final {
                true => UNRELIABLE,
                false => supported(&self.io.config),
            },
        );
        for (name, value) in self.timer_fields(call) {
            headers.push(name, value);
        }
        if let Some(sdp) = &invite.sdp {
            headers.push("Content-Type", "application/sdp");
            request.body = sdp.clone().into_bytes();
        }
        let proxies = Arc::clone(&invite.proxies);
        let calling = Calling {
            auth: Auth::new(invite.credentials),
            cseq: 1,
            local_tag: local_tag.clone(),
            contact_user: contact_user.clone(),
            transaction: None,
            leaving: None,
            cancel_sent: false,
            cause: None,
            ring: None,
            offer: invite.sdp,
            early: Vec::new(),
            redirects: Redirects::default(),
        };
        self.calls.insert(call, Call::Calling(Box::new(calling)));
        self.tags.insert(local_tag, call);
        let outgoing = Outgoing::new(Owner::Invite(call), request, Some(&contact_user), false);
        self.send(now, outgoing.by(proxies));
        Ok(call)
    }

    /// The head of a request that makes a call.
    fn first_request(&mut self, method: Method, invite: &Invite, local_tag: &str) -> Request {
        let from = NameAddr {
            name: invite.display_name.clone(),
            uri: invite.from.clone(),
            params: vec![("tag".into(), Some(local_tag.to_owned()))],
        };
        let mut request = Request::new(method, invite.to.clone());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", from.to_string());
        headers.push("To", format!("<{}>", invite.to));
        headers.push("Call-ID", self.io.random.token(24));
        headers.push("CSeq", format!("1 {}", request.method));
        headers.push("User-Agent", self.io.config.user_agent.clone());
        for (name, value) in invite.headers.iter().chain(&invite.authorization) {
            headers.push(name, value.as_str());
        }
        request
    }

    /// Takes our INVITE back: CANCEL once the peer has answered anything, silence until then.
    pub(super) fn take_back(&mut self, now: Instant, call: CallHandle, why: Leaving) {
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        if calling.leaving.is_some() {
            return;
        }
        let transaction = calling.transaction;
        self.refuse_early_offers(now, call);
        if let Some(Call::Calling(calling)) = self.calls.get_mut(&call) {
            calling.leaving = Some(why);
        }
        match transaction {
            Some(transaction) => self.cancel_if_due(now, call, transaction),
            None => self.end_taken_back(call, why),
        }
    }

    /// A provisional response to our INVITE.
    pub(super) fn invite_progress(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
    ) {
        let max_ring = self.io.config.max_ring;
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        if calling.transaction != Some(id) {
            return;
        }
        if calling.leaving.is_some() {
            return self.cancel_if_due(now, call, id);
        }
        if calling.ring.is_none() {
            let deadline = Deadline::Call(call, CallTimer::Ring);
            calling.ring = Some(self.io.timers.set(now + max_ring, deadline));
        }
        if response.status > 100 {
            self.early_response(now, call, id, response);
        }
    }

    /// The final response to our INVITE, when nothing more can be tried.
    pub(super) fn invite_final(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
    ) {
        if (200..300).contains(&response.status) {
            return self.invite_answered(now, call, id, response);
        }
        let Some(Call::Calling(calling)) = self.calls.get(&call) else {
            return;
        };
        match calling.leaving {
            Some(why) => self.end_taken_back(call, why),
            None => {
                if matches!(response.status, 401 | 407) {
                    let challenges = copied(&response.headers, &CHALLENGES);
                    self.io.event(Event::Challenged { call, challenges });
                }
                let retry_after =
                    retry_after(response).and_then(|time| u32::try_from(time.as_secs()).ok());
                let reason = response.reason.clone();
                self.end_call(
                    call,
                    Event::Rejected {
                        call,
                        status: response.status,
                        reason,
                        retry_after,
                        causes: Cause::all(&response.headers),
                    },
                );
            }
        }
    }

    pub(super) fn invite_failed(&mut self, _now: Instant, call: CallHandle, failure: Failure) {
        let Some(Call::Calling(calling)) = self.calls.get(&call) else {
            return;
        };
        match calling.leaving {
            Some(why) => self.end_taken_back(call, why),
            None => {
                let (status, reason) = failure.status();
                let reason = reason.to_owned();
                self.end_call(
                    call,
                    Event::Rejected {
                        call,
                        status,
                        reason,
                        retry_after: None,
                        causes: Vec::new(),
                    },
                );
            }
        }
    }

    /// A 2xx that did not come first, or for a call that is gone: another fork. ACK it and hang up.
    pub(super) fn forked(
        &mut self,
        now: Instant,
        id: TransactionId,
        owner: Owner,
        response: &Response,
    ) {
        let Owner::Invite(call) = owner else { return };
        let tag = response.headers.to_tag().unwrap_or_default();
        if let Some(Call::Established(session)) = self.calls.get(&call)
            && session.dialog.remote_tag == tag
        {
            // Ours, whose ACK still waits for its address.
            return;
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let mut dialog = Dialog::from_response(&client.request, response, "");
        let asked = client.request.body.is_empty();
        let refusal = self.refusal_in(response).filter(|_| asked);
        self.acknowledge(now, id, &dialog, refusal);
        let bye = dialog.request(Method::Bye);
        self.send(now, Outgoing::new(Owner::Nobody, bye, None, true));
    }

    /// ACK for a 2xx to the INVITE of that transaction, with its credentials (RFC 3261 section 22.1).
    pub(super) fn acknowledge(
        &mut self,
        now: Instant,
        id: TransactionId,
        dialog: &Dialog,
        sdp: Option<String>,
    ) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let sent = &client.request.headers;
        let mut ack = dialog.ack(sent.cseq().map_or(1, |(number, _)| number));
        for name in ["Authorization", "Proxy-Authorization"] {
            for value in sent.get_all(name) {
                ack.headers.push(name, value);
            }
        }
        if let Some(sdp) = sdp {
            ack.headers.push("Content-Type", "application/sdp");
            ack.body = sdp.into_bytes();
        }
        self.send(now, Outgoing::new(Owner::Ack(id), ack, None, true));
    }

    /// The INVITE was not ended in time: after ringing too long, or after CANCEL.
    pub(super) fn ring_timeout(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Calling(calling)) = self.calls.get(&call) else {
            return;
        };
        match (calling.leaving, calling.transaction) {
            (None, _) => self.take_back(now, call, Leaving::RangTooLong),
            (Some(why), transaction) => {
                // RFC 3261 section 9.1: no final response 64*T1 after CANCEL; the INVITE counts as cancelled.
                if let Some(client) = transaction.and_then(|id| self.remove_client(id)) {
                    let end = client.finish(&mut self.io);
                    debug_assert!(
                        matches!(end, ClientEnd::TimedOut(_)),
                        "an answered INVITE is no ringing call"
                    );
                }
                self.end_taken_back(call, why);
            }
        }
    }

    fn invite_answered(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
    ) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let Some(Call::Calling(_)) = self.calls.get(&call) else {
            return self.forked(now, id, Owner::Invite(call), response);
        };
        let Some(Call::Calling(mut calling)) = self.calls.remove(&call) else {
            return;
        };
        self.io.timers.cancel(&mut calling.ring);
        let min = min_expires(&client.request.headers);
        let leaving = calling.leaving.is_some();
        let (fork, dialog, mut exchange) = calling.win(&client.request, response);
        let sdp = sdp_of(&response.headers, &response.body).unwrap_or_default();
        // Whose offer a PRACK has answered says nothing new any more (RFC 6337 section 2.2).
        let (ours, asked) = (
            calling.offer.is_some(),
            calling.offer.is_none() && exchange.local.is_none(),
        );
        exchange.open = None;
        if ours {
            exchange.local = exchange.local.or(calling.offer);
            exchange.remote = sdp.clone().or(exchange.remote);
        }
        let answer = exchange.remote.clone().filter(|_| ours);
        let mut session = Session::new(dialog.clone(), exchange, calling.auth, true);
        (session.fork, session.min_expires) = (fork, min);
        self.calls
            .insert(call, Call::Established(Box::new(session)));
        if leaving {
            // CANCEL crossed the 2xx: the call exists now, so it must be ended as one.
            let refusal = self.refusal_in(response).filter(|_| asked);
            self.acknowledge(now, id, &dialog, refusal);
            return self.hang_up(now, call);
        }
        if asked {
            self.offered_in_answer(now, call, id, sdp, true);
            return self.granted_by(now, call, response);
        }
        self.acknowledge(now, id, &dialog, None);
        self.granted_by(now, call, response);
        let sdp = answer;
        self.io.event(Event::Answered { call, fork, sdp });
    }

    fn cancel_if_due(&mut self, now: Instant, call: CallHandle, id: TransactionId) {
        let give_up = self.io.config.give_up();
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(client) = self
            .clients
            .get(&id)
            .filter(|client| client.is_proceeding())
        else {
            return;
        };
        if calling.cancel_sent {
            return;
        }
        calling.cancel_sent = true;
        self.io.timers.cancel(&mut calling.ring);
        calling.ring = Some(
            self.io
                .timers
                .set(now + give_up, Deadline::Call(call, CallTimer::Ring)),
        );
        let mut cancel = client.cancel();
        if let Some(cause) = &calling.cause {
            cancel.headers.push("Reason", cause.to_string());
        }
        self.send_beside(now, id, cancel);
    }

    fn end_taken_back(&mut self, call: CallHandle, why: Leaving) {
        match why {
            Leaving::HungUp => self.ended(call, false, "cancelled"),
            Leaving::RangTooLong => {
                let reason = "Not Answered In Time".to_owned();
                self.end_call(
                    call,
                    Event::Rejected {
                        call,
                        status: 408,
                        reason,
                        retry_after: None,
                        causes: Vec::new(),
                    },
                );
            }
        }
    }
}
