//! Views: calls, flows and trunks as they are shown, and what of the SIP side stands in them.

use super::{CallId, Data};
use serde::{Deserialize, Serialize};

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
