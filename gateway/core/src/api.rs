//! HTTP API v1 as types: requests, replies, events and problems, exactly as they stand in the JSON.
//!
//! Why here: the call logic answers in these terms and the HTTP shell only moves them in and out of sockets. Field names are
//! the wire names; times are in the unit that the name ends with.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names a browser session; opaque, 16 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

/// Names a call; opaque, 16 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub String);

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
}

/// Data attached to a call: values by their keys. Each pair is a header of the INVITE.
pub type Data = BTreeMap<String, String>;

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

/// `POST /api/v1/sessions/{id}/calls`: places a call.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateCall {
    /// Whom to call: `sip:` URI, or a user or number at the configured domain.
    pub to: String,
    /// The page's SDP offer (candidates may follow, or be left out: the gateway is ICE-lite).
    pub offer: String,
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
}

/// A header of a SIP message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl From<(String, String)> for Header {
    fn from((name, value): (String, String)) -> Self {
        Self { name, value }
    }
}

impl From<Header> for (String, String) {
    fn from(header: Header) -> Self {
        (header.name, header.value)
    }
}

/// `POST .../calls/{call}/answer`: takes an incoming call.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Answer {
    /// The page's SDP answer to the offer of `call.incoming`.
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

/// Why a call ended, as the SIP side says (Reason, RFC 3326).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cause {
    /// `SIP`, `Q.850` or the like.
    pub protocol: String,
    /// What it means there: a status, or a cause of the telephone network.
    pub code: Option<u16>,
    /// In words.
    pub text: Option<String>,
}

impl From<crate::sip::Cause> for Cause {
    fn from(cause: crate::sip::Cause) -> Self {
        Self {
            protocol: cause.protocol,
            code: cause.code,
            text: cause.text,
        }
    }
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

/// Where a call comes from, as its SIP server says; each value as it stands in its header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Origin {
    /// P-Asserted-Identity (RFC 3325): who the caller is, where `from` may be anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asserted_identity: Vec<String>,
    /// Diversion (RFC 5806), the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diversion: Vec<String>,
    /// History-Info (RFC 7044), in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history_info: Vec<String>,
}

/// What a SIP server wants of the page (NOTIFY talk and hold).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Control {
    /// Answer, or take the call back from hold.
    Talk,
    /// Hold the call.
    Hold,
}

/// Where a call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CallState {
    /// The INVITE is out, no provisional answer yet.
    Calling,
    /// The callee rings.
    Ringing,
    /// An incoming call waits for the page.
    Incoming,
    /// Answered; ICE and DTLS with the page run.
    Connecting,
    /// Media flows.
    Connected,
    /// Over.
    Ended,
}

/// Who holds a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Hold {
    /// The page, by its last description.
    Page,
    /// The SIP side.
    Sip,
    /// Both.
    Both,
}

/// Who placed the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Direction {
    /// The page.
    Outgoing,
    /// The SIP side.
    Incoming,
}

/// Which datapath forwards a flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Path {
    /// XDP in the driver.
    XdpNative,
    /// XDP on socket buffers.
    XdpGeneric,
    /// Sockets of the daemon.
    Userspace,
}

/// A flow's path and why it is that one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PathView {
    /// The path.
    pub path: Path,
    /// One sentence; for the userspace path it names what keeps the flow out of XDP.
    pub reason: String,
}

/// Counters of one direction of media.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DirectionStatistics {
    /// RTP packets forwarded.
    pub packets: u64,
    /// RTP payload octets forwarded.
    pub octets: u64,
    /// Packets that did not reach the gateway on this direction's arriving side.
    pub lost: i64,
    /// Interarrival jitter on the arriving side, milliseconds.
    pub jitter_ms: f64,
    /// Packets dropped by the gateway (authentication, replay, payload type).
    pub dropped: u64,
}

/// Media statistics of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Statistics {
    /// Browser to SIP.
    pub to_sip: DirectionStatistics,
    /// SIP to browser.
    pub to_browser: DirectionStatistics,
    /// Round trip gateway to browser by RTCP, milliseconds: the last one.
    pub browser_rtt_ms: Option<f64>,
    /// The longest of the call.
    #[serde(default)]
    pub browser_rtt_max_ms: Option<f64>,
    /// The mean of the call.
    #[serde(default)]
    pub browser_rtt_average_ms: Option<f64>,
    /// Round trip gateway to SIP side by RTCP, milliseconds.
    pub sip_rtt_ms: Option<f64>,
    /// The video's counters; the others are the audio's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoStatistics>,
}

/// Video statistics of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VideoStatistics {
    /// Browser to SIP. Drops of the browser's flow, which both media share, are counted with the audio.
    pub to_sip: DirectionStatistics,
    /// SIP to browser.
    pub to_browser: DirectionStatistics,
}

/// `GET .../calls/{call}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CallView {
    /// The call.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: CallId,
    /// Who placed it.
    pub direction: Direction,
    /// Where it stands.
    pub state: CallState,
    /// Who holds it, if anybody does.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Whether the page's microphone is off, by the page's own word.
    #[serde(default)]
    pub muted: bool,
    /// The other party's SIP address.
    pub peer: String,
    /// Data that came or went with the INVITE.
    #[serde(default, skip_serializing_if = "Data::is_empty")]
    pub data: Data,
    /// When this was true: milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
    /// Name of the voice codec in use, with its clock: `PCMU/8000`.
    pub codec: Option<String>,
    /// The same of the video, where the call has any: `VP8/90000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// SRTP suite on the browser side, RFC 5764 name without the prefix.
    pub suite: Option<String>,
    /// SRTP suite on the SIP side, its name in SDP; `null` where that is plain RTP.
    pub sip_suite: Option<String>,
    /// DTLS version on the browser side: `1.2` or `1.3`.
    pub dtls: Option<String>,
    /// Path of browser to SIP media once installed.
    pub to_sip: Option<PathView>,
    /// Path of SIP to browser media once installed.
    pub to_browser: Option<PathView>,
    /// Seconds since media was connected.
    pub duration_s: f64,
    /// Counters.
    pub statistics: Statistics,
}

/// One trunk of the admin view `GET /admin/v1/trunks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrunkView {
    /// Its name; the one of `[sip]` is `default`.
    pub name: String,
    /// Calls that are not over.
    pub calls: usize,
    /// What its name leads to, where it is asked for signs of life.
    pub targets: Vec<TargetView>,
}

/// One address of a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TargetView {
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// Address and port.
    pub address: String,
    /// Whether it answered the last time that it was asked.
    pub alive: bool,
}

/// One flow of the admin view `GET /admin/v1/flows` and of `causeway flows`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FlowView {
    /// The call.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub call: CallId,
    /// `to_sip` or `to_browser`.
    pub direction: String,
    /// Our address on the arriving side.
    pub local: String,
    /// The peer's address on the arriving side.
    pub remote: String,
    /// `audio`, `video`, or `audio+video` on the browser's one 4-tuple.
    pub media: String,
    /// Where it goes, by medium: `10.0.0.2:7000` or `10.0.0.2:7000 10.0.0.2:7002`.
    pub egress: String,
    /// `unprotect`, `protect` or `relay`.
    pub action: String,
    /// Path and reason.
    #[serde(flatten)]
    pub path: PathView,
    /// Counters.
    pub statistics: DirectionStatistics,
    /// Milliseconds since the last packet; absent before the first.
    pub idle_ms: Option<u64>,
}

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
