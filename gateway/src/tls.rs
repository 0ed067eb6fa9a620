//! Certificates from files for TLS listeners and connections, read again when the files change.
//!
//! Why a resolver and not a fixed certificate: certificates are renewed every few weeks, and a gateway with calls on it is not restarted
//! for that. Used by the HTTPS listener and by SIP over TLS.

use anyhow::{Context as _, Result};
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Where certificate authorities stand when none are configured (Debian, Fedora).
const SYSTEM_ROOTS: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// The provider by name: two are linked in (ring here, aws-lc-rs in the DTLS engine), so none would be the default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Certificate chain and key of one party, PEM files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Who we are towards TLS peers, as the files say now.
pub(crate) struct Identity {
    files: Files,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    changed: [Option<SystemTime>; 2],
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// A file cannot be read, or the key does not belong to the certificate.
    pub(crate) fn load(files: Files) -> Result<Arc<Self>> {
        let changed = files.changed();
        let key = Arc::new(files.read()?);
        let loaded = Mutex::new(Loaded { changed, key });
        Ok(Arc::new(Self { files, loaded }))
    }

    /// The certificate as it is now. Files that cannot be used leave the one before in use.
    fn current(&self) -> Arc<CertifiedKey> {
        let changed = self.files.changed();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if changed != loaded.changed {
            loaded.changed = changed;
            match self.files.read() {
                Ok(key) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "TLS certificate read again");
                    loaded.key = Arc::new(key);
                }
                Err(error) => tracing::error!("TLS certificate stays as it was: {error:#}"),
            }
        }
        Arc::clone(&loaded.key)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.files).finish()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Files {
    fn changed(&self) -> [Option<SystemTime>; 2] {
        let modified = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .ok()
        };
        [modified(&self.certificate), modified(&self.key)]
    }

    fn read(&self) -> Result<CertifiedKey> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain: Vec<_> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("reading the certificate chain {certificate}"))?;
        let private = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("reading the key {key}"))?;
        CertifiedKey::from_der(chain, private, &provider())
            .with_context(|| format!("using {certificate} with {key}"))
    }
}

/// The authorities of a file, or of the system where none is named.
///
/// # Errors
/// The file cannot be read or holds none.
pub(crate) fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let system = || {
        SYSTEM_ROOTS
            .map(Path::new)
            .into_iter()
            .find(|path| path.exists())
    };
    let Some(file) = file.or_else(system) else {
        return Ok(RootCertStore::empty());
    };
    let name = file.display();
    let mut roots = RootCertStore::empty();
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .with_context(|| format!("reading the certificate authorities {name}"))?;
    // A bundle of a system may have an old one that is refused; the others count.
    let (added, _) = roots.add_parsable_certificates(certificates);
    anyhow::ensure!(added > 0, "no certificate authority in {name}");
    Ok(roots)
}
