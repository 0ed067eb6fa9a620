//! Changes by UPDATE (RFC 3311): early or in an answered call, with an offer or only to refresh target and timer.

use std::time::Instant;

use super::call::Call;
use super::event::{CallHandle, Event};
use super::exchange::{By, Change, Incoming, Wish};
use super::message::{Method, Request, Response, sdp_of};
use super::outgoing::{Failure, Outgoing, Owner};
use super::receive::{ALLOW, supported};
use super::reinvite::MAX_GLARE;
use super::stack::Stack;
use super::transaction::TransactionId;

impl Stack {
    /// Offers a changed session by UPDATE, in an answered call or in its one early dialog. Answered like a re-INVITE; a peer
    /// that does not take UPDATE gets a re-INVITE where the call is answered, and is a failure with 405 where it is not.
    pub fn update(&mut self, now: Instant, call: CallHandle, sdp: String) {
        let fork = self.only_fork(call);
        let found = self.calls.get_mut(&call);
        let established = matches!(found, Some(Call::Established(_)));
        let Some((dialog, exchange)) =
            found.and_then(|call| fork.and_then(|fork| call.of_fork(fork)))
        else {
            return self.io.event(Event::ReinviteFailed { call, status: 491 });
        };
        let by = if dialog.allows_update {
            By::Update
        } else {
            By::Reinvite
        };
        let wish = Wish {
            sdp: Some(sdp),
            by,
            refresh: false,
        };
        if established {
            return self.change(now, call, wish);
        }
        let busy = exchange.is_ours_open() || exchange.is_theirs_open();
        let status = match (by, busy) {
            (By::Update, false) => return self.send_update(now, call, wish, MAX_GLARE),
            (_, true) => 491,
            _ => 405,
        };
        self.io.event(Event::ReinviteFailed { call, status });
    }

    /// The fork that a request of ours can mean.
    fn only_fork(&self, call: CallHandle) -> Option<usize> {
        match self.calls.get(&call)? {
            Call::Calling(calling) => {
                let early = calling.early.iter().enumerate();
                let mut here = early.filter(|(_, early)| !early.gone);
                let first = here.next()?.0;
                here.next().is_none().then_some(first)
            }
            Call::Ringing(_) => Some(0),
            Call::Established(session) => Some(session.fork),
        }
    }

    pub(super) fn send_update(&mut self, now: Instant, call: CallHandle, wish: Wish, tries: u8) {
        let Some(fork) = self.only_fork(call) else {
            return;
        };
        let timer = self.timer_fields(call);
        let Some(found) = self.calls.get_mut(&call) else {
            return;
        };
        let contact_user = found.contact_user().to_owned();
        let Some((dialog, exchange)) = found.of_fork(fork) else {
            return;
        };
        let mut request = dialog.request(Method::Update);
        for (name, value) in timer {
            request.headers.push(name, value);
        }
        request.headers.push("Allow", ALLOW);
        request
            .headers
            .push("Supported", supported(&self.io.config));
        request
            .headers
            .push("User-Agent", self.io.config.user_agent.clone());
        if let Some(sdp) = &wish.sdp {
            request.headers.push("Content-Type", "application/sdp");
            request.body = sdp.clone().into_bytes();
        }
        exchange.change = Change::Sent { wish, tries };
        if let Some((auth, _)) = found.auth(fork) {
            auth.apply(&mut request);
        }
        let owner = Owner::Update(call, fork);
        self.send(
            now,
            Outgoing::new(owner, request, Some(&contact_user), true),
        );
    }

    /// The peer's UPDATE.
    pub(super) fn handle_update(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let Ok(sdp) = sdp_of(&request.headers, &request.body) else {
            return self.refuse_body(now, id);
        };
        if !self.is_going_on(call) {
            return self.respond(now, id, 481, &[]);
        }
        if self.refuse_interval(now, id, &request.headers) {
            return;
        }
        let tag = request.headers.from_tag().unwrap_or_default();
        let Some((dialog, exchange)) = self
            .calls
            .get_mut(&call)
            .and_then(|call| call.with_tag(tag))
        else {
            return;
        };
        let Some(sdp) = sdp else {
            dialog.refresh_target(request.headers.get("Contact"));
            return self.accept_update(now, call, id, None);
        };
        if exchange.is_theirs_open() {
            return self.refuse_for_now(now, id);
        }
        let answer_open = matches!(self.calls.get(&call), Some(Call::Established(session))
            if session.answer.as_ref().is_some_and(|answer| answer.offers));
        let Some((_, exchange)) = self
            .calls
            .get_mut(&call)
            .and_then(|call| call.with_tag(tag))
        else {
            return;
        };
        if answer_open || exchange.is_ours_open() {
            return self.respond(now, id, 491, &[]);
        }
        exchange.incoming = Some(Incoming {
            transaction: id,
            by: By::Update,
            offered: true,
        });
        self.io.event(Event::Reinvite {
            call,
            sdp: Some(sdp),
        });
    }

    /// 200 to UPDATE or PRACK, with our answer if there was an offer.
    pub(super) fn accept_update(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        sdp: Option<String>,
    ) {
        let Some(response) = self.invite_response(id, call, 200, "", sdp) else {
            return;
        };
        let granted = self.granted_to(id);
        if let Some(server) = self.servers.get_mut(&id) {
            server.respond(now, &response, &mut self.io);
        }
        self.keep_alive(now, call, granted);
    }

    pub(super) fn update_final(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        response: &Response,
    ) {
        let leaving = !self.is_going_on(call);
        let established = matches!(self.calls.get(&call), Some(Call::Established(_)));
        let Some((dialog, exchange)) = self
            .calls
            .get_mut(&call)
            .and_then(|call| call.of_fork(fork))
        else {
            return;
        };
        let Change::Sent { wish, tries } = std::mem::take(&mut exchange.change) else {
            return;
        };
        match response.status {
            _ if leaving => {}
            200..300 => {
                dialog.learn(&response.headers);
                dialog.refresh_target(response.headers.get("Contact"));
                let sdp = sdp_of(&response.headers, &response.body).unwrap_or_default();
                if wish.sdp.is_some() {
                    exchange.local = wish.sdp;
                    exchange.remote.clone_from(&sdp);
                    self.io.event(Event::ReinviteAnswered { call, sdp });
                }
                self.granted_by(now, call, response);
            }
            405 | 501 if established => {
                dialog.allows_update = false;
                let by = By::Reinvite;
                self.change(now, call, Wish { by, ..wish });
            }
            status if established => self.change_failed(now, call, wish, tries, status, response),
            status => self.io.event(Event::ReinviteFailed { call, status }),
        }
        self.next_change(now, call);
    }

    pub(super) fn update_failed(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        failure: Failure,
    ) {
        if matches!(self.calls.get(&call), Some(Call::Established(_))) {
            return self.reinvite_failed(now, call, failure);
        }
        let found = self.calls.get_mut(&call);
        let Some((_, exchange)) = found.and_then(|call| call.of_fork(fork)) else {
            return;
        };
        exchange.change = Change::None;
        let status = failure.status().0;
        self.io.event(Event::ReinviteFailed { call, status });
    }
}
