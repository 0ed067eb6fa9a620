//! One payload type of an m-line, and when two of them mean the same encoding.
//!
//! Video encodings are told apart by some of their format parameters too: a decoder of H.264 High
//! is no use to an encoder of Baseline. Used by `text` (reading), `offered` and `negotiate`.

use std::fmt;

/// One payload type of an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// 0..=127.
    pub payload_type: u8,
    /// Encoding name as the peer wrote it; compare without case.
    pub name: String,
    /// RTP clock in Hz. G722 says 8000 (RFC 3551 section 4.5.2).
    pub clock_hz: u32,
    /// Channels; 1 where nothing is said.
    pub channels: u8,
    /// `a=fmtp` parameters without the payload type.
    pub fmtp: Option<String>,
    /// `a=rtcp-fb` values, those for `*` too.
    pub rtcp_fb: Vec<String>,
}

impl Codec {
    /// Whether these are DTMF events and not sound.
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }

    /// Whether both mean the same encoding. Opus is always two channels in its rtpmap (RFC 7587
    /// section 7); some peers leave them out.
    pub fn same_encoding(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_hz == other.clock_hz
            && (self.channels == other.channels || self.name.eq_ignore_ascii_case("opus"))
            && self.format() == other.format()
    }

    /// The parameters that have to be the same on both sides.
    fn format(&self) -> Format {
        let parameter = |name| parameter(self.fmtp.as_deref().unwrap_or_default(), name);
        match self.name.to_ascii_uppercase().as_str() {
            "H264" => Format::H264 {
                profile: profile(parameter("profile-level-id")),
                packetization_mode: parameter("packetization-mode")
                    .and_then(|mode| mode.parse().ok())
                    .unwrap_or(0),
            },
            "VP9" => Format::Profile(number(parameter("profile-id"))),
            "AV1" => Format::Profile(number(parameter("profile"))),
            _ => Format::Any,
        }
    }
}

/// `name/clock`, as in an rtpmap.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.clock_hz)
    }
}

/// What of an fmtp is part of the encoding's identity.
#[derive(PartialEq, Eq)]
enum Format {
    /// Nothing.
    Any,
    /// RFC 6184 section 8.2.2: both symmetric, levels may differ.
    H264 {
        profile: Profile,
        packetization_mode: u8,
    },
    /// VP9 (RFC 9628 section 6.1) and AV1: one number, 0 where nothing is said.
    Profile(u32),
}

/// H.264 profiles after RFC 6184 table 5: `profile_idc` and the constraint flags that make a
/// profile of its own of it.
#[derive(PartialEq, Eq)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    Extended,
    High,
    ConstrainedHigh,
    /// Anything else: compared as it is.
    Other([u8; 2]),
}

/// From `profile-level-id`; Baseline without constraints where it is missing (RFC 6184 section
/// 8.1).
fn profile(level_id: Option<&str>) -> Profile {
    let level_id = level_id.unwrap_or("42000a");
    let bytes = u32::from_str_radix(level_id, 16)
        .ok()
        .filter(|_| level_id.len() == 6)
        .map_or([0, 0, 0, 0], u32::to_be_bytes);
    let [_, idc, iop, _] = bytes;
    match (idc, iop) {
        (0x42, iop) if iop & 0x4f == 0x40 => Profile::ConstrainedBaseline,
        (0x4d, iop) if iop & 0x8f == 0x80 => Profile::ConstrainedBaseline,
        (0x58, iop) if iop & 0xcf == 0xc0 => Profile::ConstrainedBaseline,
        (0x42, iop) if iop & 0x4f == 0 => Profile::Baseline,
        (0x58, iop) if iop & 0xcf == 0x80 => Profile::Baseline,
        (0x4d, iop) if iop & 0xaf == 0 => Profile::Main,
        (0x58, iop) if iop & 0xcf == 0 => Profile::Extended,
        (0x64, 0) => Profile::High,
        (0x64, 0x0c) => Profile::ConstrainedHigh,
        (idc, iop) => Profile::Other([idc, iop]),
    }
}

/// Value of a parameter in `name=value;name=value`, names without case.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn number(value: Option<&str>) -> u32 {
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// What a description asks for of the packets that its side receives. Passed through: packets are
/// never cut, joined or delayed here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Packet times.
    pub times: PacketTimes,
    /// Bandwidth.
    pub bandwidth: Bandwidth,
}

/// Milliseconds of audio in a packet (RFC 8866 sections 6.4 and 6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketTimes {
    /// `a=ptime`, what the describing side would like to receive.
    pub ptime_ms: Option<u32>,
    /// `a=maxptime`, the most that it takes.
    pub maxptime_ms: Option<u32>,
}

/// `b=` lines of a medium (RFC 8866 section 5.8, RFC 3890).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `b=AS`: kilobits per second with IP and UDP headers.
    pub as_kbps: Option<u32>,
    /// `b=TIAS`: bits per second without them.
    pub tias_bps: Option<u32>,
}
