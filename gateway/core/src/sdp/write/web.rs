//! Our descriptions to the browser.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use sdp_types::{Connection, Media, Session};

use super::{HostCandidate, Style, add_codecs, add_extensions, frame, media_of, rejected};
use crate::sdp::offered::Listing;
use crate::sdp::text::print;
use crate::sdp::{
    Asked, CodecPolicy, Direction, Fingerprint, IceParameters, Kind, Negotiated, Offered,
    OfferedMedium, SdpError, Setup, SipSession, WebMedia, WebSession,
};

const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";

/// What our descriptions to a browser say.
#[derive(Clone, Copy, Debug)]
pub struct WebLocal<'a> {
    /// Of the `o=` line; the same through the call.
    pub session_id: u64,
    /// Of the `o=` line; raised by one for each new description.
    pub version: u64,
    /// Ours.
    pub ice: &'a IceParameters,
    /// Where the browser reaches us, best first.
    pub candidates: &'a [HostCandidate],
    /// Of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// In answers [`Setup::answer`], in offers `Actpass`.
    pub setup: Setup,
    /// Canonical name of our RTCP.
    pub cname: &'a str,
    /// Of the audio, then of the video if there is one.
    pub streams: &'a [WebStream],
}

/// What we send of one medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebStream {
    /// Of what we send.
    pub ssrc: u32,
    /// What we would like; narrowed by what the browser's description permits.
    pub direction: Direction,
}

/// The answer of an outgoing call, and any later description within a call: with [`Setup::Actpass`]
/// it is a new offer of ours.
pub fn web_answer(web: &WebSession, chosen: &Negotiated, local: &WebLocal<'_>) -> String {
    let answering = local.setup != Setup::Actpass;
    let mut places = Vec::new();
    for (listing, stream) in chosen.web_listings().into_iter().zip(local.streams) {
        if let Some(index) = web.index(listing.kind) {
            let media = &web.media[index];
            let direction = if answering {
                stream.direction.answer_to(media.direction)
            } else {
                stream.direction
            };
            places.push((
                index,
                listing,
                WebStream {
                    direction,
                    ..*stream
                },
            ));
        }
    }
    let bundled = |media: &WebMedia| web.bundle.contains(&media.mid);
    let mut group: Vec<usize> = places.iter().map(|(index, ..)| *index).collect();
    group.sort_unstable();
    let mids: Vec<&str> = group
        .iter()
        .map(|index| &web.media[*index])
        .filter(|media| bundled(media))
        .map(|media| media.mid.as_str())
        .collect();
    let mut session = web_frame(local, &mids);
    for (index, media) in web.media.iter().enumerate() {
        match places.iter().find(|(place, ..)| *place == index) {
            Some((_, listing, stream)) => {
                let line = Line {
                    protocol: &media.protocol,
                    mid: &media.mid,
                    rtcp_rsize: media.rtcp_rsize,
                    tagged: group.first() == Some(&index),
                };
                session.add_media(web_media(line, listing, *stream, local));
            }
            None => {
                let refused = web_rejected(media);
                session.add_media(refused);
            }
        }
    }
    print(&session)
}

/// An offer of ours within a call, with a medium that the SIP side adds. It takes the place of an m-line that was rejected, under a
/// mid of its own, or comes last (RFC 8829 section 5.2.2).
pub fn web_reoffer(
    web: &WebSession,
    chosen: &Negotiated,
    added: &OfferedMedium,
    local: &WebLocal<'_>,
) -> String {
    let streams = local.streams.iter().copied();
    let mut ours: Vec<_> = chosen.web_listings().into_iter().zip(streams).collect();
    let new = (added.shown(), local.streams[ours.len()]);
    let mid = format!("v{}", local.version);
    let spare = web
        .media
        .iter()
        .position(|media| media.kind == new.0.kind)
        .unwrap_or(web.media.len());
    let mut mids: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for (index, media) in web.media.iter().enumerate() {
        let used = web.index(media.kind) == Some(index);
        let place = ours
            .iter()
            .position(|(listing, _)| used && listing.kind == media.kind);
        if index == spare {
            mids.push(&mid);
            lines.push(added_line(&mid, &new, local));
        } else if let Some(place) = place {
            let (listing, stream) = ours.remove(place);
            let line = Line {
                protocol: &media.protocol,
                mid: &media.mid,
                rtcp_rsize: media.rtcp_rsize,
                tagged: mids.is_empty(),
            };
            mids.push(&media.mid);
            lines.push(web_media(line, &listing, stream, local));
        } else {
            lines.push(web_rejected(media));
        }
    }
    if spare == web.media.len() {
        mids.push(&mid);
        lines.push(added_line(&mid, &new, local));
    }
    let mut session = web_frame(local, &mids);
    for line in lines {
        session.add_media(line);
    }
    print(&session)
}

/// Never the first of its BUNDLE group: a call has audio.
fn added_line(mid: &str, (listing, stream): &(Listing, WebStream), local: &WebLocal<'_>) -> Media {
    let line = Line {
        protocol: PROTOCOL,
        mid,
        rtcp_rsize: true,
        tagged: false,
    };
    web_media(line, listing, *stream, local)
}

/// RFC 3264 asks for no attributes of a rejected m-line; strict peers look for the direction and
/// for the rtpmap of what it lists.
fn web_rejected(media: &WebMedia) -> Media {
    let mut refused = rejected(&media.word, &media.protocol, &media.formats);
    if !media.mid.is_empty() {
        refused.add_attribute_with_value("mid", &media.mid);
    }
    if matches!(media.kind, Kind::Audio | Kind::Video) {
        refused.add_attribute_from_str(Direction::Inactive.as_str());
    }
    if let Some(listed) = media
        .codecs
        .iter()
        .find(|codec| codec.payload_type.to_string() == refused.fmt)
    {
        let mut listed = listed.clone();
        listed.rtcp_fb.clear();
        add_codecs(&mut refused, &[listed], Asked::default(), Style::Web);
    }
    refused
}

/// The offer of an incoming call: what the policy allows of the SIP side's media, under payload
/// types of ours.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that is no audio.
pub fn web_offer(
    sip: &SipSession,
    policy: &CodecPolicy,
    local: &WebLocal<'_>,
) -> Result<(String, Offered), SdpError> {
    let offered = Offered::by_sip(&sip.described()?, policy)?;
    Ok((print_web_offer(&offered, local), offered))
}

/// The offer of an incoming call whose INVITE had none: all voices that the policy allows. The SIP
/// side is then offered what the browser answers ([`super::sip_offer`] with a policy of the
/// answer's first voice codec).
///
/// # Errors
/// [`SdpError::NotAcceptable`] if the policy allows nothing.
pub fn web_offer_unprompted(
    policy: &CodecPolicy,
    local: &WebLocal<'_>,
) -> Result<(String, Offered), SdpError> {
    let offered = Offered::unprompted(policy)?;
    Ok((print_web_offer(&offered, local), offered))
}

fn print_web_offer(offered: &Offered, local: &WebLocal<'_>) -> String {
    const MIDS: [&str; 2] = ["0", "1"];
    let shown = offered.shown();
    let media = || shown.iter().zip(local.streams).zip(MIDS);
    let mids: Vec<&str> = media().map(|(_, mid)| mid).collect();
    let mut session = web_frame(local, &mids);
    for ((listing, stream), mid) in media() {
        let line = Line {
            protocol: PROTOCOL,
            mid,
            rtcp_rsize: true,
            tagged: mid == MIDS[0],
        };
        session.add_media(web_media(line, listing, *stream, local));
    }
    print(&session)
}

fn web_frame(local: &WebLocal<'_>, bundled: &[&str]) -> Session {
    // The address of the o= line only has to be unique together with the rest; browsers write this
    // one too (RFC 8828).
    let mut session = frame(local.session_id, local.version, Ipv4Addr::LOCALHOST.into());
    if local.ice.lite {
        session.add_attribute_from_str("ice-lite");
    }
    if !bundled.is_empty() {
        session.add_attribute_with_value("group", format!("BUNDLE {}", bundled.join(" ")));
    }
    session.add_attribute_with_value("msid-semantic", " WMS *");
    session
}

/// The m-line that a medium stands in.
#[derive(Clone, Copy)]
struct Line<'a> {
    protocol: &'a str,
    mid: &'a str,
    rtcp_rsize: bool,
    /// Speaks for its BUNDLE group: the candidates stand here (RFC 9143 section 7.1.3).
    tagged: bool,
}

fn web_media(line: Line<'_>, listing: &Listing, stream: WebStream, local: &WebLocal<'_>) -> Media {
    // Port 9 and 0.0.0.0 where there is no candidate yet (RFC 8840 section 4.1.1).
    let default = local
        .candidates
        .iter()
        .find_map(|candidate| match candidate {
            HostCandidate::Udp(address) => Some(*address),
            HostCandidate::Tcp(_) => None,
        })
        .unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9)));
    let mut media = media_of(listing, default.port(), line.protocol);
    media.add_connection(Connection::from_ip_addr(default.ip()));
    if line.tagged {
        for (index, candidate) in local.candidates.iter().enumerate() {
            media.add_attribute_with_value("candidate", candidate.line(index));
        }
        if !local.candidates.is_empty() {
            media.add_attribute_from_str("end-of-candidates");
        }
    }
    media.add_attribute_with_value("ice-ufrag", &local.ice.ufrag);
    media.add_attribute_with_value("ice-pwd", &local.ice.password);
    media.add_attribute_with_value("fingerprint", local.fingerprint);
    media.add_attribute_with_value("setup", local.setup.as_str());
    if !line.mid.is_empty() {
        media.add_attribute_with_value("mid", line.mid);
    }
    media.add_attribute_from_str(stream.direction.as_str());
    if stream.direction.sends() {
        let track = listing.kind.word();
        media.add_attribute_with_value("msid", format!("{} {track}", local.cname));
    }
    media.add_attribute_from_str("rtcp-mux");
    if line.rtcp_rsize {
        media.add_attribute_from_str("rtcp-rsize");
    }
    add_codecs(&mut media, &listing.codecs, listing.asked, Style::Web);
    add_extensions(&mut media, &listing.extensions);
    media.add_attribute_with_value("ssrc", format!("{} cname:{}", stream.ssrc, local.cname));
    media
}
