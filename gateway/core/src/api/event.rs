//! Events of a session, in the order in which they are numbered.

use super::{CallId, Cause, Content, Control, Data, Header, Origin, PathView};
use serde::{Deserialize, Serialize};

/// What the page is told. In SSE and in the long poll each carries a number `id` beside these fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Event {
    /// The registration stands (first time or after it was lost).
    #[serde(rename = "session.registered")]
    Registered {
        /// Seconds until it has to be refreshed (the gateway does).
        expires_s: u64,
    },
    /// A refresh failed; calls in progress go on.
    #[serde(rename = "session.registration_failed")]
    RegistrationFailed {
        /// SIP status.
        status: u16,
        /// Its reason.
        reason: String,
    },
    /// The session is over; its token is void.
    #[serde(rename = "session.ended")]
    SessionEnded {
        /// Why.
        reason: String,
    },
    /// Somebody calls.
    #[serde(rename = "call.incoming")]
    Incoming {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Caller's address.
        from: String,
        /// Caller's name.
        from_name: Option<String>,
        /// What the SIP server says of the caller and of the way that the call took.
        #[serde(flatten)]
        origin: Origin,
        /// Headers of the INVITE, of those that the operator shows to pages.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        headers: Vec<Header>,
        /// Data that came with the call.
        #[serde(default, skip_serializing_if = "Data::is_empty")]
        data: Data,
        /// The caller made no offer: the page may answer `offer`, or post an offer of its own, which `call.answer` answers.
        #[serde(default)]
        without_offer: bool,
        /// SDP offer to answer.
        offer: String,
    },
    /// The SIP server wants the caller's credentials, which the gateway does not have; `call.ended` follows.
    #[serde(rename = "call.challenged")]
    Challenged {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// WWW-Authenticate and Proxy-Authenticate of the refusal.
        challenges: Vec<Header>,
    },
    /// The callee rings.
    #[serde(rename = "call.ringing")]
    Ringing {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// 180, 181, 182 or 183.
        status: u16,
    },
    /// The SDP answer for the page; comes once, before or with the callee's answer.
    #[serde(rename = "call.answer")]
    Answer {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// SDP answer.
        answer: String,
        /// Whether it is early media (the callee has not picked up).
        early: bool,
    },
    /// The callee picked up.
    #[serde(rename = "call.answered")]
    Answered {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
    },
    /// ICE and DTLS are done, both flows are installed.
    #[serde(rename = "call.connected")]
    Connected {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Voice codec.
        codec: String,
        /// Video codec, where the call has video.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        video: Option<String>,
        /// SRTP suite.
        suite: String,
        /// Browser to SIP.
        to_sip: PathView,
        /// SIP to browser.
        to_browser: PathView,
    },
    /// A flow changed its path.
    #[serde(rename = "call.path")]
    PathChanged {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Browser to SIP.
        to_sip: PathView,
        /// SIP to browser.
        to_browser: PathView,
    },
    /// The SIP side makes an offer, which the page answers within 15 s (`POST .../answer`). It adds video: else that is refused in the page's
    /// name. Or it is the callee's, on a call that the page placed without an offer: else the call ends.
    #[serde(rename = "call.offer")]
    Offer {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Whether the callee has not picked up yet.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        early: bool,
        /// SDP offer.
        offer: String,
    },
    /// The SIP side put the call on hold or took it back.
    #[serde(rename = "call.held")]
    Held {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Whether it is held now.
        held: bool,
    },
    /// The other party pressed a key (RFC 4733); told once, when it is released.
    #[serde(rename = "call.dtmf")]
    Dtmf {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        digit: char,
        /// How long it was pressed.
        duration_ms: u32,
    },
    /// The SIP side sent data inside the call (INFO).
    #[serde(rename = "call.info")]
    Info {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// The data.
        #[serde(flatten)]
        content: Content,
    },
    /// What the SIP side answered to data of the page; in the order in which they were sent.
    #[serde(rename = "call.info_sent")]
    InfoSent {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// SIP status.
        status: u16,
    },
    /// What the SIP side answered to a digit that the gateway sent for the page.
    #[serde(rename = "call.dtmf_sent")]
    DtmfSent {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// The digit.
        digit: String,
        /// SIP status.
        status: u16,
    },
    /// The page turned its microphone off or on; for whoever else follows the session.
    #[serde(rename = "call.muted")]
    Muted {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Whether it is off now.
        muted: bool,
    },
    /// The SIP server wants the page to do something with the call.
    #[serde(rename = "call.control")]
    Control {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// What.
        control: Control,
    },
    /// The SIP side asks the page to call somebody else, which then takes the other party's place; the page answers it with
    /// `POST .../refer`.
    #[serde(rename = "call.refer")]
    Refer {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Whom.
        to: String,
        /// Who asks, as the SIP side says.
        referred_by: Option<String>,
        /// Whether the other side has talked to that party already.
        attended: bool,
    },
    /// Another party took the place of the one before.
    #[serde(rename = "call.party")]
    Party {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// Its address.
        peer: String,
        /// Its name.
        name: Option<String>,
    },
    /// How a transfer goes that the page asked for.
    #[serde(rename = "call.transfer")]
    Transfer {
        /// The call that is transferred.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// SIP status of the other party's new call, or of its refusal; 202: it tries.
        status: u16,
        /// Its reason.
        reason: String,
        /// Nothing more will be told.
        over: bool,
    },
    /// Somebody sent a message.
    #[serde(rename = "session.message")]
    Message {
        /// The sender's address.
        from: String,
        /// The sender's name.
        from_name: Option<String>,
        /// The call that it came in, if any.
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
        call: Option<CallId>,
        /// What is said.
        #[serde(flatten)]
        content: Content,
    },
    /// The state of the voice mail box.
    #[serde(rename = "session.messages_waiting")]
    MessagesWaiting {
        /// Whether any message waits.
        waiting: bool,
        /// The address to call for them.
        account: Option<String>,
        /// New voice messages.
        new: u32,
        /// Old voice messages.
        old: u32,
    },
    /// The call is over.
    #[serde(rename = "call.ended")]
    Ended {
        /// The call.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        call: CallId,
        /// `browser`, `sip` or `gateway`.
        by: String,
        /// SIP status where there is one (486, 488, 603 ...).
        status: Option<u16>,
        /// One sentence.
        reason: String,
        /// Why, as the SIP side says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
}
