//! The gateway's DTLS certificate: self-signed ECDSA P-256, known to browsers by its fingerprint only.
//!
//! The daemon makes one, keeps certificate and key on disk, and loads them at the next start, so that snapshots of
//! calls stay valid; one certificate serves all legs.

use std::time::{Duration, SystemTime};

use ring::digest;
use zeroize::Zeroizing;

use crate::Random;
use crate::sdp::Fingerprint;

/// How long a new certificate is valid.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How far its validity starts in the past, for browsers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate with its private key. No `Debug`: the key must not reach a log.
pub struct Certificate {
    der: Vec<u8>,
    private_key: Zeroizing<Vec<u8>>,
}

/// A certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The generator refused.
    #[error("cannot generate a DTLS certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The stored key is no PKCS#8 ECDSA P-256 key.
    #[error("the DTLS private key is not an ECDSA P-256 key in PKCS#8")]
    Key,
    /// The stored certificate does not belong to the key, or is no X.509 certificate.
    #[error("the DTLS certificate does not carry the public key of its private key")]
    Mismatch,
}

impl Certificate {
    /// Makes a certificate that is valid for a year from `now`, with a random serial number (some browsers refuse a
    /// repeated one).
    pub fn generate(random: &mut Random, now: SystemTime) -> Result<Self, CertificateError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "causeway");
        let mut serial = [0; 16];
        random.fill(&mut serial);
        // RFC 5280 section 4.1.2.2: positive, so the top bit stays clear, and without a leading zero octet.
        serial[0] = serial[0] & 0x7f | 0x40;
        parameters.serial_number = Some(serial.to_vec().into());
        parameters.not_before = (now - CLOCK_SKEW).into();
        parameters.not_after = (now + VALIDITY).into();
        let certificate = parameters.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().to_vec(),
            private_key: Zeroizing::new(key.serialize_der()),
        })
    }

    /// Takes a stored certificate (X.509 DER) and its key (PKCS#8 DER).
    pub fn from_der(certificate: Vec<u8>, private_key: Vec<u8>) -> Result<Self, CertificateError> {
        use ring::signature::KeyPair;
        let private_key = Zeroizing::new(private_key);
        let key = ring::signature::EcdsaKeyPair::from_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &private_key,
            &ring::rand::SystemRandom::new(),
        )
        .map_err(|_| CertificateError::Key)?;
        // The uncompressed point of the key stands verbatim in the certificate's SubjectPublicKeyInfo.
        let point = key.public_key().as_ref();
        if !certificate
            .windows(point.len())
            .any(|window| window == point)
        {
            return Err(CertificateError::Mismatch);
        }
        Ok(Self {
            der: certificate,
            private_key,
        })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The private key in PKCS#8 DER, to be stored with mode 0600.
    pub fn private_key_der(&self) -> &[u8] {
        &self.private_key
    }

    /// The SHA-256 fingerprint for `a=fingerprint` (RFC 8122).
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = digest::digest(&digest::SHA256, &self.der);
        Fingerprint {
            algorithm: "sha-256".to_string(),
            bytes: digest.as_ref().to_vec(),
        }
    }

    /// The form that the DTLS engine takes.
    pub(super) fn for_dtls(&self) -> dimpl::DtlsCertificate {
        dimpl::DtlsCertificate {
            certificate: self.der.clone(),
            private_key: self.private_key.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> Random {
        let mut next = 0_u8;
        Random::new(move |bytes| {
            for byte in bytes {
                next = next.wrapping_add(0x3d);
                *byte = next;
            }
        })
    }

    #[test]
    fn a_stored_certificate_comes_back_with_the_same_fingerprint() {
        let made = Certificate::generate(&mut random(), SystemTime::now()).unwrap();
        let loaded =
            Certificate::from_der(made.der().to_vec(), made.private_key_der().to_vec()).unwrap();
        assert_eq!(loaded.fingerprint().bytes, made.fingerprint().bytes);
    }

    #[test]
    fn a_foreign_or_broken_key_is_refused() {
        let one = Certificate::generate(&mut random(), SystemTime::now()).unwrap();
        let two = Certificate::generate(&mut random(), SystemTime::now()).unwrap();
        let foreign = Certificate::from_der(one.der().to_vec(), two.private_key_der().to_vec());
        assert!(matches!(foreign, Err(CertificateError::Mismatch)));
        let broken = Certificate::from_der(one.der().to_vec(), vec![0; 40]);
        assert!(matches!(broken, Err(CertificateError::Key)));
    }
}
