//! SRTCP with AES-CM and HMAC-SHA1 (RFC 3711 section 3.4): the browser leg's reports and feedback.
//!
//! Layout: `RTCP header and sender SSRC, clear | rest, encrypted | E and 31 bit index | tag`. The tag is 80 bit for both suites (RFC 3711
//! section 5.2; RFC 5764 section 4.1.2 shortens that of RTP only). We always encrypt; a peer may leave E at 0.

use std::collections::VecDeque;

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::keys::Derived;

const TAG_BYTES: usize = 10;
const INDEX_BYTES: usize = 4;
/// Header and SSRC of the first packet stay clear.
const CLEAR_BYTES: usize = 8;
const ENCRYPTED: u32 = 1 << 31;
/// Packets of replay window.
const WINDOW: u32 = 128;
/// Senders whose indices are kept. RTCP with many SSRCs under one key is rare; the oldest is forgotten, so it is a bound on memory that a
/// stranger cannot reach (only authenticated packets count).
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

/// Keys of one direction and what both halves compute.
struct Transform {
    keys: Derived,
    mac: Hmac<Sha1>,
}

impl Transform {
    fn new(keys: Derived) -> Self {
        let mac = Hmac::new_from_slice(&*keys.auth).expect("HMAC takes keys of any length");
        Self { keys, mac }
    }

    /// En- or decrypts everything behind the first SSRC (RFC 3711 section 4.1.1 with the 31 bit index).
    fn apply_keystream(&self, rtcp: &mut [u8], index: u32) {
        let mut counter = [0; 16];
        counter[..self.keys.salt.len()].copy_from_slice(&*self.keys.salt);
        let (ssrc, index) = (&rtcp[4..CLEAR_BYTES], index.to_be_bytes());
        counter[4..8]
            .iter_mut()
            .zip(ssrc)
            .for_each(|(to, from)| *to ^= from);
        counter[10..14]
            .iter_mut()
            .zip(index)
            .for_each(|(to, from)| *to ^= from);
        Ctr128BE::<Aes128>::new((&*self.keys.cipher).into(), (&counter).into())
            .apply_keystream(&mut rtcp[CLEAR_BYTES..]);
    }
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

    /// Turns a compound RTCP packet into SRTCP. Returns false, with the packet emptied, for what is no RTCP (shorter than 8 bytes) and
    /// after 2^31 packets under one key, which 300 years of reports do not reach.
    pub fn protect(&mut self, rtcp: &mut Vec<u8>) -> bool {
        if rtcp.len() < CLEAR_BYTES || self.next_index >= ENCRYPTED {
            rtcp.clear();
            return false;
        }
        let index = self.next_index;
        self.next_index += 1;
        self.transform.apply_keystream(rtcp, index);
        rtcp.extend_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let tag = self
            .transform
            .mac
            .clone()
            .chain_update(&*rtcp)
            .finalize()
            .into_bytes();
        rtcp.extend_from_slice(&tag[..TAG_BYTES]);
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

    /// Turns SRTCP into a compound RTCP packet. On an error the packet is as it was, and nothing has been learnt from it.
    ///
    /// # Errors
    /// See [`SrtcpError`].
    pub fn unprotect(&mut self, packet: &mut Vec<u8>) -> Result<(), SrtcpError> {
        let end = packet
            .len()
            .checked_sub(INDEX_BYTES + TAG_BYTES)
            .filter(|end| *end >= CLEAR_BYTES)
            .ok_or(SrtcpError::TooShort)?;
        let (signed, tag) = packet.split_at(end + INDEX_BYTES);
        let mac = self.transform.mac.clone().chain_update(signed);
        mac.verify_truncated_left(tag)
            .map_err(|_| SrtcpError::AuthFailed)?;
        let word = be32(&signed[end..]);
        let (encrypted, index) = (word & ENCRYPTED != 0, word & !ENCRYPTED);
        self.accept(be32(&signed[4..]), index)?;
        packet.truncate(end);
        if encrypted {
            self.transform.apply_keystream(packet, index);
        }
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
