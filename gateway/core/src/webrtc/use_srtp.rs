//! Which SRTP profiles DTLS negotiates: the one that the packet path can do.
//!
//! `dimpl` always offers AEAD_AES_256_GCM, AEAD_AES_128_GCM and AES128_CM_HMAC_SHA1_80 as client, prefers them in
//! that order as DTLS 1.2 server, and has no option for it. The result would be keys that no flow can use, and a call
//! that fails for nothing. So the `use_srtp` extension (RFC 5764 section 4.1.1) of a ClientHello is changed between
//! the engine and the network, in place and at equal length:
//!
//! - Ours, on its way out: one profile, and an empty reserved extension that every server has to ignore (RFC 8701)
//!   fills the room.
//! - The peer's, on its way in, if it offers our profile: the identifiers of the GCM profiles become unassigned ones,
//!   which the engine skips.
//!
//! [`super::transcript`] undoes that where the engine uses its transcript. An extension that is cut by a fragment
//! border stays as it is, and the leg may then fail with the profile's name. Used by the leg, and by the bench client
//! that plays the browser. Goes away when the packet path does GCM.

use dimpl::crypto::{CryptoProvider, aws_lc_rs};

use super::transcript::{Hashes, Keys, Verifier};

/// `use_srtp` as dimpl writes it: profiles 8, 7 and 1 without MKI.
const WRITTEN: [u8; 13] = [
    0x00, 0x0e, 0x00, 0x09, 0x00, 0x06, 0x00, 0x08, 0x00, 0x07, 0x00, 0x01, 0x00,
];
/// `use_srtp` with profile 1 only, followed by the empty extension 0x0a0a.
const SENT: [u8; 13] = [
    0x00, 0x0e, 0x00, 0x05, 0x00, 0x02, 0x00, 0x01, 0x00, 0x0a, 0x0a, 0x00, 0x00,
];

/// Type of `use_srtp`, and its header with the length of the profile list.
const USE_SRTP: [u8; 2] = [0x00, 0x0e];
const HEADER_BYTES: usize = 6;
/// Longest profile list that is looked for; all assigned ones are 14 bytes.
const LIST_BYTES: usize = 32;
/// AES128_CM_HMAC_SHA1_80.
const WANTED: [u8; 2] = [0x00, 0x01];
/// AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714 section 14.2), and what the engine gets to see instead.
const GCM: [[u8; 2]; 2] = [[0x00, 0x07], [0x00, 0x08]];
const HIDDEN: [[u8; 2]; 2] = [[0x7f, 0x07], [0x7f, 0x08]];

/// Record type `handshake` and message type `client_hello` (RFC 6347 section 4.2.2).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Where the message type stands in the first record of a datagram.
const MESSAGE_TYPE: usize = 13;

static CLIENT_HASHES: Hashes = Hashes(sent);
static CLIENT_KEYS: Keys = Keys(sent);
static SERVER_HASHES: Hashes = Hashes(unhidden);
static SERVER_VERIFIER: Verifier = Verifier(unhidden);

/// Cryptography for a DTLS client whose datagrams go through [`rewrite_client_hello`].
pub fn client_crypto() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &CLIENT_HASHES,
        key_provider: &CLIENT_KEYS,
        ..aws_lc_rs::default_provider()
    }
}

/// Narrows the offer in a datagram of our DTLS client; anything but a ClientHello stays untouched.
pub fn rewrite_client_hello(datagram: &mut [u8]) {
    rewrite(datagram, &SENT);
}

/// Cryptography for a DTLS server that gets its datagrams through [`narrowed`].
pub(super) fn server_crypto() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &SERVER_HASHES,
        signature_verification: &SERVER_VERIFIER,
        ..aws_lc_rs::default_provider()
    }
}

/// A datagram of the peer's DTLS client without the profiles that we cannot do; `None` when there is nothing to change.
pub(super) fn narrowed(datagram: &[u8]) -> Option<Vec<u8>> {
    if !is_client_hello(datagram) {
        return None;
    }
    let (at, length) = find_list(datagram, &GCM)?;
    Some(replace(datagram, at, length, &GCM, &HIDDEN))
}

fn rewrite(datagram: &mut [u8], sent: &[u8; 13]) {
    if is_client_hello(datagram)
        && let Some(at) = find(datagram)
    {
        datagram[at..at + sent.len()].copy_from_slice(sent);
    }
}

fn is_client_hello(datagram: &[u8]) -> bool {
    datagram.first() == Some(&HANDSHAKE) && datagram.get(MESSAGE_TYPE) == Some(&CLIENT_HELLO)
}

/// The first occurrence only: in a client's transcript that is its own ClientHello.
fn find(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(WRITTEN.len())
        .position(|window| window == WRITTEN)
}

fn sent(transcript: &[u8]) -> Option<Vec<u8>> {
    replaced(transcript, &SENT)
}

fn replaced(transcript: &[u8], with: &[u8; 13]) -> Option<Vec<u8>> {
    let at = find(transcript)?;
    let mut mapped = transcript.to_vec();
    mapped[at..at + with.len()].copy_from_slice(with);
    Some(mapped)
}

fn unhidden(transcript: &[u8]) -> Option<Vec<u8>> {
    let (at, length) = find_list(transcript, &HIDDEN)?;
    Some(replace(transcript, at, length, &HIDDEN, &GCM))
}

/// Place and length of the first profile list that has one of `profiles` beside the wanted one, and no MKI.
fn find_list(bytes: &[u8], profiles: &[[u8; 2]; 2]) -> Option<(usize, usize)> {
    bytes
        .windows(HEADER_BYTES)
        .enumerate()
        .find_map(|(at, header)| {
            let extension = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[..2] != USE_SRTP
                || extension != length + 3
                || length > LIST_BYTES
                || length % 2 != 0
            {
                return None;
            }
            let start = at + HEADER_BYTES;
            let list = bytes.get(start..start + length)?;
            let has = |wanted: &[u8; 2]| list.chunks_exact(2).any(|profile| profile == wanted);
            let fits =
                bytes.get(start + length) == Some(&0) && has(&WANTED) && profiles.iter().any(has);
            fits.then_some((start, length))
        })
}

fn replace(
    bytes: &[u8],
    at: usize,
    length: usize,
    from: &[[u8; 2]; 2],
    to: &[[u8; 2]; 2],
) -> Vec<u8> {
    let mut mapped = bytes.to_vec();
    for profile in mapped[at..at + length].chunks_exact_mut(2) {
        if let Some(index) = from.iter().position(|from| from == profile) {
            profile.copy_from_slice(&to[index]);
        }
    }
    mapped
}

/// A client without `use_srtp`, for tests of peers that do not want SRTP.
#[cfg(test)]
pub(super) mod without_srtp {
    use super::*;

    /// An unknown extension of the same length.
    const NOTHING: [u8; 13] = [0x0a, 0x0a, 0x00, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    static HASHES: Hashes = Hashes(nothing);
    static KEYS: Keys = Keys(nothing);

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

    fn nothing(transcript: &[u8]) -> Option<Vec<u8>> {
        replaced(transcript, &NOTHING)
    }
}

/// A client that offers GCM only, for tests of refusals.
#[cfg(test)]
pub(super) mod gcm_only {
    use super::*;

    const GCM_ONLY: [u8; 13] = [
        0x00, 0x0e, 0x00, 0x05, 0x00, 0x02, 0x00, 0x08, 0x00, 0x0a, 0x0a, 0x00, 0x00,
    ];

    static HASHES: Hashes = Hashes(gcm);
    static KEYS: Keys = Keys(gcm);

    pub(in super::super) fn client_crypto() -> CryptoProvider {
        CryptoProvider {
            hash_provider: &HASHES,
            key_provider: &KEYS,
            ..aws_lc_rs::default_provider()
        }
    }

    pub(in super::super) fn rewrite_client_hello(datagram: &mut [u8]) {
        rewrite(datagram, &GCM_ONLY);
    }

    fn gcm(transcript: &[u8]) -> Option<Vec<u8>> {
        replaced(transcript, &GCM_ONLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chromium's order, SHA1_32 as Firefox has it, and lists that are none of ours to change.
    #[test]
    fn gcm_is_hidden_beside_the_wanted_profile_only_and_comes_back() {
        let hello = |list: &[u8]| {
            let mut out = vec![0; 40];
            (out[0], out[MESSAGE_TYPE]) = (HANDSHAKE, CLIENT_HELLO);
            out.extend_from_slice(&[0x00, 0x0e, 0, list.len() as u8 + 3, 0, list.len() as u8]);
            out.extend_from_slice(list);
            out.extend_from_slice(&[0, 0xff, 0x01]);
            out
        };
        for list in [
            &[0, 1, 0, 8, 0, 7][..],
            &[0, 8, 0, 7, 0, 1, 0, 2],
            &[0, 7, 0, 1],
        ] {
            let offered = hello(list);
            let seen = narrowed(&offered).unwrap();
            assert!(find_list(&seen, &GCM).is_none());
            assert_eq!(unhidden(&seen), Some(offered));
        }
        for list in [&[0, 1][..], &[0, 8, 0, 7], &[0, 2, 0, 1], &[]] {
            assert_eq!(narrowed(&hello(list)), None, "{list:?}");
        }
        let mut cut = hello(&[0, 1, 0, 8]);
        cut.truncate(48);
        assert_eq!(narrowed(&cut), None);
        let mut other = hello(&[0, 1, 0, 8]);
        other[MESSAGE_TYPE] = 2;
        assert_eq!(narrowed(&other), None, "no ClientHello");
    }
}
