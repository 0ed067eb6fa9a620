//! Session descriptions of both sides and their negotiation (RFC 3264, RFC 8829, RFC 8866).
//!
//! A call has two descriptions on each side: ours and the peer's. The browser's ([`WebSession`])
//! speaks BUNDLE, rtcp-mux, ICE and DTLS; the SIP side's ([`SipSession`]) speaks plain RTP/AVP or
//! SRTP under keys of the description ([`Srtp`]), with two ports per medium, or audio over ICE and
//! DTLS as a browser does ([`IceDtls`]). Between them stand [`Offered`] (what one side offered and the other side
//! was shown) and [`Negotiated`] (one codec per medium that both sides use, with the payload types
//! of each side). A session has audio, and video where both sides have it: one m-line of each kind;
//! all others are rejected in place. `call` is the only caller: offer in, [`sip_offer`] out, answer
//! in, [`negotiate()`], [`web_answer`] out; mirrored for incoming calls. Parsing and printing are
//! `sdp-types`; every rule about offers and answers is here.

mod codec;
mod crypto;
mod extensions;
mod feedback;
mod negotiate;
mod offered;
mod policy;
mod reanswer;
mod sip;
mod text;
mod transport;
mod web;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;

pub use codec::{Asked, Bandwidth, Codec, PacketTimes};
pub use crypto::{Crypto, Srtp, SrtpPolicy, SrtpUse};
pub use extensions::Extension;
pub use feedback::Feedback;
pub use negotiate::{Medium, Negotiated, negotiate};
pub use offered::{Described, Offered, OfferedMedium, Offerer};
pub use policy::CodecPolicy;
pub use reanswer::{Reanswer, reanswer};
pub use sip::{SipMedia, SipSession};
pub use text::{MAX_BYTES, mend};
pub use transport::IceDtls;
pub use web::{Fingerprint, IceParameters, Setup, WebMedia, WebSession};
pub use write::{
    HostCandidate, SipDtls, SipLocal, SipTransport, WebLocal, WebStream, sip_answer, sip_offer,
    sip_refusal, sip_reoffer, web_answer, web_offer, web_offer_unprompted, web_reoffer,
};

/// Why a description cannot be used. The text is fit for a SIP reason phrase or a problem document:
/// one short line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Not a session description, or over our limits.
    #[error("malformed session description: {0}")]
    Malformed(String),
    /// Understood, but nothing that this gateway can serve.
    #[error("{0}")]
    NotAcceptable(String),
}

impl SdpError {
    /// The SIP status that says so (RFC 3261 sections 21.4.1 and 21.4.26).
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotAcceptable(_) => 488,
        }
    }

    pub(crate) fn malformed(text: impl fmt::Display) -> Self {
        Self::Malformed(text::one_line(&text.to_string()))
    }

    pub(crate) fn not_acceptable(text: impl fmt::Display) -> Self {
        Self::NotAcceptable(text::one_line(&text.to_string()))
    }
}

/// What an m-line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
    /// `m=application`: data channels.
    Application,
    /// Anything else (`image`, `text`, `message`); always answered with port 0.
    Other,
}

impl Kind {
    pub(crate) fn of(media: &str) -> Self {
        match media.to_ascii_lowercase().as_str() {
            "audio" => Self::Audio,
            "video" => Self::Video,
            "application" => Self::Application,
            _ => Self::Other,
        }
    }

    /// The m-line's first word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
            Self::Other => "other",
        }
    }
}

/// Direction of a medium as the describing side sees it (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The describing side only sends: hold with music.
    SendOnly,
    /// The describing side only receives.
    RecvOnly,
    /// Neither: hold.
    Inactive,
}

impl Direction {
    /// From the two halves.
    pub fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the describing side sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the describing side receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow of media seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both permit.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of(
            self.sends() && other.sends(),
            self.receives() && other.receives(),
        )
    }

    /// The direction of our answer: what we would like, as far as the offer permits it (RFC 3264
    /// section 6.1).
    ///
    /// What the peer of one leg says of itself is what we would like to say on the other leg: who
    /// sends only (music on hold) makes us send only there.
    #[must_use]
    pub fn answer_to(self, offer: Self) -> Self {
        self.and(offer.reversed())
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}
