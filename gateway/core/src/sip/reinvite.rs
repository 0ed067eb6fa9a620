//! Changes of a session by re-INVITE, in both directions.
//!
//! 1. The peer's: `Event::Reinvite`, answered by `answer_reinvite`. 491 while ours is under way, 500 while another of the
//!    peer's is.
//! 2. Ours: after 491 it is tried again in 2.1..4 s (we called) or 0..2 s (RFC 3261 section 14.1).
//! 3. A peer that has forgotten the call, or does not answer, ends it.

use std::time::{Duration, Instant};

use super::call::Call;
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::io::Io;
use super::message::{Method, Request, Response, sdp_of};
use super::outgoing::{Failure, Outgoing, Owner};
use super::receive::ALLOW;
use super::session::Session;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;

/// How often 491 is answered with another try.
const MAX_GLARE: u8 = 5;

/// Our re-INVITE.
pub(super) enum Offer {
    None,
    Sent {
        sdp: String,
        tries: u8,
    },
    Waiting {
        sdp: String,
        tries: u8,
        timer: Option<TimerId>,
    },
}

impl Stack {
    /// Answers `Event::Reinvite`: SDP, or the status of the refusal (488).
    pub fn answer_reinvite(&mut self, now: Instant, call: CallHandle, answer: Result<String, u16>) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some((id, offered)) = session.incoming.take() else {
            return;
        };
        match answer {
            Ok(sdp) => {
                if let Some(server) = self.servers.get(&id) {
                    session
                        .dialog
                        .refresh_target(server.request.headers.get("Contact"));
                }
                if let Some(response) = self.invite_response(id, call, 200, "", Some(sdp)) {
                    self.send_answer(now, call, id, &response, !offered, false);
                }
            }
            Err(status) => {
                let status = if (300..700).contains(&status) {
                    status
                } else {
                    488
                };
                self.refuse_invite(now, call, id, status, "");
            }
        }
    }

    /// Offers a changed session; while another change is under way it waits as after glare.
    pub fn reinvite(&mut self, now: Instant, call: CallHandle, sdp: String) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        match &mut session.offer {
            Offer::Sent { .. } => self.io.event(Event::ReinviteFailed { call, status: 491 }),
            Offer::Waiting { sdp: waiting, .. } => *waiting = sdp,
            Offer::None if session.incoming.is_some() || session.answer.is_some() => {
                self.wait_for_peer(now, call, sdp, 0)
            }
            Offer::None => self.send_reinvite(now, call, sdp, 0),
        }
    }

    pub(super) fn handle_reinvite(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return self.refuse_for_now(now, id);
        };
        let Ok(sdp) = sdp_of(&request.headers, &request.body) else {
            return self.respond(
                now,
                id,
                415,
                &[
                    ("Accept", "application/sdp"),
                    ("Accept-Encoding", "identity"),
                ],
            );
        };
        if session.is_leaving() {
            return self.respond(now, id, 481, &[]);
        }
        if session.incoming.is_some() {
            return self.refuse_for_now(now, id);
        }
        let our_offer_is_open = session.answer.as_ref().is_some_and(|answer| answer.offers);
        if our_offer_is_open || matches!(session.offer, Offer::Sent { .. }) {
            return self.respond(now, id, 491, &[]);
        }
        session.incoming = Some((id, sdp.is_some()));
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
                self.acknowledge(now, id, &dialog);
            }
            return;
        };
        let offer = std::mem::replace(&mut session.offer, Offer::None);
        match response.status {
            200..300 => {
                session
                    .dialog
                    .refresh_target(response.headers.get("Contact"));
                let (dialog, leaving) = (session.dialog.clone(), session.is_leaving());
                self.acknowledge(now, id, &dialog);
                if !leaving {
                    let sdp = sdp_of(&response.headers, &response.body).unwrap_or_default();
                    self.io.event(Event::ReinviteAnswered { call, sdp });
                }
            }
            _ if session.is_leaving() => {}
            491 => match offer {
                Offer::Sent { sdp, tries } if tries < MAX_GLARE => {
                    self.wait_for_peer(now, call, sdp, tries + 1)
                }
                _ => self.io.event(Event::ReinviteFailed { call, status: 491 }),
            },
            408 | 481 => self.send_bye(now, call, "the peer does not know the call any more"),
            status => self.io.event(Event::ReinviteFailed { call, status }),
        }
    }

    pub(super) fn reinvite_failed(&mut self, now: Instant, call: CallHandle, failure: Failure) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        session.offer = Offer::None;
        match failure {
            _ if session.is_leaving() => {}
            Failure::Timeout => self.send_bye(now, call, "no answer to re-INVITE"),
            Failure::Unreachable => self.io.event(Event::ReinviteFailed {
                call,
                status: failure.status().0,
            }),
        }
    }

    /// The wait after glare is over.
    pub(super) fn reinvite_again(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Offer::Waiting { sdp, tries, .. } = std::mem::replace(&mut session.offer, Offer::None)
        else {
            return;
        };
        if session.incoming.is_some() || session.answer.is_some() {
            self.wait_for_peer(now, call, sdp, tries);
        } else {
            self.send_reinvite(now, call, sdp, tries);
        }
    }

    /// 500 with a random Retry-After (RFC 3261 section 14.2).
    fn refuse_for_now(&mut self, now: Instant, id: TransactionId) {
        let seconds = (self.io.random.u32() % 11).to_string();
        self.respond(now, id, 500, &[("Retry-After", &seconds)]);
    }

    fn wait_for_peer(&mut self, now: Instant, call: CallHandle, sdp: String, tries: u8) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let delay = session.glare_delay(&mut self.io);
        let timer = Some(
            self.io
                .timers
                .set(now + delay, Deadline::Call(call, CallTimer::Glare)),
        );
        session.offer = Offer::Waiting { sdp, tries, timer };
    }

    fn send_reinvite(&mut self, now: Instant, call: CallHandle, sdp: String, tries: u8) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let mut request = session.dialog.request(Method::Invite);
        request.headers.push("Allow", ALLOW);
        request
            .headers
            .push("User-Agent", self.io.config.user_agent.clone());
        request.headers.push("Content-Type", "application/sdp");
        request.body = sdp.clone().into_bytes();
        session.auth.apply(&mut request);
        let contact_user = session.dialog.contact_user.clone();
        session.offer = Offer::Sent { sdp, tries };
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
