//! The descriptions that we write: offers and answers to both sides.
//!
//! An answer mirrors the offer's m-lines and mids in their order; all but the one audio are
//! rejected with port 0 (RFC 3264 section 6). The same functions serve renegotiation: ICE restart,
//! hold and resume are the same call with new values and a raised version.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use sdp_types::{Attribute, Connection, Media, MediaType, Origin, Session, Time, TransportProto};

use super::text::print;
use super::{
    Codec, CodecPolicy, Direction, Fingerprint, IceParameters, Kind, Negotiated, OfferedAudio,
    PacketTimes, SdpError, Setup, SipSession, WebMedia, WebSession,
};

/// What our descriptions to a browser say.
#[derive(Clone, Copy, Debug)]
pub struct WebLocal<'a> {
    /// Of the `o=` line; the same through the call.
    pub session_id: u64,
    /// Of the `o=` line; raised by one for each new description.
    pub version: u64,
    /// Ours.
    pub ice: &'a IceParameters,
    /// Where the browser reaches us, best first; written as host candidates.
    pub candidates: &'a [SocketAddr],
    /// Of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// In answers [`Setup::answer`], in offers `Actpass`.
    pub setup: Setup,
    /// Of what we send.
    pub ssrc: u32,
    /// Canonical name of our RTCP.
    pub cname: &'a str,
    /// What we would like; narrowed by what the browser's description permits.
    pub direction: Direction,
}

/// What our descriptions to the SIP side say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipLocal {
    /// Of the `o=` line; the same through the call.
    pub session_id: u64,
    /// Of the `o=` line; raised by one for each new description.
    pub version: u64,
    /// Where we take RTP.
    pub rtp: SocketAddr,
    /// Where we take RTCP.
    pub rtcp: SocketAddr,
    /// What we would like; narrowed by what the peer's offer permits.
    pub direction: Direction,
}

/// The offer of an outgoing call: what the policy allows of the browser's audio.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that is nothing.
pub fn sip_offer(
    web: &WebSession,
    policy: &CodecPolicy,
    local: &SipLocal,
) -> Result<(String, OfferedAudio), SdpError> {
    let audio = web.audio();
    let offered = OfferedAudio::by_web(&audio.codecs, audio.times, policy)?;
    let (codecs, times) = offered.shown();
    let mut session = sip_frame(local);
    session.add_media(sip_audio("RTP/AVP", &codecs, times, local.direction, local));
    Ok((print(&session), offered))
}

/// A new offer within a call, for hold and resume or for a re-INVITE without an offer. `peer` is
/// the last description of the SIP side.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that has no audio.
pub fn sip_reoffer(
    peer: &SipSession,
    chosen: &Negotiated,
    local: &SipLocal,
) -> Result<String, SdpError> {
    peer.audio_index()?;
    Ok(sip_mirrored(peer, chosen, local, local.direction))
}

/// The answer of an incoming call, or to a re-INVITE.
pub fn sip_answer(offer: &SipSession, chosen: &Negotiated, local: &SipLocal) -> String {
    let theirs = offer
        .audio()
        .map_or(Direction::Inactive, |audio| audio.direction);
    sip_mirrored(offer, chosen, local, local.direction.answer_to(theirs))
}

fn sip_mirrored(
    peer: &SipSession,
    chosen: &Negotiated,
    local: &SipLocal,
    direction: Direction,
) -> String {
    let mut session = sip_frame(local);
    let ours = peer.audio_index().ok();
    for (index, media) in peer.media.iter().enumerate() {
        if Some(index) == ours {
            session.add_media(sip_audio(
                &media.protocol,
                &chosen.sip_codecs,
                chosen.sip_times,
                direction,
                local,
            ));
        } else {
            session.add_media(rejected(&media.word, &media.protocol, &media.formats));
        }
    }
    print(&session)
}

fn sip_frame(local: &SipLocal) -> Session {
    let mut session = frame(local.session_id, local.version, local.rtp.ip());
    session.set_connection(Connection::from_ip_addr(local.rtp.ip()));
    session
}

fn sip_audio(
    protocol: &str,
    codecs: &[Codec],
    times: PacketTimes,
    direction: Direction,
    local: &SipLocal,
) -> Media {
    let mut media = audio(local.rtp.port(), protocol, codecs);
    if local.rtcp.ip() != local.rtp.ip() {
        let family = if local.rtcp.is_ipv4() { "IP4" } else { "IP6" };
        media.add_attribute_with_value(
            "rtcp",
            format!("{} IN {family} {}", local.rtcp.port(), local.rtcp.ip()),
        );
    } else if Some(local.rtcp.port()) != local.rtp.port().checked_add(1) {
        media.add_attribute_with_value("rtcp", local.rtcp.port());
    }
    add_codecs(&mut media, codecs, times, Some("0-15"));
    media.add_attribute_from_str(direction.as_str());
    media
}

/// The answer of an outgoing call, and any later description within a call: with [`Setup::Actpass`]
/// it is a new offer of ours.
pub fn web_answer(web: &WebSession, chosen: &Negotiated, local: &WebLocal<'_>) -> String {
    let ours = web.audio_index();
    let audio = &web.media[ours];
    let direction = if local.setup == Setup::Actpass {
        local.direction
    } else {
        local.direction.answer_to(audio.direction)
    };
    let grouped = web.bundle.contains(&audio.mid);
    let mut session = web_frame(local, grouped.then_some(audio.mid.as_str()));
    for (index, media) in web.media.iter().enumerate() {
        if index == ours {
            let listed = Listed {
                codecs: &chosen.web_codecs,
                times: chosen.web_times,
                rtcp_rsize: audio.rtcp_rsize,
            };
            session.add_media(web_audio(
                &audio.protocol,
                &audio.mid,
                listed,
                direction,
                local,
            ));
        } else {
            let refused = web_rejected(media);
            session.add_media(refused);
        }
    }
    print(&session)
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
    let listed = media
        .codecs
        .iter()
        .find(|codec| codec.payload_type.to_string() == refused.fmt);
    add_codecs(
        &mut refused,
        listed.map_or(&[], std::slice::from_ref),
        PacketTimes::default(),
        None,
    );
    refused
}

/// The offer of an incoming call: what the policy allows of the SIP side's audio, under payload
/// types of ours.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if that is nothing or there is no audio.
pub fn web_offer(
    sip: &SipSession,
    policy: &CodecPolicy,
    local: &WebLocal<'_>,
) -> Result<(String, OfferedAudio), SdpError> {
    let audio = sip.audio()?;
    let offered = OfferedAudio::by_sip(&audio.codecs, audio.times, policy)?;
    Ok((print_web_offer(&offered, local), offered))
}

/// The offer of an incoming call whose INVITE had none: all that the policy allows. The SIP side is
/// then offered what the browser answers ([`sip_offer`] with a policy of the answer's first voice
/// codec).
///
/// # Errors
/// [`SdpError::NotAcceptable`] if the policy allows nothing.
pub fn web_offer_unprompted(
    policy: &CodecPolicy,
    local: &WebLocal<'_>,
) -> Result<(String, OfferedAudio), SdpError> {
    let offered = OfferedAudio::unprompted(policy)?;
    Ok((print_web_offer(&offered, local), offered))
}

fn print_web_offer(offered: &OfferedAudio, local: &WebLocal<'_>) -> String {
    const MID: &str = "0";
    let (codecs, times) = offered.shown();
    let mut session = web_frame(local, Some(MID));
    let listed = Listed {
        codecs: &codecs,
        times,
        rtcp_rsize: true,
    };
    session.add_media(web_audio(
        "UDP/TLS/RTP/SAVPF",
        MID,
        listed,
        local.direction,
        local,
    ));
    print(&session)
}

fn web_frame(local: &WebLocal<'_>, bundled: Option<&str>) -> Session {
    // The address of the o= line only has to be unique together with the rest; browsers write this
    // one too (RFC 8828).
    let mut session = frame(local.session_id, local.version, Ipv4Addr::LOCALHOST.into());
    if local.ice.lite {
        session.add_attribute_from_str("ice-lite");
    }
    if let Some(mid) = bundled {
        session.add_attribute_with_value("group", format!("BUNDLE {mid}"));
    }
    session.add_attribute_with_value("msid-semantic", " WMS *");
    session
}

/// What a web m-line lists.
struct Listed<'a> {
    codecs: &'a [Codec],
    times: PacketTimes,
    rtcp_rsize: bool,
}

fn web_audio(
    protocol: &str,
    mid: &str,
    listed: Listed<'_>,
    direction: Direction,
    local: &WebLocal<'_>,
) -> Media {
    // Port 9 and 0.0.0.0 where there is no candidate yet (RFC 8840 section 4.1.1).
    let default = local
        .candidates
        .first()
        .copied()
        .unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9)));
    let mut media = audio(default.port(), protocol, listed.codecs);
    media.add_connection(Connection::from_ip_addr(default.ip()));
    for (index, candidate) in local.candidates.iter().enumerate() {
        media.add_attribute_with_value("candidate", host_candidate(index, *candidate));
    }
    if !local.candidates.is_empty() {
        media.add_attribute_from_str("end-of-candidates");
    }
    media.add_attribute_with_value("ice-ufrag", &local.ice.ufrag);
    media.add_attribute_with_value("ice-pwd", &local.ice.password);
    media.add_attribute_with_value("fingerprint", local.fingerprint);
    media.add_attribute_with_value("setup", local.setup.as_str());
    if !mid.is_empty() {
        media.add_attribute_with_value("mid", mid);
    }
    media.add_attribute_from_str(direction.as_str());
    if direction.sends() {
        media.add_attribute_with_value("msid", format!("{} audio", local.cname));
    }
    media.add_attribute_from_str("rtcp-mux");
    if listed.rtcp_rsize {
        media.add_attribute_from_str("rtcp-rsize");
    }
    add_codecs(&mut media, listed.codecs, listed.times, None);
    media.add_attribute_with_value("ssrc", format!("{} cname:{}", local.ssrc, local.cname));
    media
}

/// RFC 8839 section 5.1, with the priority of RFC 8445 section 5.1.2.1 for a host candidate.
fn host_candidate(index: usize, address: SocketAddr) -> String {
    let local_preference = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let priority = (126 << 24) | (local_preference << 8) | 255;
    format!(
        "{} 1 udp {priority} {} {} typ host",
        index + 1,
        address.ip(),
        address.port()
    )
}

fn frame(session_id: u64, version: u64, address: IpAddr) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(session_id, version, address), "-");
    session.add_time(Time::new(0, 0));
    session
}

fn audio(port: u16, protocol: &str, codecs: &[Codec]) -> Media {
    let formats: Vec<String> = codecs
        .iter()
        .map(|codec| codec.payload_type.to_string())
        .collect();
    Media::new(
        MediaType::Audio,
        port,
        TransportProto::from(protocol),
        formats.join(" "),
    )
}

/// A mirrored m-line that says no. One format is enough and one is needed (RFC 8866 section 5.14).
fn rejected(word: &str, protocol: &str, formats: &str) -> Media {
    let format = formats.split_ascii_whitespace().next().unwrap_or("0");
    let mut media = Media::new(MediaType::Audio, 0, TransportProto::from(protocol), format);
    media.media = word.into();
    media
}

fn add_codecs(
    media: &mut Media,
    codecs: &[Codec],
    times: PacketTimes,
    default_events: Option<&str>,
) {
    for codec in codecs {
        let channels = if codec.name.eq_ignore_ascii_case("opus") {
            "/2"
        } else {
            ""
        };
        media.add_attribute_with_value(
            "rtpmap",
            format!("{} {codec}{channels}", codec.payload_type),
        );
        let events = default_events.filter(|_| codec.is_telephone_event());
        if let Some(fmtp) = codec.fmtp.as_deref().or(events) {
            media.add_attribute_with_value("fmtp", format!("{} {fmtp}", codec.payload_type));
        }
    }
    for (name, value) in [("ptime", times.ptime_ms), ("maxptime", times.maxptime_ms)] {
        media
            .attributes
            .extend(value.map(|ms| Attribute::with_value(name, ms)));
    }
}
