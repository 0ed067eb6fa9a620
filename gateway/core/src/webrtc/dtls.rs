//! One DTLS association of a leg: handshake, fingerprint check, key export (RFC 5764, RFC 6347, RFC 9147).
//!
//! Wraps `dimpl` and adds what it leaves to the caller: no key comes out before the certificate matched, an association
//! without `use_srtp` is an error, and packets that a reordering network delivers before the server's first answer wait
//! instead of breaking the handshake. Driven by [`super::Leg`], which decides whose packets get here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, Output, ProtocolVersion, SecurityError, SrtpProfile};
use flow::Suite;
use zeroize::Zeroizing;

use super::leg::{HANDSHAKE_TIMEOUT, LegError};
use super::use_srtp::{narrowed, server_crypto};
use super::{Certificate, ClientOffer, DTLS_SUITES, fingerprint};
use crate::rtp::{MasterKeys, split_dtls_export};
use crate::sdp::Fingerprint;

/// First retransmission; dimpl's default of 1 s is felt as a late start of the call.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// Doublings of the retransmission time that fit in any sensible handshake time-out.
const RETRANSMISSIONS: usize = 8;
/// Largest datagram that the handshake sends: fits IPv6's minimum MTU of 1280 with headers.
const DATAGRAM_BYTES: usize = 1200;
/// Room for one output of the engine; certificates of peers are the largest.
const BUFFER_BYTES: usize = 2048;
/// Packets kept until the server's first answer tells the version.
const EARLY_PACKETS: usize = 16;

/// Record types and handshake messages that tell the server's version (RFC 6347 section 4.2, RFC 8446 section 4).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const FATAL: u8 = 2;
const RECORD_HEADER: usize = 13;

/// Who starts the handshake (RFC 8842 section 5.2, `a=setup`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DtlsRole {
    /// We are the DTLS client: `a=setup:active`.
    Active,
    /// The peer is the DTLS client: `a=setup:passive`.
    Passive,
}

/// Protocol configuration that all legs share.
#[derive(Clone)]
pub struct DtlsSettings {
    client: Arc<Config>,
    server: Arc<Config>,
    /// Best first.
    suites: Arc<[Suite]>,
    offer: ClientOffer,
}

impl DtlsSettings {
    /// The settings for a handshake that may take this long before the engine gives up, and may agree on these of
    /// [`DTLS_SUITES`], the best first.
    pub fn new(handshake_timeout: Duration, suites: &[Suite]) -> Self {
        let offer = ClientOffer::new(suites);
        let build = |builder: dimpl::ConfigBuilder| {
            let config = builder
                .mtu(DATAGRAM_BYTES)
                .flight_start_rto(FIRST_RETRANSMISSION)
                .flight_retries(RETRANSMISSIONS)
                .handshake_timeout(handshake_timeout.max(Duration::from_millis(1)))
                // ICE has already proven that the peer receives at this address.
                .use_server_cookie(false)
                .build();
            Arc::new(config.expect("constants and a time-out above zero are in range"))
        };
        Self {
            client: build(Config::builder().with_crypto_provider(offer.crypto())),
            server: build(Config::builder().with_crypto_provider(server_crypto())),
            suites: suites.into(),
            offer,
        }
    }
}

impl Default for DtlsSettings {
    /// 10 s for the handshake, any profile.
    fn default() -> Self {
        Self::new(HANDSHAKE_TIMEOUT, &DTLS_SUITES)
    }
}

/// What a verified association yields. The keys have no `Debug`.
pub struct Secured {
    /// Master key and salt that we encrypt with.
    pub local: MasterKeys,
    /// Master key and salt that the peer encrypts with.
    pub remote: MasterKeys,
    /// The negotiated protection profile.
    pub suite: Suite,
    /// `"DTLS 1.2"` or `"DTLS 1.3"`.
    pub tls_version: &'static str,
}

/// What happened in the association.
pub(super) enum DtlsEvent {
    Secured(Secured),
    Closed,
}

/// The association. Its errors are final.
pub(super) struct Association {
    engine: Dtls,
    role: DtlsRole,
    suites: Arc<[Suite]>,
    offer: ClientOffer,
    fingerprints: Vec<Fingerprint>,
    timeout: Option<Instant>,
    early: VecDeque<Vec<u8>>,
    datagrams: VecDeque<Vec<u8>>,
    events: VecDeque<DtlsEvent>,
    verified: bool,
    connected: bool,
    export: Option<(Zeroizing<Vec<u8>>, SrtpProfile)>,
}

impl Association {
    /// Starts an association; the client's first flight can be polled at once.
    pub(super) fn new(
        settings: &DtlsSettings,
        certificate: &Certificate,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        now: Instant,
    ) -> Result<Self, LegError> {
        let config = match role {
            DtlsRole::Active => &settings.client,
            DtlsRole::Passive => &settings.server,
        };
        let mut engine = Dtls::new_auto(Arc::clone(config), certificate.for_dtls(), now);
        if role == DtlsRole::Active {
            engine.set_active(true);
        }
        let mut association = Self {
            engine,
            role,
            suites: Arc::clone(&settings.suites),
            offer: settings.offer,
            fingerprints,
            timeout: None,
            early: VecDeque::new(),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
            verified: false,
            connected: false,
            export: None,
        };
        association.handle_timeout(now)?;
        Ok(association)
    }

    /// The handshake is over: hardly anything comes through here any more.
    pub(super) fn settle(&mut self) {
        self.early = VecDeque::new();
        self.datagrams.shrink_to_fit();
        self.events.shrink_to_fit();
    }

    /// Takes a datagram that came from an address which ICE has checked.
    pub(super) fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) -> Result<(), LegError> {
        self.engine.handle_timeout(now).map_err(engine_error)?;
        if self.role == DtlsRole::Active && self.engine.protocol_version().is_none() {
            return self.handle_first_answer(bytes);
        }
        let narrowed = if self.role == DtlsRole::Passive {
            narrowed(bytes, &self.suites)
        } else {
            None
        };
        let bytes = narrowed.as_deref().unwrap_or(bytes);
        self.engine.handle_packet(bytes).map_err(engine_error)?;
        self.drain()
    }

    /// The version is open until the server's hello: dimpl takes nothing else as the first packet, the network may.
    fn handle_first_answer(&mut self, bytes: &[u8]) -> Result<(), LegError> {
        let body = bytes.get(RECORD_HEADER..).unwrap_or_default();
        match (bytes.first(), body) {
            (Some(&HANDSHAKE), [SERVER_HELLO | HELLO_VERIFY_REQUEST, ..])
                if whole_fragment(bytes) =>
            {
                self.engine.handle_packet(bytes).map_err(engine_error)?;
                for packet in std::mem::take(&mut self.early) {
                    self.engine.handle_packet(&packet).map_err(engine_error)?;
                }
                self.drain()
            }
            (Some(&ALERT), &[FATAL, description]) => Err(LegError::Alert(description)),
            _ => {
                if self.early.len() < EARLY_PACKETS {
                    self.early.push_back(bytes.to_vec());
                }
                Ok(())
            }
        }
    }

    /// Runs what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), LegError> {
        self.engine.handle_timeout(now).map_err(engine_error)?;
        self.drain()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// The next datagram to send.
    pub(super) fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }

    /// The next event.
    pub(super) fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// Queues a `close_notify`; without an established association there is nothing to say.
    pub(super) fn close(&mut self) {
        if self.connected && self.engine.close().is_ok() {
            // The leg ends here: whatever else the engine has to say is of no use to it.
            let _ = self.drain();
        }
    }

    fn drain(&mut self) -> Result<(), LegError> {
        // The keying material passes through it. Nothing keeps it: a standing call hardly ever comes here.
        let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
        loop {
            match self.engine.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    let mut packet = packet.to_vec();
                    if self.role == DtlsRole::Active {
                        self.offer.rewrite(&mut packet);
                    }
                    self.datagrams.push_back(packet);
                }
                Output::BufferTooSmall { needed } => buffer = Zeroizing::new(vec![0; needed]),
                Output::PeerCert(der) => {
                    if !fingerprint::matches(der, &self.fingerprints) {
                        self.datagrams.clear();
                        return Err(LegError::FingerprintMismatch);
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    self.export = Some((Zeroizing::new(material.to_vec()), profile));
                }
                Output::Connected => self.connected = true,
                Output::CloseNotify => self.events.push_back(DtlsEvent::Closed),
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    break;
                }
                // Application data: nothing but SRTP was negotiated (no data channel).
                _ => {}
            }
        }
        if self.connected && !self.fingerprints.is_empty() {
            let secured = self.secured()?;
            self.fingerprints = Vec::new();
            self.events.push_back(DtlsEvent::Secured(secured));
        }
        Ok(())
    }

    /// The keys of a connected association, if everything that they depend on was right.
    fn secured(&mut self) -> Result<Secured, LegError> {
        if !self.verified {
            return Err(LegError::NoCertificate);
        }
        let (material, profile) = self.export.take().ok_or(LegError::NoSrtp)?;
        let suite = match profile {
            SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1_80,
            SrtpProfile::AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
            SrtpProfile::AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
            other => return Err(LegError::UnsupportedProfile(other.to_string())),
        };
        if !self.suites.contains(&suite) {
            return Err(LegError::UnsupportedProfile(profile.to_string()));
        }
        let (local, remote) = split_dtls_export(suite, &material, self.role == DtlsRole::Active)
            .ok_or_else(|| LegError::Dtls("key export of a wrong length".to_string()))?;
        let tls_version = match self.engine.protocol_version() {
            Some(ProtocolVersion::DTLS1_3) => "DTLS 1.3",
            _ => "DTLS 1.2",
        };
        Ok(Secured {
            local,
            remote,
            suite,
            tls_version,
        })
    }
}

/// Whether the first record holds its handshake fragment completely, so that the engine can read the version from it.
fn whole_fragment(datagram: &[u8]) -> bool {
    const FRAGMENT_HEADER: usize = 12;
    let Some(record) = datagram.get(RECORD_HEADER..) else {
        return false;
    };
    let Some(&[high, middle, low]) = record.get(9..FRAGMENT_HEADER) else {
        return false;
    };
    let fragment = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let length = usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
    length >= FRAGMENT_HEADER + fragment && record.len() >= length
}

fn engine_error(error: dimpl::Error) -> LegError {
    match error {
        dimpl::Error::SecurityError(SecurityError::FatalAlert { description }) => {
            LegError::Alert(description)
        }
        dimpl::Error::Timeout(_) => LegError::HandshakeTimeout,
        other => LegError::Dtls(other.to_string()),
    }
}
