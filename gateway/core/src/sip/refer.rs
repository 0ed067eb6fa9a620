//! Transfers: REFER (RFC 3515) in both directions with its implicit subscription, attended ones with Replaces (RFC 3891).
//!
//! Ours: REFER goes out, 2xx makes the subscription, each NOTIFY tells how the new call goes (`Event::Transfer`) until a final
//! status, `terminated`, or the end of the subscription's time.
//! The peer's: `Event::Refer`; `answer_refer` accepts with 202 and NOTIFY 100, `refer_progress` tells the rest.

use std::time::{Duration, Instant};

use super::call::Call;
use super::event::{CallHandle, Content, Event, Refer, SipError};
use super::extra::usable_uri;
use super::message::{NameAddr, Request, find_param, media_type};
use super::outbox::Errand;
use super::replaces::Replaces;
use super::stack::Stack;
use super::timers::{CallTimer, Deadline, TimerId};
use super::transaction::TransactionId;
use super::uri::SipUri;

/// How long a subscription lasts whose NOTIFY does not say.
const LIFETIME: Duration = Duration::from_secs(180);
/// A longer one is cut to this.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest status line of a NOTIFY that is looked at.
const MAX_LINE: usize = 256;

/// Our REFER and its subscription.
pub(super) struct Transfer {
    /// The last status that was reported.
    status: u16,
    timer: Option<TimerId>,
}

/// The peer's REFER.
pub(super) enum Referral {
    /// The call logic has not decided.
    Asked { transaction: TransactionId },
    /// The peer is told how the new call goes.
    Going { timer: Option<TimerId> },
}

impl Stack {
    /// Asks the peer of an answered call to call somebody else: `Event::Transfer` tells how that goes.
    pub fn refer(&mut self, now: Instant, call: CallHandle, refer: Refer) -> Result<(), SipError> {
        let target = match refer.replaces {
            Some(other) => self.replacing(other, refer.to.as_deref())?,
            None => {
                let to = refer.to.as_deref().unwrap_or_default();
                usable_uri(to, &["sip", "sips"])?.to_string()
            }
        };
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return Err(SipError::WrongState);
        };
        if session.transfer.is_some() {
            return Err(SipError::Busy);
        }
        let mut headers = vec![("Refer-To", format!("<{target}>"))];
        if let Some(by) = refer.referred_by {
            usable_uri(&by, &["sip", "sips"])?;
            headers.push(("Referred-By", format!("<{by}>")));
        }
        session.transfer = Some(Transfer {
            status: 0,
            timer: None,
        });
        let posted = self.post(now, call, Errand::Refer, headers, None);
        if posted.is_err()
            && let Some(Call::Established(session)) = self.calls.get_mut(&call)
        {
            session.transfer = None;
        }
        posted
    }

    /// The Refer-To of an attended transfer: the other call's peer, and which dialog it shall replace.
    fn replacing(&self, other: CallHandle, to: Option<&str>) -> Result<String, SipError> {
        let Some(Call::Established(other)) = self.calls.get(&other) else {
            return Err(SipError::WrongState);
        };
        let mut uri = usable_uri(
            to.unwrap_or_else(|| other.dialog.target()),
            &["sip", "sips"],
        )?;
        uri.headers = Some(format!(
            "Replaces={}",
            Replaces::of(&other.dialog).escaped()
        ));
        Ok(uri.to_string())
    }

    /// The final response to our REFER.
    pub(super) fn refer_answered(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        reason: &str,
    ) {
        let wait = now + self.io.config.give_up();
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(transfer) = &mut session.transfer else {
            return;
        };
        if !(200..300).contains(&status) {
            return self.transfer_over(call, status, reason);
        }
        // A NOTIFY that came first has set the timer; else the first one must come soon (RFC 6665 section 4.1.2.4).
        if transfer.timer.is_none() {
            let deadline = Deadline::Call(call, CallTimer::Transfer);
            transfer.timer = Some(self.io.timers.set(wait, deadline));
            self.transfer_goes(call, status, reason);
        }
    }

    /// NOTIFY about our REFER.
    pub(super) fn handle_refer_notify(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let going = matches!(self.calls.get(&call), Some(Call::Established(session)) if session.transfer.is_some());
        if !going {
            return self.respond(now, id, 481, &[]);
        }
        self.respond(now, id, 200, &[]);
        let state = request
            .headers
            .get("Subscription-State")
            .unwrap_or_default();
        let over = state.split(';').next().unwrap_or_default().trim();
        let over = over.eq_ignore_ascii_case("terminated");
        let fragment = media_type(&request.headers) == "message/sipfrag";
        let line = fragment.then(|| status_line(&request.body)).flatten();
        match line {
            Some((status, reason)) if status >= 200 => {
                return self.transfer_over(call, status, &reason);
            }
            Some((status, reason)) => self.transfer_goes(call, status, &reason),
            None => {}
        }
        if over {
            return self.transfer_over(call, 408, "Subscription Ended");
        }
        let seconds = find_param(state, "expires").and_then(|seconds| seconds.parse().ok());
        let lifetime = seconds.map_or(LIFETIME, Duration::from_secs);
        if let Some(Call::Established(session)) = self.calls.get_mut(&call)
            && let Some(transfer) = &mut session.transfer
        {
            self.io.timers.cancel(&mut transfer.timer);
            let until = now + lifetime.min(MAX_LIFETIME);
            let deadline = Deadline::Call(call, CallTimer::Transfer);
            transfer.timer = Some(self.io.timers.set(until, deadline));
        }
    }

    fn transfer_goes(&mut self, call: CallHandle, status: u16, reason: &str) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(transfer) = &mut session.transfer
            && transfer.status != status
        {
            transfer.status = status;
            self.io.event(Event::Transfer {
                call,
                status,
                reason: reason.to_owned(),
                over: false,
            });
        }
    }

    fn transfer_over(&mut self, call: CallHandle, status: u16, reason: &str) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(mut transfer) = session.transfer.take() {
            self.io.timers.cancel(&mut transfer.timer);
            self.io.event(Event::Transfer {
                call,
                status,
                reason: reason.to_owned(),
                over: true,
            });
        }
    }

    /// Nothing more was heard of our transfer.
    pub(super) fn transfer_timeout(&mut self, call: CallHandle) {
        self.transfer_over(call, 408, "No Word Of The Transfer");
    }

    /// The peer's REFER.
    pub(super) fn handle_refer(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let mut targets = request.headers.get_all("Refer-To");
        let target = targets.next().and_then(NameAddr::parse);
        let target = target
            .filter(|_| targets.next().is_none())
            .and_then(|target| SipUri::parse(&target.uri));
        // RFC 3515 section 2.4.2.
        let Some(mut target) = target else {
            return self.respond(now, id, 400, &[("Warning", "399 causeway \"Refer-To\"")]);
        };
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return self.respond(now, id, 403, &[]);
        };
        if session.is_leaving() {
            return self.respond(now, id, 481, &[]);
        }
        if session.referral.is_some() {
            return self.respond(now, id, 491, &[]);
        }
        let invites = target
            .param("method")
            .is_none_or(|method| method.eq_ignore_ascii_case("INVITE"));
        if !invites {
            return self.respond(now, id, 403, &[]);
        }
        session.referral = Some(Referral::Asked { transaction: id });
        let headers = target.headers.take().unwrap_or_default();
        let by = request.headers.get("Referred-By").and_then(NameAddr::parse);
        self.io.event(Event::Refer {
            call,
            to: target.to_string(),
            replaces: Replaces::in_uri_headers(&headers),
            referred_by: by.map(|by| by.uri),
        });
    }

    /// Decides about `Event::Refer`: `Ok` accepts, and `refer_progress` has to follow; else the status of the refusal.
    pub fn answer_refer(&mut self, now: Instant, call: CallHandle, answer: Result<(), u16>) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(Referral::Asked { transaction }) = session.referral else {
            return;
        };
        match answer {
            Ok(()) => {
                let deadline = Deadline::Call(call, CallTimer::Referral);
                let timer = Some(self.io.timers.set(now + LIFETIME, deadline));
                session.referral = Some(Referral::Going { timer });
                self.respond_with_contact(now, call, transaction, 202);
                self.notify_referral(now, call, 100, "Trying", None);
            }
            Err(status) => {
                session.referral = None;
                let refusal = (300..700).contains(&status);
                self.respond(now, transaction, if refusal { status } else { 603 }, &[]);
            }
        }
    }

    /// Tells the peer how the call goes that it asked for; a final status ends the subscription.
    pub fn refer_progress(&mut self, now: Instant, call: CallHandle, status: u16, reason: &str) {
        let Some(Call::Established(session)) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(Referral::Going { timer }) = &mut session.referral else {
            return;
        };
        if status < 200 {
            return self.notify_referral(now, call, status, reason, None);
        }
        self.io.timers.cancel(timer);
        session.referral = None;
        self.notify_referral(now, call, status, reason, Some("noresource"));
    }

    /// The call that the peer asked for took too long to tell.
    pub(super) fn referral_timeout(&mut self, now: Instant, call: CallHandle) {
        if let Some(Call::Established(session)) = self.calls.get_mut(&call) {
            session.referral = None;
            self.notify_referral(now, call, 100, "Trying", Some("timeout"));
        }
    }

    fn notify_referral(
        &mut self,
        now: Instant,
        call: CallHandle,
        status: u16,
        reason: &str,
        over: Option<&str>,
    ) {
        let state = match over {
            Some(why) => format!("terminated;reason={why}"),
            None => format!("active;expires={}", LIFETIME.as_secs()),
        };
        let headers = vec![("Event", "refer".to_owned()), ("Subscription-State", state)];
        let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        let content = Content {
            content_type: "message/sipfrag;version=2.0".into(),
            body: format!("SIP/2.0 {status} {reason}\r\n").into_bytes(),
        };
        // A call that is ending tells nothing more.
        let _ = self.post(now, call, Errand::Progress, headers, Some(content));
    }

    /// Our NOTIFY was refused: nobody listens any more.
    pub(super) fn progress_answered(&mut self, call: CallHandle, status: u16) {
        if status < 300 {
            return;
        }
        if let Some(Call::Established(session)) = self.calls.get_mut(&call)
            && let Some(Referral::Going { timer }) = &mut session.referral
        {
            self.io.timers.cancel(timer);
            session.referral = None;
        }
    }
}

impl super::session::Session {
    pub(super) fn cancel_transfer_timers(&mut self, io: &mut super::io::Io) {
        if let Some(transfer) = &mut self.transfer {
            io.timers.cancel(&mut transfer.timer);
        }
        if let Some(Referral::Going { timer }) = &mut self.referral {
            io.timers.cancel(timer);
        }
    }
}

/// Status and reason of a sipfrag (RFC 3420) that begins with a status line.
fn status_line(body: &[u8]) -> Option<(u16, String)> {
    let line = body.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..line.len().min(MAX_LINE))?).ok()?;
    let rest = line.trim().strip_prefix("SIP/2.0 ")?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = status
        .parse()
        .ok()
        .filter(|status| (100..700).contains(status))?;
    Some((status, reason.trim().to_owned()))
}
