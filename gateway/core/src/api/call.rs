//! What a page asks of a call: its creation, answers, digits, data, transfers, messages.

use super::Header;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names a call; opaque, 16 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub String);

/// Data attached to a call: values by their keys. Each pair is a header of the INVITE.
pub type Data = BTreeMap<String, String>;

/// `POST /api/v1/sessions/{id}/calls`: places a call.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateCall {
    /// Whom to call: `sip:` URI, or a user or number at the configured domain.
    pub to: String,
    /// The page's SDP offer (candidates may follow, or be left out: the gateway is ICE-lite). Without one the callee makes it: `call.offer`
    /// brings it, and the page answers within 15 s (`POST .../answer`). Only for sessions that signed in with `takes_offers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// Headers for the INVITE, of those that the operator lets pages send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// What the callee gets with the call: at most 32 pairs and 4096 bytes.
    #[serde(default, skip_serializing_if = "Data::is_empty")]
    pub data: Data,
    /// What a SIP user agent in the page adds; no field of the JSON.
    #[serde(skip)]
    pub phone: PhoneCall,
}

/// A call that a SIP user agent in the page places (SIP over WebSocket).
#[derive(Clone, Debug, Default)]
pub struct PhoneCall {
    /// The caller's name.
    pub display_name: Option<String>,
    /// Authorization and Proxy-Authorization: its answers to the SIP server's challenges.
    pub authorization: Vec<Header>,
    /// It takes no offer in a provisional response: it does not know PRACK (RFC 3262).
    pub only_final: bool,
}

/// `POST .../calls/{call}/answer`: takes an incoming call.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answer {
    /// The page's SDP answer to the offer of `call.incoming` or `call.offer`.
    pub answer: String,
}

/// `POST .../calls/{call}/offer`: the page renegotiates; an offer with new ICE credentials restarts ICE.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Offer {
    /// The page's new SDP offer.
    pub offer: String,
}

/// Reply to [`Offer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answered {
    /// The gateway's SDP answer.
    pub answer: String,
}

/// `POST .../calls/{call}/candidates`: trickle ICE (RFC 8838).
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidates {
    /// `candidate:...` lines; an empty string is the end of candidates.
    pub candidates: Vec<String>,
}

/// `POST .../calls/{call}/reject`: refuses an incoming call.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reject {
    /// SIP status 400..=699 that the caller gets; 486 Busy Here when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// A body of some media type, as text: `POST .../calls/{call}/info`, and in events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Content {
    /// Media type: `application/x-www-form-urlencoded`, `text/plain`, ...
    pub content_type: String,
    /// The text; what is not UTF-8 in it is replaced.
    pub body: String,
}

/// `POST .../calls/{call}/dtmf`: has the gateway send digits to the SIP side, one INFO (`application/dtmf-relay`) each. A browser sends
/// its own in its media instead (RFC 4733, `insertDTMF`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Dtmf {
    /// 1 to 32 of `0-9 * # A-D`.
    pub digits: String,
    /// Length of each, 70 to 6000 ms; 160 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Silence between two, 30 to 6000 ms; 70 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
}

/// `POST .../calls/{call}/mute`: the page says whether its microphone is off. Nothing changes but what others see of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mute {
    /// Whether it is off.
    pub muted: bool,
}

/// `POST .../calls/{call}/transfer`: sends the other party to somebody else (REFER). Exactly one of the two is named.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transfer {
    /// Blind: to this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Attended: to the other party of this answered call of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub call: Option<CallId>,
}

/// `POST .../calls/{call}/refer`: answers `call.refer`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Referred {
    /// Whether the other party is called.
    pub accept: bool,
}

/// `POST /api/v1/sessions/{id}/messages`: sends a message (RFC 3428); the reply waits for the SIP side.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutgoingMessage {
    /// To whom: `sip:` URI, or a user or number at the configured domain.
    pub to: String,
    /// What is said.
    #[serde(flatten)]
    pub content: Content,
}

/// Reply to [`OutgoingMessage`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageAnswered {
    /// SIP status; 200 or 202: delivered or stored.
    pub status: u16,
    /// Its reason.
    pub reason: String,
}
