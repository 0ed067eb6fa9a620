//! Incoming calls until they are answered.
//!
//! 1. INVITE: 100 at once, then `Event::Incoming`.
//! 2. `provisional` sends 180 or 183 and repeats it every minute, so that proxies do not give up.
//! 3. `accept` sends 200; the call becomes a session that repeats the 200 until ACK. `reject` and `hang_up` refuse.
//! 4. CANCEL: 200 for it, 487 for the INVITE, `Event::Cancelled`. After our final response it changes nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::auth::Auth;
use super::call::{Call, Ringing};
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::exchange::{Exchange, Side};
use super::message::{Headers, Method, NameAddr, Request, Response, response_to, sdp_of};
use super::reason::Cause;
use super::receive::{ALLOW, add_to_tag, supported};
use super::reliable::Reliable;
use super::session::Session;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline};
use super::transaction::{TransactionId, server_key};
use super::uri::SipUri;

/// How often a provisional response is repeated (RFC 3261 section 13.3.1.1).
const REPEAT_PROVISIONAL: Duration = Duration::from_secs(60);
/// Headers that an application has no use for.
const INNER: [&str; 14] = [
    "Via",
    "Route",
    "Record-Route",
    "Max-Forwards",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Authorization",
    "Proxy-Authorization",
];

impl Stack {
    /// Answers an incoming call with 101..199, with early media if there is SDP.
    pub fn provisional(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        sdp: Option<String>,
    ) {
        if !(101..200).contains(&status)
            || self.provisional_reliably(now, call, status, sdp.as_deref())
        {
            return;
        }
        let Some(Call::Ringing(ringing)) = self.calls.get(&call) else {
            return;
        };
        let id = ringing.transaction;
        // What went out reliably does not come again (RFC 6337 section 2.2).
        let sdp = sdp.filter(|_| !ringing.reliable.described);
        let Some(response) = self.invite_response(id, call, status, "", sdp) else {
            return;
        };
        self.send_provisional(now, call, id, response);
    }

    /// Answers an incoming call with 200.
    pub fn accept(&mut self, now: Instant, call: CallHandle, sdp: String) {
        if self.accept_waits(call, &sdp) {
            return;
        }
        let Some(Call::Ringing(ringing)) = self.calls.get(&call) else {
            return;
        };
        let (id, described) = (ringing.transaction, ringing.reliable.described);
        let offers = !ringing.offered && !described;
        let granted = self.granted_to(id);
        let body = (!described).then(|| sdp.clone());
        let Some(response) = self.invite_response(id, call, 200, "", body) else {
            return;
        };
        let Some(Call::Ringing(mut ringing)) = self.calls.remove(&call) else {
            return;
        };
        ringing.cancel_timers(&mut self.io);
        let Ringing {
            dialog,
            mut exchange,
            reliable,
            replaces,
            ..
        } = *ringing;
        exchange.open = None;
        exchange.local.get_or_insert(sdp);
        let mut session = Session::new(dialog, exchange, Auth::default(), false);
        session.late_prack = reliable.open_number();
        self.calls
            .insert(call, Call::Established(Box::new(session)));
        self.send_answer(now, call, id, &response, offers, true);
        self.keep_alive(now, call, granted);
        if let Some(replaced) = replaces {
            self.replace(now, replaced);
        }
    }

    /// Answers an incoming call with 300..699.
    pub fn reject(&mut self, now: Instant, call: CallHandle, status: u16, reason: &str) {
        let Some(Call::Ringing(ringing)) = self.calls.get(&call) else {
            return;
        };
        let status = if (300..700).contains(&status) {
            status
        } else {
            500
        };
        let id = ringing.transaction;
        self.refuse_invite(now, call, id, status, reason);
        self.ended(call, false, "rejected");
    }

    /// A new call.
    pub(super) fn handle_invite(&mut self, now: Instant, id: TransactionId, request: &Request) {
        if !takes_sdp(&request.headers) {
            return self.respond(now, id, 406, &[("Accept", "application/sdp")]);
        }
        let Ok(sdp) = sdp_of(&request.headers, &request.body) else {
            return self.refuse_body(now, id);
        };
        if self.refuse_interval(now, id, &request.headers) {
            return;
        }
        let replaces = match self.replaced(&request.headers) {
            Ok(replaces) => replaces,
            Err(status) => return self.respond(now, id, status, &[]),
        };
        if self.calls.len() >= self.io.config.max_dialogs {
            return self.respond(now, id, 503, &[("Retry-After", "5")]);
        }
        let contact_user = SipUri::parse(&request.uri)
            .and_then(|uri| uri.user)
            .unwrap_or_default();
        let local_tag = self.io.random.token(16);
        let Some(dialog) = Dialog::from_invite(request, local_tag.clone(), &contact_user) else {
            let warning = "399 causeway \"Contact missing or not usable\"";
            return self.respond(now, id, 400, &[("Warning", warning)]);
        };
        self.respond(now, id, 100, &[]);
        let call = CallHandle(self.io.number());
        let limit = now + self.io.config.max_ring + self.io.config.give_up();
        let ringing = Ringing {
            transaction: id,
            dialog,
            replaces,
            exchange: Exchange {
                remote: sdp.clone(),
                ..Exchange::opened_by(sdp.is_some().then_some(Side::Peer))
            },
            offered: sdp.is_some(),
            reliable: Reliable::new(&request.headers, &mut self.io),
            provisional: None,
            repeat: None,
            ring: Some(
                self.io
                    .timers
                    .set(limit, Deadline::Call(call, CallTimer::Ring)),
            ),
        };
        self.calls.insert(call, Call::Ringing(Box::new(ringing)));
        if let Some(server) = self.servers.get_mut(&id) {
            server.call = Some(call);
        }
        self.tags.insert(local_tag, call);
        let from = request.headers.get("From").and_then(NameAddr::parse);
        let to = request.headers.get("To").and_then(NameAddr::parse);
        let source = self.servers.get(&id).map(|server| server.peer.remote.ip());
        self.io.event(Event::Incoming {
            call,
            contact_user,
            source: source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            from_name: from.as_ref().and_then(|from| from.name.clone()),
            from_uri: from.map(|from| from.uri).unwrap_or_default(),
            to_uri: to.map(|to| to.uri).unwrap_or_default(),
            call_id: request.headers.call_id().to_owned(),
            sdp,
            replaces,
            headers: outer_headers(&request.headers),
        });
    }

    pub(super) fn handle_cancel(&mut self, now: Instant, id: TransactionId, cancel: &Request) {
        let invite = self
            .server_keys
            .get(&server_key(cancel, &Method::Invite))
            .copied();
        let Some(invite) = invite else {
            return self.respond(now, id, 481, &[]);
        };
        let call = self.servers.get(&invite).and_then(|server| server.call);
        if let Some(server) = self.servers.get_mut(&id) {
            server.call = call;
        }
        self.respond(now, id, 200, &[]);
        let open = self.servers.get(&invite).filter(|server| server.is_open());
        let Some(server) = open else { return };
        let Some(call) = server.call else { return };
        match self.calls.get_mut(&call) {
            Some(Call::Ringing(_)) => {
                self.refuse_invite(now, call, invite, 487, "");
                let causes = Cause::all(&cancel.headers);
                self.end_call(call, Event::Cancelled { call, causes });
            }
            // A re-INVITE taken back: the session goes on as it was.
            Some(Call::Established(session)) => {
                session.exchange.forget_incoming(invite);
                self.refuse_invite(now, call, invite, 487, "");
            }
            Some(Call::Calling(_)) | None => {}
        }
    }

    /// 300..699 with the tag that the provisional responses had.
    pub(super) fn refuse_invite(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        status: u16,
        reason: &str,
    ) {
        let Some(mut response) = self.invite_response(id, call, status, reason, None) else {
            return;
        };
        if status == 503 {
            response.headers.push("Retry-After", "5");
        }
        if let Some(server) = self.servers.get_mut(&id) {
            server.respond(now, &response, &mut self.io);
        }
    }

    /// A response to an INVITE of that call: with its tag, and with what makes or refreshes a dialog where it does.
    pub(super) fn invite_response(
        &mut self,
        id: TransactionId,
        call: CallHandle,
        status: u16,
        reason: &str,
        sdp: Option<String>,
    ) -> Option<Response> {
        let server = self.servers.get(&id)?;
        let found = self.calls.get(&call)?;
        let granted = self.granted_to(id);
        let mut response = response_to(&server.request, status, reason);
        add_to_tag(&mut response, found.local_tag());
        if status < 300 {
            for route in server.request.headers.get_all("Record-Route") {
                response.headers.push("Record-Route", route);
            }
            let peer = server.peer;
            let listen = self
                .io
                .config
                .listen
                .iter()
                .find(|listen| listen.transport == peer.transport && listen.addr == peer.local);
            let family = |listen: &&super::config::Listen| {
                listen.transport == peer.transport && listen.addr.is_ipv4() == peer.local.is_ipv4()
            };
            if let Some(listen) = listen.or_else(|| self.io.config.listen.iter().find(family)) {
                response.headers.push(
                    "Contact",
                    self.contact(&server.request.uri, found.contact_user(), listen),
                );
            }
            response.headers.push("Allow", ALLOW);
            response
                .headers
                .push("Supported", supported(&self.io.config));
        }
        let refreshes = matches!(server.request.method, Method::Invite | Method::Update)
            && !matches!(found, Call::Calling(_));
        if let Some(granted) = granted.filter(|_| refreshes && (200..300).contains(&status)) {
            response.headers.push("Session-Expires", granted.field());
            if granted.requires() {
                response.headers.push("Require", "timer");
            }
        }
        response
            .headers
            .push("Server", self.io.config.user_agent.clone());
        if let Some(sdp) = sdp {
            response.headers.push("Content-Type", "application/sdp");
            response.body = sdp.into_bytes();
        }
        Some(response)
    }

    pub(super) fn repeat_provisional(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) else {
            return;
        };
        let id = ringing.transaction;
        let Some(response) = ringing.provisional.take() else {
            return;
        };
        if !self.provisional_reliably(now, call, response.status, None) {
            self.send_provisional(now, call, id, response);
        }
    }

    fn send_provisional(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: Response,
    ) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        server.respond(now, &response, &mut self.io);
        self.remember_provisional(now, call, response);
    }

    /// Keeps a provisional response for its repetition a minute later.
    pub(super) fn remember_provisional(
        &mut self,
        now: Instant,
        call: CallHandle,
        response: Response,
    ) {
        if let Some(Call::Ringing(ringing)) = self.calls.get_mut(&call) {
            ringing.provisional = Some(response);
            self.io.timers.cancel(&mut ringing.repeat);
            let deadline = Deadline::Call(call, CallTimer::Provisional);
            ringing.repeat = Some(self.io.timers.set(now + REPEAT_PROVISIONAL, deadline));
        }
    }
}

/// Whether the caller takes the only kind of answer that there is (RFC 3261 section 20.1).
fn takes_sdp(headers: &Headers) -> bool {
    let mut kinds = headers
        .get_all("Accept")
        .flat_map(|value| value.split(','))
        .filter_map(|kind| kind.split(';').next())
        .map(|kind| kind.trim().to_ascii_lowercase())
        .filter(|kind| !kind.is_empty())
        .peekable();
    let ours = ["application/sdp", "application/*", "*/*"];
    kinds.peek().is_none() || kinds.any(|kind| ours.contains(&kind.as_str()))
}

fn outer_headers(headers: &Headers) -> Vec<(String, String)> {
    let outer = headers.iter().filter(|header| {
        !INNER
            .iter()
            .any(|inner| inner.eq_ignore_ascii_case(&header.name))
    });
    outer
        .map(|header| (header.name.clone(), header.value.clone()))
        .collect()
}
