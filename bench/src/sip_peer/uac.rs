//! Calls that the peer places.
//!
//! INVITE, sent until a response comes -> 401 or 407 answered once -> 2xx -> ACK -> BYE of either side; CANCEL before the answer.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use gateway_core::sip::digest::Challenge;
use gateway_core::sip::message::{Method, Request, Response};
use gateway_core::sip::{SipUri, Transport};

use super::CallRequest;
use super::call::{Call, GIVE_UP, Key, Phase, T2};
use super::core::{ALLOW, Core, Hop};
use super::describe;
use super::report::{Direction, Ending, Event};
use super::uas::start_media;

impl Core {
    /// Sends an INVITE; returns its Call-ID.
    pub(super) fn place_call(
        &mut self,
        now: Instant,
        request: CallRequest,
    ) -> anyhow::Result<String> {
        anyhow::ensure!(self.has_room(), "too many calls");
        let (to, target, hop) = self.destination(now, &request)?;
        let media = (self.open_media)().context("no media port free")?;
        let tag = self.random.token(10);
        let call_id = self.random.token(20);
        let sdp = describe::offer(media.local(), 1, &request.codecs);
        let local = format!("<sip:{}@{}>", request.from, self.config.domain);
        let mut call = Call {
            key: Key::new(&call_id, &tag),
            serial: self.next_serial(),
            direction: Direction::Outgoing,
            phase: Phase::Inviting {
                ring_until: now + request.ring_limit,
                provisional: false,
                cancelling: false,
            },
            invite: Request::new(Method::Invite, target.clone()),
            local,
            remote: format!("<{to}>"),
            target,
            routes: Vec::new(),
            hop,
            contact: self.contact(&request.from, hop.transport),
            cseq: 0,
            media: Some(media),
            plan: None,
            source: request.source,
            codecs: request.codecs,
            codec: None,
            sdp,
            version: 1,
            credentials: request.credentials,
            hang_up_after: request.hang_up_after,
            hang_up_at: None,
            resend: None,
            last: None,
            status: 0,
            ending: None,
            began: now,
            over_at: None,
        };
        self.send_invite(now, &mut call, None);
        self.tell(Event::CallStarted(call.report()));
        self.calls.insert(call.key.clone(), call);
        Ok(call_id)
    }

    /// To, Request-URI and next hop.
    fn destination(
        &self,
        now: Instant,
        request: &CallRequest,
    ) -> anyhow::Result<(String, String, Hop)> {
        let to = if request.to.contains(':') {
            request.to.clone()
        } else {
            format!("sip:{}@{}", request.to, self.config.domain)
        };
        let uri = SipUri::parse(&to).with_context(|| format!("{to} is no SIP URI"))?;
        if let Some((transport, remote)) = request.proxy {
            return Ok((to.clone(), to, Hop { transport, remote }));
        }
        let user = uri.user.as_deref().filter(|_| self.is_own(&uri));
        if let Some(binding) = user.and_then(|user| self.registrar.binding(user, now)) {
            return Ok((to, binding.uri.clone(), binding.hop));
        }
        let name = uri.host.eq_ignore_ascii_case("localhost");
        let loopback = || SocketAddr::new([127, 0, 0, 1].into(), uri.port.unwrap_or(5060));
        let hop = Hop::of_uri(&uri).or_else(|| {
            let transport = uri.transport().ok()?.unwrap_or(Transport::Udp);
            name.then(|| Hop {
                transport,
                remote: loopback(),
            })
        });
        let hop = hop.with_context(|| format!("{to} is not registered, and its host is a name"))?;
        Ok((to.clone(), to, hop))
    }

    fn send_invite(
        &mut self,
        now: Instant,
        call: &mut Call,
        authorization: Option<(&str, String)>,
    ) {
        call.cseq += 1;
        let mut invite = self.dialog_request(call, Method::Invite);
        invite.headers.push("Contact", call.contact.clone());
        invite.headers.push("Allow", ALLOW);
        if let Some((name, value)) = authorization {
            invite.headers.push(name, value);
        }
        invite.headers.push("Content-Type", "application/sdp");
        invite.body = call.sdp.clone().into_bytes();
        call.invite = invite;
        let bytes = call.invite.to_bytes();
        self.send_until_answered(now, call, bytes, GIVE_UP);
    }

    /// A response to a request of ours.
    pub(super) fn handle_own_response(&mut self, now: Instant, branch: &str, response: &Response) {
        let (Some(tag), Some((cseq, method))) =
            (response.headers.from_tag(), response.headers.cseq())
        else {
            return;
        };
        let key = Key::new(response.headers.call_id(), tag);
        // The call may be over: its refusal was acknowledged, and comes again because that was lost.
        let acknowledged = self.remembered(&ack_key(branch)).cloned();
        if let Some(bytes) = acknowledged.filter(|_| method == Method::Invite) {
            if let Some(call) = self.calls.get(&key) {
                let hop = call.hop;
                self.send(hop, bytes);
            }
            return;
        }
        self.with_call(&key, |core, call| match method {
            Method::Invite if cseq == call.cseq || response.status < 300 => {
                core.handle_invite_response(now, call, branch, response);
            }
            Method::Bye if response.status >= 200 => call.end(now, Ending::ByUs),
            // What becomes of the INVITE is told by its own response.
            Method::Cancel if response.status >= 200 => call.resend = None,
            _ => {}
        });
    }

    fn handle_invite_response(
        &mut self,
        now: Instant,
        call: &mut Call,
        branch: &str,
        response: &Response,
    ) {
        match (&mut call.phase, response.status) {
            (
                Phase::Inviting {
                    provisional,
                    cancelling,
                    ..
                },
                ..200,
            ) => {
                let wanted = *cancelling && !*provisional;
                *provisional = true;
                call.status = call.status.max(response.status);
                if !*cancelling || wanted {
                    call.resend = None;
                }
                if wanted {
                    self.send_cancel(now, call);
                }
            }
            (Phase::Inviting { cancelling, .. }, 200..300) => {
                let cancelling = *cancelling;
                self.answered(now, call, response);
                if cancelling {
                    self.leave(now, call);
                }
            }
            (Phase::Inviting { cancelling, .. }, _) => {
                let cancelling = *cancelling;
                self.acknowledge_refusal(now, call, branch, response);
                if !cancelling && self.authorize(now, call, response) {
                    return;
                }
                call.status = response.status;
                let ending = if cancelling {
                    Ending::ByUs
                } else {
                    Ending::Refused
                };
                call.end(now, ending);
            }
            (_, 200..300) => {
                // Our ACK was lost.
                if let Some((hop, bytes)) = call.last.clone() {
                    self.send(hop, bytes);
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant, call: &mut Call, response: &Response) {
        call.resend = None;
        call.status = response.status;
        call.remote = response
            .headers
            .get("To")
            .unwrap_or(&call.remote)
            .to_owned();
        let routes = response.headers.get_all("Record-Route").rev();
        let routes = routes.map(str::to_owned).collect();
        call.learn_target(response.headers.get("Contact"), routes);
        let ack = self.dialog_request(call, Method::Ack).to_bytes();
        call.last = Some((call.hop, ack.clone()));
        self.send(call.hop, ack);
        call.phase = Phase::Confirmed;
        call.hang_up_at = call.hang_up_after.map(|after| now + after);
        let answer = std::str::from_utf8(&response.body).unwrap_or_default();
        match describe::agreed(answer, &call.codecs, call.source) {
            Ok((plan, codec)) => {
                call.plan = Some(plan);
                call.codec = Some(codec);
                start_media(call);
                self.tell(Event::CallAnswered(call.report()));
            }
            // Nothing to talk with: the call is taken back.
            Err(_) => self.leave(now, call),
        }
    }

    /// The ACK of a refusal goes the INVITE's way, under its branch (RFC 3261 section 17.1.1.3).
    fn acknowledge_refusal(
        &mut self,
        now: Instant,
        call: &mut Call,
        branch: &str,
        response: &Response,
    ) {
        call.resend = None;
        let mut ack = self.dialog_request(call, Method::Ack);
        ack.uri.clone_from(&call.invite.uri);
        ack.headers.set("Via", self.via(call.hop.transport, branch));
        ack.headers
            .set("To", response.headers.get("To").unwrap_or_default());
        let bytes = ack.to_bytes();
        self.remember(now, ack_key(branch), bytes.clone());
        self.send(call.hop, bytes);
    }

    /// Answers a challenge, once.
    fn authorize(&mut self, now: Instant, call: &mut Call, response: &Response) -> bool {
        let (ask, answer) = match response.status {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return false,
        };
        let challenge = response.headers.get_all(ask).find_map(Challenge::parse);
        let (Some(challenge), Some(credentials)) = (challenge, call.credentials.take()) else {
            return false;
        };
        let cnonce = self.random.token(12);
        let uri = call.invite.uri.clone();
        let value = challenge.answer(&credentials, &Method::Invite, &uri, 1, &cnonce);
        self.send_invite(now, call, Some((answer, value.to_string())));
        true
    }

    /// Takes an INVITE back. Before the first response there is nothing to cancel yet (RFC 3261 section 9.1).
    pub(super) fn cancel(&mut self, now: Instant, call: &mut Call) {
        let Phase::Inviting {
            provisional,
            cancelling,
            ring_until,
        } = &mut call.phase
        else {
            return;
        };
        let send = *provisional && !*cancelling;
        *cancelling = true;
        *ring_until = now + GIVE_UP;
        if send {
            self.send_cancel(now, call);
        }
    }

    fn send_cancel(&mut self, now: Instant, call: &mut Call) {
        let mut cancel = self.dialog_request(call, Method::Cancel);
        cancel.uri.clone_from(&call.invite.uri);
        let via = self.via(call.hop.transport, &call.invite_branch());
        cancel.headers.set("Via", via);
        self.send_until_answered(now, call, cancel.to_bytes(), T2);
    }
}

fn ack_key(branch: &str) -> String {
    format!("ack|{branch}")
}
