//! RTCP of a call, terminated on both legs: reports made from the datapath's counters, feedback passed through.
//!
//! Called by the active call: `begin` when reports are due (counters are asked for), `send_due` when they are there,
//! `heard_browser` and `heard_sip` for what arrives, `goodbye` at the end.

use super::Local;
use super::active::FlowSide;
use crate::api::{DirectionStatistics, Statistics};
use crate::bridge::Pair;
use crate::gateway::{Hub, MediaPorts};
use crate::rtp::{
    Fir, Pli, ReportInterval, ReportMaker, ReportTime, Rtcp, SrtcpReceiver, SrtcpSender,
    parse_compound, write_compound,
};
use crate::webrtc::Secured;
use flow::FlowSnapshot;
use std::net::SocketAddr;
use std::time::Instant;

/// See the module.
pub(super) struct Reports {
    srtcp_out: SrtcpSender,
    srtcp_in: SrtcpReceiver,
    /// The browser leg: what we send there is the flow to the browser, what we receive the flow to SIP.
    browser: ReportMaker,
    /// The SIP leg.
    sip: ReportMaker,
    ssrc_to_browser: u32,
    ssrc_to_sip: u32,
    interval: ReportInterval,
    due: Instant,
    /// Whether counters were asked for to make reports of, not only for a view.
    asked: bool,
    clock_hz: u32,
}

/// Where RTCP goes.
#[derive(Clone, Copy)]
pub(super) struct Destinations {
    pub(super) pair: Pair,
    pub(super) ports: MediaPorts,
    pub(super) sip_rtcp: SocketAddr,
}

impl Reports {
    pub(super) fn new(
        hub: &mut Hub,
        now: Instant,
        secured: &Secured,
        local: &Local,
        clock_hz: u32,
    ) -> Self {
        let mut interval = ReportInterval::default();
        Self {
            srtcp_out: secured.local.srtcp_sender(),
            srtcp_in: secured.remote.srtcp_receiver(),
            browser: ReportMaker::new(local.ssrc_to_browser, local.cname.clone(), clock_hz),
            sip: ReportMaker::new(local.ssrc_to_sip, local.cname.clone(), clock_hz),
            ssrc_to_browser: local.ssrc_to_browser,
            ssrc_to_sip: local.ssrc_to_sip,
            due: now + interval.next(&mut hub.random),
            interval,
            asked: false,
            clock_hz,
        }
    }

    /// When the next reports are due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The interval is over: reports go out with the counters that come next.
    pub(super) fn begin(&mut self, hub: &mut Hub, now: Instant) {
        self.asked = true;
        self.due = now + self.interval.next(&mut hub.random);
    }

    /// Both flows' counters are there: sends the reports if they are due.
    pub(super) fn send_due(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        monotonic_ns: u64,
        (to_sip, to_browser): (&FlowSnapshot, &FlowSnapshot),
        to: Destinations,
    ) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        let at = ReportTime {
            now,
            ntp: hub.ntp(now),
            monotonic_ns,
        };
        let browser = self.browser.report(at, Some(to_browser), Some(to_sip));
        self.send_browser(hub, to.pair, &browser);
        let sip = self.sip.report(at, Some(to_sip), Some(to_browser));
        hub.transmit(to.ports.rtcp, to.sip_rtcp, write_compound(&sip));
    }

    /// BYE on both legs (RFC 3550 section 6.6).
    pub(super) fn goodbye(&mut self, hub: &mut Hub, to: Destinations) {
        let browser = self.browser.bye();
        self.send_browser(hub, to.pair, &browser);
        hub.transmit(to.ports.rtcp, to.sip_rtcp, write_compound(&self.sip.bye()));
    }

    /// SRTCP of the browser: nothing is read before it is authenticated.
    pub(super) fn heard_browser(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        bytes: &[u8],
        to_browser: &FlowSnapshot,
        to: Destinations,
    ) {
        let mut packet = bytes.to_vec();
        if self.srtcp_in.unprotect(&mut packet).is_err() {
            return;
        }
        let Ok(packets) = parse_compound(&packet) else {
            return;
        };
        self.browser.handle(now, &packets);
        let feedback = translate(
            &packets,
            self.ssrc_to_sip,
            source_of(to_browser, self.ssrc_to_browser),
        );
        if !feedback.is_empty() {
            let compound = [self.sip.prefix(), feedback].concat();
            hub.transmit(to.ports.rtcp, to.sip_rtcp, write_compound(&compound));
        }
    }

    /// RTCP of the SIP side, from the signalled host.
    pub(super) fn heard_sip(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        bytes: &[u8],
        to_sip: &FlowSnapshot,
        pair: Pair,
    ) {
        let Ok(packets) = parse_compound(bytes) else {
            return;
        };
        self.sip.handle(now, &packets);
        let feedback = translate(
            &packets,
            self.ssrc_to_browser,
            source_of(to_sip, self.ssrc_to_sip),
        );
        if !feedback.is_empty() {
            let compound = [self.browser.prefix(), feedback].concat();
            self.send_browser(hub, pair, &compound);
        }
    }

    /// Both directions for a view.
    pub(super) fn statistics(&self, to_sip: &FlowSide, to_browser: &FlowSide) -> Statistics {
        let round_trip = |maker: &ReportMaker| Some(maker.peer()?.round_trip?.as_secs_f64() * 1e3);
        Statistics {
            to_sip: direction(&to_sip.snapshot, self.clock_hz),
            to_browser: direction(&to_browser.snapshot, self.clock_hz),
            browser_rtt_ms: round_trip(&self.browser),
            sip_rtt_ms: round_trip(&self.sip),
        }
    }

    fn send_browser(&mut self, hub: &mut Hub, pair: Pair, packets: &[Rtcp]) {
        let mut bytes = write_compound(packets);
        if self.srtcp_out.protect(&mut bytes) {
            hub.transmit(pair.local, pair.remote, bytes);
        }
    }
}

/// The SSRC behind one that we send, on the leg that it came from.
fn source_of(flow: &FlowSnapshot, ssrc_out: u32) -> Option<u32> {
    flow.streams
        .iter()
        .flatten()
        .filter(|stream| stream.ssrc_out == ssrc_out)
        .map(|stream| stream.ssrc_in)
        .next_back()
}

/// PLI and FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1) for the other leg: from us, about its own source.
fn translate(packets: &[Rtcp], sender: u32, source: Option<u32>) -> Vec<Rtcp> {
    let Some(media) = source else {
        return Vec::new();
    };
    packets
        .iter()
        .filter_map(|packet| match packet {
            Rtcp::Pli(_) => Some(Rtcp::Pli(Pli { sender, media })),
            Rtcp::Fir(fir) => {
                let command = fir.entries.first()?.1;
                Some(Rtcp::Fir(Fir {
                    sender,
                    entries: vec![(media, command)],
                }))
            }
            Rtcp::Sender(_)
            | Rtcp::Receiver(_)
            | Rtcp::Sdes(_)
            | Rtcp::Bye { .. }
            | Rtcp::Nack(_)
            | Rtcp::Other { .. } => None,
        })
        .collect()
}

fn direction(snapshot: &FlowSnapshot, clock_hz: u32) -> DirectionStatistics {
    let streams = || {
        snapshot
            .streams
            .iter()
            .flatten()
            .filter(|stream| stream.packets > 0)
    };
    let lost = streams()
        .map(|stream| {
            let expected =
                u64::from(stream.highest_sequence.wrapping_sub(stream.first_sequence)) + 1;
            expected
                .cast_signed()
                .saturating_sub(stream.packets.cast_signed())
        })
        .sum();
    let jitter = streams().map(|stream| stream.jitter).max().unwrap_or(0);
    DirectionStatistics {
        packets: snapshot.packets,
        octets: snapshot.octets,
        lost,
        jitter_ms: f64::from(jitter) * 1e3 / f64::from(clock_hz.max(1)),
        dropped: snapshot.dropped,
    }
}
