//! From bytes to `sdp-types` and back, within limits, and the reading of what both kinds of session
//! have in common.
//!
//! Why a step before the parser: it refuses bytes that are not UTF-8 and gives no bound on
//! anything. Used by `web`, `sip` and `write`.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use sdp_types::{Connection, Media, RtpMap, Session};

use super::{Asked, Bandwidth, Codec, Direction, PacketTimes, SdpError};

/// Longest description that is read. A Chromium offer with audio, video and candidates is about 8
/// KiB.
pub const MAX_BYTES: usize = 65_535;
const MAX_LINES: usize = 4096;
const MAX_MEDIA: usize = 32;
const MAX_CODECS: usize = 128;
const MAX_REASON_CHARS: usize = 160;
const MAX_FMTP_CHARS: usize = 512;
const MAX_NAME_CHARS: usize = 32;
/// Longest packet time believed, in milliseconds.
const MAX_PTIME_MS: u32 = 1000;

/// A description as text: UTF-8 as it is, anything else read as Latin-1, which old gateways write
/// into `s=` and `o=`.
pub fn mend(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// Parses within the limits. Line ends may be CRLF or LF, empty lines are skipped.
pub(super) fn parse(sdp: &str) -> Result<Session, SdpError> {
    if sdp.len() > MAX_BYTES {
        return Err(SdpError::malformed(format_args!(
            "longer than {MAX_BYTES} bytes"
        )));
    }
    let mut text = String::with_capacity(sdp.len() + 64);
    for (index, line) in sdp
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        if index == MAX_LINES {
            return Err(SdpError::malformed(format_args!(
                "more than {MAX_LINES} lines"
            )));
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    let session = Session::parse(text.as_bytes()).map_err(SdpError::malformed)?;
    if session.medias.len() > MAX_MEDIA {
        return Err(SdpError::malformed(format_args!(
            "more than {MAX_MEDIA} media"
        )));
    }
    Ok(session)
}

/// Prints a session of ours.
pub(super) fn print(session: &Session) -> String {
    let mut bytes = Vec::with_capacity(1024);
    session.write(&mut bytes).expect("a Vec takes every write");
    bytes.shrink_to_fit();
    String::from_utf8(bytes).expect("all parts are strings")
}

/// A text of one bounded line without control characters: reasons go into SIP start lines.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .take(MAX_REASON_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Direction of the m-line, else of the session, else `sendrecv` (RFC 8866 section 6.7).
pub(super) fn direction(session: &Session, media: &Media) -> Direction {
    let stated = |attributes: &[sdp_types::Attribute]| {
        attributes.iter().find_map(|a| direction_of(&a.attribute))
    };
    stated(&media.attributes)
        .or_else(|| stated(&session.attributes))
        .unwrap_or(Direction::SendRecv)
}

/// A direction by its name.
pub(super) fn direction_of(name: &str) -> Option<Direction> {
    const ALL: [Direction; 4] = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    ALL.into_iter()
        .find(|direction| name.eq_ignore_ascii_case(direction.as_str()))
}

/// `a=ptime`, `a=maxptime` and `b=`; what is no sensible number counts as not said.
pub(super) fn asked(media: &Media) -> Asked {
    let ms = |name| {
        let value = media.get_first_attribute_value(name).flatten()?;
        value
            .trim()
            .parse()
            .ok()
            .filter(|ms| (1..=MAX_PTIME_MS).contains(ms))
    };
    let bandwidth = |name| {
        let line = media
            .bandwidths
            .iter()
            .find(|line| line.bwtype.eq_ignore_ascii_case(name))?;
        u32::try_from(line.bandwidth).ok()
    };
    Asked {
        times: PacketTimes {
            ptime_ms: ms("ptime"),
            maxptime_ms: ms("maxptime"),
        },
        bandwidth: Bandwidth {
            as_kbps: bandwidth("AS"),
            tias_bps: bandwidth("TIAS"),
        },
    }
}

/// Codecs in the order of the m-line. Payload types without an rtpmap are known where they are
/// static (RFC 3551 table 4), else left out.
pub(super) fn codecs(media: &Media) -> Vec<Codec> {
    let maps: Vec<RtpMap> = media.attributes_typed::<RtpMap>().flatten().collect();
    let mut codecs: Vec<Codec> = Vec::new();
    for payload_type in media
        .fmt
        .split_ascii_whitespace()
        .filter_map(|fmt| fmt.parse().ok())
        .filter(|pt: &u8| *pt < 128)
    {
        if codecs.len() == MAX_CODECS
            || codecs
                .iter()
                .any(|codec| codec.payload_type == payload_type)
        {
            continue;
        }
        let encoding = match maps.iter().find(|map| map.payload_type == payload_type) {
            Some(map) => encoding_of(map),
            None => static_encoding(payload_type),
        };
        let Some((name, clock_hz, channels)) = encoding else {
            continue;
        };
        let fmtp = values_for(media, "fmtp", payload_type)
            .next()
            .filter(|fmtp| is_plain(fmtp, MAX_FMTP_CHARS))
            .map(String::from);
        let rtcp_fb = values_for(media, "rtcp-fb", payload_type)
            .take(16)
            .filter(|fb| is_plain(fb, 64))
            .map(String::from)
            .collect();
        codecs.push(Codec {
            payload_type,
            name,
            clock_hz,
            channels,
            fmtp,
            rtcp_fb,
        });
    }
    codecs
}

fn encoding_of(map: &RtpMap) -> Option<(String, u32, u8)> {
    let token = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let fits = !map.encoding_name.is_empty()
        && map.encoding_name.len() <= MAX_NAME_CHARS
        && map.encoding_name.chars().all(token);
    let channels = map
        .encoding_params
        .as_deref()
        .map_or(Some(1), |text| text.trim().parse().ok())?;
    (fits && map.clock_rate > 0).then(|| (map.encoding_name.clone(), map.clock_rate, channels))
}

fn static_encoding(payload_type: u8) -> Option<(String, u32, u8)> {
    let name = match payload_type {
        0 => "PCMU",
        8 => "PCMA",
        9 => "G722",
        13 => "CN",
        _ => return None,
    };
    Some((name.into(), 8000, 1))
}

/// Values of `a=name:<payload type> value`, and of `a=name:* value`.
fn values_for<'a>(
    media: &'a Media,
    name: &'a str,
    payload_type: u8,
) -> impl Iterator<Item = &'a str> {
    media
        .get_attribute_values(name)
        .flatten()
        .filter_map(move |value| {
            let (format, rest) = value.split_once(' ')?;
            (format == "*" || format.parse() == Ok(payload_type)).then(|| rest.trim())
        })
}

fn is_plain(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

/// The address of a `c=` line. Names are refused: resolving one that a peer chose would let it aim
/// the media anywhere.
pub(super) fn address(connection: &Connection) -> Result<IpAddr, SdpError> {
    let text = connection
        .connection_address
        .split('/')
        .next()
        .unwrap_or_default();
    let ip: IpAddr = text.parse().map_err(|_| {
        SdpError::not_acceptable(format_args!(
            "the address in c= or a=rtcp must be an IP address, not {text:?}"
        ))
    })?;
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_multicast() || broadcast {
        return Err(SdpError::not_acceptable(format_args!(
            "media to {ip} is not unicast"
        )));
    }
    Ok(ip)
}
