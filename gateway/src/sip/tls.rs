//! TLS under SIP: who we are, whom we believe, and which name a server has to prove (RFC 5922).
//!
//! A server's certificate has to name the host that the call logic asked for, before SRV, never the one that DNS answered with; an address
//! that was called as such has to stand in the certificate itself.

use crate::tls::{self, Files, Identity};
use anyhow::{Context as _, Result};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Most names that are remembered.
const NAMES: usize = 1024;

/// `listen_tls` of the configuration, and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TlsSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) files: Files,
    /// Whom we believe; `None` = whom the system does.
    pub(crate) authorities: Option<PathBuf>,
    /// Whether who connects to us has to show a certificate.
    pub(crate) verify_clients: bool,
}

/// Both ends of TLS.
#[derive(Clone)]
pub(super) struct Secured {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Secured {
    pub(super) fn new(settings: &TlsSettings) -> Result<Self> {
        let identity = Identity::load(settings.files.clone())?;
        let roots = Arc::new(tls::roots(settings.authorities.as_deref())?);
        let builder = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?;
        let builder = if settings.verify_clients {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), tls::provider())
                    .build()
                    .context("verifying clients")?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let server = builder.with_cert_resolver(Arc::clone(&identity) as _);
        let client = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity);
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        stream.set_nodelay(true)?;
        self.acceptor.accept(stream).await
    }

    /// The handshake with a server that has to be `name`.
    pub(super) async fn connect(
        &self,
        name: &str,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "no name for a certificate")
        })?;
        self.connector.connect(name, stream).await
    }
}

/// Which name was looked up to get an address: the newest counts.
#[derive(Default)]
pub(super) struct Names(VecDeque<(SocketAddr, String)>);

impl Names {
    pub(super) fn note(&mut self, addr: SocketAddr, name: &str) {
        self.0.retain(|(known, _)| *known != addr);
        if self.0.len() == NAMES {
            self.0.pop_front();
        }
        self.0.push_back((addr, name.to_owned()));
    }

    /// The name, or the address itself where nobody asked by name.
    pub(super) fn of(&self, addr: SocketAddr) -> String {
        let known = self.0.iter().find(|(known, _)| *known == addr);
        known.map_or_else(|| addr.ip().to_string(), |(_, name)| name.clone())
    }
}
