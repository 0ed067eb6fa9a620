//! SRTP key derivation (RFC 3711 section 4.3) and the split of a DTLS export into two master keys
//! (RFC 5764 section 4.2).
//!
//! Master keys stay in this module: what leaves are session keys, for the datapath and for SRTCP.
//! Nothing here has `Debug` or `Clone`, and all of it is wiped on drop.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use flow::{SessionKey, SrtpKeys, Suite};
use zeroize::Zeroizing;

use super::{SrtcpReceiver, SrtcpSender};

pub(super) const KEY_BYTES: usize = 16;
pub(super) const SALT_BYTES: usize = 14;
pub(super) const AUTH_BYTES: usize = 20;

/// Labels of RFC 3711 section 4.3.2: cipher, authentication, salt.
const RTP_LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// Master key and salt of one direction.
pub struct MasterKeys {
    /// Protection profile.
    pub suite: Suite,
    /// Master key.
    pub key: Zeroizing<[u8; KEY_BYTES]>,
    /// Master salt.
    pub salt: Zeroizing<[u8; SALT_BYTES]>,
}

/// The derived keys of SRTP or SRTCP, wiped on drop.
pub(super) struct Derived {
    pub(super) cipher: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) auth: Zeroizing<[u8; AUTH_BYTES]>,
    pub(super) salt: Zeroizing<[u8; SALT_BYTES]>,
}

/// Splits what DTLS exported (`client key | server key | client salt | server salt`) into our and
/// the peer's master keys.
///
/// `None` if the export has the wrong length for the suite.
pub fn split_dtls_export(
    suite: Suite,
    export: &[u8],
    we_are_client: bool,
) -> Option<(MasterKeys, MasterKeys)> {
    let (keys, salts) = export.split_at_checked(2 * KEY_BYTES)?;
    let (client_key, server_key) = keys.split_at(KEY_BYTES);
    let (client_salt, server_salt) = salts.split_at_checked(SALT_BYTES)?;
    let client = MasterKeys::from_slices(suite, client_key, client_salt)?;
    let server = MasterKeys::from_slices(suite, server_key, server_salt)?;
    Some(if we_are_client {
        (client, server)
    } else {
        (server, client)
    })
}

impl MasterKeys {
    fn from_slices(suite: Suite, key: &[u8], salt: &[u8]) -> Option<Self> {
        Some(Self {
            suite,
            key: Zeroizing::new(key.try_into().ok()?),
            salt: Zeroizing::new(salt.try_into().ok()?),
        })
    }

    /// Session keys of RTP in the form of the datapath.
    pub fn rtp(&self) -> SrtpKeys {
        let derived = self.derive(RTP_LABELS);
        let session = SessionKey {
            cipher: *derived.cipher,
            auth: *derived.auth,
            salt: *derived.salt,
        };
        SrtpKeys::new(self.suite, &session)
    }

    /// Protects the RTCP that leaves under this key.
    pub fn srtcp_sender(&self) -> SrtcpSender {
        SrtcpSender::new(self.derive(RTCP_LABELS))
    }

    /// Unprotects the RTCP that arrives under this key.
    pub fn srtcp_receiver(&self) -> SrtcpReceiver {
        SrtcpReceiver::new(self.derive(RTCP_LABELS))
    }

    fn derive(&self, labels: [u8; 3]) -> Derived {
        let [cipher, auth, salt] = labels;
        Derived {
            cipher: self.derive_one(cipher),
            auth: self.derive_one(auth),
            salt: self.derive_one(salt),
        }
    }

    /// AES-CM over zeros with the label in the salt. The key derivation rate is 0 (RFC 5764 section
    /// 4.1.2), so the index does not enter.
    fn derive_one<const N: usize>(&self, label: u8) -> Zeroizing<[u8; N]> {
        let mut counter = Zeroizing::new([0; 16]);
        counter[..SALT_BYTES].copy_from_slice(&*self.salt);
        counter[7] ^= label;
        let mut key = Zeroizing::new([0; N]);
        Ctr128BE::<Aes128>::new((&*self.key).into(), (&*counter).into()).apply_keystream(&mut *key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn vector() -> MasterKeys {
        MasterKeys {
            suite: Suite::AesCm128HmacSha1_80,
            key: Zeroizing::new(hex("E1F97A0D3E018BE0D64FA32C06DE4139")),
            salt: Zeroizing::new(hex("0EC675AD498AFEEBB6960B3AABE6")),
        }
    }

    #[test]
    fn derivation_gives_the_vectors_of_rfc_3711_b_3() {
        let keys = vector().derive(RTP_LABELS);
        assert_eq!(*keys.cipher, hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(*keys.salt, hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(*keys.auth, hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn derivation_runs_on_over_blocks_as_in_rfc_3711_b_3() {
        // The RFC prints 94 bytes of authentication key, of which HMAC-SHA1 takes 20: the counter
        // must run on over the block border.
        let long: Zeroizing<[u8; 48]> = vector().derive_one(1);
        assert_eq!(
            *long,
            hex(
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF7227098"
            )
        );
    }

    #[test]
    fn dtls_export_is_split_by_role() {
        let export: Vec<u8> = (0..60).collect();
        let suite = Suite::AesCm128HmacSha1_32;
        let (local, remote) = split_dtls_export(suite, &export, true).unwrap();
        assert_eq!(
            (&local.key[..], &local.salt[..]),
            (&export[..16], &export[32..46])
        );
        assert_eq!(
            (&remote.key[..], &remote.salt[..]),
            (&export[16..32], &export[46..])
        );
        assert_eq!(local.suite, suite);
        let (server_local, server_remote) = split_dtls_export(suite, &export, false).unwrap();
        assert_eq!(
            (*server_local.key, *server_remote.key),
            (*remote.key, *local.key)
        );
        assert_eq!(
            (*server_local.salt, *server_remote.salt),
            (*remote.salt, *local.salt)
        );
    }

    #[test]
    fn dtls_export_of_another_length_is_refused() {
        for length in [0, 16, 31, 32, 59, 61, 88] {
            assert!(
                split_dtls_export(Suite::AesCm128HmacSha1_80, &vec![7; length], true).is_none(),
                "{length}"
            );
        }
    }
}
