//! The SIP side of one medium: where it is, as signalled and as latched, and how it is protected.
//!
//! Media may come from another source than the signalled one ([`Latching`]). The flow follows such a source at most once in
//! [`LATCH_INTERVAL`], only with the SSRC that is bound if one is, and where the SIP side is SRTP only by an authentic packet:
//! nobody takes a stream over by sending to our port.

use crate::gateway::{Latching, MediaPorts};
use crate::rtp::is_authentic;
use crate::sdp::{Direction, SipMedia, Srtp};
use flow::FlowSnapshot;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The SIP side's source may change at most once in this time.
const LATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest RTP packet (RFC 3550 section 5.1).
const RTP_HEADER: usize = 12;

/// See the module.
pub(in crate::call) struct Remote {
    pub(in crate::call) rtp: SocketAddr,
    rtcp: SocketAddr,
    /// RTP and RTCP share one port.
    mux: bool,
    /// `None` = plain RTP.
    pub(in crate::call) srtp: Option<Srtp>,
    /// RTP and RTCP as the last description says.
    signalled: (SocketAddr, SocketAddr),
    direction: Direction,
    latched: Option<Instant>,
    candidate: Option<Candidate>,
    /// ICE says where the peer is and DTLS which keys it has, not the description.
    by_ice: bool,
}

/// A packet from a source that the flow might follow, until the flow's counters tell what is bound.
struct Candidate {
    source: SocketAddr,
    packet: Vec<u8>,
}

impl Remote {
    pub(super) fn new(media: &SipMedia) -> Self {
        Self {
            rtp: media.rtp,
            rtcp: media.rtcp,
            mux: media.mux,
            srtp: media.srtp.clone(),
            signalled: (media.rtp, media.rtcp),
            direction: media.direction,
            latched: None,
            candidate: None,
            by_ice: false,
        }
    }

    /// From now on ICE tells the path.
    pub(super) fn awaits_ice(&mut self) {
        self.by_ice = true;
    }

    /// ICE has selected a path, and DTLS made keys if there are new ones.
    pub(super) fn selected(&mut self, path: SocketAddr, srtp: Option<Srtp>) {
        (self.rtp, self.rtcp) = (path, path);
        if srtp.is_some() {
            self.srtp = srtp;
        }
    }

    /// A new description: a held peer that gives no address keeps the one it had (RFC 3264 section 8.4), and one that repeats
    /// its address is still where it was heard.
    pub(super) fn update(&mut self, media: &SipMedia) {
        (self.direction, self.mux) = (media.direction, media.mux);
        if self.by_ice {
            return;
        }
        self.srtp.clone_from(&media.srtp);
        let signalled = (media.rtp, media.rtcp);
        if !media.rtp.ip().is_unspecified() && signalled != self.signalled {
            (self.rtp, self.rtcp) = signalled;
            (self.signalled, self.latched, self.candidate) = (signalled, None, None);
        }
    }

    /// From where and to where RTCP goes.
    pub(super) fn rtcp(&self, ours: &MediaPorts) -> (SocketAddr, SocketAddr) {
        if self.mux {
            (ours.rtp, self.rtp)
        } else {
            (ours.rtcp, self.rtcp)
        }
    }

    /// Whether RTCP from there is the peer's.
    pub(super) fn admits(&self, latching: Latching, source: SocketAddr) -> bool {
        if self.by_ice {
            return source == self.rtp;
        }
        latching.admits(self.signalled.0.ip(), source.ip()) || source.ip() == self.rtp.ip()
    }

    /// An RTP packet that has no flow: whether [`Self::latch`] has to decide on its source.
    pub(super) fn consider(
        &mut self,
        now: Instant,
        latching: Latching,
        source: SocketAddr,
        packet: &[u8],
    ) -> bool {
        let recent = self.latched.is_some_and(|at| now < at + LATCH_INTERVAL);
        if self.by_ice
            || source == self.rtp
            || recent
            || self.candidate.is_some()
            || packet.len() < RTP_HEADER
            || !latching.admits(self.signalled.0.ip(), source.ip())
        {
            return false;
        }
        self.candidate = Some(Candidate {
            source,
            packet: packet.to_vec(),
        });
        true
    }

    /// Follows the candidate, if what the flow has `heard` so far allows it.
    pub(super) fn latch(&mut self, now: Instant, heard: &FlowSnapshot) -> bool {
        let Some(Candidate { source, packet }) = self.candidate.take() else {
            return false;
        };
        let newest = heard
            .streams
            .iter()
            .flatten()
            .filter(|stream| stream.packets > 0)
            .max_by_key(|stream| stream.last_seen_ns);
        let ssrc = [packet[8], packet[9], packet[10], packet[11]];
        if newest.is_some_and(|bound| bound.ssrc_in.to_be_bytes() != ssrc) {
            return false;
        }
        let rollover = newest.map_or(0, |bound| bound.highest_sequence >> 16);
        if let Some(srtp) = &self.srtp
            && !is_authentic(&srtp.remote, &packet, rollover)
        {
            return false;
        }
        (self.rtp, self.latched) = (source, Some(now));
        true
    }

    pub(super) fn held(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
    }
}
