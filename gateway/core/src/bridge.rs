//! The bridge of a call: the only place where flows are made out of a secured browser leg and an answered SIP leg.
//!
//! One flow leads from the browser's 4-tuple to the SIP side, with all media in it; from each RTP port of the SIP side one
//! leads to the browser. Called by `call::active` when both legs are ready and again whenever an address changes; what it
//! returns goes to the datapath as it is.

use crate::call::Ssrcs;
use crate::gateway::{Config, MediaPorts};
use crate::sdp::{Medium, Negotiated};
use crate::webrtc::Secured;
use flow::{ActionSpec, FlowKey, FlowSpec, STREAMS, StreamSource, StreamSpec};
use std::net::SocketAddr;

/// Most media of a call: audio and video.
pub(crate) const MEDIA: usize = 2;

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
    /// Codecs and payload types.
    pub(crate) negotiated: &'a Negotiated,
    /// As many as are negotiated.
    pub(crate) media: Vec<BridgedMedium<'a>>,
}

/// One medium between both legs.
pub(crate) struct BridgedMedium<'a> {
    /// Codec and payload types.
    pub(crate) medium: &'a Medium,
    /// SSRCs that the browser signalled; empty = learnt from the first authenticated packet.
    pub(crate) browser_ssrcs: &'a [u32],
    /// SSRCs of what we send.
    pub(crate) ssrcs: Ssrcs,
    /// Our ports on the SIP side.
    pub(crate) ports: MediaPorts,
    /// Where the SIP side takes RTP and sends it from.
    pub(crate) sip_remote: SocketAddr,
}

impl Bridge<'_> {
    /// Browser to SIP: SRTP in, RTP out.
    pub(crate) fn to_sip(&self, config: &Config) -> FlowSpec {
        let audio = &self.media[0];
        let stream = |source| StreamSpec {
            source,
            ssrc_out: audio.ssrcs.to_sip,
            clock_hz: audio.medium.clock_hz(),
        };
        let mut streams = [None; STREAMS];
        for (place, ssrc) in streams.iter_mut().zip(audio.browser_ssrcs) {
            *place = Some(stream(StreamSource::Signalled(*ssrc)));
        }
        if audio.browser_ssrcs.is_empty() {
            streams[0] = Some(stream(StreamSource::Learnt));
        }
        FlowSpec {
            key: FlowKey {
                local: self.pair.local.into(),
                remote: self.pair.remote.into(),
            },
            action: ActionSpec::Unprotect(self.secured.remote.rtp()),
            streams,
            payload_map: self.negotiated.web_to_sip().map(|to| Some(to?.1)),
            egress_local: audio.ports.rtp.into(),
            egress_remote: audio.sip_remote.into(),
            dscp: config.sip_dscp,
            strip_extensions: true,
        }
    }

    /// SIP to browser, one medium: RTP in, SRTP out.
    pub(crate) fn to_browser(&self, index: usize, config: &Config) -> FlowSpec {
        let media = &self.media[index];
        let mut streams = [None; STREAMS];
        streams[0] = Some(StreamSpec {
            source: StreamSource::Learnt,
            ssrc_out: media.ssrcs.to_browser,
            clock_hz: media.medium.clock_hz(),
        });
        FlowSpec {
            key: FlowKey {
                local: media.ports.rtp.into(),
                remote: media.sip_remote.into(),
            },
            action: ActionSpec::Protect(self.secured.local.rtp()),
            streams,
            payload_map: media.medium.sip_to_web(),
            egress_local: self.pair.local.into(),
            egress_remote: self.pair.remote.into(),
            dscp: config.web_dscp,
            strip_extensions: true,
        }
    }
}
