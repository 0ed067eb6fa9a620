//! Sign-in: who a session is, what it gets, and what the core is told of a phone behind a WebSocket.

use super::{CallView, Header};
use serde::{Deserialize, Serialize};

/// Names a browser session; opaque, 16 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

/// `POST /api/v1/sessions`: signs in. With `password` the gateway registers the user at the SIP server; without, it is a guest.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateSession {
    /// SIP user (`alice`) or address (`sip:alice@example.org`); for a guest the name shown to the callee, may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// SIP password; its presence asks for registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Name shown to the other party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Calls of this session that nobody answers end after so many seconds: 5 up to the gateway's own limit, which is taken when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_answer_s: Option<u64>,
    /// The page answers `call.offer`: video that the SIP side adds within a call, which is refused at once without it; and the offer of
    /// a callee whom the page called without one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_offers: bool,
}

/// What a verified token says of the page that signs in with it (RFC 7519); the HTTP shell has checked signature and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// SIP user or address that the page is.
    pub user: String,
    /// Name shown to the other party, where the page gives none.
    pub display_name: Option<String>,
    /// What the page may call; `None` = whatever the gateway reaches.
    pub may_call: Option<Vec<Callee>>,
}

/// Addresses that a token lets its page call: `user@host` without `sip:`, where `*` stands for any run of characters. Without
/// `@host` the gateway's own domain is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callee(pub String);

/// Reply to [`CreateSession`], status 201. `token` goes into `Authorization: Bearer` of every further request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionCreated {
    /// The session.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SessionId,
    /// Secret of this session.
    pub token: String,
    /// The session's own SIP address.
    pub address: String,
    /// Whether a registration at the SIP server stands behind it.
    pub registered: bool,
    /// STUN and TURN servers for the page's `RTCPeerConnection`; none where the operator has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server, as `RTCPeerConnection` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IceServer {
    /// Its URIs (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// User name at a TURN server, good for a limited time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password that belongs to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// `GET /api/v1/sessions/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// The session.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SessionId,
    /// Its SIP address.
    pub address: String,
    /// Whether a registration stands behind it.
    pub registered: bool,
    /// Its calls.
    pub calls: Vec<CallView>,
}

/// REGISTER of a SIP user agent in the page, to be passed on: its password stays in the page.
#[derive(Clone, Debug)]
pub struct PhoneRegister {
    /// Address of record, a `sip:` URI.
    pub aor: String,
    /// The Request-URI, which its digest covers.
    pub registrar: String,
    /// Name in From.
    pub display_name: Option<String>,
    /// Seconds to ask for, 0 = to be removed.
    pub expires_s: u32,
    /// Number in CSeq.
    pub cseq: u32,
    /// Authorization and Proxy-Authorization.
    pub authorization: Vec<Header>,
    /// Which user agent it is: `+sip.instance` of its Contact (RFC 5626), or the Contact's URI. The same again after it has reconnected.
    pub instance: Option<String>,
}

/// What the SIP server said to a [`PhoneRegister`].
#[derive(Clone, Debug)]
pub struct PhoneRegistered {
    /// SIP status.
    pub status: u16,
    /// Its reason.
    pub reason: String,
    /// Seconds that the registration stands; 0 without one.
    pub expires_s: u64,
    /// Challenges, Min-Expires, Retry-After.
    pub headers: Vec<Header>,
    /// The same user agent, registered as the same user, has calls in this session of an earlier connection: `Request::TakeOver` moves them.
    pub before: Option<SessionId>,
}
