//! SRTCP (RFC 3711 section 3.4, RFC 7714 section 9): the reports and feedback of a protected leg.
//!
//! What the bytes look like is the business of [`transform`]; here are indices and the replay
//! window. We always encrypt; a peer may leave E at 0.

mod transform;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::keys::Derived;
use transform::Transform;

/// Header and SSRC of the first packet stay clear.
const CLEAR_BYTES: usize = 8;
const ENCRYPTED: u32 = 1 << 31;
/// Packets of replay window.
const WINDOW: u32 = 128;
/// Senders whose indices are kept. RTCP with many SSRCs under one key is rare; the oldest is
/// forgotten, so it is a bound on memory that a stranger cannot reach (only authenticated packets
/// count).
const MAX_SENDERS: usize = 16;

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtcpError {
    /// Shorter than header, index and tag.
    #[error("SRTCP packet too short")]
    TooShort,
    /// The tag is wrong.
    #[error("SRTCP authentication failed")]
    AuthFailed,
    /// This index has been received.
    #[error("SRTCP packet replayed")]
    Replayed,
    /// The index is older than the replay window.
    #[error("SRTCP packet older than the replay window")]
    TooOld,
}

/// Protects outgoing RTCP.
pub struct SrtcpSender {
    transform: Transform,
    next_index: u32,
}

impl SrtcpSender {
    pub(super) fn new(keys: Derived) -> Self {
        Self {
            transform: Transform::new(keys),
            next_index: 1,
        }
    }

    /// Turns a compound RTCP packet into SRTCP. Returns false, with the packet emptied, for what is
    /// no RTCP (shorter than 8 bytes) and after 2^31 packets under one key, which 300 years of
    /// reports do not reach.
    pub fn protect(&mut self, rtcp: &mut Vec<u8>) -> bool {
        if rtcp.len() < CLEAR_BYTES || self.next_index >= ENCRYPTED {
            rtcp.clear();
            return false;
        }
        self.transform.protect(rtcp, self.next_index);
        self.next_index += 1;
        true
    }
}

/// Checks and opens incoming SRTCP.
pub struct SrtcpReceiver {
    transform: Transform,
    /// Newest first.
    senders: VecDeque<(u32, ReplayWindow)>,
}

impl SrtcpReceiver {
    pub(super) fn new(keys: Derived) -> Self {
        Self {
            transform: Transform::new(keys),
            senders: VecDeque::new(),
        }
    }

    /// Turns SRTCP into a compound RTCP packet. On an error the packet is as it was, and nothing
    /// has been learnt from it.
    ///
    /// # Errors
    /// See [`SrtcpError`].
    pub fn unprotect(&mut self, packet: &mut Vec<u8>) -> Result<(), SrtcpError> {
        let (rtcp, index) = self.transform.open(packet)?;
        self.accept(be32(&rtcp[4..]), index)?;
        *packet = rtcp;
        Ok(())
    }

    /// Looks the index up in the window of its sender and enters it.
    fn accept(&mut self, ssrc: u32, index: u32) -> Result<(), SrtcpError> {
        let place = self.senders.iter().position(|(known, _)| *known == ssrc);
        if let Some((_, window)) = place.and_then(|place| self.senders.get_mut(place)) {
            return window.accept(index);
        }
        self.senders.truncate(MAX_SENDERS - 1);
        self.senders.push_front((
            ssrc,
            ReplayWindow {
                highest: index,
                seen: 1,
            },
        ));
        Ok(())
    }
}

/// Bit n of `seen` = index `highest - n` has been received (RFC 3711 section 3.3.2).
struct ReplayWindow {
    highest: u32,
    seen: u128,
}

impl ReplayWindow {
    fn accept(&mut self, index: u32) -> Result<(), SrtcpError> {
        if index > self.highest {
            self.seen = self.seen.checked_shl(index - self.highest).unwrap_or(0) | 1;
            self.highest = index;
            return Ok(());
        }
        let age = self.highest - index;
        if age >= WINDOW {
            return Err(SrtcpError::TooOld);
        }
        let bit = 1_u128 << age;
        if self.seen & bit != 0 {
            return Err(SrtcpError::Replayed);
        }
        self.seen |= bit;
        Ok(())
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |word| u32::from_be_bytes(*word))
}
