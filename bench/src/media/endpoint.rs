//! One end of one call's audio: an RTP and an RTCP socket, and the task that serves them.
//!
//! The task owns all state; the outside sends plans in and reads statistics out. It ends, with an RTCP BYE, when the endpoint is
//! dropped.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gateway_core::Random;
use gateway_core::rtp::{
    ReceiverReport, ReportBlock, Rtcp, SdesChunk, SenderReport, interval, ntp_from_unix,
    parse_compound, write_compound,
};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{MediaStats, Plan, Reception, RtpHeader, Source};
use crate::audio::{G711, Meter, PACKET_SAMPLES, TONE_HZ, Tone};

/// Tries to find a free pair of an even and the next port.
const PORT_TRIES: usize = 64;
/// Datagrams read before the timers get their turn.
const BATCH: usize = 32;
const MAX_DIGITS: usize = 256;
const TONE_DBFS: f64 = -20.0;
const PACKET_TIME: Duration = Duration::from_millis(20);

/// An open endpoint. It must be made inside a tokio runtime.
#[derive(Debug)]
pub struct Endpoint {
    local: SocketAddr,
    plan: watch::Sender<Option<Plan>>,
    stats: Arc<Mutex<MediaStats>>,
}

impl Endpoint {
    /// Binds an even port for RTP and the next one for RTCP.
    ///
    /// # Errors
    /// The address is not ours, or no pair of ports is free.
    pub fn open(ip: IpAddr, random: Random) -> io::Result<Self> {
        let (rtp, rtcp) = bind_pair(ip)?;
        let local = rtp.local_addr()?;
        let (plan, plans) = watch::channel(None);
        let stats = Arc::new(Mutex::new(MediaStats::default()));
        let session = Session {
            send_rtp: rtp.try_clone()?,
            send_rtcp: rtcp.try_clone()?,
            rtp: tokio::net::UdpSocket::from_std(rtp)?,
            rtcp: tokio::net::UdpSocket::from_std(rtcp)?,
            plan: None,
            voice: Voice::new(random),
            reception: Reception::default(),
            meter: Meter::new(TONE_HZ),
            last_event: None,
            last_report: None,
            stats: stats.clone(),
        };
        tokio::spawn(session.run(plans));
        Ok(Self { local, plan, stats })
    }

    /// Our RTP address; RTCP is on the next port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Starts, or goes on with another plan.
    pub fn start(&self, plan: Plan) {
        self.plan.send_replace(Some(plan));
    }

    /// What was seen and done so far.
    pub fn stats(&self) -> MediaStats {
        lock(&self.stats).clone()
    }
}

fn lock(stats: &Mutex<MediaStats>) -> MutexGuard<'_, MediaStats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind_pair(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..PORT_TRIES {
        let rtp = UdpSocket::bind((ip, 0))?;
        let port = rtp.local_addr()?.port();
        if port % 2 != 0 {
            continue;
        }
        let Ok(rtcp) = UdpSocket::bind((ip, port + 1)) else {
            continue;
        };
        rtp.set_nonblocking(true)?;
        rtcp.set_nonblocking(true)?;
        return Ok((rtp, rtcp));
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "no free pair of ports for RTP and RTCP",
    ))
}

/// The task's state.
struct Session {
    rtp: tokio::net::UdpSocket,
    rtcp: tokio::net::UdpSocket,
    /// The same sockets, not known to the reactor, which takes a new socket for a full one until it has looked.
    send_rtp: UdpSocket,
    send_rtcp: UdpSocket,
    plan: Option<Plan>,
    voice: Voice,
    reception: Reception,
    meter: Meter,
    /// Timestamp of the newest DTMF event.
    last_event: Option<u32>,
    /// Newest sender report of the peer: middle of its NTP time, and when it came.
    last_report: Option<(u32, Instant)>,
    stats: Arc<Mutex<MediaStats>>,
}

/// Our outgoing stream.
struct Voice {
    random: Random,
    ssrc: u32,
    cname: String,
    sequence: u16,
    timestamp: u32,
    /// Added to the timestamps of an echo.
    offset: u32,
    sent_at: Option<Instant>,
    tone: Tone,
    packet: Vec<u8>,
}

impl Voice {
    fn new(mut random: Random) -> Self {
        Self {
            ssrc: random.u32(),
            cname: random.token(12),
            // Below 2^15 (RFC 3711 section 3.3.1), in case the other leg is SRTP.
            sequence: random.u32() as u16 & 0x7fff,
            timestamp: random.u32(),
            offset: random.u32(),
            sent_at: None,
            tone: Tone::new(TONE_HZ, TONE_DBFS),
            packet: Vec::with_capacity(1500),
            random,
        }
    }
}

impl Session {
    async fn run(mut self, mut plans: watch::Receiver<Option<Plan>>) {
        let mut pace = tokio::time::interval(PACKET_TIME);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let first = interval(&mut self.voice.random) / 2;
        let mut report_at = tokio::time::Instant::now() + first;
        let mut buffer = vec![0; 2048];
        let mut control = vec![0; 2048];
        loop {
            let paced = self.is_paced();
            tokio::select! {
                changed = plans.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let plan = *plans.borrow_and_update();
                    if !paced {
                        pace.reset_immediately();
                    }
                    self.plan = plan;
                }
                received = self.rtp.recv_from(&mut buffer) => {
                    let mut received = received;
                    for _ in 0..BATCH {
                        // Errors are answers to packets of ours (port unreachable): the peer may not be there yet.
                        let Ok((length, from)) = received else { break };
                        self.receive(from, &buffer[..length]);
                        received = self.rtp.try_recv_from(&mut buffer);
                    }
                }
                received = self.rtcp.recv_from(&mut control) => {
                    if let Ok((length, from)) = received {
                        self.receive_rtcp(from, &control[..length]);
                    }
                }
                _ = pace.tick(), if paced => self.send_tone(),
                () = tokio::time::sleep_until(report_at) => {
                    self.send_report(false);
                    report_at = tokio::time::Instant::now() + interval(&mut self.voice.random);
                }
            }
        }
        self.send_report(true);
    }

    fn is_paced(&self) -> bool {
        self.plan
            .is_some_and(|plan| plan.source == Source::Tone && plan.sends)
    }

    fn receive(&mut self, from: SocketAddr, packet: &[u8]) {
        let now = Instant::now();
        let expected = self.plan.filter(|plan| plan.rtp.ip() == from.ip());
        let parsed = expected.and_then(|plan| {
            let (header, payload) = RtpHeader::parse(packet)?;
            let known = header.payload_type == plan.payload_type
                || Some(header.payload_type) == plan.events;
            known.then_some((plan, header, payload))
        });
        let Some((plan, header, payload)) = parsed else {
            lock(&self.stats).foreign += 1;
            return;
        };
        let new = self
            .reception
            .push(now, &header, payload.len(), plan.clock_hz);
        if new && Some(header.payload_type) == plan.events {
            self.receive_event(&header, payload);
        } else if new && let Some(codec) = plan.codec {
            for byte in payload {
                self.meter.push(codec.decode(*byte));
            }
        }
        let mut stats = lock(&self.stats);
        stats.received.clone_from(self.reception.stats());
        stats.audio = self.meter.level();
        drop(stats);
        if plan.source == Source::Echo && plan.sends {
            let timestamp = header.timestamp.wrapping_add(self.voice.offset);
            let reply = RtpHeader {
                timestamp,
                ..header
            };
            self.send(&plan, reply, payload, now);
        }
    }

    /// One event is sent in many packets of one timestamp (RFC 4733 section 2.5.1).
    fn receive_event(&mut self, header: &RtpHeader, payload: &[u8]) {
        if payload.len() < 4 || self.last_event == Some(header.timestamp) {
            return;
        }
        self.last_event = Some(header.timestamp);
        let digit = b"0123456789*#ABCD".get(usize::from(payload[0]));
        let mut stats = lock(&self.stats);
        if let Some(digit) = digit
            && stats.digits.len() < MAX_DIGITS
        {
            stats.digits.push(char::from(*digit));
        }
    }

    fn send_tone(&mut self) {
        let Some((plan, codec)) = self.plan.and_then(|plan| Some((plan, plan.codec?))) else {
            return;
        };
        let now = Instant::now();
        let payload: Vec<u8> = self.next_samples(codec);
        let header = RtpHeader {
            marker: self.voice.sent_at.is_none(),
            payload_type: plan.payload_type,
            sequence: 0,
            timestamp: self.voice.timestamp.wrapping_add(PACKET_SAMPLES as u32),
            ssrc: 0,
        };
        self.send(&plan, header, &payload, now);
    }

    fn next_samples(&mut self, codec: G711) -> Vec<u8> {
        let tone = &mut self.voice.tone;
        (0..PACKET_SAMPLES)
            .map(|_| codec.encode(tone.sample()))
            .collect()
    }

    /// Sends under our SSRC and sequence; the rest of the header is the caller's.
    fn send(&mut self, plan: &Plan, header: RtpHeader, payload: &[u8], now: Instant) {
        let voice = &mut self.voice;
        voice.sequence = voice.sequence.wrapping_add(1);
        voice.timestamp = header.timestamp;
        voice.sent_at = Some(now);
        let header = RtpHeader {
            sequence: voice.sequence,
            ssrc: voice.ssrc,
            ..header
        };
        header.write(payload, &mut voice.packet);
        // A full socket buffer loses the packet, as a network would; the peer's statistics show it.
        if self.send_rtp.send_to(&voice.packet, plan.rtp).is_ok() {
            let mut stats = lock(&self.stats);
            stats.sent_packets += 1;
            stats.sent_octets += payload.len() as u64;
        }
    }

    fn receive_rtcp(&mut self, from: SocketAddr, bytes: &[u8]) {
        if self.plan.is_none_or(|plan| plan.rtcp.ip() != from.ip()) {
            lock(&self.stats).foreign += 1;
            return;
        }
        let Ok(packets) = parse_compound(bytes) else {
            lock(&self.stats).rtcp.malformed += 1;
            return;
        };
        for packet in packets {
            match packet {
                Rtcp::Sender(report) => {
                    self.last_report = Some(((report.ntp >> 16) as u32, Instant::now()));
                    lock(&self.stats).rtcp.sender_reports += 1;
                    self.receive_blocks(&report.blocks);
                }
                Rtcp::Receiver(report) => {
                    lock(&self.stats).rtcp.receiver_reports += 1;
                    self.receive_blocks(&report.blocks);
                }
                Rtcp::Bye { .. } => lock(&self.stats).rtcp.byes += 1,
                Rtcp::Sdes(_)
                | Rtcp::Nack(_)
                | Rtcp::Pli(_)
                | Rtcp::Fir(_)
                | Rtcp::Remb(_)
                | Rtcp::Other { .. } => {}
            }
        }
    }

    fn receive_blocks(&mut self, blocks: &[ReportBlock]) {
        let Some(block) = blocks.iter().find(|block| block.ssrc == self.voice.ssrc) else {
            return;
        };
        let mut stats = lock(&self.stats);
        stats.rtcp.peer_lost = Some(block.cumulative_lost);
        if block.last_sr != 0 {
            // RFC 3550 section 6.4.1: arrival less LSR less DLSR, in 1/65536 s.
            let waited = ((ntp_now() >> 16) as u32)
                .wrapping_sub(block.last_sr)
                .wrapping_sub(block.delay_since_last_sr);
            stats.rtcp.round_trip_ms = Some(f64::from(waited as i32).max(0.0) / 65.536);
        }
    }

    /// SR where we send, else RR; SDES; BYE at the end.
    fn send_report(&mut self, last: bool) {
        let Some(plan) = self.plan else { return };
        let blocks = self.reception.report().map(|block| ReportBlock {
            last_sr: self.last_report.map_or(0, |(ntp, _)| ntp),
            delay_since_last_sr: self
                .last_report
                .map_or(0, |(_, at)| (at.elapsed().as_secs_f64() * 65536.0) as u32),
            ..block
        });
        let blocks: Vec<_> = blocks.into_iter().collect();
        let voice = &self.voice;
        let report = match voice.sent_at {
            Some(at) => {
                let stats = lock(&self.stats);
                let since = at.elapsed().as_secs_f64() * f64::from(plan.clock_hz);
                Rtcp::Sender(SenderReport {
                    ssrc: voice.ssrc,
                    ntp: ntp_now(),
                    rtp: voice.timestamp.wrapping_add(since as u32),
                    packets: stats.sent_packets as u32,
                    octets: stats.sent_octets as u32,
                    blocks,
                })
            }
            None => Rtcp::Receiver(ReceiverReport {
                ssrc: voice.ssrc,
                blocks,
            }),
        };
        let name = Rtcp::Sdes(vec![SdesChunk {
            ssrc: voice.ssrc,
            cname: Some(voice.cname.clone()),
        }]);
        let mut packets = vec![report, name];
        if last {
            packets.push(Rtcp::Bye {
                ssrcs: vec![voice.ssrc],
                reason: None,
            });
        }
        let bytes = write_compound(&packets);
        if self.send_rtcp.send_to(&bytes, plan.rtcp).is_ok() {
            lock(&self.stats).rtcp.sent += 1;
        }
    }
}

fn ntp_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    ntp_from_unix(since.unwrap_or_default())
}
