//! HTTP API v1 as types: requests, replies, events and problems, exactly as they stand in the JSON.
//!
//! Why here: the call logic answers in these terms and the HTTP shell only moves them in and out of sockets. Field names are
//! the wire names; times are in the unit that the name ends with.

mod call;
mod event;
mod session;
mod view;

pub use call::*;
pub use event::Event;
pub use session::*;
pub use view::*;

use serde::{Deserialize, Serialize};

/// A refused request: an RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Machine-readable kind: `about:blank#` is left out, a slug such as `call-limit`.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// One short sentence, the same for the kind.
    pub title: String,
    /// What was wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds for `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// With 409: where the call stands instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CallState>,
    /// With 409: who holds it, if anybody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

impl Problem {
    /// A problem with its status, slug, title and detail.
    pub fn new(status: u16, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            status,
            title: title.into(),
            detail: Some(detail.into()),
            retry_after_s: None,
            state: None,
            hold: None,
        }
    }

    /// 409: what was asked for does not fit a call that stands there.
    pub(crate) fn wrong_state(state: CallState, hold: Option<Hold>, detail: &str) -> Self {
        let title = "Not in this state of the call";
        Self {
            state: Some(state),
            hold,
            ..Self::new(409, "wrong-state", title, detail)
        }
    }

    /// The same with `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// A request of the HTTP shell, already authorised: `session` is the one that the bearer token belongs to.
pub enum Request {
    /// `POST /sessions`, with what a verified token grants, if one came along.
    CreateSession(CreateSession, Option<Grant>),
    /// A SIP user agent in a page connects: a session that proves who it is by registering, and is a guest until then.
    CreatePhone(Option<Grant>),
    /// Its REGISTER.
    Register(SessionId, PhoneRegister),
    /// Its connection broke: its calls wait for it to come back.
    LostPhone(SessionId),
    /// It has come back over another connection, and registered: that session gets the calls of the earlier one, which ends.
    TakeOver(SessionId, SessionId),
    /// `GET /sessions/{id}`.
    Session(SessionId),
    /// `DELETE /sessions/{id}`, also when its token expired without a request for too long.
    EndSession(SessionId),
    /// `POST /sessions/{id}/calls`.
    CreateCall(SessionId, CreateCall),
    /// `GET .../calls/{call}`.
    Call(SessionId, CallId),
    /// `POST .../answer`.
    Answer(SessionId, CallId, Answer),
    /// `POST .../offer`.
    Offer(SessionId, CallId, Offer),
    /// `POST .../candidates`.
    Candidates(SessionId, CallId, Candidates),
    /// `POST .../reject`.
    Reject(SessionId, CallId, Reject),
    /// `POST .../info`.
    Info(SessionId, CallId, Content),
    /// `POST .../dtmf`.
    Dtmf(SessionId, CallId, Dtmf),
    /// `POST .../mute`.
    Mute(SessionId, CallId, Mute),
    /// `POST .../transfer`.
    Transfer(SessionId, CallId, Transfer),
    /// `POST .../refer`.
    Referred(SessionId, CallId, Referred),
    /// `POST /sessions/{id}/messages`.
    Message(SessionId, OutgoingMessage),
    /// `DELETE .../calls/{call}`.
    HangUp(SessionId, CallId),
    /// `GET /admin/v1/calls`.
    AllCalls,
    /// `GET /admin/v1/trunks`.
    Trunks,
    /// `GET /admin/v1/flows`.
    Flows,
}

/// The answer to a [`Request`].
pub enum Reply {
    /// 201.
    SessionCreated(SessionCreated),
    /// 200.
    Session(SessionView),
    /// 201 after `CreateCall`, else 200.
    Call(Box<CallView>),
    /// 200.
    Answered(Answered),
    /// To [`Request::Register`].
    Registered(PhoneRegistered),
    /// 200.
    MessageAnswered(MessageAnswered),
    /// 200.
    Calls(Vec<CallView>),
    /// 200.
    Trunks(Vec<TrunkView>),
    /// 200.
    Flows(Vec<FlowView>),
    /// 204.
    Done,
}
