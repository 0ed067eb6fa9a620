//! The bridge of a call: the only place where a pair of flows is made out of a secured browser leg and an answered SIP leg.
//!
//! Called by `call::media` when both legs are ready and again whenever an address changes; what it returns goes to the
//! datapath as it is.

use crate::gateway::{Config, MediaPorts};
use crate::sdp::Negotiated;
use crate::webrtc::Secured;
use flow::{ActionSpec, FlowKey, FlowSpec, STREAMS, StreamSource, StreamSpec};
use std::net::SocketAddr;

/// The nominated pair of the browser leg.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pair {
    /// Our bound address.
    pub(crate) local: SocketAddr,
    /// The browser's address as we see it.
    pub(crate) remote: SocketAddr,
}

/// Both legs as far as media needs them.
pub(crate) struct Bridge<'a> {
    /// Nominated pair.
    pub(crate) pair: Pair,
    /// SRTP keys of the browser leg.
    pub(crate) secured: &'a Secured,
    /// SSRCs that the browser signalled; empty = learnt from the first authenticated packet.
    pub(crate) browser_ssrcs: &'a [u32],
    /// SSRC of what we send to the browser.
    pub(crate) ssrc_to_browser: u32,
    /// Our ports on the SIP side.
    pub(crate) ports: MediaPorts,
    /// Where the SIP side takes RTP and sends it from.
    pub(crate) sip_remote: SocketAddr,
    /// SSRC of what we send to the SIP side.
    pub(crate) ssrc_to_sip: u32,
    /// Codecs and payload types.
    pub(crate) negotiated: &'a Negotiated,
}

impl Bridge<'_> {
    /// Browser to SIP: SRTP in, RTP out.
    pub(crate) fn to_sip(&self, config: &Config) -> FlowSpec {
        let stream = |source| StreamSpec {
            source,
            ssrc_out: self.ssrc_to_sip,
            clock_hz: self.negotiated.clock_hz,
        };
        let mut streams = [None; STREAMS];
        for (place, ssrc) in streams.iter_mut().zip(self.browser_ssrcs) {
            *place = Some(stream(StreamSource::Signalled(*ssrc)));
        }
        if self.browser_ssrcs.is_empty() {
            streams[0] = Some(stream(StreamSource::Learnt));
        }
        FlowSpec {
            key: FlowKey {
                local: self.pair.local.into(),
                remote: self.pair.remote.into(),
            },
            action: ActionSpec::Unprotect(self.secured.remote.rtp()),
            streams,
            payload_map: self.negotiated.web_to_sip,
            egress_local: self.ports.rtp.into(),
            egress_remote: self.sip_remote.into(),
            dscp: config.sip_dscp,
            strip_extensions: true,
        }
    }

    /// SIP to browser: RTP in, SRTP out.
    pub(crate) fn to_browser(&self, config: &Config) -> FlowSpec {
        let mut streams = [None; STREAMS];
        streams[0] = Some(StreamSpec {
            source: StreamSource::Learnt,
            ssrc_out: self.ssrc_to_browser,
            clock_hz: self.negotiated.clock_hz,
        });
        FlowSpec {
            key: FlowKey {
                local: self.ports.rtp.into(),
                remote: self.sip_remote.into(),
            },
            action: ActionSpec::Protect(self.secured.local.rtp()),
            streams,
            payload_map: self.negotiated.sip_to_web,
            egress_local: self.pair.local.into(),
            egress_remote: self.pair.remote.into(),
            dscp: config.web_dscp,
            strip_extensions: true,
        }
    }
}
