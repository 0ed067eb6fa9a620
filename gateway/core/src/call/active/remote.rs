//! The SIP side's addresses of one medium: as signalled, and as latched within the signalled host.

use crate::sdp::{Direction, SipMedia};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The SIP side's source port may change at most once in this time (RTP latching within the signalled host).
const LATCH_INTERVAL: Duration = Duration::from_secs(2);

/// See the module.
pub(in crate::call) struct Remote {
    pub(in crate::call) rtp: SocketAddr,
    pub(in crate::call) rtcp: SocketAddr,
    direction: Direction,
    latched: Option<Instant>,
}

impl Remote {
    pub(super) fn new(media: &SipMedia) -> Self {
        Self {
            rtp: media.rtp,
            rtcp: media.rtcp,
            direction: media.direction,
            latched: None,
        }
    }

    /// A new description: a held peer that gives no address keeps the one it had (RFC 3264 section 8.4).
    pub(super) fn update(&mut self, media: &SipMedia) {
        self.direction = media.direction;
        if !media.rtp.ip().is_unspecified() && (media.rtp, media.rtcp) != (self.rtp, self.rtcp) {
            (self.rtp, self.rtcp, self.latched) = (media.rtp, media.rtcp, None);
        }
    }

    /// A packet from the signalled host but another port moves the flow there; any other source is ignored.
    pub(super) fn latch(&mut self, now: Instant, source: SocketAddr) -> bool {
        let recent = self.latched.is_some_and(|at| now < at + LATCH_INTERVAL);
        if source.ip() != self.rtp.ip() || source == self.rtp || recent {
            return false;
        }
        (self.rtp, self.latched) = (source, Some(now));
        true
    }

    pub(super) fn held(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
    }
}
