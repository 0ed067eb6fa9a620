//! The browser's side of a call: what an offer or answer of a WebRTC endpoint says, checked for
//! what we cannot do without.
//!
//! [`WebSession::parse`] refuses what would fail later anyway (no ICE, no fingerprint, no DTLS
//! profile, no rtcp-mux, several media without BUNDLE), so that the page gets the reason at once.
//! Rules: JSEP (RFC 8829), BUNDLE (RFC 9143), RFC 8842.

use std::fmt;

use sdp_types::{Media, Session};

use super::transport::{self, Transport};
use super::{Asked, Codec, Described, Direction, Extension, Kind, SdpError, extensions, text};

const MAX_SSRCS: usize = 64;

/// ICE credentials of one side (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct IceParameters {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// `a=ice-lite`.
    pub lite: bool,
}

/// Without the password: whoever has it can take the call's media path over.
impl fmt::Debug for IceParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceParameters")
            .field("ufrag", &self.ufrag)
            .field("lite", &self.lite)
            .finish_non_exhaustive()
    }
}

/// `a=setup`: who opens the DTLS association (RFC 4145, RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// Sends the ClientHello.
    Active,
    /// Waits for it.
    Passive,
    /// Either; only in offers.
    Actpass,
    /// No association now; refused.
    HoldConn,
}

impl Setup {
    /// What our answer to an offer with this value says: our preference where we may choose (RFC
    /// 8842 section 5.3).
    #[must_use]
    pub fn answer(self, preferred: Self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
            Self::Actpass | Self::HoldConn => preferred,
        }
    }

    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Actpass => "actpass",
            Self::HoldConn => "holdconn",
        }
    }
}

/// Hash of a certificate (RFC 8122 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Lower case: `sha-256`, `sha-384` or `sha-512`.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}

impl Fingerprint {
    /// Reads `sha-256 AA:BB:..`; `None` for other hashes and wrong lengths.
    pub fn parse(value: &str) -> Option<Self> {
        let (algorithm, hash) = value.trim().split_once(' ')?;
        let algorithm = algorithm.to_ascii_lowercase();
        let length = match algorithm.as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return None,
        };
        let octet = |pair: &str| {
            if pair.len() == 2 {
                u8::from_str_radix(pair, 16).ok()
            } else {
                None
            }
        };
        let bytes: Vec<u8> = hash
            .trim()
            .split(':')
            .take(length + 1)
            .map(octet)
            .collect::<Option<_>>()?;
        (bytes.len() == length).then_some(Self { algorithm, bytes })
    }
}

/// As in `a=fingerprint`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.algorithm)?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// An offer or answer of a WebRTC endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    /// Of the audio, which with BUNDLE is that of all.
    pub ice: IceParameters,
    /// At least one.
    pub fingerprints: Vec<Fingerprint>,
    /// `actpass` where nothing is said.
    pub setup: Setup,
    /// Mids of the BUNDLE group; empty without one.
    pub bundle: Vec<String>,
    /// All m-lines in their order.
    pub media: Vec<WebMedia>,
}

/// One m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebMedia {
    /// `a=mid`; empty where the peer gives none.
    pub mid: String,
    /// What it carries.
    pub kind: Kind,
    /// Port 0 and not `a=bundle-only`.
    pub rejected: bool,
    /// As the browser sees it.
    pub direction: Direction,
    /// In the browser's order of preference.
    pub codecs: Vec<Codec>,
    /// From `a=ssrc`, each once, in order; of a group (RFC 5576 section 4.2: retransmission, FEC,
    /// simulcast) the first only, because the others are never negotiated.
    pub ssrcs: Vec<u32>,
    /// With their `candidate:` prefix, as `is::Candidate::from_sdp_string` reads them.
    pub candidates: Vec<String>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// `a=rtcp-rsize`: reduced-size RTCP is taken (RFC 5506).
    pub rtcp_rsize: bool,
    /// Packet times and bandwidth asked for.
    pub asked: Asked,
    /// Header extensions that may pass to the SIP side.
    pub extensions: Vec<Extension>,
    /// Transport profile as written.
    pub protocol: String,
    pub(super) word: String,
    pub(super) formats: String,
}

impl WebSession {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// [`SdpError::Malformed`] for what is no SDP, [`SdpError::NotAcceptable`] where something that
    /// we need is missing.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        let session = text::parse(sdp)?;
        let bundle = transport::bundle_group(&session);
        let media: Vec<WebMedia> = session
            .medias
            .iter()
            .map(|line| WebMedia::read(&session, line))
            .collect();
        let index = audio_index(&media)
            .ok_or_else(|| SdpError::not_acceptable("no audio that is not rejected"))?;
        let used = media.iter().filter(|media| !media.rejected).count();
        let bundled = |media: &WebMedia| bundle.contains(&media.mid);
        if used > 1 && !media.iter().filter(|media| !media.rejected).all(bundled) {
            return Err(SdpError::not_acceptable("several media without BUNDLE"));
        }
        let audio = &media[index];
        if !is_dtls(&audio.protocol) {
            return Err(SdpError::not_acceptable(format_args!(
                "the audio is {}, not DTLS-SRTP",
                audio.protocol
            )));
        }
        if !audio.rtcp_mux {
            return Err(SdpError::not_acceptable("a=rtcp-mux is missing"));
        }
        let transport = Transport {
            session: &session,
            own: &session.medias[index],
            tagged: transport::tagged(&session, &bundle),
        };
        let ice = transport.ice()?;
        let fingerprints = transport.fingerprints()?;
        let setup = transport.setup()?;
        Ok(Self {
            ice,
            fingerprints,
            setup,
            bundle,
            media,
        })
    }

    /// The audio that we take: the first that is not rejected.
    pub fn audio(&self) -> &WebMedia {
        let index = self.index(Kind::Audio);
        &self.media[index.expect("parse refuses sessions without audio")]
    }

    /// The video that we take, if there is any: the first that is not rejected and shares the
    /// audio's transport.
    pub fn video(&self) -> Option<&WebMedia> {
        self.index(Kind::Video).map(|index| &self.media[index])
    }

    /// The audio and the video that we take.
    pub fn described(&self) -> Vec<Described<'_>> {
        let media = [Some(self.audio()), self.video()];
        media
            .into_iter()
            .flatten()
            .map(WebMedia::described)
            .collect()
    }

    /// One of them.
    pub(crate) fn medium(&self, kind: Kind) -> Option<&WebMedia> {
        self.index(kind).map(|index| &self.media[index])
    }

    pub(super) fn index(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Audio => audio_index(&self.media),
            Kind::Video => self.media.iter().position(|media| {
                media.kind == Kind::Video
                    && !media.rejected
                    && media.rtcp_mux
                    && is_dtls(&media.protocol)
                    && self.bundle.contains(&media.mid)
            }),
            Kind::Application | Kind::Other => None,
        }
    }
}

impl WebMedia {
    fn described(&self) -> Described<'_> {
        Described {
            kind: self.kind,
            codecs: &self.codecs,
            asked: self.asked,
            extensions: &self.extensions,
        }
    }

    fn read(session: &Session, media: &Media) -> Self {
        let rejected = media.port == 0 && !media.has_attribute("bundle-only");
        let kind = Kind::of(&media.media);
        let rtp = matches!(kind, Kind::Audio | Kind::Video);
        Self {
            mid: transport::mid(media),
            kind,
            rejected,
            direction: text::direction(session, media),
            codecs: if rtp { text::codecs(media) } else { Vec::new() },
            ssrcs: ssrcs(media),
            candidates: transport::candidates(session, media),
            rtcp_mux: media.has_attribute("rtcp-mux"),
            rtcp_rsize: media.has_attribute("rtcp-rsize"),
            asked: text::asked(media),
            extensions: extensions::read(session, media),
            protocol: media.proto.clone(),
            word: media.media.clone(),
            formats: media.fmt.clone(),
        }
    }
}

fn ssrcs(media: &Media) -> Vec<u32> {
    let groups = media.get_attribute_values("ssrc-group").flatten();
    let secondary: Vec<u32> = groups
        .take(MAX_SSRCS)
        .flat_map(|group| group.split_ascii_whitespace().skip(2).take(MAX_SSRCS))
        .filter_map(|ssrc| ssrc.parse().ok())
        .collect();
    let mut ssrcs = Vec::new();
    for value in media.get_attribute_values("ssrc").flatten() {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
        let is_new = |ssrc: &u32| !ssrcs.contains(ssrc) && !secondary.contains(ssrc);
        if let Some(ssrc) = ssrc.filter(|ssrc| ssrcs.len() < MAX_SSRCS && is_new(ssrc)) {
            ssrcs.push(ssrc);
        }
    }
    ssrcs
}

fn audio_index(media: &[WebMedia]) -> Option<usize> {
    media
        .iter()
        .position(|media| media.kind == Kind::Audio && !media.rejected)
}

/// Profiles of DTLS-SRTP over UDP; the short ones are what JSEP tells us to take too (RFC 8829
/// section 5.1.2).
fn is_dtls(protocol: &str) -> bool {
    [
        "UDP/TLS/RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "RTP/SAVPF",
        "RTP/SAVP",
    ]
    .iter()
    .any(|known| protocol.eq_ignore_ascii_case(known))
}
