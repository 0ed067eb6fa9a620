//! One call of the page, as its dialog (RFC 3261 section 12) and as the gateway's call.

use crate::api::{CallId, Header};
use crate::sip::message::Request;

/// See the module.
pub(super) struct Talk {
    /// The gateway's call, once it has one.
    pub(super) call: Option<CallId>,
    pub(super) call_id: String,
    /// Our tag; also the user of our Contact.
    pub(super) tag: String,
    /// From and To of our requests, with the tags that are known.
    pub(super) own: String,
    /// See `own`.
    pub(super) theirs: String,
    /// The page's Contact.
    pub(super) target: String,
    /// Number of our newest request.
    pub(super) cseq: u32,
    /// Number of our INVITE, for its CANCEL and ACK.
    pub(super) invite_cseq: u32,
    pub(super) step: Step,
    /// The SIP server's challenges to the INVITE.
    pub(super) challenges: Vec<Header>,
    /// The page's description inside the call that waits for the gateway's answer: INVITE or UPDATE.
    pub(super) changing: Option<Request>,
    /// RSeq of our reliable response that the page has not confirmed.
    pub(super) prack: Option<u32>,
    /// The page hung up before the call had an id.
    pub(super) unwanted: bool,
}

/// How far the INVITE is.
pub(super) enum Step {
    /// The page's INVITE, unanswered; the description for its answer, once there is one.
    Placed {
        invite: Box<Request>,
        answer: Option<String>,
    },
    /// Our INVITE, with its branch; whether the page said anything to it, and whether it is to be cancelled.
    Offered {
        branch: String,
        heard: bool,
        cancelled: bool,
    },
    /// The page's INVITE, without an offer: our 200 has one, and the ACK is due.
    Offering,
    /// Answered.
    Up,
}

impl Talk {
    /// Whether the page has an INVITE without a final answer.
    pub(super) fn is_placed(&self) -> bool {
        matches!(self.step, Step::Placed { .. })
    }
}
