//! Changes of a session by re-INVITE, in both directions, and what they share with UPDATE.
//!
//! 1. The peer's: `Event::Reinvite`, answered by `answer_reinvite`. 491 while ours is under way, 500 while another of the
//!    peer's is.
//! 2. Ours: after 491 it is tried again in 2.1..4 s (we called) or 0..2 s (RFC 3261 section 14.1).
//! 3. Ours without an offer: `Event::Offered`, answered by `answer_offer` in the ACK.
//! 4. A peer that has forgotten the call, or does not answer, ends it.

use std::time::{Duration, Instant};

use super::call::Call;
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::exchange::{By, Change, Incoming, Wish};
use super::io::Io;
use super::message::{Method, Request, Response, sdp_of};
use super::outgoing::{Failure, Outgoing, Owner};
use super::receive::{ALLOW, supported};
use super::session::Session;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline};
use super::transaction::TransactionId;

/// How often 491 is answered with another try.
pub(super) const MAX_GLARE: u8 = 5;

impl Stack {
    /// Answers `Event::Reinvite`: SDP, or the status of the refusal (488).
    pub fn answer_reinvite(&mut self, now: Instant, call: CallHandle, answer: Result<String, u16>) {
        let Some((dialog, exchange)) = self.calls.get_mut(&call).and_then(Call::asked) else {
            return;
        };
        let Some(incoming) = exchange.incoming.take() else {
            return;
        };
        let id = incoming.transaction;
        let sdp = match answer {
            Ok(sdp) => sdp,
            Err(status) => {
                let refusal = (300..700).contains(&status);
                let status = if refusal { status } else { 488 };
                return self.refuse_invite(now, call, id, status, "");
            }
        };
        exchange.local = Some(sdp.clone());
        if let Some(server) = self.servers.get(&id) {
            let Request { headers, body, .. } = &server.request;
            if incoming.offered {
                exchange.remote = sdp_of(headers, body).unwrap_or_default();
            }
            if incoming.by != By::Prack {
                dialog.refresh_target(headers.get("Contact"));
            }
        }
        if incoming.by != By::Reinvite {
            return self.accept_update(now, call, id, Some(sdp));
        }
        let granted = self.granted_to(id);
        if let Some(response) = self.invite_response(id, call, 200, "", Some(sdp)) {
            self.send_answer(now, call, id, &response, !incoming.offered, false);
            self.keep_alive(now, call, granted);
        }
    }

    /// Offers a changed session; while another change is under way it waits as after glare.
    pub fn reinvite(&mut self, now: Instant, call: CallHandle, sdp: String) {
        let by = By::Reinvite;
        let (sdp, refresh) = (Some(sdp), false);
        self.change(now, call, Wish { sdp, by, refresh });
    }

    /// Asks the peer for a new offer, by a re-INVITE without one: `Event::Offered`, or `ReinviteFailed`.
    pub fn request_offer(&mut self, now: Instant, call: CallHandle) {
        let by = By::Reinvite;
        let (sdp, refresh) = (None, false);
        self.change(now, call, Wish { sdp, by, refresh });
    }

    pub(super) fn change(&mut self, now: Instant, call: CallHandle, wish: Wish) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        let busy = session.exchange.incoming.is_some() || session.answer.is_some();
        match &mut session.exchange.change {
            Change::Sent { wish: sent, .. } if sent.refresh => session.exchange.next = Some(wish),
            Change::Sent { .. } | Change::Offered { .. } => {
                self.io.event(Event::ReinviteFailed { call, status: 491 })
            }
            Change::Waiting { wish: waiting, .. } => *waiting = wish,
            Change::None if busy => self.wait_for_peer(now, call, wish, 0),
            Change::None => self.send_change(now, call, wish, 0),
        }
    }

    pub(super) fn handle_reinvite(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        if !matches!(self.calls.get(&call), Some(Call::Established(_))) {
            return self.refuse_for_now(now, id);
        }
        let Ok(sdp) = sdp_of(&request.headers, &request.body) else {
            return self.refuse_body(now, id);
        };
        if !self.is_going_on(call) {
            return self.respond(now, id, 481, &[]);
        }
        if self.refuse_interval(now, id, &request.headers) {
            return;
        }
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if session.exchange.incoming.is_some() {
            return self.refuse_for_now(now, id);
        }
        let our_offer_is_open = session.answer.as_ref().is_some_and(|answer| answer.offers);
        let under_way = matches!(
            session.exchange.change,
            Change::Sent { .. } | Change::Offered { .. }
        );
        if our_offer_is_open || under_way {
            return self.respond(now, id, 491, &[]);
        }
        session.exchange.incoming = Some(Incoming {
            transaction: id,
            by: By::Reinvite,
            offered: sdp.is_some(),
        });
        // Whoever changes the session has our 2xx: its ACK was lost (RFC 5407 section 3.1.4).
        let confirmed = session
            .take_answer(&mut self.io)
            .is_some_and(|answer| answer.initial);
        if confirmed {
            self.io.event(Event::Confirmed { call, sdp: None });
        }
        if let Some(server) = self.servers.get_mut(&id) {
            server.call = Some(call);
        }
        self.respond(now, id, 100, &[]);
        self.io.event(Event::Reinvite { call, sdp });
    }

    pub(super) fn reinvite_final(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
    ) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            // The call is over; a 2xx wants its ACK all the same.
            if let Some(client) = self
                .clients
                .get(&id)
                .filter(|_| (200..300).contains(&response.status))
            {
                let dialog = Dialog::from_response(&client.request, response, "");
                self.acknowledge(now, id, &dialog, None);
            }
            return;
        };
        let leaving = session.is_leaving();
        let before = std::mem::take(&mut session.exchange.change);
        match (response.status, before) {
            (200..300, Change::Sent { wish, .. }) if !leaving => {
                self.reinvite_answered(now, call, id, wish, response);
            }
            (200..300, _) => {
                let dialog = session.dialog.clone();
                self.acknowledge(now, id, &dialog, None);
            }
            (status, Change::Sent { wish, tries }) if !leaving => {
                self.change_failed(now, call, wish, tries, status, response);
            }
            _ => {}
        }
        self.next_change(now, call);
    }

    fn reinvite_answered(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        wish: Wish,
        response: &Response,
    ) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        session.dialog.learn(&response.headers);
        session
            .dialog
            .refresh_target(response.headers.get("Contact"));
        let sdp = sdp_of(&response.headers, &response.body).unwrap_or_default();
        if wish.sdp.is_none() {
            self.offered_in_answer(now, call, id, sdp, false);
        } else {
            let dialog = session.dialog.clone();
            let same = session.exchange.remote == sdp;
            session.exchange.local = wish.sdp;
            session.exchange.remote.clone_from(&sdp);
            self.acknowledge(now, id, &dialog, None);
            if !(wish.refresh && same) {
                self.io.event(Event::ReinviteAnswered { call, sdp });
            }
        }
        self.granted_by(now, call, response);
    }

    /// Our change by re-INVITE or UPDATE has a final response other than 2xx.
    pub(super) fn change_failed(
        &mut self,
        now: Instant,
        call: CallHandle,
        wish: Wish,
        tries: u8,
        status: u16,
        response: &Response,
    ) {
        match status {
            408 | 481 => self.send_bye(now, call, "the peer does not know the call any more"),
            422 if self.lengthen_session(call, response) => {
                self.send_change(now, call, wish, tries)
            }
            491 if tries < MAX_GLARE => self.wait_for_peer(now, call, wish, tries + 1),
            _ if wish.refresh => self.refresh_again(now, call),
            status => self.io.event(Event::ReinviteFailed { call, status }),
        }
    }

    pub(super) fn reinvite_failed(&mut self, now: Instant, call: CallHandle, failure: Failure) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let before = std::mem::take(&mut session.exchange.change);
        let refresh = matches!(before, Change::Sent { wish, .. } if wish.refresh);
        match failure {
            _ if session.is_leaving() => {}
            Failure::Timeout => self.send_bye(now, call, "no answer to re-INVITE"),
            Failure::Unreachable if refresh => self.refresh_again(now, call),
            Failure::Unreachable => self.io.event(Event::ReinviteFailed {
                call,
                status: failure.status().0,
            }),
        }
        self.next_change(now, call);
    }

    /// The wait after glare is over.
    pub(super) fn reinvite_again(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Change::Waiting { wish, tries, .. } = std::mem::take(&mut session.exchange.change)
        else {
            return;
        };
        if session.exchange.incoming.is_some() || session.answer.is_some() {
            self.wait_for_peer(now, call, wish, tries);
        } else {
            self.send_change(now, call, wish, tries);
        }
    }

    /// The change that waited for the end of a refresh.
    pub(super) fn next_change(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(wish) = session.exchange.next.take() {
            self.change(now, call, wish);
        }
    }

    fn wait_for_peer(&mut self, now: Instant, call: CallHandle, wish: Wish, tries: u8) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let delay = session.glare_delay(&mut self.io);
        let timer = Some(
            self.io
                .timers
                .set(now + delay, Deadline::Call(call, CallTimer::Glare)),
        );
        session.exchange.change = Change::Waiting { wish, tries, timer };
    }

    pub(super) fn send_change(&mut self, now: Instant, call: CallHandle, wish: Wish, tries: u8) {
        match wish.by {
            By::Update => self.send_update(now, call, wish, tries),
            By::Reinvite | By::Prack => self.send_reinvite(now, call, wish, tries),
        }
    }

    fn send_reinvite(&mut self, now: Instant, call: CallHandle, wish: Wish, tries: u8) {
        let timer = self.timer_fields(call);
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let mut request = session.dialog.request(Method::Invite);
        let headers = &mut request.headers;
        for (name, value) in timer {
            headers.push(name, value);
        }
        headers.push("Allow", ALLOW);
        headers.push("Supported", supported(&self.io.config));
        headers.push("User-Agent", self.io.config.user_agent.clone());
        if let Some(sdp) = &wish.sdp {
            headers.push("Content-Type", "application/sdp");
            request.body = sdp.clone().into_bytes();
        }
        session.auth.apply(&mut request);
        let contact_user = session.dialog.contact_user.clone();
        session.exchange.change = Change::Sent { wish, tries };
        self.send(
            now,
            Outgoing::new(Owner::Reinvite(call), request, Some(&contact_user), true),
        );
    }
}

impl Session {
    /// How long to wait after glare (RFC 3261 section 14.1), in units of 10 ms.
    fn glare_delay(&self, io: &mut Io) -> Duration {
        let draw = u64::from(io.random.u32());
        Duration::from_millis(if self.caller {
            2100 + draw % 191 * 10
        } else {
            draw % 201 * 10
        })
    }
}
