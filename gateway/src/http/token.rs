//! Sign-in tokens (JWT, RFC 7519): which page is whom, and whom it may call, as the operator's own sign-in says it.
//!
//! The keys stand in a file: one public key (PEM: RS256 or ES256), one secret (HS256), or a JWK set (RFC 7517). The file is read again
//! when it changes, so keys rotate without a restart. The algorithm follows from the key, never from the token's header alone
//! (RFC 8725 section 3.1). Called by the handlers that sign in; what is granted is decided by the core.

use anyhow::{Context as _, Result, bail};
use gateway_core::api::{Callee, Grant, Problem};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Longest token in bytes; some with many callees reach a few KiB.
const TOKEN_BYTES: usize = 16 * 1024;
/// Clocks of two hosts may differ by this much, seconds.
const LEEWAY_S: u64 = 30;
/// Shortest HS256 secret in bytes: that of its hash (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;
/// Most callees of a token, and bytes of each.
const CALLEES: usize = 256;
const CALLEE_BYTES: usize = 256;

/// `[tokens]` of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Where the keys stand.
    pub(crate) keys: KeyFile,
    /// `iss` that a token has to have; empty = any.
    pub(crate) issuer: String,
    /// `aud` that a token has to have; empty = any.
    pub(crate) audience: String,
    /// Whether nobody signs in without a token.
    pub(crate) required: bool,
}

/// A file of keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyFile {
    /// One key: PEM of a public key, or else a secret.
    Key(PathBuf),
    /// A JWK set.
    Jwks(PathBuf),
}

impl KeyFile {
    fn path(&self) -> &Path {
        match self {
            Self::Key(path) | Self::Jwks(path) => path,
        }
    }
}

/// Verifies tokens. Keys have no `Debug`.
pub(crate) struct Tokens {
    config: Config,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    changed: Option<SystemTime>,
    keys: Arc<[Key]>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// What a token says.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    call: Option<Vec<String>>,
}

impl Tokens {
    /// Reads the keys.
    ///
    /// # Errors
    /// The file cannot be read or holds no key that can be used.
    pub(crate) fn load(config: Config) -> Result<Self> {
        let changed = modified(&config.keys);
        let keys = read(&config.keys)?;
        Ok(Self {
            config,
            loaded: Mutex::new(Loaded { changed, keys }),
        })
    }

    /// Whether nobody signs in without a token.
    pub(super) fn required(&self) -> bool {
        self.config.required
    }

    /// What a token grants.
    ///
    /// # Errors
    /// 401: not one that these keys signed for us, or not valid now. The detail says what is wrong, which the bearer may know.
    pub(super) fn verify(&self, token: &str) -> Result<Grant, Problem> {
        if token.len() > TOKEN_BYTES {
            return Err(refused("it is too long"));
        }
        let header = decode_header(token).map_err(|_| refused("it is no JWT"))?;
        let keys = self.keys();
        let mut outcome = Err(refused("no key of this gateway has its `kid` and `alg`"));
        for key in keys.iter().filter(|key| {
            key.algorithm == header.alg
                && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        }) {
            outcome = decode::<Claims>(token, &key.key, &self.validation(key.algorithm))
                .map_err(|error| refused(&error.to_string()))
                .and_then(|data| grant(data.claims));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        if !self.config.issuer.is_empty() {
            validation.set_issuer(&[&self.config.issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if self.config.audience.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&[&self.config.audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        validation
    }

    /// The keys, read again if the file is another one than before. A file that cannot be used changes nothing.
    fn keys(&self) -> Arc<[Key]> {
        let changed = modified(&self.config.keys);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_some() && changed != loaded.changed {
            loaded.changed = changed;
            match read(&self.config.keys) {
                Ok(keys) => loaded.keys = keys,
                Err(error) => tracing::error!("token keys stay as they were: {error:#}"),
            }
        }
        Arc::clone(&loaded.keys)
    }
}

fn refused(why: &str) -> Problem {
    Problem::new(401, "bad-token", "The token is not valid", why)
}

fn grant(claims: Claims) -> Result<Grant, Problem> {
    if claims.sub.is_empty() {
        return Err(refused("`sub` names nobody"));
    }
    let may_call = claims.call.map(|list| {
        let fits = list.len() <= CALLEES && list.iter().all(|callee| callee.len() <= CALLEE_BYTES);
        if fits {
            Ok(list.into_iter().map(Callee).collect())
        } else {
            Err(refused(
                "`call` has over 256 entries, or one of over 256 bytes",
            ))
        }
    });
    Ok(Grant {
        user: claims.sub,
        display_name: claims.name,
        may_call: may_call.transpose()?,
    })
}

fn modified(file: &KeyFile) -> Option<SystemTime> {
    std::fs::metadata(file.path())
        .and_then(|data| data.modified())
        .ok()
}

fn read(file: &KeyFile) -> Result<Arc<[Key]>> {
    let name = file.path().display();
    let bytes =
        std::fs::read(file.path()).with_context(|| format!("reading the token keys {name}"))?;
    let keys = match file {
        KeyFile::Key(_) => single(&bytes).map(|key| vec![key]),
        KeyFile::Jwks(_) => set(&bytes),
    };
    Ok(keys.with_context(|| format!("token keys {name}"))?.into())
}

/// One PEM public key, or a secret.
fn single(bytes: &[u8]) -> Result<Key> {
    let key = |algorithm, key| Key {
        id: None,
        algorithm,
        key,
    };
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        let secret = bytes.trim_ascii();
        if secret.len() < SECRET_BYTES {
            bail!("a secret for HS256 has at least {SECRET_BYTES} bytes");
        }
        return Ok(key(Algorithm::HS256, DecodingKey::from_secret(secret)));
    }
    if bytes.windows(11).any(|window| window == b"PRIVATE KEY") {
        bail!("holds a private key; only the public one belongs on this host");
    }
    if let Ok(rsa) = DecodingKey::from_rsa_pem(bytes) {
        return Ok(key(Algorithm::RS256, rsa));
    }
    match DecodingKey::from_ec_pem(bytes) {
        Ok(ec) => Ok(key(Algorithm::ES256, ec)),
        Err(_) => bail!("is neither an RSA nor a P-256 public key in PEM"),
    }
}

/// The keys of a JWK set that can verify signatures by one of the three algorithms.
fn set(bytes: &[u8]) -> Result<Vec<Key>> {
    let set: JwkSet = serde_json::from_slice(bytes).context("no JWK set")?;
    let keys: Vec<Key> = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
                AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                    Algorithm::ES256
                }
                _ => return None,
            };
            let stated = match jwk.common.key_algorithm {
                None => algorithm,
                Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                Some(KeyAlgorithm::ES256) => Algorithm::ES256,
                Some(KeyAlgorithm::HS256) => Algorithm::HS256,
                Some(_) => return None,
            };
            let signs = matches!(
                jwk.common.public_key_use,
                None | Some(PublicKeyUse::Signature)
            );
            (signs && stated == algorithm).then_some(())?;
            Some(Key {
                id: jwk.common.key_id.clone(),
                algorithm,
                key: DecodingKey::from_jwk(jwk).ok()?,
            })
        })
        .collect();
    if keys.is_empty() {
        bail!("has no key for RS256, ES256 or HS256");
    }
    Ok(keys)
}
