//! SRTP key derivation (RFC 3711 section 4.3) and the split of a DTLS export into two master keys (RFC 5764 section 4.2).
//!
//! Master keys stay in this module: what leaves are session keys, for the datapath and for SRTCP. Nothing here has `Debug` or `Clone`,
//! and all of it is wiped on drop.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use flow::{SessionKey, SrtpKeys, Suite};
use zeroize::{Zeroize, Zeroizing};

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

/// Splits what DTLS exported (`client key | server key | client salt | server salt`) into our and the peer's master keys.
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
        let mut session = SessionKey {
            cipher: *derived.cipher,
            auth: *derived.auth,
            salt: *derived.salt,
        };
        let keys = SrtpKeys::new(self.suite, &session);
        session.cipher.zeroize();
        session.auth.zeroize();
        session.salt.zeroize();
        keys
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

    /// AES-CM over zeros with the label in the salt. The key derivation rate is 0 (RFC 5764 section 4.1.2), so the index does not enter.
    fn derive_one<const N: usize>(&self, label: u8) -> Zeroizing<[u8; N]> {
        let mut counter = Zeroizing::new([0; 16]);
        counter[..SALT_BYTES].copy_from_slice(&*self.salt);
        counter[7] ^= label;
        let mut key = Zeroizing::new([0; N]);
        Ctr128BE::<Aes128>::new((&*self.key).into(), (&*counter).into()).apply_keystream(&mut *key);
        key
    }
}
