//! SRTP key derivation (RFC 3711 section 4.3) and the split of a DTLS export into two master keys
//! (RFC 5764 section 4.2).
//!
//! Master keys stay in this module: what leaves are session keys, for the datapath and for SRTCP.
//! Nothing here has `Debug` or `Clone`, and all of it is wiped on drop.

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use flow::{SessionKey, SrtpKeys, Suite};
use zeroize::Zeroizing;

use super::{SrtcpReceiver, SrtcpSender};

pub(super) const AUTH_BYTES: usize = 20;

/// Labels of RFC 3711 section 4.3.2: cipher, authentication, salt.
const RTP_LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// Master key and salt of one direction. No `Debug`, wiped on drop.
pub struct MasterKeys {
    suite: Suite,
    key: Zeroizing<[u8; Suite::MAX_KEY_BYTES]>,
    salt: Zeroizing<[u8; Suite::MAX_SALT_BYTES]>,
}

/// The derived keys of SRTP or SRTCP, wiped on drop. What is longer than the suite's lengths is zero.
pub(super) struct Derived {
    pub(super) suite: Suite,
    pub(super) cipher: Zeroizing<[u8; Suite::MAX_KEY_BYTES]>,
    pub(super) auth: Zeroizing<[u8; AUTH_BYTES]>,
    pub(super) salt: Zeroizing<[u8; Suite::MAX_SALT_BYTES]>,
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
    let (keys, salts) = export.split_at_checked(2 * suite.key_bytes())?;
    let (client_key, server_key) = keys.split_at(suite.key_bytes());
    let (client_salt, server_salt) = salts.split_at_checked(suite.salt_bytes())?;
    let client = MasterKeys::new(suite, client_key, client_salt)?;
    let server = MasterKeys::new(suite, server_key, server_salt)?;
    Some(if we_are_client {
        (client, server)
    } else {
        (server, client)
    })
}

impl MasterKeys {
    /// Keys as they were exported or signalled; `None` if a length is not the suite's.
    pub fn new(suite: Suite, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != suite.key_bytes() || salt.len() != suite.salt_bytes() {
            return None;
        }
        let mut keys = Self {
            suite,
            key: Zeroizing::default(),
            salt: Zeroizing::default(),
        };
        keys.key[..key.len()].copy_from_slice(key);
        keys.salt[..salt.len()].copy_from_slice(salt);
        Some(keys)
    }

    /// Protection profile.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Master key, of the suite's length.
    pub fn key(&self) -> &[u8] {
        &self.key[..self.suite.key_bytes()]
    }

    /// Master salt, of the suite's length.
    pub fn salt(&self) -> &[u8] {
        &self.salt[..self.suite.salt_bytes()]
    }

    /// Whether both are the same keys, in a time that does not depend on them.
    pub fn is_same(&self, other: &Self) -> bool {
        let keys = self.key.iter().zip(other.key.iter());
        let salts = self.salt.iter().zip(other.salt.iter());
        let differences = keys.chain(salts).map(|(a, b)| a ^ b);
        self.suite == other.suite && differences.fold(0, |all, one| all | one) == 0
    }

    /// Session keys of RTP.
    pub(super) fn rtp_session(&self) -> Derived {
        self.derive(RTP_LABELS)
    }

    /// The same in the form of the datapath.
    pub fn rtp(&self) -> SrtpKeys {
        let derived = self.rtp_session();
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
        let mut derived = Derived {
            suite: self.suite,
            cipher: Zeroizing::default(),
            auth: Zeroizing::default(),
            salt: Zeroizing::default(),
        };
        self.derive_one(cipher, &mut derived.cipher[..self.suite.key_bytes()]);
        if !self.suite.is_gcm() {
            self.derive_one(auth, &mut *derived.auth);
        }
        self.derive_one(salt, &mut derived.salt[..self.suite.salt_bytes()]);
        derived
    }

    /// AES-CM over zeros with the label in the salt, AES-256 where the master key has its length
    /// (RFC 6188 section 2.1); a salt of 96 bits is followed by zeros (RFC 7714 section 11). The key
    /// derivation rate is 0 (RFC 5764 section 4.1.2), so the index does not enter.
    pub(super) fn derive_one(&self, label: u8, key: &mut [u8]) {
        let mut counter = Zeroizing::new([0; 16]);
        counter[..self.salt.len()].copy_from_slice(&*self.salt);
        counter[7] ^= label;
        let counter = (&*counter).into();
        if self.suite.key_bytes() == 32 {
            Ctr128BE::<Aes256>::new(self.key().into(), counter).apply_keystream(key);
        } else {
            Ctr128BE::<Aes128>::new(self.key().into(), counter).apply_keystream(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn vector() -> MasterKeys {
        MasterKeys::new(
            Suite::AesCm128HmacSha1_80,
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap()
    }

    #[test]
    fn derivation_gives_the_vectors_of_rfc_3711_b_3() {
        let keys = vector().derive(RTP_LABELS);
        assert_eq!(keys.cipher[..16], hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.cipher[16..], [0; 16]);
        assert_eq!(keys.salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            keys.auth[..],
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
        );
    }

    #[test]
    fn derivation_gives_the_vectors_of_rfc_6188_7_2() {
        let master = MasterKeys::new(
            Suite::AesCm256HmacSha1_80,
            &hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"),
            &hex("3b04803de51ee7c96423ab5b78d2"),
        )
        .unwrap();
        let keys = master.derive(RTP_LABELS);
        assert_eq!(
            keys.cipher[..],
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(keys.salt[..], hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(
            keys.auth[..],
            hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
        );
    }

    #[test]
    fn derivation_runs_on_over_blocks_as_in_rfc_3711_b_3() {
        // The RFC prints 94 bytes of authentication key, of which HMAC-SHA1 takes 20: the counter
        // must run on over the block border.
        let mut long = [0; 48];
        vector().derive_one(1, &mut long);
        assert_eq!(
            long[..],
            hex(
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF7227098"
            )
        );
    }

    #[test]
    fn dtls_export_is_split_by_role_and_suite() {
        for suite in Suite::ALL {
            let (key, salt) = (suite.key_bytes(), suite.salt_bytes());
            let export: Vec<u8> = (0..2 * (key + salt) as u8).collect();
            let (local, remote) = split_dtls_export(suite, &export, true).unwrap();
            let salts = &export[2 * key..];
            assert_eq!(
                (local.key(), local.salt()),
                (&export[..key], &salts[..salt])
            );
            assert_eq!(
                (remote.key(), remote.salt()),
                (&export[key..2 * key], &salts[salt..])
            );
            assert_eq!((local.suite(), remote.suite()), (suite, suite));
            let (server_local, server_remote) = split_dtls_export(suite, &export, false).unwrap();
            assert_eq!(
                (server_local.key(), server_remote.key()),
                (remote.key(), local.key())
            );
            assert_eq!(
                (server_local.salt(), server_remote.salt()),
                (remote.salt(), local.salt())
            );
        }
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        for suite in Suite::ALL {
            let right = 2 * (suite.key_bytes() + suite.salt_bytes());
            for length in (0..100).filter(|length| *length != right) {
                let split = split_dtls_export(suite, &vec![7; length], true);
                assert!(split.is_none(), "{suite:?} {length}");
            }
            assert!(MasterKeys::new(suite, &[1; 31], &[1; 14]).is_none());
            assert!(MasterKeys::new(suite, &[1; 32], &[1; 13]).is_none());
        }
    }
}
