//! What the peer tells of its calls and of itself.

use serde::Serialize;

use crate::media::MediaStats;

/// What was counted since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    /// Requests, retransmissions included.
    pub requests: u64,
    /// Responses, retransmissions included.
    pub responses: u64,
    /// What could not be read.
    pub malformed: u64,
    /// REGISTERs that were accepted.
    pub registrations: u64,
    /// Digest answers with a wrong user or password.
    pub wrong_passwords: u64,
    /// Challenges sent.
    pub challenges: u64,
    /// Requests passed on between users.
    pub relayed_requests: u64,
    /// Responses passed on.
    pub relayed_responses: u64,
    /// Requests of ours that were sent again, and responses to INVITE.
    pub retransmissions: u64,
}

/// Who placed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The other side.
    Incoming,
    /// We.
    Outgoing,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// BYE or CANCEL of the other side.
    ByPeer,
    /// BYE or CANCEL of ours.
    ByUs,
    /// A final response that was no 2xx.
    Refused,
    /// No ACK, or no response.
    TimedOut,
}

/// One call.
#[derive(Clone, Debug, Serialize)]
pub struct CallReport {
    /// Call-ID.
    pub call_id: String,
    /// Who placed it.
    pub direction: Direction,
    /// Our address in it.
    pub local: String,
    /// The other side's address.
    pub remote: String,
    /// Highest status of the INVITE so far; 0 before the first response.
    pub status: u16,
    /// Whether it is up: answered, and not ended.
    pub up: bool,
    /// How it ended.
    pub ended: Option<Ending>,
    /// Seconds since it began, up to its end.
    pub seconds: f64,
    /// Voice codec, once it is known.
    pub codec: Option<String>,
    /// What the media saw.
    pub media: MediaStats,
}

/// What happens, for a log.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A user has a contact.
    Registered {
        /// The user.
        user: String,
        /// Its Contact URI.
        contact: String,
        /// Seconds that it holds.
        expires: u64,
    },
    /// A user took its contact back.
    Unregistered {
        /// The user.
        user: String,
    },
    /// A service was called, or we have called.
    CallStarted(CallReport),
    /// A call is up.
    CallAnswered(CallReport),
    /// A call is over.
    CallEnded(CallReport),
}
