//! Our reports on one leg, made from what the datapaths count, and what the peer's reports say (RFC
//! 3550 section 6.4).
//!
//! A leg sends what one flow forwards and receives what the other takes in; so a report needs the
//! snapshots of both flows. No clock is read here: every call is given the moment in the three
//! forms that it needs ([`ReportTime`]).

use std::time::{Duration, Instant};

use flow::{FlowSnapshot, STREAMS, StreamSnapshot};

use super::{ReceiverReport, ReportBlock, Rtcp, SdesChunk, SenderReport};

/// Sender reports of ours that a peer may still refer to.
const MAX_SENT: usize = 8;
/// Sources of the peer whose sender reports are kept.
const MAX_SOURCES: usize = 8;
/// Some peers round the delay that they claim up to milliseconds.
const DELAY_ROUNDING: Duration = Duration::from_millis(2);
/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// One moment on the three clocks that reports need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportTime {
    /// For delays.
    pub now: Instant,
    /// Wall clock, 32.32 fixed point seconds since 1900 (see [`ntp_from_unix`]).
    pub ntp: u64,
    /// CLOCK_MONOTONIC in nanoseconds, the clock of the snapshots.
    pub monotonic_ns: u64,
}

/// Wall clock as NTP wants it, from the time since the Unix epoch.
pub fn ntp_from_unix(since_epoch: Duration) -> u64 {
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
    since_epoch.as_secs().wrapping_add(NTP_UNIX_OFFSET) << 32 | fraction
}

/// What the peer says of the reception of our stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Our SSRC that it is about.
    pub ssrc: u32,
    /// Lost since its last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning.
    pub cumulative_lost: i32,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// To the peer and back; kept from earlier reports where this one names no report of ours.
    pub round_trip: Option<Duration>,
    /// When it came.
    pub at: Instant,
}

/// What we last reported of a source of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// As it was sent.
    pub block: ReportBlock,
    /// Interarrival jitter in time.
    pub jitter: Duration,
}

/// A sender report of ours that the peer may refer to by its LSR.
struct Sent {
    middle: u32,
    at: Instant,
}

/// The last sender report of one source of the peer.
struct HeardSender {
    ssrc: u32,
    middle: u32,
    at: Instant,
}

/// Counters of an incoming stream at our last report (RFC 3550 A.3: `expected_prior`,
/// `received_prior`).
#[derive(Clone, Copy, Default)]
struct Prior {
    ssrc: u32,
    expected: u64,
    received: u64,
    /// What is added to `expected - received` for the loss since this SSRC began: a stream's
    /// counters go on where another SSRC takes it over, and begin anew where its flow is installed
    /// again.
    carried_lost: i64,
}

/// Counters of an outgoing stream at our last report; `carried_*` is what was counted before its
/// flow was installed again.
#[derive(Clone, Copy, Default)]
struct Outgoing {
    ssrc: u32,
    packets: u64,
    octets: u64,
    carried_packets: u64,
    carried_octets: u64,
}

/// The RTCP of one leg.
pub struct ReportMaker {
    ssrc: u32,
    cname: String,
    clock_hz: u32,
    outgoing: Vec<Outgoing>,
    sent: Vec<Sent>,
    heard: Vec<HeardSender>,
    prior: [Option<Prior>; STREAMS],
    peer: Option<PeerReport>,
    round_trips: RoundTrips,
    sources: Vec<SourceReport>,
}

/// Round trips of a leg so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RoundTrips {
    count: u32,
    sum: Duration,
    longest: Duration,
}

impl RoundTrips {
    fn add(&mut self, round_trip: Duration) {
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(round_trip);
        self.longest = self.longest.max(round_trip);
    }

    /// The longest one; `None` before the first.
    pub fn longest(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.longest)
    }

    /// Their mean; `None` before the first.
    pub fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count)
    }
}

impl ReportMaker {
    /// `ssrc` is ours on this leg, `clock_hz` the RTP clock of the codec that the call speaks.
    pub fn new(ssrc: u32, cname: String, clock_hz: u32) -> Self {
        Self {
            ssrc,
            cname,
            clock_hz: clock_hz.max(1),
            outgoing: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
            prior: [None; STREAMS],
            peer: None,
            round_trips: RoundTrips::default(),
            sources: Vec::new(),
        }
    }

    /// Makes the report that is due: SR if anything was sent since the last one, else RR; then SDES
    /// with CNAME.
    ///
    /// `outgoing` is the flow that leaves by this leg, `incoming` the one that arrives by it.
    pub fn report(
        &mut self,
        at: ReportTime,
        outgoing: Option<&FlowSnapshot>,
        incoming: Option<&FlowSnapshot>,
    ) -> Vec<Rtcp> {
        let mut blocks = self.blocks(at.now, incoming);
        let mut packets = Vec::new();
        let mut ssrcs = Vec::new();
        for stream in leaving(outgoing) {
            if let Some(counted) = self.count_sent(&stream) {
                ssrcs.push(stream.ssrc_out);
                let blocks = std::mem::take(&mut blocks);
                packets.push(Rtcp::Sender(
                    self.sender_report(at, &stream, counted, blocks),
                ));
            }
        }
        if packets.is_empty() {
            ssrcs.push(self.ssrc);
            packets.push(Rtcp::Receiver(ReceiverReport {
                ssrc: self.ssrc,
                blocks,
            }));
        }
        packets.push(self.sdes(ssrcs));
        packets
    }

    /// The farewell of RFC 3550 section 6.6: an empty RR, SDES and BYE.
    pub fn bye(&self) -> Vec<Rtcp> {
        let mut ssrcs: Vec<u32> = self.outgoing.iter().map(|stream| stream.ssrc).collect();
        if ssrcs.is_empty() {
            ssrcs.push(self.ssrc);
        }
        let report = Rtcp::Receiver(ReceiverReport {
            ssrc: ssrcs[0],
            blocks: Vec::new(),
        });
        vec![
            report,
            self.sdes(ssrcs.clone()),
            Rtcp::Bye {
                ssrcs,
                reason: None,
            },
        ]
    }

    /// A report of nothing, to stand before feedback (PLI, FIR) where reduced size was not
    /// negotiated.
    pub fn prefix(&self) -> Vec<Rtcp> {
        vec![
            Rtcp::Receiver(ReceiverReport {
                ssrc: self.ssrc,
                blocks: Vec::new(),
            }),
            self.sdes(vec![self.ssrc]),
        ]
    }

    /// Takes in what the peer sent: its sender reports for our LSR and DLSR, its blocks about us
    /// for loss and round trip.
    pub fn handle(&mut self, now: Instant, packets: &[Rtcp]) {
        for packet in packets {
            match packet {
                Rtcp::Sender(report) => {
                    self.hear_sender(now, report);
                    report
                        .blocks
                        .iter()
                        .for_each(|block| self.hear_block(now, block));
                }
                Rtcp::Receiver(report) => report
                    .blocks
                    .iter()
                    .for_each(|block| self.hear_block(now, block)),
                Rtcp::Sdes(_)
                | Rtcp::Bye { .. }
                | Rtcp::Nack(_)
                | Rtcp::Pli(_)
                | Rtcp::Fir(_)
                | Rtcp::Remb(_)
                | Rtcp::Other { .. } => {}
            }
        }
    }

    /// What the peer last said of our stream.
    pub fn peer(&self) -> Option<PeerReport> {
        self.peer
    }

    /// How long the way to the peer and back took in all reports so far.
    pub fn round_trips(&self) -> RoundTrips {
        self.round_trips
    }

    /// What we last reported of the peer's streams.
    pub fn sources(&self) -> &[SourceReport] {
        &self.sources
    }

    fn sdes(&self, ssrcs: Vec<u32>) -> Rtcp {
        Rtcp::Sdes(
            ssrcs
                .into_iter()
                .map(|ssrc| SdesChunk {
                    ssrc,
                    cname: Some(self.cname.clone()),
                })
                .collect(),
        )
    }

    /// Counts on from the last report; `None` if nothing was sent since.
    fn count_sent(&mut self, stream: &StreamSnapshot) -> Option<Outgoing> {
        let place = self
            .outgoing
            .iter()
            .position(|before| before.ssrc == stream.ssrc_out);
        let before = place
            .map(|place| self.outgoing.remove(place))
            .unwrap_or_default();
        let anew = stream.packets < before.packets;
        let counted = Outgoing {
            ssrc: stream.ssrc_out,
            packets: stream.packets,
            octets: stream.octets,
            carried_packets: before.carried_packets + if anew { before.packets } else { 0 },
            carried_octets: before.carried_octets + if anew { before.octets } else { 0 },
        };
        bound(&mut self.outgoing, MAX_SOURCES);
        self.outgoing.push(counted);
        (stream.packets != before.packets).then_some(counted)
    }

    fn sender_report(
        &mut self,
        at: ReportTime,
        stream: &StreamSnapshot,
        counted: Outgoing,
        blocks: Vec<ReportBlock>,
    ) -> SenderReport {
        bound(&mut self.sent, MAX_SENT);
        self.sent.push(Sent {
            middle: middle(at.ntp),
            at: at.now,
        });
        let since = i128::from(at.monotonic_ns) - i128::from(stream.last_seen_ns);
        let ticks = since * i128::from(self.clock_hz) / 1_000_000_000;
        SenderReport {
            ssrc: stream.ssrc_out,
            ntp: at.ntp,
            // The clock runs on from the newest packet. RTP time, packets and octets wrap by design
            // (RFC 3550 section 6.4.1).
            rtp: stream.timestamp_out.wrapping_add(ticks as u32),
            packets: counted.carried_packets.wrapping_add(counted.packets) as u32,
            octets: counted.carried_octets.wrapping_add(counted.octets) as u32,
            blocks,
        }
    }

    /// A block for each source that was heard since the last report (RFC 3550 sections 6.4.1 and
    /// A.3).
    fn blocks(&mut self, now: Instant, incoming: Option<&FlowSnapshot>) -> Vec<ReportBlock> {
        let Some(snapshot) = incoming else {
            return Vec::new();
        };
        let mut sources = Vec::new();
        for (index, stream) in snapshot.streams.iter().enumerate() {
            let Some(stream) = stream.filter(|stream| stream.packets > 0) else {
                continue;
            };
            let (before, current) = since_last(self.prior[index], &stream);
            self.prior[index] = Some(current);
            if current.received == before.received {
                continue;
            }
            let (last_sr, delay_since_last_sr) = self.last_sender_report(now, stream.ssrc_in);
            let block = ReportBlock {
                ssrc: stream.ssrc_in,
                fraction_lost: fraction_lost(
                    current.expected - before.expected,
                    current.received - before.received,
                ),
                cumulative_lost: current.cumulative_lost(),
                highest_sequence: stream.highest_sequence,
                jitter: stream.jitter,
                last_sr,
                delay_since_last_sr,
            };
            sources.push(SourceReport {
                block,
                jitter: self.in_time(stream.jitter),
            });
        }
        if !sources.is_empty() {
            self.sources.clone_from(&sources);
        }
        sources.into_iter().map(|source| source.block).collect()
    }

    fn last_sender_report(&self, now: Instant, ssrc: u32) -> (u32, u32) {
        match self.heard.iter().find(|heard| heard.ssrc == ssrc) {
            Some(heard) => (
                heard.middle,
                in_65536ths(now.saturating_duration_since(heard.at)),
            ),
            None => (0, 0),
        }
    }

    fn hear_sender(&mut self, now: Instant, report: &SenderReport) {
        self.heard.retain(|heard| heard.ssrc != report.ssrc);
        bound(&mut self.heard, MAX_SOURCES);
        self.heard.push(HeardSender {
            ssrc: report.ssrc,
            middle: middle(report.ntp),
            at: now,
        });
    }

    fn hear_block(&mut self, now: Instant, block: &ReportBlock) {
        let ours =
            block.ssrc == self.ssrc || self.outgoing.iter().any(|stream| stream.ssrc == block.ssrc);
        if !ours {
            return;
        }
        let before = self.peer.and_then(|peer| peer.round_trip);
        let round_trip = self.round_trip(now, block);
        if let Some(round_trip) = round_trip {
            self.round_trips.add(round_trip);
        }
        self.peer = Some(PeerReport {
            ssrc: block.ssrc,
            fraction_lost: block.fraction_lost,
            cumulative_lost: block.cumulative_lost,
            jitter: self.in_time(block.jitter),
            round_trip: round_trip.or(before),
            at: now,
        });
    }

    /// RFC 3550 section 6.4.1, figure 2, but on our monotonic clock: a step of the wall clock does
    /// not show. Only for a report that we did send, and only if the delay that the peer claims
    /// fits into the time since.
    fn round_trip(&self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let sent = self
            .sent
            .iter()
            .rev()
            .find(|sent| sent.middle == block.last_sr)?;
        let held = Duration::from_secs_f64(f64::from(block.delay_since_last_sr) / 65_536.0);
        let since = now.checked_duration_since(sent.at)?;
        (held <= since + DELAY_ROUNDING).then(|| since.saturating_sub(held))
    }

    fn in_time(&self, ticks: u32) -> Duration {
        Duration::from_secs_f64(f64::from(ticks) / f64::from(self.clock_hz))
    }
}

/// The streams as the peer sees them: several that arrive can leave under one SSRC.
fn leaving(snapshot: Option<&FlowSnapshot>) -> Vec<StreamSnapshot> {
    let mut leaving: Vec<StreamSnapshot> = Vec::new();
    for stream in snapshot
        .into_iter()
        .flat_map(|snapshot| snapshot.streams.iter().flatten())
    {
        match leaving
            .iter_mut()
            .find(|known| known.ssrc_out == stream.ssrc_out)
        {
            None => leaving.push(*stream),
            Some(known) => {
                let (packets, octets) =
                    (known.packets + stream.packets, known.octets + stream.octets);
                if stream.last_seen_ns > known.last_seen_ns {
                    *known = *stream;
                }
                (known.packets, known.octets) = (packets, octets);
            }
        }
    }
    leaving
}

impl Prior {
    fn lost(&self) -> i64 {
        // Both count packets of one call: far from the limits of 63 bits.
        self.expected.cast_signed() - self.received.cast_signed() + self.carried_lost
    }

    /// 24 bit signed (RFC 3550 section 6.4.1).
    fn cumulative_lost(&self) -> i32 {
        i32::try_from(self.lost().clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0)
    }
}

/// The counters to compare with, and those of now.
fn since_last(prior: Option<Prior>, stream: &StreamSnapshot) -> (Prior, Prior) {
    let expected = u64::from(stream.highest_sequence.wrapping_sub(stream.first_sequence)) + 1;
    let mut before = prior.unwrap_or_default();
    let mut carried_lost = before.carried_lost;
    if stream.packets < before.received || expected < before.expected {
        carried_lost = before.lost();
        before = Prior {
            ssrc: before.ssrc,
            ..Prior::default()
        };
    }
    if before.ssrc != stream.ssrc_in {
        carried_lost = before.received.cast_signed() - before.expected.cast_signed();
    }
    (
        before,
        Prior {
            ssrc: stream.ssrc_in,
            expected,
            received: stream.packets,
            carried_lost,
        },
    )
}

/// The middle 32 bits of an NTP time.
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

fn in_65536ths(duration: Duration) -> u32 {
    u32::try_from((duration.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// Lost packets of an interval in 1/256; none if duplicates outweigh them (RFC 3550 A.3).
fn fraction_lost(expected: u64, received: u64) -> u8 {
    let lost = expected.saturating_sub(received);
    u8::try_from((lost << 8).checked_div(expected).unwrap_or(0)).unwrap_or(u8::MAX)
}

/// Makes room for one more by dropping the oldest.
fn bound<T>(list: &mut Vec<T>, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
