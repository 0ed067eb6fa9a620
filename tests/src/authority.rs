//! A certificate authority for a test, and certificates that it issues, as PEM files.

use crate::files::Directory;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as Key};
use std::path::PathBuf;

/// An authority; its files go with it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, Key>,
    directory: Directory,
}

/// A certificate and its key.
pub struct KeyPair {
    /// The chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = Key::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate can be made");
        Self {
            issuer,
            directory: Directory::new("authority"),
        }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.write("ca.pem", self.issuer.pem())
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, file: &str, names: &[&str]) -> KeyPair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("good names");
        let key = Key::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate can be made");
        KeyPair {
            certificate: self
                .directory
                .write(&format!("{file}.pem"), certificate.pem()),
            key: self
                .directory
                .write(&format!("{file}.key"), key.serialize_pem()),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
