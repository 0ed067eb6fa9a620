//! The bridge of a call: the only place where flows are made out of a secured browser leg and an answered SIP leg.
//!
//! One flow leads from the browser's 4-tuple to the SIP side, with all media in it; from each RTP port of the SIP side one
//! leads to the browser. Called by `call::active` when both legs are ready and again whenever an address changes; what it
//! returns goes to the datapath as it is.

use crate::call::Ssrcs;
use crate::gateway::{Config, MediaPorts};
use crate::sdp::{Kind, Medium, Negotiated, Srtp};
use crate::webrtc::Secured;
use flow::{
    ActionSpec, FlowKey, FlowSpec, MediumSpec, PayloadMap, STREAMS, StreamSource, StreamSpec,
};
use std::net::SocketAddr;

/// Most media of a call: audio and video.
pub(crate) use flow::MEDIA;

/// Packet time of voice where nobody asks for another (RFC 3551 section 4.2).
const USUAL_PTIME_MS: u32 = 20;
/// Of full packets 9 Mbit/s.
const VIDEO_PACKETS_PER_S: u32 = 1000;

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
    /// The browser has withdrawn its consent: nothing may go there, but what comes from there is still the call's.
    pub(crate) browser_away: bool,
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
    /// The SIP side's keys; `None` = plain RTP. All media have the same key of ours.
    pub(crate) sip_srtp: Option<&'a Srtp>,
}

impl Bridge<'_> {
    /// Browser to SIP: SRTP in, RTP or SRTP out, all media.
    pub(crate) fn to_sip(&self, config: &Config) -> FlowSpec {
        let streams = (0..).zip(&self.media).flat_map(|(place, media)| {
            let signalled = media.browser_ssrcs.iter();
            let signalled = signalled.map(|ssrc| StreamSource::Signalled(*ssrc));
            let learnt = media.browser_ssrcs.is_empty();
            let sources = signalled.chain(learnt.then_some(StreamSource::Learnt));
            // No medium takes the places of another.
            sources.take(STREAMS / MEDIA).map(move |source| StreamSpec {
                source,
                medium: place,
                ssrc_out: media.ssrcs.to_sip,
                clock_hz: media.medium.clock_hz(),
            })
        });
        let leaving = |media: &BridgedMedium<'_>| MediumSpec {
            egress_local: media.ports.rtp.into(),
            egress_remote: media.sip_remote.into(),
            dscp: config.sip_dscp,
            max_packets_per_s: max_packets_per_s(media.medium, config),
        };
        FlowSpec {
            key: FlowKey {
                local: self.pair.local.into(),
                remote: self.pair.remote.into(),
            },
            action: match self.media[0].sip_srtp {
                None => ActionSpec::Unprotect(self.secured.remote.rtp()),
                Some(srtp) => ActionSpec::Transcrypt {
                    unprotect: self.secured.remote.rtp(),
                    protect: srtp.local.rtp(),
                },
            },
            streams: places(streams),
            payloads: self.negotiated.web_to_sip(),
            media: places(self.media.iter().map(leaving)),
            extensions: self.negotiated.extensions_to_sip(),
        }
    }

    /// SIP to browser, one medium: RTP or SRTP in, SRTP out.
    pub(crate) fn to_browser(&self, index: usize, config: &Config) -> FlowSpec {
        let media = &self.media[index];
        let stream = StreamSpec {
            source: StreamSource::Learnt,
            medium: 0,
            ssrc_out: media.ssrcs.to_browser,
            clock_hz: media.medium.clock_hz(),
        };
        let leaving = MediumSpec {
            egress_local: self.pair.local.into(),
            egress_remote: self.pair.remote.into(),
            dscp: config.web_dscp,
            max_packets_per_s: max_packets_per_s(media.medium, config),
        };
        FlowSpec {
            key: FlowKey {
                local: media.ports.rtp.into(),
                remote: media.sip_remote.into(),
            },
            action: match media.sip_srtp {
                None => ActionSpec::Protect(self.secured.local.rtp()),
                Some(srtp) => ActionSpec::Transcrypt {
                    unprotect: srtp.remote.rtp(),
                    protect: self.secured.local.rtp(),
                },
            },
            streams: places([stream]),
            payloads: if self.browser_away {
                PayloadMap::EMPTY
            } else {
                media.medium.sip_to_web()
            },
            media: places([leaving]),
            extensions: media.medium.extensions_to_web(),
        }
    }
}

/// Packets that a medium may have a second: what the shortest packet time makes that either side asks for, a video's as many as none
/// has, and all times the margin.
fn max_packets_per_s(medium: &Medium, config: &Config) -> u32 {
    let usual = if medium.kind == Kind::Audio {
        let asked = [medium.web_asked, medium.sip_asked].into_iter();
        let asked = asked.filter_map(|asked| asked.times.ptime_ms);
        1000 / asked.fold(USUAL_PTIME_MS, u32::min).max(1)
    } else {
        VIDEO_PACKETS_PER_S
    };
    usual.saturating_mul(config.packet_rate_margin)
}

/// The first values, as many as a flow has places for.
fn places<T, const N: usize>(values: impl IntoIterator<Item = T>) -> [Option<T>; N] {
    let mut values = values.into_iter();
    std::array::from_fn(|_| values.next())
}
