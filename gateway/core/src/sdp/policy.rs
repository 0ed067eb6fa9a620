//! Which encodings calls may use, and the payload types under which we offer them ourselves.

use super::{Codec, Kind};

/// Voice that can pass without transcoding: name, clock, channels, the payload type of our own
/// offers (static ones from RFC 3551).
const VOICES: [(&str, u32, u8, u8); 4] = [
    ("PCMU", 8000, 1, 0),
    ("PCMA", 8000, 1, 8),
    ("G722", 8000, 1, 9),
    ("opus", 48_000, 2, 111),
];
/// Video that can. Retransmission, RED and FEC payloads (`rtx`, `red`, `ulpfec`, `flexfec-03`) are
/// not among it: they carry sequence numbers and SSRCs of the stream that they repair, and the
/// packet path gives that stream others.
const VIDEOS: [&str; 4] = ["VP8", "H264", "VP9", "AV1"];
/// RTP clock of all of these.
const VIDEO_CLOCK_HZ: u32 = 90_000;
/// Payload types of telephone-event in our own offers, by clock.
const EVENTS: [(u32, u8); 2] = [(EVENT_CLOCK_HZ, 126), (48_000, 110)];
/// Clock in Hz of the telephone-events that nearly every telephone has (RFC 4733 section 2.4.1).
pub(super) const EVENT_CLOCK_HZ: u32 = 8000;
/// Payload types of video in our own offers: the dynamic ones (RFC 3551 section 3) less those of
/// audio, because in a BUNDLE one number means one thing (RFC 9143 section 9.1).
const VIDEO_PAYLOAD_TYPES: std::ops::RangeInclusive<u8> = 96..=125;

/// Which codecs may be used, in our order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecPolicy {
    /// Names out of `PCMU`, `PCMA`, `G722`, `opus`, in any case. Others never match anything.
    pub audio: Vec<String>,
    /// Names out of `VP8`, `H264`, `VP9`, `AV1`; none = calls have no video.
    pub video: Vec<String>,
}

/// All, G.711 first: every peer on both sides has it, with DTMF at the same clock.
impl Default for CodecPolicy {
    fn default() -> Self {
        Self {
            audio: VOICES.iter().map(|known| known.0.to_string()).collect(),
            video: VIDEOS.iter().map(ToString::to_string).collect(),
        }
    }
}

impl CodecPolicy {
    /// Whether calls may have a medium of this kind.
    pub fn allows(&self, kind: Kind) -> bool {
        !self.names(kind).is_empty()
    }

    /// How many media a call has whose offer has video or not.
    pub(crate) fn media_count(&self, video: bool) -> u8 {
        1 + u8::from(video && self.allows(Kind::Video))
    }

    pub(super) fn names(&self, kind: Kind) -> &[String] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
            Kind::Application | Kind::Other => &[],
        }
    }

    /// Our own entries of voice and telephone-event, in order.
    pub(super) fn own_audio(&self) -> Vec<Codec> {
        let voices = self.audio.iter().filter_map(|name| {
            let known = VOICES
                .iter()
                .find(|known| known.0.eq_ignore_ascii_case(name))?;
            Some(plain(known.3, known.0, known.1, known.2))
        });
        let events = EVENTS
            .iter()
            .map(|(clock_hz, payload_type)| telephone_event(*payload_type, *clock_hz));
        voices.chain(events).collect()
    }

    /// Place in the order of preference, if allowed.
    pub(super) fn rank(&self, kind: Kind, codec: &Codec) -> Option<usize> {
        let place = self
            .names(kind)
            .iter()
            .position(|name| name.eq_ignore_ascii_case(&codec.name))?;
        let is_known = match kind {
            Kind::Audio => VOICES
                .iter()
                .any(|known| plain(known.3, known.0, known.1, known.2).same_encoding(codec)),
            Kind::Video => {
                codec.clock_hz == VIDEO_CLOCK_HZ
                    && VIDEOS
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(&codec.name))
            }
            Kind::Application | Kind::Other => false,
        };
        is_known.then_some(place)
    }
}

/// Numbers for what we offer to a browser; each is given out once.
pub(super) struct PayloadTypes {
    taken: Vec<u8>,
}

impl PayloadTypes {
    /// `taken`: numbers that already mean something in the session.
    pub(super) fn new(taken: Vec<u8>) -> Self {
        Self { taken }
    }

    /// Audio has fixed numbers, video the next free one.
    pub(super) fn next(&mut self, kind: Kind, codec: &Codec) -> Option<u8> {
        let number = match kind {
            Kind::Audio if codec.is_telephone_event() => EVENTS
                .iter()
                .find(|(clock_hz, _)| *clock_hz == codec.clock_hz)
                .map(|(_, payload_type)| *payload_type),
            Kind::Audio => VOICES
                .iter()
                .find(|known| known.0.eq_ignore_ascii_case(&codec.name))
                .map(|known| known.3),
            Kind::Video => VIDEO_PAYLOAD_TYPES.clone().find(|number| {
                let of_audio = VOICES.iter().any(|known| known.3 == *number)
                    || EVENTS.iter().any(|(_, events)| events == number);
                !of_audio && !self.taken.contains(number)
            }),
            Kind::Application | Kind::Other => None,
        }?;
        self.taken.push(number);
        Some(number)
    }
}

/// telephone-event under a number that is not taken: that of our own offers, if it can be.
pub(super) fn free_event(clock_hz: u32, taken: &[u8]) -> Option<Codec> {
    let ours = EVENTS.iter().filter(|(known, _)| *known == clock_hz);
    let ours = ours.map(|(_, number)| *number);
    let number = ours
        .chain(96..=127)
        .find(|number| !taken.contains(number))?;
    Some(telephone_event(number, clock_hz))
}

pub(super) fn telephone_event(payload_type: u8, clock_hz: u32) -> Codec {
    plain(payload_type, "telephone-event", clock_hz, 1)
}

fn plain(payload_type: u8, name: &str, clock_hz: u32, channels: u8) -> Codec {
    Codec {
        payload_type,
        name: name.into(),
        clock_hz,
        channels,
        fmtp: None,
        rtcp_fb: Vec::new(),
    }
}
