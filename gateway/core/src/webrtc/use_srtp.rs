//! Which SRTP profile DTLS agrees on.
//!
//! `dimpl` always offers AEAD_AES_256_GCM, AEAD_AES_128_GCM and AES128_CM_HMAC_SHA1_80 as client, prefers them in
//! that order as server, and has no option for it. What a packet costs depends on the profile, so the selection and
//! its order are configured, and the `use_srtp` extension (RFC 5764 section 4.1.1) of a ClientHello is changed between
//! the engine and the network, in place and at equal length:
//!
//! - Ours, on its way out: the selected profiles in their order. An unassigned profile or an empty reserved
//!   extension, which every server has to ignore (RFC 8701), fills the room.
//! - The peer's, on its way in: of the profiles that the engine knows it gets to see the first selected one, the
//!   others become unassigned ones, which it skips.
//!
//! [`super::transcript`] undoes that where the engine uses its transcript. An extension that is cut by a fragment
//! border stays as it is, and the engine's order counts. Used by the leg, and by the bench client that plays the
//! browser.

use dimpl::crypto::{CryptoProvider, aws_lc_rs};
use flow::Suite;

use super::transcript::{Hashes, Keys, Mapping, Verifier};

/// `use_srtp` as dimpl writes it: profiles 8, 7 and 1 without MKI.
const WRITTEN: [u8; 13] = [
    0x00, 0x0e, 0x00, 0x09, 0x00, 0x06, 0x00, 0x08, 0x00, 0x07, 0x00, 0x01, 0x00,
];

/// Type of `use_srtp`, and its header with the length of the profile list.
const USE_SRTP: [u8; 2] = [0x00, 0x0e];
const HEADER_BYTES: usize = 6;
/// Longest profile list that is looked for; all assigned ones are 14 bytes.
const LIST_BYTES: usize = 32;
/// High byte of the unassigned profiles under which known ones are hidden; that of all assigned ones is 0.
const HIDDEN: u8 = 0x7f;
/// The profiles that the engine knows (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
const PROFILES: [(Suite, u8); 3] = [
    (Suite::AesCm128HmacSha1_80, 0x01),
    (Suite::AeadAes128Gcm, 0x07),
    (Suite::AeadAes256Gcm, 0x08),
];
/// What DTLS can agree on, in the default order: the cheapest in the packet path first.
pub const DTLS_SUITES: [Suite; 3] = [PROFILES[0].0, PROFILES[1].0, PROFILES[2].0];

/// Record type `handshake` and message type `client_hello` (RFC 6347 section 4.2.2).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Where the message type stands in the first record of a datagram.
const MESSAGE_TYPE: usize = 13;

static SERVER_HASHES: Hashes<Unhidden> = Hashes(Unhidden);
static SERVER_VERIFIER: Verifier<Unhidden> = Verifier(Unhidden);

/// What a DTLS client of ours offers instead of the engine's own list.
#[derive(Clone, Copy, Debug)]
pub struct ClientOffer([u8; 13]);

impl ClientOffer {
    /// These suites in this order; those that DTLS cannot agree on, and further ones, are left out.
    pub fn new(suites: &[Suite]) -> Self {
        let profiles: Vec<u8> = suites
            .iter()
            .filter_map(|suite| profile_of(*suite))
            .take(PROFILES.len())
            .collect();
        Self(match profiles[..] {
            [one] => [0, 0x0e, 0, 5, 0, 2, 0, one, 0, 0x0a, 0x0a, 0, 0],
            [one, two] => [0, 0x0e, 0, 9, 0, 6, 0, one, 0, two, HIDDEN, HIDDEN, 0],
            [one, two, three] => [0, 0x0e, 0, 9, 0, 6, 0, one, 0, two, 0, three, 0],
            _ => WRITTEN,
        })
    }

    /// No `use_srtp` but an unknown extension of the same length, for tests of peers that do not want SRTP.
    #[cfg(test)]
    pub(super) fn nothing() -> Self {
        Self([0x0a, 0x0a, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Cryptography for a client whose datagrams go through [`Self::rewrite`]. It lives as long as the process, which
    /// makes one per configuration.
    pub fn crypto(self) -> CryptoProvider {
        CryptoProvider {
            hash_provider: Box::leak(Box::new(Hashes(self))),
            key_provider: Box::leak(Box::new(Keys(self))),
            ..aws_lc_rs::default_provider()
        }
    }

    /// Changes the offer in a datagram of our client; anything but a ClientHello stays untouched.
    pub fn rewrite(self, datagram: &mut [u8]) {
        if is_client_hello(datagram)
            && let Some(at) = find(datagram)
        {
            datagram[at..at + self.0.len()].copy_from_slice(&self.0);
        }
    }
}

/// What was sent, for what the engine wrote.
impl Mapping for ClientOffer {
    fn map(&self, transcript: &[u8]) -> Option<Vec<u8>> {
        let at = find(transcript)?;
        let mut mapped = transcript.to_vec();
        mapped[at..at + self.0.len()].copy_from_slice(&self.0);
        Some(mapped)
    }
}

/// Cryptography for a DTLS server that gets its datagrams through [`narrowed`].
pub fn server_crypto() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &SERVER_HASHES,
        signature_verification: &SERVER_VERIFIER,
        ..aws_lc_rs::default_provider()
    }
}

/// A datagram of the peer's DTLS client with the first of `suites` that it offers as the only profile that the engine
/// knows; `None` when there is nothing to change.
pub fn narrowed(datagram: &[u8], suites: &[Suite]) -> Option<Vec<u8>> {
    if !is_client_hello(datagram) {
        return None;
    }
    let known =
        |profile: &[u8]| profile[0] == 0 && PROFILES.iter().any(|known| known.1 == profile[1]);
    let (at, length) = find_list(datagram, known)?;
    let mut narrowed = datagram.to_vec();
    let list = &mut narrowed[at..at + length];
    let chosen = suites
        .iter()
        .filter_map(|suite| profile_of(*suite))
        .find(|profile| list.chunks_exact(2).any(|offered| offered == [0, *profile]));
    for profile in list.chunks_exact_mut(2) {
        if known(profile) && Some(profile[1]) != chosen {
            profile[0] = HIDDEN;
        }
    }
    (narrowed != datagram).then_some(narrowed)
}

fn profile_of(suite: Suite) -> Option<u8> {
    let known = PROFILES.iter().find(|known| known.0 == suite)?;
    Some(known.1)
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

/// What the peer sent, for what [`narrowed`] made of it.
#[derive(Clone, Copy, Debug)]
struct Unhidden;

impl Mapping for Unhidden {
    fn map(&self, transcript: &[u8]) -> Option<Vec<u8>> {
        let hidden = |profile: &[u8]| {
            profile[0] == HIDDEN && PROFILES.iter().any(|known| known.1 == profile[1])
        };
        let (at, length) = find_list(transcript, hidden)?;
        let mut mapped = transcript.to_vec();
        for profile in mapped[at..at + length].chunks_exact_mut(2) {
            if hidden(profile) {
                profile[0] = 0;
            }
        }
        Some(mapped)
    }
}

/// Place and length of the first profile list that has such a profile, and no MKI.
fn find_list(bytes: &[u8], has: impl Fn(&[u8]) -> bool) -> Option<(usize, usize)> {
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
            let fits = bytes.get(start + length) == Some(&0) && list.chunks_exact(2).any(&has);
            fits.then_some((start, length))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(list: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 40];
        (out[0], out[MESSAGE_TYPE]) = (HANDSHAKE, CLIENT_HELLO);
        out.extend_from_slice(&[0x00, 0x0e, 0, list.len() as u8 + 3, 0, list.len() as u8]);
        out.extend_from_slice(list);
        out.extend_from_slice(&[0, 0xff, 0x01]);
        out
    }

    /// Chromium's order, SHA1_32 as Firefox has it, and lists that need no change.
    #[test]
    fn the_first_selected_profile_stays_and_the_others_come_back() {
        const CM: Suite = Suite::AesCm128HmacSha1_80;
        const SHORT: Suite = Suite::AeadAes128Gcm;
        for (offered, suites, seen) in [
            (
                &[0, 1, 0, 8, 0, 7][..],
                &[CM, SHORT][..],
                &[0, 1, HIDDEN, 8, HIDDEN, 7][..],
            ),
            (
                &[0, 1, 0, 8, 0, 7],
                &[SHORT, CM],
                &[HIDDEN, 1, HIDDEN, 8, 0, 7],
            ),
            (
                &[0, 8, 0, 7, 0, 1, 0, 2],
                &[CM],
                &[HIDDEN, 8, HIDDEN, 7, 0, 1, 0, 2],
            ),
            (&[0, 8, 0, 7], &[CM, SHORT], &[HIDDEN, 8, 0, 7]),
            (&[0, 8, 0, 7], &[CM], &[HIDDEN, 8, HIDDEN, 7]),
        ] {
            let (offered, seen) = (hello(offered), hello(seen));
            assert_eq!(narrowed(&offered, suites).as_ref(), Some(&seen));
            assert_eq!(Unhidden.map(&seen), Some(offered));
        }
        for list in [&[0, 1][..], &[0, 2, 0, 1], &[]] {
            assert_eq!(narrowed(&hello(list), &DTLS_SUITES), None, "{list:?}");
        }
        let mut cut = hello(&[0, 1, 0, 8]);
        cut.truncate(48);
        assert_eq!(narrowed(&cut, &DTLS_SUITES), None);
        let mut other = hello(&[0, 1, 0, 8]);
        other[MESSAGE_TYPE] = 2;
        assert_eq!(narrowed(&other, &DTLS_SUITES), None, "no ClientHello");
    }

    #[test]
    fn an_offer_of_any_selection_has_the_length_of_the_engines() {
        let [cm, short, long] = DTLS_SUITES;
        for suites in [&[cm][..], &[long, cm], &[cm, short, long], &[short]] {
            let mut datagram = hello(&[]);
            datagram.splice(40.., WRITTEN);
            ClientOffer::new(suites).rewrite(&mut datagram);
            let profiles: Vec<u8> = suites
                .iter()
                .filter_map(|suite| profile_of(*suite))
                .collect();
            let list = &datagram[46..46 + 2 * profiles.len()];
            let offered: Vec<u8> = list.chunks_exact(2).map(|profile| profile[1]).collect();
            assert_eq!(offered, profiles);
            let extension = usize::from(datagram[43]);
            assert!(extension == 9 || datagram[49..] == [0x0a, 0x0a, 0, 0]);
        }
    }
}
