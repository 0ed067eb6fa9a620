//! Session timers (RFC 4028): a call whose peer has vanished ends, and proxies on the way may forget it.
//!
//! 1. Our INVITE asks for an interval; 422 is obeyed. A 2xx says the interval and who refreshes; without one there is none.
//! 2. As called party we grant what is asked for, refuse less than our least with 422, and let the caller refresh if it can.
//! 3. Who refreshes does it after half the interval, by UPDATE where the peer takes it, else by a re-INVITE with the
//!    description that stands.
//! 4. Without a refresh the call ends with BYE a little before the interval is over (section 10).

use std::time::{Duration, Instant};

use super::call::Call;
use super::event::CallHandle;
use super::exchange::{By, Change, Wish};
use super::io::Io;
use super::message::{Headers, Response, find_param};
use super::session::Session;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;

/// The absolute least of the RFC, section 4.
const LEAST: Duration = Duration::from_secs(90);
/// A longer interval is taken as this one.
const MOST: Duration = Duration::from_secs(86_400);
/// How long a refresh that failed or found the session busy waits.
const AGAIN: Duration = Duration::from_secs(10);

/// An interval that both sides know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    interval: Duration,
    /// Whether we refresh.
    ours: bool,
}

/// The running timer of a session.
pub(super) struct Refresh {
    granted: Granted,
    send: Option<TimerId>,
    expire: Option<TimerId>,
}

impl Refresh {
    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        io.timers.cancel(&mut self.send);
        io.timers.cancel(&mut self.expire);
    }
}

impl Granted {
    /// The 2xx's header; `uac` is whoever sent the request.
    pub(super) fn field(self) -> String {
        let refresher = if self.ours { "uas" } else { "uac" };
        format!("{};refresher={refresher}", self.interval.as_secs())
    }

    /// Whether the peer must know of timers to understand the 2xx.
    pub(super) fn requires(self) -> bool {
        !self.ours
    }
}

impl Stack {
    /// Session-Expires and Min-SE of our INVITE, re-INVITE or UPDATE; the roles stay as they are.
    pub(super) fn timer_fields(&self, call: CallHandle) -> Vec<(&'static str, String)> {
        let config = &self.io.config;
        let session = match self.calls.get(&call) {
            Some(Call::Established(session)) => Some(session),
            // Only INVITE and what comes after its 2xx (RFC 4028 section 7.1).
            Some(_) => return Vec::new(),
            None => None,
        };
        let least = session.map_or(Duration::ZERO, |session| session.min_expires);
        let min = least.max(config.min_session_expires).max(LEAST);
        let interval = match session.and_then(|session| session.refresh.as_ref()) {
            Some(refresh) => {
                let refresher = if refresh.granted.ours { "uac" } else { "uas" };
                let interval = refresh.granted.interval.max(min).as_secs();
                format!("{interval};refresher={refresher}")
            }
            None => match config.session_expires {
                Some(interval) => interval.max(min).as_secs().to_string(),
                None => return Vec::new(),
            },
        };
        vec![
            ("Session-Expires", interval),
            ("Min-SE", min.as_secs().to_string()),
        ]
    }

    /// Refuses a request whose interval is too short with 422, where the peer knows what that is.
    pub(super) fn refuse_interval(
        &mut self,
        now: Instant,
        id: TransactionId,
        headers: &Headers,
    ) -> bool {
        let least = self.io.config.min_session_expires.max(LEAST);
        let short = expires(headers).is_some_and(|(interval, _)| interval < least);
        if short && headers.lists("Supported", "timer") {
            let least = least.as_secs().to_string();
            self.respond(now, id, 422, &[("Min-SE", &least)]);
            return true;
        }
        false
    }

    /// What our 2xx to a request of the peer grants (RFC 4028 section 9).
    pub(super) fn granted_to(&self, id: TransactionId) -> Option<Granted> {
        let headers = &self.servers.get(&id)?.request.headers;
        let config = &self.io.config;
        let supported = headers.lists("Supported", "timer");
        let least = min_expires(headers).max(LEAST);
        let (interval, refresher) = match (expires(headers), config.session_expires) {
            (Some((interval, refresher)), _) => (interval, refresher),
            (None, Some(interval)) if supported => (interval, None),
            _ => return None,
        };
        Some(Granted {
            interval: interval.clamp(least, MOST.max(least)),
            ours: !supported || refresher == Some(Refresher::Uas),
        })
    }

    /// Takes over what the peer's 2xx to our request grants.
    pub(super) fn granted_by(&mut self, now: Instant, call: CallHandle, response: &Response) {
        let granted = expires(&response.headers).map(|(interval, refresher)| Granted {
            interval: interval.clamp(LEAST, MOST),
            ours: refresher != Some(Refresher::Uas),
        });
        self.keep_alive(now, call, granted);
    }

    /// Starts the timer anew, or stops it.
    pub(super) fn keep_alive(&mut self, now: Instant, call: CallHandle, granted: Option<Granted>) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(mut before) = session.refresh.take() {
            before.cancel_timers(&mut self.io);
        }
        let Some(granted) = granted.filter(|_| !session.is_leaving()) else {
            return;
        };
        let Granted { interval, ours } = granted;
        let margin = (interval / 3).min(Duration::from_secs(32));
        let timers = &mut self.io.timers;
        let expire = Deadline::Call(call, CallTimer::Expire);
        let refresh = Deadline::Call(call, CallTimer::Refresh);
        session.refresh = Some(Refresh {
            granted,
            send: ours.then(|| timers.set(now + interval / 2, refresh)),
            expire: Some(timers.set(now + interval - margin, expire)),
        });
    }

    /// Half the interval is over.
    pub(super) fn refresh(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if session.is_leaving() || session.refresh.is_none() {
            return;
        }
        // A change under way may refresh too; if it does not, the next try will.
        self.refresh_again(now, call);
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let idle = matches!(session.exchange.change, Change::None);
        if !idle || session.exchange.incoming.is_some() || session.answer.is_some() {
            return;
        }
        let wish = session.refreshing();
        self.send_change(now, call, wish, 0);
    }

    /// The refresh did not succeed: once more, until the interval is over.
    pub(super) fn refresh_again(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(refresh) = &mut session.refresh {
            self.io.timers.cancel(&mut refresh.send);
            let deadline = Deadline::Call(call, CallTimer::Refresh);
            refresh.send = Some(self.io.timers.set(now + AGAIN, deadline));
        }
    }

    /// 422: the least that the peer, or a proxy, puts up with. Whether another try makes sense.
    pub(super) fn lengthen_session(&mut self, call: CallHandle, response: &Response) -> bool {
        let least = min_expires(&response.headers);
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return false;
        };
        let longer = least > session.min_expires && least <= MOST;
        if longer {
            session.min_expires = least;
        }
        longer
    }
}

impl Session {
    /// A refresh: the session as it stands.
    fn refreshing(&self) -> Wish {
        if self.dialog.allows_update {
            return Wish {
                sdp: None,
                by: By::Update,
                refresh: true,
            };
        }
        Wish {
            sdp: self.exchange.local.clone(),
            by: By::Reinvite,
            refresh: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresher {
    Uac,
    Uas,
}

/// Session-Expires.
fn expires(headers: &Headers) -> Option<(Duration, Option<Refresher>)> {
    let value = headers.get("Session-Expires")?;
    let refresher = match find_param(value, "refresher") {
        Some(side) if side.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
        Some(side) if side.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
        _ => None,
    };
    Some((seconds(value)?, refresher))
}

/// Min-SE; nothing if it is missing.
pub(super) fn min_expires(headers: &Headers) -> Duration {
    headers.get("Min-SE").and_then(seconds).unwrap_or_default()
}

fn seconds(value: &str) -> Option<Duration> {
    let number = value.split(';').next().unwrap_or_default().trim();
    let number: u32 = number.parse().ok()?;
    Some(Duration::from_secs(number.into()))
}
