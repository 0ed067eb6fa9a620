//! The peer's session descriptions: plain RTP/AVP audio (RFC 3264, RFC 4566).

use std::net::{IpAddr, SocketAddr};

use gateway_core::sdp::{Codec, Direction, SdpError, SipSession};

use crate::audio::G711;
use crate::media::{Plan, Source};

/// An answer, and what was agreed on with it.
pub(super) struct Agreed {
    pub(super) sdp: String,
    pub(super) plan: Plan,
    pub(super) codec: String,
}

/// Answers an offer. `codecs` are the encodings to be taken; the order is the offer's.
///
/// # Errors
/// The description is broken (400), or there is nothing in common (488).
pub(super) fn answer(
    offer: &str,
    local: SocketAddr,
    version: u64,
    codecs: &[String],
    source: Source,
) -> Result<Agreed, SdpError> {
    let session = SipSession::parse(offer)?;
    let audio = session.audio()?;
    let voice = choose(&audio.codecs, codecs).ok_or_else(nothing_common)?;
    let events = events_of(&audio.codecs, voice.clock_hz);
    let direction = Direction::SendRecv.answer_to(audio.direction);
    let mut sdp = head(local, version);
    let lines = offer.lines().filter_map(|line| line.strip_prefix("m="));
    for (line, media) in lines.zip(&session.media) {
        if std::ptr::eq(media, audio) {
            let list: Vec<&Codec> = std::iter::once(voice).chain(events).collect();
            sdp += &audio_line(local, &list, direction);
        } else {
            let mut words = line.trim().splitn(3, ' ');
            let word = words.next().unwrap_or("audio");
            let rest = words.nth(1).unwrap_or("RTP/AVP 0");
            sdp += &format!("m={word} 0 {rest}\r\n");
        }
    }
    let plan = plan(audio.rtp, audio.rtcp, voice, events, source, direction);
    let codec = voice.to_string();
    Ok(Agreed { sdp, plan, codec })
}

/// An offer of these encodings with telephone-event.
pub(super) fn offer(local: SocketAddr, version: u64, codecs: &[String]) -> String {
    let voices = codecs.iter().filter_map(|name| known(name));
    let mut list: Vec<Codec> = voices.collect();
    let mut clocks: Vec<u32> = list.iter().map(|codec| codec.clock_hz).collect();
    clocks.dedup();
    for (place, clock_hz) in clocks.into_iter().enumerate() {
        let payload_type = 101 + place as u8;
        let fmtp = Some("0-15".to_owned());
        list.push(codec("telephone-event", payload_type, clock_hz, 1, fmtp));
    }
    let list: Vec<&Codec> = list.iter().collect();
    head(local, version) + &audio_line(local, &list, Direction::SendRecv)
}

/// What an answer to our offer agrees on.
///
/// # Errors
/// The description is broken, or takes nothing of what was offered.
pub(super) fn agreed(
    answer: &str,
    codecs: &[String],
    source: Source,
) -> Result<(Plan, String), SdpError> {
    let session = SipSession::parse(answer)?;
    let audio = session.audio()?;
    let voice = choose(&audio.codecs, codecs).ok_or_else(nothing_common)?;
    let events = events_of(&audio.codecs, voice.clock_hz);
    let direction = audio.direction.reversed();
    let plan = plan(audio.rtp, audio.rtcp, voice, events, source, direction);
    Ok((plan, voice.to_string()))
}

fn nothing_common() -> SdpError {
    SdpError::NotAcceptable("no common codec".into())
}

fn choose<'a>(offered: &'a [Codec], allowed: &[String]) -> Option<&'a Codec> {
    offered.iter().find(|codec| {
        allowed
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&codec.name))
    })
}

fn events_of(codecs: &[Codec], clock_hz: u32) -> Option<&Codec> {
    codecs
        .iter()
        .find(|codec| codec.is_telephone_event() && codec.clock_hz == clock_hz)
}

fn plan(
    rtp: SocketAddr,
    rtcp: SocketAddr,
    voice: &Codec,
    events: Option<&Codec>,
    source: Source,
    direction: Direction,
) -> Plan {
    Plan {
        rtp,
        rtcp,
        payload_type: voice.payload_type,
        clock_hz: voice.clock_hz,
        codec: G711::from_name(&voice.name),
        events: events.map(|codec| codec.payload_type),
        source,
        sends: direction.sends(),
    }
}

fn known(name: &str) -> Option<Codec> {
    let row =
        |payload_type, clock_hz, channels| codec(name, payload_type, clock_hz, channels, None);
    match name.to_ascii_lowercase().as_str() {
        "pcmu" => Some(row(0, 8000, 1)),
        "pcma" => Some(row(8, 8000, 1)),
        "g722" => Some(row(9, 8000, 1)),
        "opus" => Some(row(96, 48_000, 2)),
        _ => None,
    }
}

fn codec(name: &str, payload_type: u8, clock_hz: u32, channels: u8, fmtp: Option<String>) -> Codec {
    Codec {
        payload_type,
        name: name.to_owned(),
        clock_hz,
        channels,
        fmtp,
        rtcp_fb: Vec::new(),
    }
}

fn head(local: SocketAddr, version: u64) -> String {
    let address = address(local.ip());
    format!(
        "v=0\r\no=- {} {version} {address}\r\ns=-\r\nc={address}\r\nt=0 0\r\n",
        local.port()
    )
}

fn address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("IN IP4 {ip}"),
        IpAddr::V6(ip) => format!("IN IP6 {ip}"),
    }
}

fn audio_line(local: SocketAddr, codecs: &[&Codec], direction: Direction) -> String {
    let types: Vec<String> = codecs
        .iter()
        .map(|codec| codec.payload_type.to_string())
        .collect();
    let mut text = format!("m=audio {} RTP/AVP {}\r\n", local.port(), types.join(" "));
    for codec in codecs {
        let channels = if codec.channels > 1 {
            format!("/{}", codec.channels)
        } else {
            String::new()
        };
        let payload_type = codec.payload_type;
        text += &format!("a=rtpmap:{payload_type} {codec}{channels}\r\n");
        if let Some(fmtp) = &codec.fmtp {
            text += &format!("a=fmtp:{payload_type} {fmtp}\r\n");
        }
    }
    text + &format!("a=ptime:20\r\na={}\r\n", direction.as_str())
}
