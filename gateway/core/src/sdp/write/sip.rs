//! Our descriptions to the SIP side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sdp_types::{Connection, Media, Session};

use super::{HostCandidate, Style, add_codecs, add_extensions, frame, media_of, rejected};
use crate::sdp::offered::Listing;
use crate::sdp::sip::DTLS_PROFILES;
use crate::sdp::text::{parse, print};
use crate::sdp::{
    CodecPolicy, Crypto, Direction, Fingerprint, IceParameters, Kind, Negotiated, Offered,
    OfferedMedium, SdpError, Setup, SipMedia, SipSession, WebSession,
};

/// What our descriptions to the SIP side say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipLocal {
    /// Of the `o=` line; the same through the call.
    pub session_id: u64,
    /// Of the `o=` line; raised by one for each new description.
    pub version: u64,
    /// Transport profile of new m-lines.
    pub profile: String,
    /// Keys that our offers show, of every medium; answers show the one that was agreed on.
    pub crypto: Vec<Crypto>,
    /// For media over ICE and DTLS.
    pub dtls: Option<SipDtls>,
    /// Of the audio, then of the video if there is one.
    pub media: Vec<SipTransport>,
}

/// Our side of ICE and DTLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipDtls {
    /// Our credentials.
    pub ice: IceParameters,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// Our role in the association that there is; answers name it again (RFC 8842 section 5.3).
    pub role: Option<Setup>,
    /// Of what we send: peers in the manner of browsers look for it.
    pub ssrc: u32,
    /// Canonical name of our RTCP.
    pub cname: String,
}

/// Where one medium arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipTransport {
    /// Where we take RTP.
    pub rtp: SocketAddr,
    /// Where we take RTCP.
    pub rtcp: SocketAddr,
    /// What we would like; narrowed by what the peer's offer permits.
    pub direction: Direction,
}

/// The offer of an outgoing call: what the policy allows of the browser's media, as far as `local`
/// has a place for it.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that is no audio.
pub fn sip_offer(
    web: &WebSession,
    policy: &CodecPolicy,
    local: &SipLocal,
) -> Result<(String, Offered), SdpError> {
    let offered = Offered::by_web(&web.described(), policy)?;
    let mut session = sip_frame(local);
    for (listing, transport) in offered.shown().iter().zip(&local.media) {
        let keyed = local.keyed(&local.profile);
        if matches!(keyed, Keyed::Dtls { .. }) {
            session.add_attribute_with_value("group", format!("BUNDLE {MID}"));
        }
        session.add_media(sip_media(
            &local.profile,
            listing,
            transport.direction,
            transport,
            keyed,
        ));
    }
    Ok((print(&session), offered))
}

/// A new offer within a call: for hold and resume, for a re-INVITE without an offer, for video
/// that is added or taken away. `peer` is the last description of the SIP side.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that has no audio.
pub fn sip_reoffer(
    peer: &SipSession,
    chosen: &Negotiated,
    added: Option<&OfferedMedium>,
    local: &SipLocal,
) -> Result<String, SdpError> {
    peer.index(Kind::Audio)?;
    let mut listings = chosen.sip_listings();
    listings.extend(added.map(OfferedMedium::shown));
    Ok(sip_mirrored(peer, listings, local, false))
}

/// The answer of an incoming call, or to a re-INVITE.
pub fn sip_answer(offer: &SipSession, chosen: &Negotiated, local: &SipLocal) -> String {
    sip_mirrored(offer, chosen.sip_listings(), local, true)
}

/// The answer that takes nothing of an offer, whatever that has (RFC 3264 section 6); `None` for what is no description. It names no
/// address: none is used.
pub fn sip_refusal(offer: &str, session_id: u64) -> Option<String> {
    let offer = parse(offer).ok()?;
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut session = frame(session_id, 1, nowhere);
    session.set_connection(Connection::from_ip_addr(nowhere));
    for media in &offer.medias {
        session.add_media(rejected(&media.media, &media.proto, &media.fmt));
    }
    Some(print(&session))
}

/// A description with the peer's m-lines; what has none yet takes one over that was rejected, or
/// comes last (RFC 3264 section 8.1).
fn sip_mirrored(
    peer: &SipSession,
    listings: Vec<Listing>,
    local: &SipLocal,
    answering: bool,
) -> String {
    let mut session = sip_frame(local);
    let mut ours: Vec<_> = listings.into_iter().zip(&local.media).collect();
    for (index, media) in peer.media.iter().enumerate() {
        let used = peer.index(media.kind);
        let place = ours.iter().position(|(listing, _)| {
            let free = used.is_err() && media.rejected && !answering;
            listing.kind == media.kind && (used == Ok(index) || free)
        });
        let Some(place) = place else {
            session.add_media(rejected(&media.word, &media.protocol, &media.formats));
            continue;
        };
        let (listing, transport) = ours.remove(place);
        let direction = if answering {
            transport.direction.answer_to(media.direction)
        } else {
            transport.direction
        };
        let agreed = media.srtp.as_ref().map(|srtp| srtp.line());
        let keyed = match &local.dtls {
            Some(dtls) if media.is_dtls() => Keyed::Dtls {
                dtls,
                setup: dtls.setup(media, answering),
                mid: &media.mid,
            },
            _ if answering => Keyed::Sdes(agreed.as_slice()),
            _ => Keyed::Sdes(&local.crypto),
        };
        let bundled = matches!(keyed, Keyed::Dtls { mid, .. } if peer.bundle.iter().any(|known| known == mid));
        if bundled {
            session.add_attribute_with_value("group", format!("BUNDLE {}", media.mid));
        }
        let mut made = sip_media(&media.protocol, &listing, direction, transport, keyed);
        if media.mux && !media.is_dtls() {
            // RFC 5761 section 5.1.1: the peer wants one port, so it gets one. We do not ask for it.
            made.attributes.retain(|line| line.attribute != "rtcp");
            made.add_attribute_from_str("rtcp-mux");
        }
        session.add_media(made);
    }
    if !answering {
        for (listing, transport) in ours {
            session.add_media(sip_media(
                &local.profile,
                &listing,
                transport.direction,
                transport,
                local.keyed(&local.profile),
            ));
        }
    }
    print(&session)
}

fn sip_frame(local: &SipLocal) -> Session {
    let ip = local.media[0].rtp.ip();
    let mut session = frame(local.session_id, local.version, ip);
    session.set_connection(Connection::from_ip_addr(ip));
    session
}

/// The mid of our own offers.
const MID: &str = "0";

/// Where the keys of an m-line come from.
#[derive(Clone, Copy)]
enum Keyed<'a> {
    /// These lines; none = plain.
    Sdes(&'a [Crypto]),
    Dtls {
        dtls: &'a SipDtls,
        setup: Setup,
        mid: &'a str,
    },
}

impl SipLocal {
    /// In an offer of ours under this profile.
    fn keyed(&self, profile: &str) -> Keyed<'_> {
        match &self.dtls {
            Some(dtls) if DTLS_PROFILES.contains(&profile) => Keyed::Dtls {
                dtls,
                setup: Setup::Actpass,
                mid: MID,
            },
            _ => Keyed::Sdes(&self.crypto),
        }
    }
}

impl SipDtls {
    fn setup(&self, media: &SipMedia, answering: bool) -> Setup {
        let offered = media
            .dtls
            .as_ref()
            .map_or(Setup::Actpass, |dtls| dtls.setup);
        match self.role {
            _ if !answering => Setup::Actpass,
            Some(role) if offered == Setup::Actpass => role,
            _ => offered.answer(Setup::Active),
        }
    }
}

fn sip_media(
    protocol: &str,
    listing: &Listing,
    direction: Direction,
    local: &SipTransport,
    keyed: Keyed<'_>,
) -> Media {
    let mut media = media_of(listing, local.rtp.port(), protocol);
    match keyed {
        Keyed::Dtls { dtls, setup, mid } => add_ice_dtls(&mut media, local, dtls, setup, mid),
        Keyed::Sdes(lines) => {
            add_rtcp(&mut media, local);
            for line in lines {
                media.add_attribute_with_value("crypto", line.print());
            }
        }
    }
    add_codecs(&mut media, &listing.codecs, listing.asked, Style::Sip);
    add_extensions(&mut media, &listing.extensions);
    media.add_attribute_from_str(direction.as_str());
    media
}

fn add_rtcp(media: &mut Media, local: &SipTransport) {
    if local.rtcp.ip() != local.rtp.ip() {
        let family = if local.rtcp.is_ipv4() { "IP4" } else { "IP6" };
        media.add_attribute_with_value(
            "rtcp",
            format!("{} IN {family} {}", local.rtcp.port(), local.rtcp.ip()),
        );
    } else if Some(local.rtcp.port()) != local.rtp.port().checked_add(1) {
        media.add_attribute_with_value("rtcp", local.rtcp.port());
    }
}

/// We are a full agent here, whose only candidate is the port of the medium: a peer that is lite makes no checks.
fn add_ice_dtls(media: &mut Media, local: &SipTransport, dtls: &SipDtls, setup: Setup, mid: &str) {
    media.add_attribute_with_value("candidate", HostCandidate::Udp(local.rtp).line(0));
    media.add_attribute_from_str("end-of-candidates");
    media.add_attribute_with_value("ice-ufrag", &dtls.ice.ufrag);
    media.add_attribute_with_value("ice-pwd", &dtls.ice.password);
    media.add_attribute_with_value("fingerprint", &dtls.fingerprint);
    media.add_attribute_with_value("setup", setup.as_str());
    media.add_attribute_from_str("rtcp-mux");
    media.add_attribute_with_value("ssrc", format!("{} cname:{}", dtls.ssrc, dtls.cname));
    if !mid.is_empty() {
        media.add_attribute_with_value("mid", mid);
    }
}
