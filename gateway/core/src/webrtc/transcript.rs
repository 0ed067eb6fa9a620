//! dimpl's cryptography with the handshake transcript seen through a mapping.
//!
//! Where a datagram is changed between the network and the engine (see [`super::use_srtp`]), both ends still have to
//! agree on the bytes that were on the wire. The engine consumes its transcript at three places only: hashing,
//! signing and verifying `CertificateVerify` in DTLS 1.2. Each gets the mapped bytes here; everything else is the
//! default provider's.

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};

use dimpl::CryptoError;
use dimpl::crypto::{
    Buf, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm,
    SignatureVerifier, SigningKey, aws_lc_rs,
};

/// Knows the bytes that were on the wire.
pub(super) trait Mapping:
    Copy + Debug + Send + Sync + UnwindSafe + RefUnwindSafe + 'static
{
    /// Those for the bytes that the engine has; `None` when they are the same.
    fn map(&self, bytes: &[u8]) -> Option<Vec<u8>>;
}

#[derive(Debug)]
pub(super) struct Hashes<M>(pub(super) M);

impl<M: Mapping> HashProvider for Hashes<M> {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let provider = aws_lc_rs::default_provider().hash_provider;
        let inner = provider.create_hash(algorithm);
        Box::new(Hash { inner, map: self.0 })
    }
}

#[derive(Debug)]
struct Hash<M> {
    inner: Box<dyn HashContext>,
    map: M,
}

impl<M: Mapping> HashContext for Hash<M> {
    fn update(&mut self, data: &[u8]) {
        self.inner
            .update(self.map.map(data).as_deref().unwrap_or(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.inner.clone_and_finalize(out);
    }
}

#[derive(Debug)]
pub(super) struct Keys<M>(pub(super) M);

impl<M: Mapping> KeyProvider for Keys<M> {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let provider = aws_lc_rs::default_provider().key_provider;
        let inner = provider.load_private_key(key_der)?;
        Ok(Box::new(Key { inner, map: self.0 }))
    }
}

#[derive(Debug)]
struct Key<M> {
    inner: Box<dyn SigningKey>,
    map: M,
}

impl<M: Mapping> SigningKey for Key<M> {
    fn sign(
        &mut self,
        data: &[u8],
        hash_alg: HashAlgorithm,
        out: &mut Buf,
    ) -> Result<(), CryptoError> {
        let mapped = self.map.map(data);
        self.inner
            .sign(mapped.as_deref().unwrap_or(data), hash_alg, out)
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

#[derive(Debug)]
pub(super) struct Verifier<M>(pub(super) M);

impl<M: Mapping> SignatureVerifier for Verifier<M> {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let mapped = self.0.map(data);
        let data = mapped.as_deref().unwrap_or(data);
        let verifier = aws_lc_rs::default_provider().signature_verification;
        verifier.verify_signature(cert_der, data, signature, hash_alg, sig_alg)
    }
}
