//! Calls that come to a service.
//!
//! INVITE -> 100 -> 180 or 183 -> 2xx, sent until the ACK comes -> BYE of either side. A refusal is sent until its ACK too.

use std::time::{Duration, Instant};

use gateway_core::sdp::SdpError;
use gateway_core::sip::Transport;
use gateway_core::sip::message::{Method, NameAddr, Request, Response, response_to};

use super::call::{Call, GIVE_UP, Key, Phase, Retransmission, Service, T1, T2};
use super::core::{ALLOW, Core, Hop};
use super::describe;
use super::report::{Direction, Ending, Event};

/// How long `ring` rings.
const RING: Duration = Duration::from_secs(180);
const EARLY: Duration = Duration::from_secs(2);
const TONE_ANSWER: Duration = Duration::from_millis(100);
const HANG_UP_AFTER: Duration = Duration::from_secs(2);
/// What can be made of samples here.
const TONE_CODECS: [&str; 2] = ["PCMU", "PCMA"];

impl Core {
    /// An INVITE that begins a call.
    pub(super) fn incoming(&mut self, now: Instant, from: Hop, invite: Request, service: Service) {
        if !self.has_room() {
            self.answer(now, &invite, 503, "");
            return;
        }
        self.send_response(&response_to(&invite, 100, ""));
        let mut call = self.new_call(now, from, invite, service);
        let status = match service {
            Service::Busy => Some(486),
            Service::Reject => Some(603),
            Service::Ring | Service::Silent => None,
            Service::Echo | Service::Tone | Service::Early | Service::HangUp => {
                self.describe(&mut call).err()
            }
        };
        match status {
            Some(status) => self.refuse(now, &mut call, status),
            None => self.ring(now, &mut call, service),
        }
        self.tell(Event::CallStarted(call.report()));
        self.calls.insert(call.key.clone(), call);
    }

    fn new_call(&mut self, now: Instant, from: Hop, invite: Request, service: Service) -> Call {
        let header = |name| invite.headers.get(name).unwrap_or_default().to_owned();
        let tag = self.random.token(10);
        let user = NameAddr::parse(&header("To")).map(|to| to.uri);
        let user = user
            .and_then(|uri| gateway_core::sip::SipUri::parse(&uri)?.user)
            .unwrap_or_default();
        let routes = invite.headers.get_all("Record-Route");
        let routes: Vec<String> = routes.map(str::to_owned).collect();
        let codecs = if service == Service::Echo {
            self.config.echo_codecs.clone()
        } else {
            TONE_CODECS.map(str::to_owned).into()
        };
        let mut call = Call {
            key: Key::new(invite.headers.call_id(), &tag),
            serial: self.next_serial(),
            direction: Direction::Incoming,
            phase: Phase::Ringing {
                answer_at: None,
                give_up_at: now + RING,
            },
            local: header("To"),
            remote: header("From"),
            target: String::new(),
            routes: Vec::new(),
            hop: from,
            contact: self.contact(&user, from.transport),
            cseq: 0,
            media: None,
            plan: None,
            source: service.source(),
            codecs,
            codec: None,
            sdp: String::new(),
            version: 0,
            credentials: None,
            hang_up_after: (service == Service::HangUp).then_some(HANG_UP_AFTER),
            hang_up_at: None,
            resend: None,
            last: None,
            status: 0,
            ending: None,
            began: now,
            over_at: None,
            invite,
        };
        let contact = call.invite.headers.get("Contact").map(str::to_owned);
        call.learn_target(contact.as_deref(), routes);
        call
    }

    pub(super) fn contact(&self, user: &str, transport: Transport) -> String {
        match transport {
            Transport::Udp => format!("<sip:{user}@{}>", self.local),
            Transport::Tcp => format!("<sip:{user}@{};transport=tcp>", self.local),
            Transport::Tls => format!("<sip:{user}@{};transport=tls>", self.local),
        }
    }

    fn ring(&mut self, now: Instant, call: &mut Call, service: Service) {
        let after = match service {
            Service::Echo => Some(self.config.answer_after),
            Service::Tone | Service::HangUp => Some(TONE_ANSWER),
            Service::Early => Some(EARLY),
            Service::Busy | Service::Reject | Service::Ring | Service::Silent => None,
        };
        call.phase = Phase::Ringing {
            answer_at: after.map(|after| now + after),
            give_up_at: now + RING,
        };
        match service {
            Service::Silent => {}
            Service::Early => {
                let response = self.invite_response(call, 183, true);
                self.send_invite_response(call, &response);
                start_media(call);
            }
            _ => {
                let response = self.invite_response(call, 180, false);
                self.send_invite_response(call, &response);
            }
        }
    }

    /// Opens media, and answers the offer or makes one; the status that refuses the call otherwise.
    fn describe(&mut self, call: &mut Call) -> Result<(), u16> {
        if call.media.is_none() {
            call.media = Some((self.open_media)().map_err(|_| 503u16)?);
        }
        let Some(media) = &call.media else {
            return Err(503);
        };
        call.version += 1;
        if call.invite.body.is_empty() {
            call.sdp = describe::offer(media.local(), call.version, &call.codecs);
            call.plan = None;
            return Ok(());
        }
        let offer = std::str::from_utf8(&call.invite.body).map_err(|_| 400u16)?;
        let agreed = describe::answer(
            offer,
            media.local(),
            call.version,
            &call.codecs,
            call.source,
        )
        .map_err(|error| SdpError::status(&error))?;
        call.sdp = agreed.sdp;
        call.plan = Some(agreed.plan);
        call.codec = Some(agreed.codec);
        Ok(())
    }

    fn invite_response(&self, call: &mut Call, status: u16, with_sdp: bool) -> Response {
        let mut response = response_to(&call.invite, status, "");
        if call.invite.headers.to_tag().is_none() {
            let to = format!("{};tag={}", call.local, call.key.tag);
            response.headers.set("To", to);
        }
        if status < 300 {
            for route in call.invite.headers.get_all("Record-Route") {
                response.headers.push("Record-Route", route);
            }
            response.headers.push("Contact", call.contact.clone());
        }
        response.headers.push("Allow", ALLOW);
        response.headers.push("Server", "causeway-bench");
        if with_sdp {
            response.headers.push("Content-Type", "application/sdp");
            response.body = call.sdp.clone().into_bytes();
        }
        call.status = call.status.max(status);
        response
    }

    fn send_invite_response(&mut self, call: &mut Call, response: &Response) {
        let Some(hop) = response.headers.via().as_ref().and_then(Hop::of_via) else {
            return;
        };
        let bytes = response.to_bytes();
        call.last = Some((hop, bytes.clone()));
        self.send(hop, bytes);
    }

    /// Sends a final response until its ACK comes: a 2xx over every transport, a refusal where packets can be lost.
    fn send_final(&mut self, now: Instant, call: &mut Call, response: &Response) {
        self.send_invite_response(call, response);
        let Some((hop, bytes)) = call.last.clone() else {
            return;
        };
        let until = now + GIVE_UP;
        let again = response.status < 300 || hop.transport == Transport::Udp;
        call.resend = Some(Retransmission {
            hop,
            bytes,
            at: if again { now + T1 } else { until },
            interval: T1,
            cap: T2,
            until,
        });
    }

    pub(super) fn accept(&mut self, now: Instant, call: &mut Call) {
        let response = self.invite_response(call, 200, true);
        self.send_final(now, call, &response);
        call.phase = Phase::Accepted;
        start_media(call);
        self.tell(Event::CallAnswered(call.report()));
    }

    pub(super) fn refuse(&mut self, now: Instant, call: &mut Call, status: u16) {
        let response = self.invite_response(call, status, false);
        self.send_final(now, call, &response);
        call.ending.get_or_insert(Ending::Refused);
        call.phase = Phase::Refused;
    }

    /// A request that belongs to a call of ours.
    pub(super) fn handle_own(&mut self, now: Instant, key: &Key, request: Request) {
        self.with_call(key, |core, call| match &request.method {
            Method::Invite => core.handle_invite(now, call, request),
            Method::Ack => core.handle_ack(now, call, &request),
            Method::Cancel => {
                core.answer(now, &request, 200, "");
                if matches!(call.phase, Phase::Ringing { .. }) {
                    call.ending = Some(Ending::ByPeer);
                    core.refuse(now, call, 487);
                }
            }
            Method::Bye => {
                core.answer(now, &request, 200, "");
                if matches!(call.phase, Phase::Ringing { .. }) {
                    call.ending = Some(Ending::ByPeer);
                    core.refuse(now, call, 487);
                } else {
                    call.end(now, Ending::ByPeer);
                }
            }
            Method::Options => core.answer(now, &request, 200, ""),
            Method::Info => core.answer(now, &request, 200, ""),
            _ => core.answer(now, &request, 405, ""),
        });
    }

    /// A retransmission, or a re-INVITE.
    fn handle_invite(&mut self, now: Instant, call: &mut Call, invite: Request) {
        let branch = invite.headers.via().map(|via| via.branch().to_owned());
        if branch.unwrap_or_default() == call.invite_branch() {
            if let Some((hop, bytes)) = call.last.clone() {
                self.send(hop, bytes);
            }
            return;
        }
        if !matches!(call.phase, Phase::Confirmed) || call.resend.is_some() {
            // RFC 3261 section 14.2: another INVITE is not done yet.
            let mut response = response_to(&invite, 500, "");
            response.headers.push("Retry-After", "1");
            self.respond(now, &invite, response);
            return;
        }
        let contact = invite.headers.get("Contact").map(str::to_owned);
        let routes = std::mem::take(&mut call.routes);
        call.learn_target(contact.as_deref(), routes);
        call.invite = invite;
        match self.describe(call) {
            Ok(()) => {
                let response = self.invite_response(call, 200, true);
                self.send_final(now, call, &response);
                start_media(call);
            }
            Err(status) => {
                // The session goes on as it was.
                let invite = call.invite.clone();
                self.answer(now, &invite, status, "");
            }
        }
    }

    fn handle_ack(&mut self, now: Instant, call: &mut Call, ack: &Request) {
        match call.phase {
            Phase::Refused => call.end(now, Ending::Refused),
            Phase::Accepted | Phase::Confirmed => {
                call.resend = None;
                if call.plan.is_none()
                    && let Ok(body) = std::str::from_utf8(&ack.body)
                    && let Ok((plan, codec)) = describe::agreed(body, &call.codecs, call.source)
                {
                    call.plan = Some(plan);
                    call.codec = Some(codec);
                    start_media(call);
                }
                if matches!(call.phase, Phase::Accepted) {
                    call.phase = Phase::Confirmed;
                    call.hang_up_at = call.hang_up_after.map(|after| now + after);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn start_media(call: &Call) {
    if let (Some(media), Some(plan)) = (&call.media, call.plan) {
        media.start(plan);
    }
}
