//! What goes through a call beside its media: data by INFO, transfers, and a server that steers the phone.

use super::{Call, State, feedback};
use crate::api::{Content, Control, Event, Problem, Transfer};
use crate::gateway::Hub;
use crate::sip::{self, SipError};
use std::time::Instant;

/// What a request inside the call was for, until the SIP side answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// Data of the page.
    Data,
    /// A digit.
    Digit(char),
    /// A request for a picture.
    Picture,
}

impl Call {
    /// The page sends data to the SIP side.
    pub(crate) fn send_info(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        content: Content,
    ) -> Result<(), Problem> {
        let sip = self.answered("only an answered call carries data")?;
        let sent = hub.stack.info(now, sip, content.into());
        sent.map_err(|error| self.refused(&error))?;
        if let State::Active(active) = &mut self.state {
            active.sent.push_back(Sent::Data);
        }
        Ok(())
    }

    /// The page sends the other party to somebody else; `replaces` is the SIP side of another of its calls.
    pub(crate) fn transfer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        to: Option<String>,
        replaces: Option<sip::CallHandle>,
        referred_by: String,
    ) -> Result<(), Problem> {
        let sip = self.answered("only an answered call can be transferred")?;
        let refer = sip::Refer {
            to,
            replaces,
            referred_by: Some(referred_by),
        };
        let sent = hub.stack.refer(now, sip, refer);
        sent.map_err(|error| self.refused(&error))
    }

    /// What the SIP stack would not send of this call.
    fn refused(&self, error: &SipError) -> Problem {
        match error {
            SipError::WrongState => self.wrong_state(&error.to_string()),
            error => refused(error),
        }
    }

    /// The SIP side of a call in which both have picked up.
    pub(crate) fn answered(&self, detail: &str) -> Result<sip::CallHandle, Problem> {
        match &self.state {
            State::Active(active) if active.agreed.ringing_until.is_none() => Ok(active.agreed.sip),
            _ => Err(self.wrong_state(detail)),
        }
    }

    /// Events that the page is told as they are, and requests for a picture.
    pub(super) fn handle_data(&mut self, hub: &mut Hub, now: Instant, event: sip::Event) {
        match event {
            sip::Event::Info { content, .. } => match feedback::wants_picture(&content) {
                Some(wanted) => {
                    if let State::Active(active) = &mut self.state
                        && wanted
                    {
                        active.show_picture(hub, now);
                    }
                }
                None => self.tell(hub, |call| Event::Info {
                    call,
                    content: content.into(),
                }),
            },
            sip::Event::RequestAnswered { status, .. } => {
                let State::Active(active) = &mut self.state else {
                    return;
                };
                match active.sent.pop_front() {
                    Some(Sent::Data) => self.tell(hub, |call| Event::InfoSent { call, status }),
                    Some(Sent::Digit(digit)) => self.tell(hub, |call| Event::DtmfSent {
                        call,
                        digit: digit.to_string(),
                        status,
                    }),
                    Some(Sent::Picture) if status >= 300 => active.stop_asking_by_info(),
                    Some(Sent::Picture) | None => {}
                }
            }
            sip::Event::Control { control, .. } => {
                let control = match control {
                    sip::Control::Talk => Control::Talk,
                    sip::Control::Hold => Control::Hold,
                };
                self.tell(hub, |call| Event::Control { call, control });
            }
            sip::Event::Transfer {
                status,
                reason,
                over,
                ..
            } => self.tell(hub, |call| Event::Transfer {
                call,
                status,
                reason,
                over,
            }),
            _ => {}
        }
    }
}

impl Transfer {
    /// # Errors
    /// A problem unless exactly one target is named.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.to.is_some() == self.call.is_some() {
            let detail = "a transfer names an address or one of the session's calls";
            return Err(Problem::new(422, "bad-transfer", "Bad transfer", detail));
        }
        Ok(())
    }
}

impl From<Content> for sip::Content {
    fn from(content: Content) -> Self {
        Self {
            content_type: content.content_type,
            body: content.body.into_bytes(),
        }
    }
}

impl From<sip::Content> for Content {
    fn from(content: sip::Content) -> Self {
        Self {
            content_type: content.content_type,
            body: String::from_utf8_lossy(&content.body).into_owned(),
        }
    }
}

/// What the SIP stack would not send.
pub(crate) fn refused(error: &SipError) -> Problem {
    let detail = error.to_string();
    match error {
        SipError::BadUri(_) => Problem::new(400, "bad-address", "Bad SIP address", detail),
        SipError::BadHeader(_) => Problem::new(400, "bad-header", "Bad header", detail),
        SipError::WrongState => {
            Problem::new(409, "wrong-state", "Not in this state of the call", detail)
        }
        SipError::Busy => {
            let title = "Too much is under way";
            Problem::new(503, "sip-unavailable", title, detail).retry_after(1)
        }
    }
}
