//! The answer to a re-INVITE of the SIP side: hold, resume, a moved media address. The browser is
//! not asked.

use std::net::SocketAddr;

use super::{Direction, Negotiated, SdpError, SipLocal, SipSession, sip_answer};

/// What came of a new offer within a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reanswer {
    /// Our answer.
    pub sdp: String,
    /// Where RTP goes from now on; unspecified while held the old way (`c=0.0.0.0`).
    pub rtp: SocketAddr,
    /// Where RTCP goes.
    pub rtcp: SocketAddr,
    /// What our answer says of us: nothing may be sent to the peer unless it [`Direction::sends`].
    pub direction: Direction,
    /// The codec stays; payload types towards the SIP side may have changed.
    pub negotiated: Negotiated,
}

/// Answers a new offer of the SIP side with the codec that the call already speaks. `local.version`
/// is raised.
///
/// # Errors
/// [`SdpError`] for a 488 (or 400): no usable audio, or without the codec in use. Nothing has
/// changed then (RFC 3261 section 14.2).
pub fn reanswer(
    local: &mut SipLocal,
    offer: &SipSession,
    chosen: &Negotiated,
) -> Result<Reanswer, SdpError> {
    let audio = offer.audio()?;
    let negotiated = chosen.reoffered_by_sip(&audio.codecs, audio.times)?;
    local.version += 1;
    let sdp = sip_answer(offer, &negotiated, local);
    let direction = local.direction.answer_to(audio.direction);
    Ok(Reanswer {
        sdp,
        rtp: audio.rtp,
        rtcp: audio.rtcp,
        direction,
        negotiated,
    })
}
