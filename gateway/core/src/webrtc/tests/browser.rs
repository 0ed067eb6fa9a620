//! str0m as the browser: real ICE, DTLS and SRTP of another code base, under virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use dimpl::{Config, Dtls};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m::crypto::{CryptoError, from_feature_flags};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::sdp::{Fingerprint, IceParameters};
use crate::webrtc::{ClientOffer, DTLS_SUITES};

/// What the browser's DTLS client offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// AES128_CM_HMAC_SHA1_80, what Chromium prefers.
    Cm,
    /// dimpl's own list, AEAD_AES_256_GCM first.
    GcmFirst,
    /// AEAD_AES_256_GCM and nothing else.
    GcmOnly,
    /// No `use_srtp`.
    Nothing,
}

impl Offer {
    fn client(self) -> ClientOffer {
        let [cm, _, long] = DTLS_SUITES;
        match self {
            Self::Cm => ClientOffer::new(&[cm]),
            Self::GcmFirst => ClientOffer::new(&DTLS_SUITES),
            Self::GcmOnly => ClientOffer::new(&[long]),
            Self::Nothing => ClientOffer::nothing(),
        }
    }
}

pub(super) struct Browser {
    rtc: Rtc,
    addr: SocketAddr,
    mid: Option<Mid>,
    pending: Option<SdpPendingOffer>,
    timeout: Instant,
    pub(super) sent: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) connected: bool,
    pub(super) received: Vec<(u16, Vec<u8>)>,
    pub(super) failed: bool,
    pub(super) closed: bool,
}

impl Browser {
    pub(super) fn new(now: Instant, addr: SocketAddr, version: DtlsVersion, offer: Offer) -> Self {
        let provider: &'static dyn DtlsProvider = match offer {
            Offer::Cm => &Provider(Offer::Cm),
            Offer::GcmFirst => &Provider(Offer::GcmFirst),
            Offer::GcmOnly => &Provider(Offer::GcmOnly),
            Offer::Nothing => &Provider(Offer::Nothing),
        };
        let crypto = CryptoProvider {
            dtls_provider: provider,
            ..from_feature_flags()
        };
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::new(crypto))
            .set_dtls_version(version)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_pcmu(true, false)
            .build(now);
        rtc.add_local_candidate(Candidate::host(addr, "udp").unwrap());
        Self {
            rtc,
            addr,
            mid: None,
            pending: None,
            timeout: now,
            sent: Vec::new(),
            connected: false,
            received: Vec::new(),
            failed: false,
            closed: false,
        }
    }

    /// An offer, again after an ICE restart.
    pub(super) fn offer(&mut self, restart: bool) -> String {
        let mut api = self.rtc.sdp_api();
        if restart {
            api.ice_restart(true);
        } else {
            self.mid = Some(api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None));
        }
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    pub(super) fn accept_answer(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc
            .sdp_api()
            .accept_answer(self.pending.take().unwrap(), answer)
            .unwrap();
    }

    pub(super) fn answer(&mut self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = self
            .rtc
            .sdp_api()
            .accept_offer(offer)
            .unwrap()
            .to_sdp_string();
        let mid = answer
            .lines()
            .find_map(|line| line.strip_prefix("a=mid:"))
            .unwrap();
        self.mid = Some(mid.trim().into());
        answer
    }

    /// The browser's network changed: a further local address.
    pub(super) fn move_to(&mut self, addr: SocketAddr) {
        self.addr = addr;
        self.rtc
            .add_local_candidate(Candidate::host(addr, "udp").unwrap());
    }

    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        if let Ok(receive) = Receive::new(Protocol::Udp, from, to, bytes) {
            self.input(Input::Receive(now, receive));
        }
        self.drain();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.input(Input::Timeout(now));
        self.drain();
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.timeout
    }

    pub(super) fn send_rtp(&mut self, now: Instant, sequence: u64, payload: &[u8]) {
        let mid = self.mid.unwrap();
        let timestamp = sequence as u32 * 160;
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).unwrap();
        stream.write_rtp(RtpWrite::new(
            0.into(),
            sequence.into(),
            timestamp,
            now,
            payload.to_vec(),
        ));
        self.handle_timeout(now);
    }

    /// Says `close_notify`.
    pub(super) fn close(&mut self, now: Instant) {
        self.rtc.close().unwrap();
        self.handle_timeout(now);
    }

    fn input(&mut self, input: Input<'_>) {
        if self.rtc.handle_input(input).is_err() {
            self.failed = true;
        }
    }

    fn drain(&mut self) {
        while !self.failed {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.timeout = at;
                    break;
                }
                Ok(Output::Transmit(transmit)) => {
                    self.sent
                        .push((transmit.source, transmit.contents.to_vec()));
                }
                Ok(Output::Event(Event::Connected)) => self.connected = true,
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    self.received
                        .push((packet.header.sequence_number, packet.payload.to_vec()));
                }
                Ok(Output::Event(Event::Closed)) => self.closed = true,
                Ok(_) => {}
                Err(_) => self.failed = true,
            }
        }
    }
}

/// ICE parameters and fingerprint of a description that str0m wrote.
pub(super) fn parameters(sdp: &str) -> (IceParameters, Vec<Fingerprint>) {
    let value = |name: &str| {
        sdp.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    };
    let (algorithm, hex_bytes) = value("a=fingerprint:").split_once(' ').unwrap();
    let ice = IceParameters {
        ufrag: value("a=ice-ufrag:").to_string(),
        password: value("a=ice-pwd:").to_string(),
        lite: false,
    };
    let bytes = hex::decode(hex_bytes.replace(':', "")).unwrap();
    (
        ice,
        vec![Fingerprint {
            algorithm: algorithm.to_string(),
            bytes,
        }],
    )
}

/// The gateway's description: audio with PCMU.
pub(super) fn description(
    ice: &IceParameters,
    fingerprint: &Fingerprint,
    local: SocketAddr,
    setup: &str,
    mid: &str,
) -> String {
    let hash = fingerprint
        .bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    let lite = if ice.lite { "a=ice-lite\r\n" } else { "" };
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{lite}a=group:BUNDLE {mid}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\n\
         a=candidate:1 1 udp 2130706431 {} {} typ host\r\n\
         a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:{} {hash}\r\na=setup:{setup}\r\n\
         a=mid:{mid}\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1234 cname:gw\r\n",
        local.ip(),
        local.port(),
        ice.ufrag,
        ice.password,
        fingerprint.algorithm,
    )
}

/// str0m's DTLS with a choice of what the client offers.
#[derive(Debug)]
struct Provider(Offer);

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let start = Start {
            certificate: certificate.clone(),
            now,
            version,
        };
        let engine = start.engine(Offer::GcmFirst);
        Ok(Box::new(Instance {
            engine,
            start,
            offer: self.0,
            scratch: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct Start {
    certificate: DtlsCert,
    now: Instant,
    version: DtlsVersion,
}

impl Start {
    fn engine(&self, offer: Offer) -> Dtls {
        let builder = Config::builder().use_server_cookie(false);
        let builder = match offer {
            Offer::GcmFirst => builder,
            other => builder.with_crypto_provider(other.client().crypto()),
        };
        let config = Arc::new(builder.build().unwrap());
        match self.version {
            DtlsVersion::Dtls12 => Dtls::new_12(config, self.certificate.clone(), self.now),
            DtlsVersion::Dtls13 => Dtls::new_13(config, self.certificate.clone(), self.now),
            _ => Dtls::new_auto(config, self.certificate.clone(), self.now),
        }
    }
}

#[derive(Debug)]
struct Instance {
    engine: Dtls,
    start: Start,
    offer: Offer,
    scratch: Vec<u8>,
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        if active {
            self.engine = self.start.engine(self.offer);
        }
        self.engine.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.engine.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let active = self.engine.is_active();
        // Through a second buffer, because a packet has to be changed before it is handed out.
        self.scratch.resize(buf.len(), 0);
        let mut copy = |bytes: &[u8]| {
            buf[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        };
        match self.engine.poll_output(&mut self.scratch) {
            DtlsOutput::Packet(packet) => {
                let length = copy(packet);
                let packet = &mut buf[..length];
                if active && self.offer != Offer::GcmFirst {
                    self.offer.client().rewrite(packet);
                }
                DtlsOutput::Packet(packet)
            }
            DtlsOutput::PeerCert(der) => {
                let length = copy(der);
                DtlsOutput::PeerCert(&buf[..length])
            }
            DtlsOutput::ApplicationData(data) => {
                let length = copy(data);
                DtlsOutput::ApplicationData(&buf[..length])
            }
            DtlsOutput::BufferTooSmall { needed } => DtlsOutput::BufferTooSmall { needed },
            DtlsOutput::Timeout(at) => DtlsOutput::Timeout(at),
            DtlsOutput::Connected => DtlsOutput::Connected,
            DtlsOutput::KeyingMaterial(material, profile) => {
                DtlsOutput::KeyingMaterial(material, profile)
            }
            _ => DtlsOutput::CloseNotify,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.engine.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.engine.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.engine.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.engine.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.engine.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.engine.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.engine.close()
    }
}
