//! DTLS for str0m with the SRTP profile that browsers prefer and the gateway can do.
//!
//! str0m's own DTLS lists AEAD_AES_256_GCM first and cannot be told otherwise. This one is the same engine with the
//! client's offer narrowed to AES128_CM_HMAC_SHA1_80, by the means of `gateway_core::webrtc::ClientOffer`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dimpl::{Config, Dtls};
use flow::Suite;
use gateway_core::webrtc::{ClientOffer, narrowed, server_crypto};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m::crypto::{CryptoError, from_feature_flags};

/// str0m's cryptography with this DTLS.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        dtls_provider: &Provider,
        ..from_feature_flags()
    }
}

#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let start = Start {
            certificate: certificate.clone(),
            now,
            version,
            mtu,
        };
        let engine = start.engine(false)?;
        Ok(Box::new(Instance {
            engine,
            start,
            scratch: Vec::new(),
        }))
    }
}

/// What an engine is made of: the role decides about its cryptography and becomes known later.
#[derive(Debug)]
struct Start {
    certificate: DtlsCert,
    now: Instant,
    version: DtlsVersion,
    mtu: Option<usize>,
}

impl Start {
    fn engine(&self, client: bool) -> Result<Dtls, CryptoError> {
        let (config, certificate) = (config(client, self.mtu)?, self.certificate.clone());
        Ok(match self.version {
            DtlsVersion::Dtls12 => Dtls::new_12(config, certificate, self.now),
            DtlsVersion::Dtls13 => Dtls::new_13(config, certificate, self.now),
            _ => Dtls::new_auto(config, certificate, self.now),
        })
    }
}

/// The configuration of all pages with this role: making one tries every key exchange and signature out.
fn config(client: bool, mtu: Option<usize>) -> Result<Arc<Config>, CryptoError> {
    type Made = Vec<((bool, Option<usize>), Arc<Config>)>;
    static MADE: Mutex<Made> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, config)) = made.iter().find(|(of, _)| *of == (client, mtu)) {
        return Ok(Arc::clone(config));
    }
    // ICE has proven the address before DTLS starts.
    let mut builder = Config::builder().use_server_cookie(false);
    builder = builder.with_crypto_provider(if client {
        offer().crypto()
    } else {
        server_crypto()
    });
    if let Some(mtu) = mtu {
        builder = builder.mtu(mtu);
    }
    let config = builder
        .build()
        .map_err(|error| CryptoError::Other(error.to_string()))?;
    let config = Arc::new(config);
    made.push(((client, mtu), Arc::clone(&config)));
    Ok(config)
}

/// What the page agrees on.
const SUITES: [Suite; 1] = [Suite::AesCm128HmacSha1_80];

/// Its offer as client.
fn offer() -> ClientOffer {
    ClientOffer::new(&SUITES)
}

#[derive(Debug)]
struct Instance {
    engine: Dtls,
    start: Start,
    scratch: Vec<u8>,
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        if active && let Ok(engine) = self.start.engine(true) {
            self.engine = engine;
        }
        self.engine.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let narrowed = if self.engine.is_active() {
            None
        } else {
            narrowed(packet, &SUITES)
        };
        self.engine
            .handle_packet(narrowed.as_deref().unwrap_or(packet))
    }

    /// Through a second buffer, because the ClientHello has to be changed before it is handed out.
    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let active = self.engine.is_active();
        self.scratch.resize(buf.len(), 0);
        match self.engine.poll_output(&mut self.scratch) {
            DtlsOutput::Packet(packet) => {
                let copy = copy(packet, buf);
                if active {
                    offer().rewrite(copy);
                }
                DtlsOutput::Packet(copy)
            }
            DtlsOutput::PeerCert(der) => DtlsOutput::PeerCert(copy(der, buf)),
            DtlsOutput::ApplicationData(data) => DtlsOutput::ApplicationData(copy(data, buf)),
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

fn copy<'a>(bytes: &[u8], buf: &'a mut [u8]) -> &'a mut [u8] {
    let (copy, _) = buf.split_at_mut(bytes.len());
    copy.copy_from_slice(bytes);
    copy
}
