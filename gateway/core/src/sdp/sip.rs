//! The SIP side of a call: where the peer takes RTP and RTCP, and with which codecs (RFC 3264, RFC
//! 3605).
//!
//! Only plain RTP/AVP (and AVPF) audio is used; everything else stays in the list so that answers
//! can mirror and reject it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sdp_types::{Media, Session};

use super::{Codec, Direction, Kind, PacketTimes, SdpError, text};

/// An offer or answer of a SIP endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipSession {
    /// All m-lines in their order.
    pub media: Vec<SipMedia>,
}

/// One m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipMedia {
    /// What it carries.
    pub kind: Kind,
    /// Where the peer takes RTP. Unspecified (`0.0.0.0`) while it is on hold the old way or where
    /// the m-line is of no use to us.
    pub rtp: SocketAddr,
    /// Where the peer takes RTCP: `a=rtcp`, else the next port.
    pub rtcp: SocketAddr,
    /// Port 0.
    pub rejected: bool,
    /// As the peer sees it; `c=0.0.0.0` counts as inactive (RFC 3264 section 8.4).
    pub direction: Direction,
    /// In the peer's order.
    pub codecs: Vec<Codec>,
    /// Packet times asked for.
    pub times: PacketTimes,
    /// Transport profile as written.
    pub protocol: String,
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
        let media = session
            .medias
            .iter()
            .map(|line| SipMedia::read(&session, line))
            .collect::<Result<_, _>>()?;
        Ok(Self { media })
    }

    /// The audio that we take: the first plain one that is not rejected.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] with what stands there instead.
    pub fn audio(&self) -> Result<&SipMedia, SdpError> {
        self.audio_index().map(|index| &self.media[index])
    }

    pub(super) fn audio_index(&self) -> Result<usize, SdpError> {
        if let Some(index) = self.media.iter().position(SipMedia::is_usable) {
            return Ok(index);
        }
        let audio = || self.media.iter().filter(|media| media.kind == Kind::Audio);
        Err(
            match (audio().find(|media| !media.rejected), audio().next()) {
                (Some(secured), _) => SdpError::not_acceptable(format_args!(
                    "audio over {} is not supported here, only RTP/AVP",
                    secured.protocol
                )),
                (None, Some(_)) => SdpError::not_acceptable("the audio is rejected"),
                (None, None) => SdpError::not_acceptable("no audio"),
            },
        )
    }
}

impl SipMedia {
    fn read(session: &Session, media: &Media) -> Result<Self, SdpError> {
        let kind = Kind::of(&media.media);
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut this = Self {
            kind,
            rtp: nowhere,
            rtcp: nowhere,
            rejected: media.port == 0,
            direction: text::direction(session, media),
            codecs: if matches!(kind, Kind::Audio | Kind::Video) {
                text::codecs(media)
            } else {
                Vec::new()
            },
            times: text::packet_times(media),
            protocol: media.proto.clone(),
            word: media.media.clone(),
            formats: media.fmt.clone(),
        };
        if this.is_usable() {
            let ip = connection_address(session, media)?;
            this.rtp = SocketAddr::new(ip, media.port);
            this.rtcp = rtcp_address(media, ip)?;
            if ip.is_unspecified() {
                this.direction = Direction::Inactive;
            }
        }
        Ok(this)
    }

    fn is_usable(&self) -> bool {
        let plain = ["RTP/AVP", "RTP/AVPF"]
            .iter()
            .any(|known| self.protocol.eq_ignore_ascii_case(known));
        self.kind == Kind::Audio && !self.rejected && plain
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
