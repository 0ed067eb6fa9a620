//! The media side of a page without I/O: str0m, the outgoing voice and the ear.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::config::DtlsVersion;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use super::dtls;
use super::heard::{Heard, RoundTrip, ms};
use super::voice::{Codec, Packet, Sound, Voice};

/// How a peer is made.
#[derive(Clone, Copy, Debug)]
pub struct PeerConfig {
    /// Address of its socket, also its only ICE candidate.
    pub local: SocketAddr,
    /// The codec that it offers or takes.
    pub codec: Codec,
    /// What it sends.
    pub sound: Sound,
    /// DTLS versions that it speaks.
    pub dtls: DtlsVersion,
}

/// A datagram to send from the peer's socket.
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a peer sent and heard.
#[derive(Clone, Debug, Serialize)]
pub struct MediaReport {
    /// From the creation of the peer to the end of its DTLS handshake; absent if that did not come.
    pub secured_ms: Option<f64>,
    /// From there to the first RTP packet heard.
    pub first_packet_ms: Option<f64>,
    /// DTLS version: `1.2` or `1.3`.
    pub dtls: Option<&'static str>,
    /// Packets sent.
    pub sent: u64,
    /// Packets that were not sent because the process was too late for them.
    pub skipped: u64,
    /// Packets heard.
    pub received: u64,
    /// Payload octets heard.
    pub octets: u64,
    /// Packets missing in what was heard, by sequence number.
    pub lost: i64,
    /// Jumps ahead in the sequence.
    pub gaps: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// SSRCs heard, in order of appearance.
    pub ssrcs: Vec<u32>,
    /// Interarrival jitter, milliseconds.
    pub jitter_ms: f64,
    /// Round trips of our own packets; absent when none came back.
    pub round_trip: Option<RoundTrip>,
}

/// One end of a media connection.
pub struct Peer {
    rtc: Rtc,
    config: PeerConfig,
    mid: Option<Mid>,
    pending: Option<SdpPendingOffer>,
    voice: Voice,
    heard: Heard,
    created: Instant,
    secured: Option<Instant>,
    first_packet: Option<Instant>,
    rtc_timeout: Instant,
    transmits: VecDeque<Transmit>,
    echoes: VecDeque<Vec<u8>>,
    error: Option<String>,
}

impl Peer {
    /// A peer that neither offered nor answered yet. `owner` is a random number of its own.
    pub fn new(config: PeerConfig, owner: u32, now: Instant) -> Result<Self> {
        let builder = RtcConfig::new()
            .set_crypto_provider(Arc::new(dtls::provider()))
            .set_dtls_version(config.dtls)
            .set_rtp_mode(true)
            .clear_codecs();
        let builder = match config.codec {
            Codec::Pcmu => builder.enable_pcmu(true, false),
            Codec::Opus => builder.enable_opus(true, false),
        };
        let mut rtc = builder.build(now);
        let candidate = Candidate::host(config.local, Protocol::Udp).context("local address")?;
        rtc.add_local_candidate(candidate);
        Ok(Self {
            rtc,
            config,
            mid: None,
            pending: None,
            voice: Voice::new(config.codec, owner, now),
            heard: Heard::new(config.codec.clock_hz()),
            created: now,
            secured: None,
            first_packet: None,
            rtc_timeout: now,
            transmits: VecDeque::new(),
            echoes: VecDeque::new(),
            error: None,
        })
    }

    /// An offer; with `restart` one that restarts ICE of a connection that stands.
    pub fn offer(&mut self, restart: bool) -> Result<String> {
        let mut api = self.rtc.sdp_api();
        if restart {
            api.ice_restart(true);
        } else {
            ensure!(self.mid.is_none(), "offered already");
            self.mid = Some(api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None));
        }
        let (offer, pending) = api.apply().context("nothing to offer")?;
        self.pending = Some(pending);
        Ok(offer.to_sdp_string())
    }

    /// The answer to our offer.
    pub fn accept_answer(&mut self, answer: &str, now: Instant) -> Result<()> {
        let pending = self.pending.take().context("no offer is open")?;
        let answer = SdpAnswer::from_sdp_string(answer).context("the answer is no SDP")?;
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .context("the answer does not fit the offer")?;
        self.payload_type()?;
        self.handle_timeout(now);
        Ok(())
    }

    /// Our answer to an offer.
    pub fn answer(&mut self, offer: &str, now: Instant) -> Result<String> {
        let offer = SdpOffer::from_sdp_string(offer).context("the offer is no SDP")?;
        let answer = self
            .rtc
            .sdp_api()
            .accept_offer(offer)
            .context("the offer cannot be accepted")?;
        let answer = answer.to_sdp_string();
        let mid = answer
            .lines()
            .find_map(|line| line.strip_prefix("a=mid:"))
            .context("no media")?;
        self.mid = Some(mid.trim().into());
        self.payload_type()?;
        self.handle_timeout(now);
        Ok(answer)
    }

    /// Takes a datagram from the peer's socket.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        // What is neither STUN, DTLS nor RTP is noise.
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.config.local, bytes) {
            self.input(Input::Receive(now, receive));
            self.drain(now);
        }
        while let Some(payload) = self.echoes.pop_front() {
            let packet = self.voice.packet(payload);
            self.send(now, packet);
        }
    }

    /// Runs what is due at `now`: str0m's timers and the voice.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.input(Input::Timeout(now));
        self.drain(now);
        while let Some(packet) = self.voice.poll_packet(now) {
            self.send(now, packet);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.rtc.is_alive().then(|| {
            self.voice
                .poll_timeout()
                .map_or(self.rtc_timeout, |at| at.min(self.rtc_timeout))
        })
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Stops speaking; what is on its way can still be heard.
    pub fn stop_speaking(&mut self) {
        self.voice.stop();
        self.config.sound = Sound::Silent;
    }

    /// Says goodbye (RTCP BYE, close_notify).
    pub fn close(&mut self, now: Instant) {
        self.stop_speaking();
        if let Err(error) = self.rtc.close() {
            self.error.get_or_insert_with(|| error.to_string());
        }
        self.drain(now);
    }

    /// Whether the DTLS handshake is done.
    pub fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    /// Why the connection broke, if it did.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What was heard so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The report so far.
    pub fn report(&mut self) -> MediaReport {
        let dtls = self
            .secured
            .and_then(|_| match self.rtc.direct_api().dtls_protocol_version() {
                Some(dimpl::ProtocolVersion::DTLS1_3) => Some("1.3"),
                Some(dimpl::ProtocolVersion::DTLS1_2) => Some("1.2"),
                _ => None,
            });
        MediaReport {
            secured_ms: self.secured.map(|at| ms(self.created, at)),
            first_packet_ms: self
                .first_packet
                .zip(self.secured)
                .map(|(first, secured)| ms(secured, first)),
            dtls,
            sent: self.voice.sent(),
            skipped: self.voice.skipped(),
            received: self.heard.packets,
            octets: self.heard.octets,
            lost: self.heard.lost(),
            gaps: self.heard.gaps,
            reordered: self.heard.reordered,
            ssrcs: self.heard.ssrcs.clone(),
            jitter_ms: self.heard.jitter_ms(),
            round_trip: RoundTrip::of(&self.heard.round_trips),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.rtc.handle_input(input) {
            self.fail(error.to_string());
        }
    }

    fn fail(&mut self, error: String) {
        self.error.get_or_insert(error);
        self.voice.stop();
        self.rtc.disconnect();
    }

    fn drain(&mut self, now: Instant) {
        while self.rtc.is_alive() {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.rtc_timeout = at;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    let bytes = transmit.contents.to_vec();
                    self.transmits.push_back(Transmit {
                        to: transmit.destination,
                        bytes,
                    });
                }
                Ok(Output::Event(event)) => self.event(now, event),
                Err(error) => self.fail(error.to_string()),
            }
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connected => {
                self.secured = Some(now);
                if self.config.sound == Sound::Marked {
                    self.voice.start(now);
                }
            }
            Event::RtpPacket(packet) => self.hear(now, packet),
            _ => {}
        }
    }

    fn hear(&mut self, now: Instant, packet: RtpPacket) {
        self.first_packet.get_or_insert(now);
        let header = &packet.header;
        let arrival = now.duration_since(self.created);
        self.heard.record(
            arrival,
            *header.ssrc,
            header.sequence_number,
            header.timestamp,
            packet.payload.len(),
        );
        if let Some(time) = self.voice.round_trip(now, &packet.payload) {
            self.heard.round_trip(time);
        }
        if self.config.sound == Sound::Echo {
            self.echoes.push_back(packet.payload.to_vec());
        }
    }

    fn send(&mut self, now: Instant, packet: Packet) {
        let (Some(mid), Ok(payload_type)) = (self.mid, self.payload_type()) else {
            return;
        };
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, None) else {
            return;
        };
        let sequence = packet.sequence.into();
        stream.write_rtp(RtpWrite::new(
            payload_type,
            sequence,
            packet.timestamp,
            now,
            packet.payload,
        ));
        // str0m wants to see the time between two writes, and hands the datagram out only then.
        self.input(Input::Timeout(now));
        self.drain(now);
    }

    /// The payload type that the other side takes for our codec.
    fn payload_type(&self) -> Result<Pt> {
        let wanted = match self.config.codec {
            Codec::Pcmu => str0m::format::Codec::PCMU,
            Codec::Opus => str0m::format::Codec::Opus,
        };
        let media = self
            .mid
            .and_then(|mid| self.rtc.media(mid))
            .context("no media")?;
        for parameters in self.rtc.codec_config().params() {
            if parameters.spec().codec == wanted && media.remote_pts().contains(&parameters.pt()) {
                return Ok(parameters.pt());
            }
        }
        bail!(
            "{:?} is not among the negotiated payload types",
            self.config.codec
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(
        addr: &str,
        codec: Codec,
        sound: Sound,
        dtls: DtlsVersion,
        owner: u32,
        now: Instant,
    ) -> Peer {
        Peer::new(
            PeerConfig {
                local: addr.parse().unwrap(),
                codec,
                sound,
                dtls,
            },
            owner,
            now,
        )
        .unwrap()
    }

    /// Runs two peers on a link of 5 ms for a time.
    fn run(now: &mut Instant, peers: &mut [Peer; 2], duration: Duration) {
        let end = *now + duration;
        let mut link: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
        while *now < end {
            for (index, peer) in peers.iter_mut().enumerate() {
                while let Some(transmit) = peer.poll_transmit() {
                    link.push_back((*now + Duration::from_millis(5), 1 - index, transmit.bytes));
                }
            }
            *now += Duration::from_millis(1);
            while link.front().is_some_and(|(at, ..)| at <= now) {
                let (_, to, bytes) = link.pop_front().unwrap();
                let from = peers[1 - to].config.local;
                peers[to].handle_datagram(*now, from, &bytes);
            }
            for peer in peers.iter_mut() {
                if peer.poll_timeout().is_some_and(|at| at <= *now) {
                    peer.handle_timeout(*now);
                }
            }
        }
    }

    #[test]
    fn a_speaker_measures_its_round_trip_against_an_echo() {
        for (codec, dtls) in [
            (Codec::Pcmu, DtlsVersion::Auto),
            (Codec::Opus, DtlsVersion::Dtls12),
        ] {
            let mut now = Instant::now();
            let mut peers = [
                peer(
                    "192.0.2.1:1000",
                    codec,
                    Sound::Marked,
                    dtls,
                    0x1234_5678,
                    now,
                ),
                peer("192.0.2.2:2000", codec, Sound::Echo, dtls, 0x9abc_def0, now),
            ];
            let offer = peers[0].offer(false).unwrap();
            let answer = peers[1].answer(&offer, now).unwrap();
            peers[0].accept_answer(&answer, now).unwrap();
            run(&mut now, &mut peers, Duration::from_secs(4));
            peers[0].stop_speaking();
            run(&mut now, &mut peers, Duration::from_millis(200));

            let report = peers[0].report();
            assert_eq!(
                report.dtls,
                Some(if dtls == DtlsVersion::Dtls12 {
                    "1.2"
                } else {
                    "1.3"
                })
            );
            assert!(report.sent > 150, "{report:?}");
            assert_eq!(peers[1].report().received, report.sent, "{codec:?}");
            assert_eq!(
                (report.received, report.lost),
                (report.sent, 0),
                "{codec:?}"
            );
            let round_trip = report.round_trip.unwrap();
            assert_eq!(round_trip.count, report.sent);
            assert!(
                (9_800..13_000).contains(&round_trip.p50_us),
                "{round_trip:?}"
            );
            assert_eq!(report.ssrcs.len(), 1);
        }
    }

    #[test]
    fn an_answer_without_the_codec_is_an_error() {
        let now = Instant::now();
        let dtls = DtlsVersion::Auto;
        let mut one = peer("192.0.2.1:1000", Codec::Pcmu, Sound::Marked, dtls, 1, now);
        let mut two = peer("192.0.2.2:2000", Codec::Opus, Sound::Marked, dtls, 2, now);
        let offer = one.offer(false).unwrap();
        assert!(two.answer(&offer, now).is_err());
        assert!(two.answer("v=0", now).is_err());
        assert!(one.accept_answer("nonsense", now).is_err());
    }
}
