//! The SIP side of a call: where the peer takes RTP and RTCP, and with which codecs (RFC 3264, RFC
//! 3605).
//!
//! RTP/AVP and RTP/SAVP (and AVPF, SAVPF) audio and video are used, and UDP/TLS/RTP/SAVPF audio (ICE
//! and DTLS), the first m-line of each kind that can be; everything else stays in the list so that answers can mirror and reject it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sdp_types::{Media, Session};

use super::crypto::{self, Crypto, Srtp};
use super::transport::{self, IceDtls};
use super::{Asked, Codec, Described, Direction, Extension, Kind, SdpError, extensions, text};

/// RFC 5764 section 8, the one of our own offers in front.
pub(super) const DTLS_PROFILES: [&str; 2] = ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"];

/// An offer or answer of a SIP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipSession {
    /// All m-lines in their order.
    pub media: Vec<SipMedia>,
    /// Mids of the BUNDLE group; empty without one.
    pub(super) bundle: Vec<String>,
}

/// One m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipMedia {
    /// What it carries.
    pub kind: Kind,
    /// Where the peer takes RTP. Unspecified (`0.0.0.0`) while it is on hold the old way or where
    /// the m-line is of no use to us.
    pub rtp: SocketAddr,
    /// Where the peer takes RTCP: the port of RTP with `a=rtcp-mux`, else `a=rtcp`, else the next port.
    pub rtcp: SocketAddr,
    /// `a=rtcp-mux`: RTP and RTCP share one port on both sides (RFC 5761).
    pub mux: bool,
    /// Port 0; or video that cannot be used.
    pub rejected: bool,
    /// As the peer sees it; `c=0.0.0.0` counts as inactive (RFC 3264 section 8.4).
    pub direction: Direction,
    /// In the peer's order.
    pub codecs: Vec<Codec>,
    /// Packet times and bandwidth asked for.
    pub asked: Asked,
    /// Header extensions that may pass to the browser.
    pub extensions: Vec<Extension>,
    /// Transport profile as written.
    pub protocol: String,
    /// SRTP under keys of the descriptions, as [`SipSession::settle`] decided.
    pub srtp: Option<Srtp>,
    /// SRTP under keys of a DTLS handshake, likewise; without either it is plain.
    pub dtls: Option<IceDtls>,
    /// `a=mid`; empty where the peer gives none.
    pub(super) mid: String,
    /// Why it is not used.
    pub(super) refused: Option<String>,
    /// The peer's keys that can be used.
    pub(super) crypto: Vec<Crypto>,
    /// Why a key of the peer cannot be used.
    pub(super) unreadable: Option<&'static str>,
    /// What the peer says of ICE and DTLS, where the profile asks for them.
    pub(super) ice_dtls: Option<Result<IceDtls, SdpError>>,
    pub(super) word: String,
    pub(super) formats: String,
}

impl SipSession {
    /// Reads a description.
    ///
    /// # Errors
    /// [`SdpError::Malformed`] for what is no SDP, [`SdpError::NotAcceptable`] where the audio's
    /// address is a name or not unicast.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        let session = text::parse(sdp)?;
        let mut media = session
            .medias
            .iter()
            .map(|line| SipMedia::read(&session, line))
            .collect::<Result<Vec<_>, _>>()?;
        // A call keeps it; most have one medium.
        media.shrink_to_fit();
        Ok(Self {
            media,
            bundle: transport::bundle_group(&session),
        })
    }

    /// The audio that we take: the first one that is neither rejected nor refused.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] with what stands there instead.
    pub fn audio(&self) -> Result<&SipMedia, SdpError> {
        self.index(Kind::Audio).map(|index| &self.media[index])
    }

    /// The video that we take, if there is any: likewise the first.
    pub fn video(&self) -> Option<&SipMedia> {
        let index = self.index(Kind::Video).ok()?;
        Some(&self.media[index])
    }

    /// Whether there is video that might be taken, however it is protected.
    pub(crate) fn shows_video(&self) -> bool {
        let mut media = self.media.iter();
        media.any(|media| media.kind == Kind::Video && media.is_known())
    }

    /// The audio and the video that we take.
    ///
    /// # Errors
    /// As [`Self::audio`].
    pub fn described(&self) -> Result<Vec<Described<'_>>, SdpError> {
        let media = [Some(self.audio()?), self.video()];
        Ok(media
            .into_iter()
            .flatten()
            .map(SipMedia::described)
            .collect())
    }

    /// One of them.
    pub(crate) fn medium(&self, kind: Kind) -> Option<&SipMedia> {
        self.index(kind).ok().map(|index| &self.media[index])
    }

    pub(super) fn index(&self, kind: Kind) -> Result<usize, SdpError> {
        let of_kind = |media: &&SipMedia| media.kind == kind;
        if let Some(index) = self
            .media
            .iter()
            .position(|media| media.kind == kind && media.is_usable())
        {
            return Ok(index);
        }
        let mut media = self.media.iter().filter(of_kind);
        let word = kind.word();
        Err(
            match (media.clone().find(|media| !media.rejected), media.next()) {
                (Some(media), _) => match &media.refused {
                    Some(reason) => SdpError::not_acceptable(reason),
                    None => SdpError::not_acceptable(format_args!(
                        "{word} over {} is not supported here",
                        media.protocol
                    )),
                },
                (None, Some(_)) => SdpError::not_acceptable(format_args!("the {word} is rejected")),
                (None, None) => SdpError::not_acceptable(format_args!("no {word}")),
            },
        )
    }
}

impl SipMedia {
    fn described(&self) -> Described<'_> {
        Described {
            kind: self.kind,
            codecs: &self.codecs,
            asked: self.asked,
            extensions: &self.extensions,
        }
    }

    fn read(session: &Session, media: &Media) -> Result<Self, SdpError> {
        let kind = Kind::of(&media.media);
        let (crypto, unreadable) = crypto::read(media);
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut this = Self {
            kind,
            rtp: nowhere,
            rtcp: nowhere,
            mux: media.has_attribute("rtcp-mux"),
            rejected: media.port == 0,
            direction: text::direction(session, media),
            codecs: if matches!(kind, Kind::Audio | Kind::Video) {
                text::codecs(media)
            } else {
                Vec::new()
            },
            asked: text::asked(media),
            extensions: extensions::read(session, media),
            protocol: media.proto.clone(),
            srtp: None,
            dtls: None,
            mid: transport::mid(media),
            refused: None,
            crypto,
            unreadable,
            ice_dtls: None,
            word: media.media.clone(),
            formats: media.fmt.clone(),
        };
        if this.is_dtls() {
            this.ice_dtls = Some(IceDtls::read(session, media));
        }
        if this.is_known() {
            match this.read_addresses(session, media) {
                // A call goes on without its video, not without its audio.
                Err(_) if kind == Kind::Video => this.rejected = true,
                read => read?,
            }
        }
        Ok(this)
    }

    fn read_addresses(&mut self, session: &Session, media: &Media) -> Result<(), SdpError> {
        let ip = connection_address(session, media)?;
        self.rtp = SocketAddr::new(ip, media.port);
        self.rtcp = if self.mux {
            self.rtp
        } else {
            rtcp_address(media, ip)?
        };
        // Where ICE tells the address, that of c= may be none (RFC 8840 section 4.1.1).
        if ip.is_unspecified() && !self.is_dtls() {
            self.direction = Direction::Inactive;
        }
        Ok(())
    }

    /// Whether it can be used, if the protection is agreed on.
    pub(super) fn is_known(&self) -> bool {
        let known = self.is_plain() || self.is_secure() || self.is_dtls();
        matches!(self.kind, Kind::Audio | Kind::Video) && !self.rejected && known
    }

    fn is_usable(&self) -> bool {
        let settled = self.is_plain() || self.srtp.is_some() || self.dtls.is_some();
        self.is_known() && self.refused.is_none() && settled
    }

    fn is_plain(&self) -> bool {
        self.is_over(["RTP/AVP", "RTP/AVPF"])
    }

    /// Whether the profile asks for SRTP with keys from the description.
    pub(super) fn is_secure(&self) -> bool {
        self.is_over(["RTP/SAVP", "RTP/SAVPF"])
    }

    /// Whether the profile asks for SRTP with keys from a DTLS handshake.
    pub(super) fn is_dtls(&self) -> bool {
        self.is_over(DTLS_PROFILES)
    }

    fn is_over(&self, profiles: [&str; 2]) -> bool {
        profiles
            .iter()
            .any(|known| self.protocol.eq_ignore_ascii_case(known))
    }
}

fn connection_address(session: &Session, media: &Media) -> Result<IpAddr, SdpError> {
    let connection = media.connections.first().or(session.connection.as_ref());
    text::address(connection.ok_or_else(|| SdpError::malformed("no c= line for the audio"))?)
}

/// `a=rtcp:port [IN IP4 address]` (RFC 3605 section 2.1), else the port after that of RTP.
fn rtcp_address(media: &Media, ip: IpAddr) -> Result<SocketAddr, SdpError> {
    match media.get_first_attribute_typed::<sdp_types::Rtcp>() {
        Some(Ok(rtcp)) if rtcp.port != 0 => {
            let own = match (rtcp.nettype, rtcp.addrtype, rtcp.connection_address) {
                (Some(nettype), Some(addrtype), Some(address)) => {
                    text::address(&sdp_types::Connection::new(nettype, addrtype, address))?
                }
                _ => ip,
            };
            Ok(SocketAddr::new(own, rtcp.port))
        }
        Some(_) => Err(SdpError::malformed("a=rtcp is not a port and an address")),
        None => {
            let port = media
                .port
                .checked_add(1)
                .ok_or_else(|| SdpError::malformed("port 65535 leaves none for RTCP"))?;
            Ok(SocketAddr::new(ip, port))
        }
    }
}
