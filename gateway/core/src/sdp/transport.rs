//! ICE and DTLS in a description: credentials, candidates, fingerprints, and who opens the association (RFC 8839, RFC 8122,
//! RFC 8842).
//!
//! `web` reads it of every page, `sip` of the SIP endpoints that key their media this way ([`IceDtls`]).

use sdp_types::{Media, Session};

use super::{Fingerprint, IceParameters, SdpError, Setup};

const MAX_CANDIDATES: usize = 64;
const MAX_FINGERPRINTS: usize = 8;

/// How a SIP endpoint runs ICE and DTLS-SRTP on a medium (RFC 5763).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceDtls {
    /// Its ICE credentials.
    pub ice: IceParameters,
    /// At least one.
    pub fingerprints: Vec<Fingerprint>,
    /// `actpass` where nothing is said.
    pub setup: Setup,
    /// As [`super::WebMedia::candidates`].
    pub candidates: Vec<String>,
}

impl IceDtls {
    pub(super) fn read(session: &Session, media: &Media) -> Result<Self, SdpError> {
        if !media.has_attribute("rtcp-mux") {
            return Err(SdpError::not_acceptable("a=rtcp-mux is missing"));
        }
        let transport = Transport {
            session,
            own: media,
            tagged: None,
        };
        Ok(Self {
            ice: transport.ice()?,
            fingerprints: transport.fingerprints()?,
            setup: transport.setup()?,
            candidates: candidates(session, media),
        })
    }
}

/// `a=mid`; empty without one.
pub(super) fn mid(media: &Media) -> String {
    let mid = media.get_first_attribute_value("mid").flatten();
    mid.unwrap_or_default().trim().into()
}

/// Those of the session and of the m-line, with their `candidate:` prefix.
pub(super) fn candidates(session: &Session, media: &Media) -> Vec<String> {
    let candidates = session
        .get_attribute_values("candidate")
        .chain(media.get_attribute_values("candidate"));
    candidates
        .flatten()
        .take(MAX_CANDIDATES)
        .map(|value| format!("candidate:{value}"))
        .collect()
}

/// Mids of the BUNDLE group; empty without one.
pub(super) fn bundle_group(session: &Session) -> Vec<String> {
    let groups = session
        .get_attribute_values("group")
        .flatten()
        .map(|value| value.split_ascii_whitespace());
    for mut words in groups {
        if words
            .next()
            .is_some_and(|semantics| semantics.eq_ignore_ascii_case("BUNDLE"))
        {
            return words.map(String::from).collect();
        }
    }
    Vec::new()
}

/// The m-line that speaks for its BUNDLE group (RFC 9143 section 7.1).
pub(super) fn tagged<'a>(session: &'a Session, bundle: &[String]) -> Option<&'a Media> {
    let tag = bundle.first()?;
    session
        .medias
        .iter()
        .find(|media| media.get_first_attribute_value("mid").flatten() == Some(tag))
}

/// Where transport attributes are looked for: the audio itself, the m-line that speaks for the
/// group, the session.
pub(super) struct Transport<'a> {
    pub(super) session: &'a Session,
    pub(super) own: &'a Media,
    pub(super) tagged: Option<&'a Media>,
}

impl<'a> Transport<'a> {
    fn first(&self, name: &'a str) -> Option<&'a str> {
        let tagged = || {
            self.tagged
                .and_then(|media| media.get_first_attribute_value(name).flatten())
        };
        let session = || self.session.get_first_attribute_value(name).flatten();
        self.own
            .get_first_attribute_value(name)
            .flatten()
            .or_else(session)
            .or_else(tagged)
            .map(str::trim)
    }

    pub(super) fn ice(&self) -> Result<IceParameters, SdpError> {
        let (Some(ufrag), Some(password)) = (self.first("ice-ufrag"), self.first("ice-pwd")) else {
            return Err(SdpError::not_acceptable(
                "a=ice-ufrag or a=ice-pwd is missing",
            ));
        };
        // RFC 8839 section 5.4. A colon would break the STUN user name, and spaces are no part of
        // any credential.
        let legal = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':')
        };
        if !(4..=256).contains(&ufrag.len())
            || !(22..=256).contains(&password.len())
            || !legal(ufrag)
            || !legal(password)
        {
            return Err(SdpError::malformed(
                "a=ice-ufrag or a=ice-pwd has a wrong length or character",
            ));
        }
        Ok(IceParameters {
            ufrag: ufrag.into(),
            password: password.into(),
            lite: self.session.has_attribute("ice-lite"),
        })
    }

    pub(super) fn fingerprints(&self) -> Result<Vec<Fingerprint>, SdpError> {
        let of = |attributes: &mut dyn Iterator<Item = Option<&str>>| -> Vec<Fingerprint> {
            attributes
                .flatten()
                .filter_map(Fingerprint::parse)
                .take(MAX_FINGERPRINTS)
                .collect()
        };
        let mut found = of(&mut self.own.get_attribute_values("fingerprint"));
        if found.is_empty() {
            found = of(&mut self.session.get_attribute_values("fingerprint"));
        }
        if let (true, Some(tagged)) = (found.is_empty(), self.tagged) {
            found = of(&mut tagged.get_attribute_values("fingerprint"));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        // RFC 8827 section 6.5: no keys in the description of a browser.
        Err(SdpError::not_acceptable(
            if self.own.get_attribute_values("crypto").next().is_some() {
                "SDES (a=crypto) without DTLS-SRTP is not taken from a page"
            } else {
                "no a=fingerprint with SHA-256, SHA-384 or SHA-512"
            },
        ))
    }

    pub(super) fn setup(&self) -> Result<Setup, SdpError> {
        match self.first("setup").map(str::to_ascii_lowercase).as_deref() {
            Some("active") => Ok(Setup::Active),
            Some("passive") => Ok(Setup::Passive),
            Some("actpass") | None => Ok(Setup::Actpass),
            Some("holdconn") => Err(SdpError::not_acceptable(
                "a=setup:holdconn is not supported",
            )),
            Some(_) => Err(SdpError::malformed("a=setup is not a known role")),
        }
    }
}
