//! What stands on the wire between a page of the Genesys browser library and the gateway: lines of a keyword and a text, ROAP messages
//! (draft-jennings-rtcweb-signaling-01) in JSON.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most pairs of data attached to a call, and bytes of a key or value.
const ATTACHED: usize = 64;
const ATTACHED_BYTES: usize = 1024;
/// Longest session id of a page.
const ID_BYTES: usize = 128;

/// What a page posts to `/message`.
#[derive(Debug, PartialEq)]
pub(super) enum FromPage {
    /// `RSMP {json}`.
    Roap(Roap),
    /// `BYE`: hang up, refuse, give up.
    Bye,
    /// `INFO-MAP query`: data for the SIP server.
    InfoMap(String),
    /// `INFO-PEER query`: data for the other party.
    InfoPeer(String),
    /// `GET-STATS`.
    Statistics,
}

/// The kind of a ROAP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    Offer,
    Answer,
    Ok,
    Error,
    /// Ends the session of a call, as BYE does.
    Shutdown,
}

/// Data attached to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
}

/// A ROAP message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Roap {
    pub(super) message_type: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) offerer_session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answerer_session_id: Option<String>,
    #[serde(default)]
    pub(super) seq: u32,
    /// Decides who wins when both offer at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tiebreaker: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sdp: Option<String>,
    #[serde(default, rename = "Candidates", skip_serializing_if = "Vec::is_empty")]
    pub(super) candidates: Vec<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error_type: Option<ErrorType>,
    #[serde(
        default,
        rename = "attacheddata",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(super) attached: Vec<Attached>,
}

/// A candidate beside the description (it stands there, too).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    #[serde(default)]
    pub(super) sdp_m_line_index: Option<u32>,
    #[serde(default)]
    pub(super) sdp_mid: Option<Value>,
    pub(super) candidate: String,
}

/// Why an offer or answer is refused (section 5.4 of the draft).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum ErrorType {
    /// It belongs to no call or offer that is known.
    NoMatch,
    /// Both offered, and this one loses.
    Conflict,
    /// Both offered with the same tiebreaker: both try again.
    DoubleConflict,
    /// Nobody wants it.
    Refused,
    /// It cannot be served.
    Failed,
    Timeout,
}

/// Why a body is none of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No keyword that is known.
    #[error("the body begins with none of RSMP, BYE, INFO-MAP, INFO-PEER, GET-STATS")]
    Keyword,
    /// `RSMP` without a ROAP message.
    #[error("no ROAP message: {0}")]
    Roap(String),
}

impl FromPage {
    /// Reads a body.
    pub(super) fn parse(body: &str) -> Result<Self, Malformed> {
        let body = body.trim();
        let (keyword, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
        match keyword {
            "RSMP" => Roap::parse(rest.trim()).map(Self::Roap),
            "BYE" => Ok(Self::Bye),
            "INFO-MAP" => Ok(Self::InfoMap(rest.trim().to_owned())),
            "INFO-PEER" => Ok(Self::InfoPeer(rest.trim().to_owned())),
            "GET-STATS" => Ok(Self::Statistics),
            _ => Err(Malformed::Keyword),
        }
    }
}

impl Roap {
    /// A message without ids.
    pub(super) fn new(message_type: Kind, seq: u32) -> Self {
        Self {
            message_type,
            offerer_session_id: None,
            answerer_session_id: None,
            seq,
            tiebreaker: None,
            sdp: None,
            candidates: Vec::new(),
            error_type: None,
            attached: Vec::new(),
        }
    }

    fn parse(text: &str) -> Result<Self, Malformed> {
        let roap: Self =
            serde_json::from_str(text).map_err(|error| Malformed::Roap(error.to_string()))?;
        let wrong = |what: &str| Err(Malformed::Roap(what.to_owned()));
        let ids = [&roap.offerer_session_id, &roap.answerer_session_id];
        if ids.into_iter().flatten().any(|id| id.len() > ID_BYTES) {
            return wrong("a session id has over 128 bytes");
        }
        if matches!(roap.message_type, Kind::Offer | Kind::Answer) && roap.sdp.is_none() {
            return wrong("OFFER and ANSWER have to have `sdp`");
        }
        let long = |attached: &Attached| {
            attached.key.len() > ATTACHED_BYTES || attached.value.len() > ATTACHED_BYTES
        };
        if roap.attached.len() > ATTACHED || roap.attached.iter().any(long) {
            return wrong("`attacheddata` has over 64 pairs, or over 1024 bytes in one of them");
        }
        Ok(roap)
    }

    /// The same with a description, whose candidates stand beside it, too.
    pub(super) fn with_sdp(mut self, sdp: &str) -> Self {
        self.candidates = candidates(sdp);
        self.sdp = Some(sdp.to_owned());
        self
    }

    /// As a page gets it: `SDP {json}`.
    pub(super) fn text(&self) -> String {
        format!("SDP {}", json!(self))
    }
}

/// The candidates of a description, each with the m-line that it stands under.
fn candidates(sdp: &str) -> Vec<Candidate> {
    let mut index: Option<u32> = None;
    let mut mid: Option<Value> = None;
    let mut found = Vec::new();
    for line in sdp.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            index = Some(index.map_or(0, |index| index + 1));
            mid = None;
        } else if let Some(value) = line.strip_prefix("a=mid:") {
            mid = Some(value.into());
        } else if let Some(value) = line.strip_prefix("a=candidate:") {
            found.push(Candidate {
                sdp_m_line_index: index,
                sdp_mid: mid.clone(),
                candidate: format!("candidate:{value}"),
            });
        }
    }
    found
}
