//! Which SRTP profiles our DTLS client offers: the one that the packet path can do.
//!
//! `dimpl` always offers AEAD_AES_256_GCM, AEAD_AES_128_GCM and AES128_CM_HMAC_SHA1_80 and has no option for it. A server that
//! prefers GCM would then choose keys that no flow can use, and the call would fail for nothing. So the `use_srtp` extension
//! is rewritten on its way out, in place and at equal length: one profile, and an empty reserved extension that every server has
//! to ignore (RFC 8701) fills the room. Both ends must agree on the bytes that were sent, so the handshake transcript gets
//! the same rewriting at the two places where it is consumed: hashing, and signing in DTLS 1.2 (`CertificateVerify`). Used by
//! the leg in the active role, and by the bench client that plays the browser. Goes away when the packet path does GCM.

use dimpl::CryptoError;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm,
    SigningKey, aws_lc_rs,
};

/// `use_srtp` as dimpl writes it: profiles 8, 7 and 1 without MKI (RFC 5764 section 4.1.1).
const WRITTEN: [u8; 13] = [
    0x00, 0x0e, 0x00, 0x09, 0x00, 0x06, 0x00, 0x08, 0x00, 0x07, 0x00, 0x01, 0x00,
];

/// `use_srtp` with profile 1 only, followed by the empty extension 0x0a0a.
const SENT: [u8; 13] = [
    0x00, 0x0e, 0x00, 0x05, 0x00, 0x02, 0x00, 0x01, 0x00, 0x0a, 0x0a, 0x00, 0x00,
];

/// Record type `handshake` and message type `client_hello` (RFC 6347 section 4.2.2).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Where the message type stands in the first record of a datagram.
const MESSAGE_TYPE: usize = 13;

static HASHES: Hashes = Hashes(&SENT);
static KEYS: Keys = Keys(&SENT);

/// Cryptography for a DTLS client whose datagrams go through [`rewrite_client_hello`].
///
/// Not for servers: their transcript starts with the peer's ClientHello, which stays as it is.
pub fn client_crypto() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &HASHES,
        key_provider: &KEYS,
        ..aws_lc_rs::default_provider()
    }
}

/// Narrows the offer in a datagram of a DTLS client; anything but a ClientHello stays untouched.
pub fn rewrite_client_hello(datagram: &mut [u8]) {
    rewrite(datagram, &SENT);
}

fn rewrite(datagram: &mut [u8], sent: &[u8; 13]) {
    if datagram.first() == Some(&HANDSHAKE)
        && datagram.get(MESSAGE_TYPE) == Some(&CLIENT_HELLO)
        && let Some(at) = find(datagram)
    {
        datagram[at..at + sent.len()].copy_from_slice(sent);
    }
}

/// The first occurrence only: in a client's transcript that is its own ClientHello.
fn find(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(WRITTEN.len())
        .position(|window| window == WRITTEN)
}

#[derive(Debug)]
struct Hashes(&'static [u8; 13]);

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Hash {
            inner: aws_lc_rs::default_provider()
                .hash_provider
                .create_hash(algorithm),
            sent: self.0,
        })
    }
}

#[derive(Debug)]
struct Hash {
    inner: Box<dyn HashContext>,
    sent: &'static [u8; 13],
}

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        match find(data) {
            None => self.inner.update(data),
            Some(at) => {
                self.inner.update(&data[..at]);
                self.inner.update(self.sent);
                self.inner.update(&data[at + self.sent.len()..]);
            }
        }
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.inner.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct Keys(&'static [u8; 13]);

impl KeyProvider for Keys {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(key_der)?;
        Ok(Box::new(Key {
            inner: key,
            sent: self.0,
        }))
    }
}

#[derive(Debug)]
struct Key {
    inner: Box<dyn SigningKey>,
    sent: &'static [u8; 13],
}

impl SigningKey for Key {
    fn sign(
        &mut self,
        data: &[u8],
        hash_alg: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), CryptoError> {
        match find(data) {
            None => self.inner.sign(data, hash_alg, out),
            Some(at) => {
                let mut sent = data.to_vec();
                sent[at..at + self.sent.len()].copy_from_slice(self.sent);
                self.inner.sign(&sent, hash_alg, out)
            }
        }
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.inner.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.inner.supported_hash_algorithms()
    }
}

/// A client without `use_srtp`, for tests of peers that do not want SRTP.
#[cfg(test)]
pub(super) mod without_srtp {
    use super::*;

    /// An unknown extension of the same length.
    const NOTHING: [u8; 13] = [0x0a, 0x0a, 0x00, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    static HASHES: Hashes = Hashes(&NOTHING);
    static KEYS: Keys = Keys(&NOTHING);

    pub(in super::super) fn client_crypto() -> CryptoProvider {
        CryptoProvider {
            hash_provider: &HASHES,
            key_provider: &KEYS,
            ..aws_lc_rs::default_provider()
        }
    }

    pub(in super::super) fn rewrite_client_hello(datagram: &mut [u8]) {
        rewrite(datagram, &NOTHING);
    }
}
