//! SRTP keys in the SIP side's descriptions: `a=crypto` (SDES, RFC 4568) with the suites of RFC
//! 4568, RFC 6188 and RFC 7714.
//!
//! A line tells the key that its writer encrypts with. [`SipSession::settle`] makes an [`Srtp`] per
//! medium of the peer's lines and ours, as the [`SrtpPolicy`] allows it; `write` prints ours. All
//! media of a call are protected alike, because those of one browser leave in one flow: a video
//! that does not fit the audio is not taken. Keys are never shown by `Debug` and wiped on drop.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flow::Suite;
use sdp_types::Media;
use zeroize::Zeroizing;

use super::sip::DTLS_PROFILES;
use super::{IceDtls, Kind, SdpError, SipMedia, SipSession};
use crate::Random;
use crate::rtp::MasterKeys;

/// Most lines of an m-line that are looked at.
const MAX_LINES: usize = 16;
/// Tags have at most nine digits (RFC 4568 section 9.1).
const TAG_DIGITS: usize = 9;
/// The smallest replay window that a peer may ask for (RFC 4568 section 6.3.6): ours has 128.
const WINDOW_SIZES: std::ops::RangeInclusive<u32> = 64..=128;
/// Peers leave the padding out, though RFC 4568 section 6.1 asks for it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the SIP side's media are SRTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SrtpUse {
    /// Never: offers of SRTP only are refused.
    Off,
    /// If the peer offers it, with keys in its description or by DTLS.
    Accept,
    /// Offered as RTP/AVP with `a=crypto`: a peer that does not know it answers without, and the
    /// media are plain.
    Offer,
    /// Offered as RTP/SAVP; a peer without it is refused.
    Require,
    /// Audio alone, over ICE, with keys from a DTLS handshake: offered as UDP/TLS/RTP/SAVPF; a peer
    /// without it is refused.
    Dtls,
}

/// The configured use of SRTP on the SIP side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SrtpPolicy {
    /// Whether.
    pub usage: SrtpUse,
    /// What is offered, in this order, and accepted, in the peer's order.
    pub suites: Vec<Suite>,
}

/// One `a=crypto` line.
#[derive(Clone)]
pub struct Crypto {
    tag: u32,
    keys: Arc<MasterKeys>,
}

/// How a medium of the SIP side is protected: the keys of both ways, of one suite.
#[derive(Clone)]
pub struct Srtp {
    /// Names the pair of lines in offer and answer; 0 without lines.
    tag: u32,
    /// What we encrypt with.
    pub local: Arc<MasterKeys>,
    /// What the peer encrypts with.
    pub remote: Arc<MasterKeys>,
}

impl SrtpPolicy {
    /// A line with a fresh key for each suite.
    pub(crate) fn keys(&self, random: &mut Random) -> Vec<Crypto> {
        let suites = match self.usage {
            SrtpUse::Off | SrtpUse::Dtls => &[],
            SrtpUse::Accept | SrtpUse::Offer | SrtpUse::Require => self.suites.as_slice(),
        };
        let line = |(tag, suite)| Crypto::fresh(tag, suite, random);
        (1..).zip(suites.iter().copied()).map(line).collect()
    }

    /// Transport profile of our offers.
    pub(crate) fn profile(&self) -> &'static str {
        match self.usage {
            SrtpUse::Off | SrtpUse::Accept | SrtpUse::Offer => "RTP/AVP",
            SrtpUse::Require => "RTP/SAVP",
            SrtpUse::Dtls => DTLS_PROFILES[0],
        }
    }

    /// Whether our offers have `a=crypto`.
    pub(crate) fn offers(&self) -> bool {
        matches!(self.usage, SrtpUse::Offer | SrtpUse::Require)
    }
}

impl Crypto {
    fn fresh(tag: u32, suite: Suite, random: &mut Random) -> Self {
        let mut bytes = Zeroizing::new([0; Suite::MAX_KEY_BYTES + Suite::MAX_SALT_BYTES]);
        random.fill(&mut *bytes);
        let (key, salt) = bytes.split_at(Suite::MAX_KEY_BYTES);
        let keys = MasterKeys::new(
            suite,
            &key[..suite.key_bytes()],
            &salt[..suite.salt_bytes()],
        );
        let keys = Arc::new(keys.expect("lengths are the suite's"));
        Self { tag, keys }
    }

    /// Reads the value of an attribute (RFC 4568 section 9.1).
    fn parse(value: &str) -> Result<Self, &'static str> {
        const BROKEN: &str = "a=crypto is broken";
        let mut words = value.split_ascii_whitespace();
        let (tag, suite, inline) = (words.next(), words.next(), words.next());
        let (Some(tag), Some(suite), Some(inline)) = (tag, suite, inline) else {
            return Err(BROKEN);
        };
        if tag.len() > TAG_DIGITS || !tag.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(BROKEN);
        }
        let tag = tag.parse().map_err(|_| BROKEN)?;
        let suite = Suite::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(suite))
            .ok_or("a=crypto with an unknown suite")?;
        let (method, inline) = inline.split_once(':').ok_or(BROKEN)?;
        if !method.eq_ignore_ascii_case("inline") {
            return Err("a=crypto without an inline key");
        }
        if inline.contains(';') {
            return Err("a=crypto with several keys");
        }
        let mut parts = inline.split('|');
        let text = parts.next().unwrap_or_default();
        for part in parts {
            // The lifetime binds the writer; `MKI:length` would change the packets.
            if part.contains(':') {
                return Err("a=crypto with an MKI");
            }
            if !is_lifetime(part) {
                return Err(BROKEN);
            }
        }
        words.try_for_each(check_parameter)?;
        let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| BROKEN)?);
        let (key, salt) = bytes
            .split_at_checked(suite.key_bytes())
            .ok_or("a=crypto with a key of a wrong length")?;
        let keys = MasterKeys::new(suite, key, salt);
        let keys = keys.ok_or("a=crypto with a key of a wrong length")?;
        Ok(Self {
            tag,
            keys: Arc::new(keys),
        })
    }

    /// The value of an attribute. The text holds the key: it goes into a description and nowhere
    /// else.
    pub(super) fn print(&self) -> String {
        let bytes = Zeroizing::new([self.keys.key(), self.keys.salt()].concat());
        let key = Zeroizing::new(BASE64.encode(&*bytes));
        format!(
            "{} {} inline:{}",
            self.tag,
            self.keys.suite().name(),
            key.as_str()
        )
    }
}

/// `2^n` or a number of packets.
fn is_lifetime(text: &str) -> bool {
    let digits = text.strip_prefix("2^").unwrap_or(text);
    (1..=20).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// Session parameters (RFC 4568 section 6.3): what weakens the protection or changes the packets is
/// refused, and so is what is unknown, unless it may be ignored (section 6.3.7).
fn check_parameter(parameter: &str) -> Result<(), &'static str> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    match name.to_ascii_uppercase().as_str() {
        "WSH" if value.parse().is_ok_and(|size| WINDOW_SIZES.contains(&size)) => Ok(()),
        "WSH" => Err("a=crypto with a WSH that is not 64 to 128"),
        "UNENCRYPTED_SRTP" | "UNENCRYPTED_SRTCP" | "UNAUTHENTICATED_SRTP" => {
            Err("a=crypto without full protection")
        }
        "KDR" => Err("a=crypto with a KDR"),
        _ if name.starts_with('-') => Ok(()),
        _ => Err("a=crypto with an unknown parameter"),
    }
}

/// The lines of an m-line that can be used, and why the first other one cannot.
pub(super) fn read(media: &Media) -> (Vec<Crypto>, Option<&'static str>) {
    let (mut lines, mut refused) = (Vec::new(), None);
    let values = media.get_attribute_values("crypto").flatten();
    for line in values.take(MAX_LINES).map(Crypto::parse) {
        match line {
            Ok(line) => lines.push(line),
            Err(reason) => refused = refused.or(Some(reason)),
        }
    }
    (lines, refused)
}

impl Srtp {
    fn new(tag: u32, local: &Crypto, remote: &Crypto) -> Self {
        Self {
            tag,
            local: Arc::clone(&local.keys),
            remote: Arc::clone(&remote.keys),
        }
    }

    /// Of a DTLS association.
    pub(crate) fn by_dtls(local: MasterKeys, remote: MasterKeys) -> Self {
        Self {
            tag: 0,
            local: Arc::new(local),
            remote: Arc::new(remote),
        }
    }

    /// The suite of both ways.
    pub fn suite(&self) -> Suite {
        self.local.suite()
    }

    /// Our line.
    pub(crate) fn line(&self) -> Crypto {
        Crypto {
            tag: self.tag,
            keys: Arc::clone(&self.local),
        }
    }
}

impl SipSession {
    /// Decides for each medium whether and under which keys it is SRTP; until then RTP/SAVP is not
    /// usable. `ours`: for an offer of the peer the keys that we can answer with, for its answer
    /// those that we offered. What the policy does not allow is refused with its reason.
    pub fn settle(&mut self, policy: &SrtpPolicy, ours: &[Crypto], peer_offers: bool) {
        let mut audio = None;
        for kind in [Kind::Audio, Kind::Video] {
            let media = self.media.iter_mut();
            for media in media.filter(|media| media.kind == kind && media.is_known()) {
                match media.agree(policy, ours, peer_offers, audio.as_ref()) {
                    Ok(protection) => {
                        media.protect(&protection);
                        if kind == Kind::Audio {
                            audio = Some(protection);
                        }
                        break;
                    }
                    Err(reason) => media.refused = Some(reason),
                }
            }
        }
    }
}

impl SipSession {
    /// For an answer to an offer of ours that had no DTLS.
    pub(crate) fn refuse_dtls(&mut self) {
        let media = self.media.iter_mut();
        for media in media.filter(|media| media.dtls.is_some()) {
            (media.dtls, media.refused) = (None, Some("DTLS-SRTP was not offered".to_owned()));
        }
    }
}

/// How a medium is protected.
enum Protection {
    Plain,
    Sdes(Srtp),
    Dtls(IceDtls),
}

impl Protection {
    fn suite(&self) -> Option<Suite> {
        match self {
            Self::Sdes(srtp) => Some(srtp.suite()),
            Self::Plain | Self::Dtls(_) => None,
        }
    }
}

impl SipMedia {
    fn protect(&mut self, protection: &Protection) {
        match protection {
            Protection::Plain => {}
            Protection::Sdes(srtp) => self.srtp = Some(srtp.clone()),
            Protection::Dtls(dtls) => self.dtls = Some(dtls.clone()),
        }
    }

    /// `audio`: how the call's audio is protected, if this is another medium.
    fn agree(
        &self,
        policy: &SrtpPolicy,
        ours: &[Crypto],
        peer_offers: bool,
        audio: Option<&Protection>,
    ) -> Result<Protection, String> {
        let (word, secure) = (self.kind.word(), self.is_secure());
        if policy.usage == SrtpUse::Off {
            return if secure || self.is_dtls() {
                Err(format!("{word} over {}: SRTP is off here", self.protocol))
            } else {
                Ok(Protection::Plain)
            };
        }
        if let Some(dtls) = &self.ice_dtls {
            return self.agree_dtls(dtls);
        }
        if policy.usage == SrtpUse::Dtls {
            let found = &self.protocol;
            return Err(format!("{word} over {found}, where DTLS-SRTP is required"));
        }
        if matches!(audio, Some(Protection::Dtls(_))) {
            return Err(format!("the {word} is not protected as the audio is"));
        }
        let fits = |line: &&Crypto| match audio {
            None => true,
            Some(audio) => audio.suite() == Some(line.keys.suite()),
        };
        let of_suite = |line: &Crypto, peer: &Crypto| line.keys.suite() == peer.keys.suite();
        let found = self.crypto.iter().filter(fits).find_map(|peer| {
            let local = ours
                .iter()
                .find(|own| of_suite(own, peer) && (peer_offers || own.tag == peer.tag))?;
            Some(Srtp::new(peer.tag, local, peer))
        });
        let plain_fits = audio.is_none_or(|audio| audio.suite().is_none());
        let foreign = !peer_offers && !ours.is_empty() && !self.crypto.is_empty();
        match found {
            Some(srtp) => Ok(Protection::Sdes(srtp)),
            None if foreign => Err(format!("the {word}'s a=crypto was not offered")),
            None if secure => {
                let why = self.unreadable.unwrap_or("no a=crypto of a suite in use");
                Err(format!("{word} over {}: {why}", self.protocol))
            }
            None if policy.usage == SrtpUse::Require => {
                Err(format!("plain {word}, where SRTP is required"))
            }
            None if !plain_fits => Err(format!("the {word} is not protected as the audio is")),
            None => Ok(Protection::Plain),
        }
    }

    /// Audio alone: the flows of a video would need an association of their own.
    fn agree_dtls(&self, dtls: &Result<IceDtls, SdpError>) -> Result<Protection, String> {
        let (word, profile) = (self.kind.word(), &self.protocol);
        match dtls {
            _ if self.kind != Kind::Audio => {
                Err(format!("{word} over {profile} is not supported here"))
            }
            Err(error) => Err(format!("{word} over {profile}: {error}")),
            Ok(dtls) => Ok(Protection::Dtls(dtls.clone())),
        }
    }
}

/// Without the keys.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tag, self.keys.suite().name())
    }
}

/// In a time that does not depend on the keys.
impl PartialEq for Crypto {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag && self.keys.is_same(&other.keys)
    }
}

impl Eq for Crypto {}

/// Without the keys.
impl fmt::Debug for Srtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suite().name())
    }
}

/// In a time that does not depend on the keys.
impl PartialEq for Srtp {
    fn eq(&self, other: &Self) -> bool {
        self.tag == other.tag
            && self.local.is_same(&other.local)
            && self.remote.is_same(&other.remote)
    }
}

impl Eq for Srtp {}
