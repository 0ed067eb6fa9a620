//! The answer to a re-INVITE of the SIP side that the browser need not be asked about: hold,
//! resume, a moved media address, video that is gone.

use super::{Negotiated, SdpError, SipLocal, SipSession, sip_answer};

/// What came of a new offer within a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reanswer {
    /// Our answer.
    pub sdp: String,
    /// The codecs stay; payload types towards the SIP side may have changed, and the video may be
    /// gone.
    pub negotiated: Negotiated,
}

/// Answers a new offer of the SIP side with the codecs that the call already speaks.
/// `local.version` is raised.
///
/// # Errors
/// [`SdpError`] for a 488 (or 400): no usable audio, or without the codec in use. Nothing has
/// changed then (RFC 3261 section 14.2).
pub fn reanswer(
    local: &mut SipLocal,
    offer: &SipSession,
    chosen: &Negotiated,
) -> Result<Reanswer, SdpError> {
    let negotiated = chosen.reoffered_by_sip(&offer.described()?)?;
    local.version += 1;
    let sdp = sip_answer(offer, &negotiated, local);
    Ok(Reanswer { sdp, negotiated })
}
