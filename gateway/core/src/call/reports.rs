//! RTCP of a call, terminated on both legs: reports made from the datapath's counters, feedback translated (`feedback`).
//!
//! Called by the active call: `fit` whenever the media change, `begin` when reports are due (counters are asked for),
//! `send_due` when they are there, `heard_browser` and `heard_sip` for what arrives, `goodbye` at the end. The browser gets the
//! reports of all media in one compound, as they share its transport (RFC 8843 section 9.3).

use super::active::FlowSide;
use super::feedback::{Exchange, Request, Way};
use super::{Local, Ssrcs, VIDEO};
use crate::api::{DirectionStatistics, Statistics, VideoStatistics};
use crate::bridge::Pair;
use crate::gateway::{FlowId, Hub};
use crate::rtp::{
    ReportInterval, ReportMaker, ReportTime, Rtcp, SrtcpReceiver, SrtcpSender, parse_compound,
    write_compound,
};
use crate::sdp::{Medium, Srtp};
use crate::webrtc::Secured;
use flow::{FlowSnapshot, StreamSnapshot};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most feedback that waits for counters; more is dropped, and asked for again by whoever misses it.
const WAITING: usize = 64;

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// See the module.
pub(super) struct Reports {
    srtcp_out: SrtcpSender,
    srtcp_in: SrtcpReceiver,
    media: Vec<MediumReports>,
    interval: ReportInterval,
    due: Instant,
    /// Whether counters were asked for to make reports of, not only for a view.
    asked: bool,
    /// Feedback that is translated with the counters that come next.
    waiting: VecDeque<Waiting>,
}

/// RTCP of one medium.
struct MediumReports {
    /// The browser leg: what we send there is the flow to the browser, what we receive the flow to SIP.
    browser: ReportMaker,
    /// The SIP leg.
    sip: ReportMaker,
    ssrcs: Ssrcs,
    clock_hz: u32,
    to_sip: Exchange,
    to_browser: Exchange,
    /// Of the SIP leg, where it is protected.
    srtcp: Option<Srtcp>,
}

/// SRTCP of one medium of the SIP leg. Indices go on as long as the key stays.
struct Srtcp {
    keys: Srtp,
    sender: SrtcpSender,
    receiver: SrtcpReceiver,
}

/// A request that needs to know what the flow does with the stream that it is about.
struct Waiting {
    /// Whose counters tell it.
    flow: FlowId,
    medium: usize,
    way: Way,
    request: Request,
}

/// Where RTCP goes.
pub(super) struct Destinations {
    /// `None` while the browser's consent is withdrawn (RFC 7675 section 5.1).
    pub(super) pair: Option<Pair>,
    /// By medium: our RTCP address and the peer's.
    pub(super) sip: Vec<(SocketAddr, SocketAddr)>,
}

impl Reports {
    pub(super) fn new(hub: &mut Hub, now: Instant, secured: &Secured) -> Self {
        let mut interval = ReportInterval::default();
        Self {
            srtcp_out: secured.local.srtcp_sender(),
            srtcp_in: secured.remote.srtcp_receiver(),
            media: Vec::new(),
            due: now + interval.next(&mut hub.random),
            interval,
            asked: false,
            waiting: VecDeque::new(),
        }
    }

    /// One set of reports per medium; those that are there go on.
    /// `srtp`: the protection of each on the SIP leg.
    pub(super) fn fit(&mut self, local: &Local, media: &[Medium], srtp: &[Option<Srtp>]) {
        self.media.truncate(media.len());
        self.media.reserve_exact(media.len() - self.media.len());
        self.waiting.retain(|waiting| waiting.medium < media.len());
        for (index, medium) in media.iter().enumerate() {
            if index == self.media.len() {
                self.media.push(MediumReports::new(local, index, medium));
            }
            let reports = &mut self.media[index];
            reports.to_sip.target(medium.sip_takes());
            reports.to_browser.target(medium.web_takes());
            reports.protect(srtp.get(index).and_then(Option::as_ref));
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

    /// All flows' counters are there: sends the reports if they are due.
    pub(super) fn send_due<'a>(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        monotonic_ns: u64,
        (to_sip, to_browser): (&FlowSnapshot, impl Iterator<Item = &'a FlowSnapshot>),
        to: &Destinations,
    ) {
        if !std::mem::take(&mut self.asked) {
            return;
        }
        let at = ReportTime {
            now,
            ntp: hub.ntp(now),
            monotonic_ns,
        };
        let mut bundle = Vec::new();
        for ((medium, to_browser), sip) in self.media.iter_mut().zip(to_browser).zip(&to.sip) {
            let to_sip = of_stream(to_sip, medium.ssrcs.to_sip);
            bundle.extend(medium.browser.report(at, Some(to_browser), Some(&to_sip)));
            let report = medium.sip.report(at, Some(&to_sip), Some(to_browser));
            medium.send_sip(hub, *sip, &report);
        }
        self.send_browser(hub, to.pair, bundle);
    }

    /// BYE on both legs (RFC 3550 section 6.6).
    pub(super) fn goodbye(&mut self, hub: &mut Hub, to: &Destinations) {
        let bundle = self.media.iter().flat_map(|medium| medium.browser.bye());
        let bundle = bundle.collect();
        self.send_browser(hub, to.pair, bundle);
        for (medium, sip) in self.media.iter_mut().zip(&to.sip) {
            let bye = medium.sip.bye();
            medium.send_sip(hub, *sip, &bye);
        }
    }

    /// SRTCP of the browser: nothing is read before it is authenticated. `flows`: those to the browser, by medium.
    pub(super) fn heard_browser(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        bytes: &[u8],
        flows: &[FlowId],
    ) {
        let mut packet = bytes.to_vec();
        if self.srtcp_in.unprotect(&mut packet).is_err() {
            return;
        }
        let Ok(packets) = parse_compound(&packet) else {
            return;
        };
        for (index, flow) in flows.iter().enumerate().take(self.media.len()) {
            let medium = &mut self.media[index];
            medium.browser.handle(now, &packets);
            let ours = medium.ssrcs.to_browser;
            let requests = medium.to_sip.take(now, &packets, |ssrc| ssrc == ours);
            self.wait_for(hub, *flow, index, Way::ToSip, requests);
        }
    }

    /// RTCP of one medium of the SIP side, from the signalled host; where it is protected, nothing is read before it is
    /// authenticated. `flow`: that to the SIP side.
    pub(super) fn heard_sip(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        index: usize,
        bytes: &[u8],
        flow: FlowId,
    ) {
        let Some(medium) = self.media.get_mut(index) else {
            return;
        };
        let mut packet = bytes.to_vec();
        if let Some(srtcp) = &mut medium.srtcp
            && srtcp.receiver.unprotect(&mut packet).is_err()
        {
            return;
        }
        let Ok(packets) = parse_compound(&packet) else {
            return;
        };
        medium.sip.handle(now, &packets);
        // There is one stream to ask for on this port, whatever SSRC the peer writes.
        let requests = medium.to_browser.take(now, &packets, |_| true);
        self.wait_for(hub, flow, index, Way::ToBrowser, requests);
    }

    /// The SIP side wants a picture by INFO. `flow`: that to the SIP side.
    pub(super) fn picture_by_info(&mut self, hub: &mut Hub, now: Instant, flow: FlowId) {
        if let Some(video) = self.media.get_mut(VIDEO) {
            let requests = video.to_browser.picture(now).into_iter().collect();
            self.wait_for(hub, flow, VIDEO, Way::ToBrowser, requests);
        }
    }

    /// The exchange of picture requests for the SIP side, if there is video.
    pub(super) fn pictures_of_sip(&mut self) -> Option<&mut Exchange> {
        Some(&mut self.media.get_mut(VIDEO)?.to_sip)
    }

    fn wait_for(
        &mut self,
        hub: &mut Hub,
        flow: FlowId,
        medium: usize,
        way: Way,
        requests: Vec<Request>,
    ) {
        if requests.is_empty() {
            return;
        }
        for request in requests {
            if self.waiting.len() == WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting {
                flow,
                medium,
                way,
                request,
            });
        }
        hub.outputs
            .push_back(crate::gateway::Output::ReadFlow(flow));
    }

    /// Counters of a flow came: what waited for them is translated and sent.
    pub(super) fn forward_waiting(
        &mut self,
        hub: &mut Hub,
        flow: FlowId,
        snapshot: &FlowSnapshot,
        to: &Destinations,
    ) {
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.flow == flow);
        self.waiting = waiting;
        for waiting in ready {
            let (Some(medium), Some(sip)) = (
                self.media.get_mut(waiting.medium),
                to.sip.get(waiting.medium),
            ) else {
                continue;
            };
            match waiting.way {
                Way::ToSip => {
                    let source = newest(snapshot, medium.ssrcs.to_browser);
                    let own = medium.ssrcs.to_sip;
                    if let Some(packet) = medium.to_sip.translate(waiting.request, own, source) {
                        let mut compound = medium.sip.prefix();
                        compound.push(packet);
                        medium.send_sip(hub, *sip, &compound);
                    }
                }
                Way::ToBrowser => {
                    let source = newest(snapshot, medium.ssrcs.to_sip);
                    let own = medium.ssrcs.to_browser;
                    if let Some(packet) = medium.to_browser.translate(waiting.request, own, source)
                    {
                        let mut compound = medium.browser.prefix();
                        compound.push(packet);
                        self.send_browser(hub, to.pair, compound);
                    }
                }
            }
        }
    }

    /// Both directions of all media for a view.
    pub(super) fn statistics(&self, to_sip: &FlowSide, to_browser: &[FlowSide]) -> Statistics {
        let round_trip = |maker: &ReportMaker| Some(milliseconds(maker.peer()?.round_trip?));
        let audio = &self.media[0];
        let medium_to_sip = |medium: &MediumReports| {
            let snapshot = of_stream(&to_sip.snapshot, medium.ssrcs.to_sip);
            direction(&snapshot, medium.clock_hz)
        };
        Statistics {
            to_sip: DirectionStatistics {
                dropped: to_sip.snapshot.dropped,
                ..medium_to_sip(audio)
            },
            to_browser: self.to_browser(0, &to_browser[0]),
            browser_rtt_ms: round_trip(&audio.browser),
            browser_rtt_max_ms: audio.browser.round_trips().longest().map(milliseconds),
            browser_rtt_average_ms: audio.browser.round_trips().mean().map(milliseconds),
            sip_rtt_ms: round_trip(&audio.sip),
            video: self.media.get(1).map(|video| VideoStatistics {
                to_sip: medium_to_sip(video),
                to_browser: self.to_browser(1, &to_browser[1]),
            }),
        }
    }

    /// The flow from the browser with all its media.
    pub(super) fn whole(&self, to_sip: &FlowSide) -> DirectionStatistics {
        let media = self.media.iter().map(|medium| {
            let snapshot = of_stream(&to_sip.snapshot, medium.ssrcs.to_sip);
            direction(&snapshot, medium.clock_hz)
        });
        media.fold(
            DirectionStatistics {
                dropped: to_sip.snapshot.dropped,
                ..DirectionStatistics::default()
            },
            |sum, medium| DirectionStatistics {
                packets: sum.packets + medium.packets,
                octets: sum.octets + medium.octets,
                lost: sum.lost + medium.lost,
                jitter_ms: sum.jitter_ms.max(medium.jitter_ms),
                dropped: sum.dropped,
            },
        )
    }

    /// The flow from one port of the SIP side.
    pub(super) fn to_browser(&self, index: usize, side: &FlowSide) -> DirectionStatistics {
        direction(&side.snapshot, self.media[index].clock_hz)
    }

    fn send_browser(&mut self, hub: &mut Hub, pair: Option<Pair>, packets: Vec<Rtcp>) {
        let Some(pair) = pair else {
            return;
        };
        let mut bytes = write_compound(&one_compound(packets));
        if self.srtcp_out.protect(&mut bytes) {
            hub.transmit(pair.local, pair.remote, bytes);
        }
    }
}

impl MediumReports {
    fn new(local: &Local, index: usize, medium: &Medium) -> Self {
        let (ssrcs, clock_hz) = (local.ssrcs[index], medium.clock_hz());
        let maker = |ssrc| ReportMaker::new(ssrc, local.cname.clone(), clock_hz);
        Self {
            browser: maker(ssrcs.to_browser),
            sip: maker(ssrcs.to_sip),
            ssrcs,
            clock_hz,
            to_sip: Exchange::default(),
            to_browser: Exchange::default(),
            srtcp: None,
        }
    }

    /// Takes the SIP leg's keys; a direction whose key is the same goes on.
    fn protect(&mut self, srtp: Option<&Srtp>) {
        let Some(srtp) = srtp else {
            self.srtcp = None;
            return;
        };
        match &mut self.srtcp {
            Some(srtcp) => {
                if !srtcp.keys.local.is_same(&srtp.local) {
                    srtcp.sender = srtp.local.srtcp_sender();
                }
                if !srtcp.keys.remote.is_same(&srtp.remote) {
                    srtcp.receiver = srtp.remote.srtcp_receiver();
                }
                srtcp.keys = srtp.clone();
            }
            None => {
                self.srtcp = Some(Srtcp {
                    keys: srtp.clone(),
                    sender: srtp.local.srtcp_sender(),
                    receiver: srtp.remote.srtcp_receiver(),
                });
            }
        }
    }

    fn send_sip(&mut self, hub: &mut Hub, sip: (SocketAddr, SocketAddr), compound: &[Rtcp]) {
        let mut bytes = write_compound(compound);
        let ready = self
            .srtcp
            .as_mut()
            .is_none_or(|srtcp| srtcp.sender.protect(&mut bytes));
        if ready {
            hub.transmit(sip.0, sip.1, bytes);
        }
    }
}

/// Reports first, then one SDES with the names of all, then the rest (RFC 3550 section 6.1).
fn one_compound(packets: Vec<Rtcp>) -> Vec<Rtcp> {
    let (mut reports, mut names, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for packet in packets {
        match packet {
            Rtcp::Sender(_) | Rtcp::Receiver(_) => reports.push(packet),
            Rtcp::Sdes(chunks) => names.extend(chunks),
            other => rest.push(other),
        }
    }
    if !names.is_empty() {
        reports.push(Rtcp::Sdes(names));
    }
    reports.append(&mut rest);
    reports
}

/// The newest stream that leaves under an SSRC.
fn newest(flow: &FlowSnapshot, ssrc_out: u32) -> Option<StreamSnapshot> {
    flow.streams
        .iter()
        .flatten()
        .filter(|stream| stream.ssrc_out == ssrc_out && stream.packets > 0)
        .max_by_key(|stream| stream.last_seen_ns)
        .copied()
}

/// What a flow counts of the streams that leave under one SSRC; drops and keystream are the whole flow's and left out.
fn of_stream(flow: &FlowSnapshot, ssrc_out: u32) -> FlowSnapshot {
    let streams = flow
        .streams
        .map(|stream| stream.filter(|stream| stream.ssrc_out == ssrc_out));
    let each = || streams.iter().flatten();
    FlowSnapshot {
        packets: each().map(|stream| stream.packets).sum(),
        octets: each().map(|stream| stream.octets).sum(),
        dropped: 0,
        last_seen_ns: each().map(|stream| stream.last_seen_ns).max().unwrap_or(0),
        keystream_hits: 0,
        streams,
    }
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
