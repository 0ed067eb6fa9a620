//! One call of the peer's own: what both roles share. Called by `uas` and `uac`.

use std::time::{Duration, Instant};

use gateway_core::sip::message::{Method, NameAddr, Request};
use gateway_core::sip::{Credentials, SipUri, Transport};

use super::core::{Core, Hop, MediaEnd, OWN_BRANCH};
use super::relay::route_uri;
use super::report::{CallReport, Direction, Ending};
use crate::media::{Plan, Source};

/// RFC 3261 section 17.1.1.1.
pub(super) const T1: Duration = Duration::from_millis(500);
pub(super) const T2: Duration = Duration::from_secs(4);
/// Timers B, F, H.
pub(super) const GIVE_UP: Duration = Duration::from_secs(32);

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Echo,
    Tone,
    Early,
    HangUp,
    Busy,
    Reject,
    Ring,
    Silent,
}

impl Service {
    pub(super) fn of_user(user: &str) -> Option<Self> {
        match user.to_ascii_lowercase().as_str() {
            "echo" => Some(Self::Echo),
            "tone" => Some(Self::Tone),
            "early" => Some(Self::Early),
            "hangup" => Some(Self::HangUp),
            "busy" => Some(Self::Busy),
            "reject" => Some(Self::Reject),
            "ring" => Some(Self::Ring),
            "silent" => Some(Self::Silent),
            _ => None,
        }
    }

    /// What it sends.
    pub(super) fn source(self) -> Source {
        match self {
            Self::Echo => Source::Echo,
            Self::Tone | Self::Early | Self::HangUp => Source::Tone,
            Self::Busy | Self::Reject | Self::Ring | Self::Silent => Source::Nothing,
        }
    }
}

/// What tells calls apart: Call-ID and our tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) call_id: String,
    pub(super) tag: String,
}

impl Key {
    pub(super) fn new(call_id: &str, tag: &str) -> Self {
        Self {
            call_id: call_id.to_owned(),
            tag: tag.to_owned(),
        }
    }
}

/// Where a call stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Called, not answered.
    Ringing {
        answer_at: Option<Instant>,
        give_up_at: Instant,
    },
    /// We have answered and wait for the ACK.
    Accepted,
    /// We have refused and wait for the ACK.
    Refused,
    /// We have called. What is cancelled ends at `ring_until` whether it is answered or not.
    Inviting {
        ring_until: Instant,
        provisional: bool,
        cancelling: bool,
    },
    /// Up.
    Confirmed,
    /// Our BYE is on its way.
    Leaving,
    /// To be put away.
    Over,
}

/// A message that is sent until something stops it.
pub(super) struct Retransmission {
    pub(super) hop: Hop,
    pub(super) bytes: Vec<u8>,
    pub(super) at: Instant,
    pub(super) interval: Duration,
    pub(super) cap: Duration,
    pub(super) until: Instant,
}

/// A call.
pub(super) struct Call {
    pub(super) key: Key,
    pub(super) serial: u64,
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    /// The newest INVITE: theirs, or ours.
    pub(super) invite: Request,
    /// Our From or To value without tag.
    pub(super) local: String,
    /// Their From or To value, with its tag once it is known.
    pub(super) remote: String,
    /// Their Contact URI.
    pub(super) target: String,
    pub(super) routes: Vec<String>,
    /// Where our requests go.
    pub(super) hop: Hop,
    /// Our Contact value.
    pub(super) contact: String,
    /// CSeq of our newest request.
    pub(super) cseq: u32,
    pub(super) media: Option<Box<dyn MediaEnd>>,
    pub(super) plan: Option<Plan>,
    pub(super) source: Source,
    /// Encodings that may be chosen.
    pub(super) codecs: Vec<String>,
    pub(super) codec: Option<String>,
    /// Our newest description.
    pub(super) sdp: String,
    pub(super) version: u64,
    pub(super) credentials: Option<Credentials>,
    pub(super) hang_up_after: Option<Duration>,
    pub(super) hang_up_at: Option<Instant>,
    pub(super) resend: Option<Retransmission>,
    /// The newest response to the INVITE, for its retransmissions; or our ACK, for those of the 2xx.
    pub(super) last: Option<(Hop, Vec<u8>)>,
    pub(super) status: u16,
    pub(super) ending: Option<Ending>,
    pub(super) began: Instant,
    pub(super) over_at: Option<Instant>,
}

impl Call {
    pub(super) fn invite_branch(&self) -> String {
        let via = self.invite.headers.via();
        via.map(|via| via.branch().to_owned()).unwrap_or_default()
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Ringing {
                answer_at,
                give_up_at,
            } => Some(answer_at.unwrap_or(*give_up_at)),
            Phase::Inviting { ring_until, .. } => Some(*ring_until),
            Phase::Confirmed => self.hang_up_at,
            Phase::Accepted | Phase::Refused | Phase::Leaving | Phase::Over => None,
        };
        let resend = self.resend.as_ref().map(|resend| resend.at);
        phase.into_iter().chain(resend).min()
    }

    pub(super) fn report(&self) -> CallReport {
        let end = self.over_at.unwrap_or_else(Instant::now);
        CallReport {
            call_id: self.key.call_id.clone(),
            direction: self.direction,
            local: self.local.clone(),
            remote: self.remote.clone(),
            status: self.status,
            up: matches!(self.phase, Phase::Accepted | Phase::Confirmed),
            ended: self.ending,
            seconds: end.saturating_duration_since(self.began).as_secs_f64(),
            codec: self.codec.clone(),
            media: self
                .media
                .as_ref()
                .map(|media| media.stats())
                .unwrap_or_default(),
        }
    }

    /// Ends the call. Its media goes on until it is put away, so that the report is whole.
    pub(super) fn end(&mut self, now: Instant, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.over_at.get_or_insert(now);
        self.resend = None;
        self.phase = Phase::Over;
    }

    /// Follows Contact and routes of a message that sets the dialog up. Record-Route stands in the order of a callee.
    pub(super) fn learn_target(&mut self, contact: Option<&str>, routes: Vec<String>) {
        if let Some(contact) = contact.and_then(NameAddr::parse) {
            self.target = contact.uri;
        }
        self.routes = routes;
        let next = self.routes.first().and_then(|route| route_uri(route));
        let next = next.or_else(|| SipUri::parse(&self.target));
        if let Some(uri) = next {
            self.hop = Hop::of_contact(&uri, self.hop);
        }
    }
}

impl Core {
    /// A request of ours inside a call's dialog.
    pub(super) fn dialog_request(&mut self, call: &mut Call, method: Method) -> Request {
        let mut request = Request::new(method.clone(), call.target.clone());
        let branch = format!("{OWN_BRANCH}{}", self.random.token(16));
        let headers = &mut request.headers;
        headers.push("Via", self.via(call.hop.transport, &branch));
        headers.push("Max-Forwards", "70");
        headers.push("From", format!("{};tag={}", call.local, call.key.tag));
        headers.push("To", call.remote.clone());
        headers.push("Call-ID", call.key.call_id.clone());
        headers.push("CSeq", format!("{} {method}", call.cseq));
        for route in &call.routes {
            headers.push("Route", route.clone());
        }
        headers.push("User-Agent", "causeway-bench");
        request
    }

    /// Sends a request until it is answered.
    pub(super) fn send_until_answered(
        &mut self,
        now: Instant,
        call: &mut Call,
        bytes: Vec<u8>,
        cap: Duration,
    ) {
        let until = now + GIVE_UP;
        call.resend = Some(Retransmission {
            hop: call.hop,
            at: if call.hop.transport == Transport::Udp {
                now + T1
            } else {
                until
            },
            bytes: bytes.clone(),
            interval: T1,
            cap,
            until,
        });
        self.send(call.hop, bytes);
    }

    pub(super) fn send_bye(&mut self, now: Instant, call: &mut Call) {
        call.cseq += 1;
        let bye = self.dialog_request(call, Method::Bye);
        call.phase = Phase::Leaving;
        call.over_at.get_or_insert(now);
        self.send_until_answered(now, call, bye.to_bytes(), T2);
    }

    /// Ends a call from here, whatever its phase.
    pub(super) fn leave(&mut self, now: Instant, call: &mut Call) {
        match call.phase {
            Phase::Accepted | Phase::Confirmed => {
                call.ending = Some(Ending::ByUs);
                self.send_bye(now, call);
            }
            Phase::Ringing { .. } => {
                call.ending = Some(Ending::ByUs);
                self.refuse(now, call, 480);
            }
            Phase::Inviting { .. } => self.cancel(now, call),
            Phase::Refused | Phase::Leaving | Phase::Over => {}
        }
    }

    pub(super) fn hang_up_call(&mut self, now: Instant, call_id: &str) -> bool {
        let found = self
            .calls
            .keys()
            .find(|key| key.call_id == call_id)
            .cloned();
        if let Some(key) = &found {
            self.with_call(key, |core, call| core.leave(now, call));
        }
        found.is_some()
    }

    pub(super) fn call_timeout(&mut self, now: Instant, call: &mut Call) {
        if let Some(resend) = &mut call.resend
            && resend.at <= now
        {
            if now >= resend.until {
                self.give_up(now, call);
                return;
            }
            resend.interval = (resend.interval * 2).min(resend.cap);
            resend.at = (now + resend.interval).min(resend.until);
            let (hop, bytes) = (resend.hop, resend.bytes.clone());
            self.counters.retransmissions += 1;
            self.send(hop, bytes);
        }
        match call.phase {
            Phase::Ringing {
                answer_at: Some(at),
                ..
            } if at <= now => self.accept(now, call),
            Phase::Ringing { give_up_at, .. } if give_up_at <= now => self.leave(now, call),
            Phase::Inviting {
                ring_until,
                cancelling,
                ..
            } if ring_until <= now => {
                if cancelling {
                    // The CANCEL was answered, but the INVITE was not.
                    call.end(now, Ending::ByUs);
                } else {
                    self.leave(now, call);
                }
            }
            Phase::Confirmed if call.hang_up_at.is_some_and(|at| at <= now) => {
                self.leave(now, call);
            }
            _ => {}
        }
    }

    /// Nothing has answered.
    fn give_up(&mut self, now: Instant, call: &mut Call) {
        call.resend = None;
        match call.phase {
            Phase::Accepted => {
                // RFC 3261 section 13.3.1.4: no ACK, so the dialog is ended.
                call.ending = Some(Ending::TimedOut);
                self.send_bye(now, call);
            }
            // A re-INVITE of theirs without ACK.
            Phase::Confirmed => {
                call.ending = Some(Ending::TimedOut);
                self.send_bye(now, call);
            }
            _ => call.end(now, Ending::TimedOut),
        }
    }
}
