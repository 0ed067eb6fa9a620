//! Header extensions (`a=extmap`, RFC 8285 section 5): which elements of RTP packets pass from side to side, and under which
//! identifiers.
//!
//! Only extensions that say something of the media itself are shown to the other side, and only those that it takes pass. What belongs
//! to one leg never does: identifiers of its description (MID, RID), and sequence numbers that its own RTCP reports on (transport-cc).
//! Used by `offered` and `negotiate`.

use sdp_types::{Media, Session};

use super::{Direction, Kind, text};

/// What passes between audio, and between video.
const AUDIO: [&str; 2] = [
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "urn:ietf:params:rtp-hdrext:csrc-audio-level",
];
const VIDEO: [&str; 4] = [
    "urn:3gpp:video-orientation",
    "urn:ietf:params:rtp-hdrext:toffset",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
];

/// An `a=extmap` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// 1..=14: what both forms of RFC 8285 can name.
    pub id: u8,
    /// As the describing side sees it.
    pub direction: Direction,
    /// What it is.
    pub uri: &'static str,
}

impl Extension {
    /// The attribute's value.
    pub(super) fn print(&self) -> String {
        match self.direction {
            Direction::SendRecv => format!("{} {}", self.id, self.uri),
            other => format!("{}/{} {}", self.id, other.as_str(), self.uri),
        }
    }

    fn read(value: &str, known: &[&'static str]) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (id, uri) = (words.next()?, words.next()?);
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, text::direction_of(direction)?),
            None => (id, Direction::SendRecv),
        };
        let id = id.parse().ok().filter(|id| (1..=14).contains(id))?;
        let uri = known.iter().find(|known| **known == uri)?;
        Some(Self { id, direction, uri })
    }
}

/// What passes at all.
fn known(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Audio => &AUDIO,
        Kind::Video => &VIDEO,
        Kind::Application | Kind::Other => &[],
    }
}

/// The extensions of an m-line that may pass, each once; those of the session are each m-line's.
pub(super) fn read(session: &Session, media: &Media) -> Vec<Extension> {
    let known = known(Kind::of(&media.media));
    let of_media = media.get_attribute_values("extmap");
    let of_session = session.get_attribute_values("extmap");
    let mut extensions: Vec<Extension> = Vec::new();
    for value in of_media.chain(of_session).flatten() {
        let read = Extension::read(value, known).filter(|new| {
            let taken = |old: &Extension| old.uri == new.uri || old.id == new.id;
            !extensions.iter().any(taken)
        });
        extensions.extend(read);
    }
    extensions
}

/// One side of a [`Mapped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    id: u8,
    /// As its last description says; `None` where that does not have the extension.
    direction: Option<Direction>,
}

/// An extension with the identifiers of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapped {
    uri: &'static str,
    web: Side,
    sip: Side,
}

/// The extensions of one medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions(Vec<Mapped>);

impl Extensions {
    /// From the browser's offer: the identifiers stay as they are.
    pub(super) fn by_web(offered: &[Extension]) -> Self {
        let mapped = offered.iter().map(|extension| Mapped {
            uri: extension.uri,
            web: Side::of(extension),
            sip: Side::new(extension.id),
        });
        Self(mapped.collect())
    }

    /// From the SIP side's offer, under identifiers of ours: in a BUNDLE one of them means one thing (RFC 9143 section 9.1).
    pub(super) fn by_sip(offered: &[Extension]) -> Self {
        let ours = |uri| {
            let place = AUDIO.iter().chain(&VIDEO).position(|known| *known == uri)?;
            u8::try_from(place + 1).ok()
        };
        let mapped = offered.iter().filter_map(|extension| {
            Some(Mapped {
                uri: extension.uri,
                web: Side::new(ours(extension.uri)?),
                sip: Side::of(extension),
            })
        });
        Self(mapped.collect())
    }

    /// What the SIP side is shown of the browser's offer.
    pub(super) fn shown_to_sip(&self) -> Vec<Extension> {
        let shown = |mapped: &Mapped| Some(mapped.sip.says(mapped.uri, mapped.web.direction?));
        self.0.iter().filter_map(shown).collect()
    }

    /// What the browser is shown of the SIP side's offer.
    pub(super) fn shown_to_web(&self) -> Vec<Extension> {
        let shown = |mapped: &Mapped| Some(mapped.web.says(mapped.uri, mapped.sip.direction?));
        self.0.iter().filter_map(shown).collect()
    }

    /// Of what both sides have: what our descriptions to the browser list.
    pub(super) fn for_web(&self) -> Vec<Extension> {
        self.agreed().shown_to_web()
    }

    /// And those to the SIP side.
    pub(super) fn for_sip(&self) -> Vec<Extension> {
        self.agreed().shown_to_sip()
    }

    /// What both sides have.
    pub(super) fn agreed(&self) -> Self {
        let both = |mapped: &&Mapped| mapped.web.direction.and(mapped.sip.direction).is_some();
        Self(self.0.iter().filter(both).copied().collect())
    }

    /// After a new description of the browser. Identifiers do not change within a session (RFC 8285 section 6): under another one it
    /// is not the same.
    #[must_use]
    pub(super) fn described_by_web(mut self, new: &[Extension]) -> Self {
        for mapped in &mut self.0 {
            mapped.web.follow(mapped.uri, new);
        }
        self
    }

    /// After a new description of the SIP side.
    #[must_use]
    pub(super) fn described_by_sip(mut self, new: &[Extension]) -> Self {
        for mapped in &mut self.0 {
            mapped.sip.follow(mapped.uri, new);
        }
        self
    }

    /// Identifiers of what the browser may send and the SIP side takes.
    pub(super) fn to_sip(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        pairs(self, |mapped| (mapped.web, mapped.sip))
    }

    /// The way back.
    pub(super) fn to_web(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        pairs(self, |mapped| (mapped.sip, mapped.web))
    }
}

fn pairs(
    extensions: &Extensions,
    way: fn(&Mapped) -> (Side, Side),
) -> impl Iterator<Item = (u8, u8)> + '_ {
    extensions.0.iter().filter_map(move |mapped| {
        let (from, to) = way(mapped);
        let passes = from.direction?.sends() && to.direction?.receives();
        passes.then_some((from.id, to.id))
    })
}

impl Side {
    fn new(id: u8) -> Self {
        let direction = None;
        Self { id, direction }
    }

    fn of(extension: &Extension) -> Self {
        Self {
            id: extension.id,
            direction: Some(extension.direction),
        }
    }

    fn says(self, uri: &'static str, direction: Direction) -> Extension {
        let id = self.id;
        Extension { id, direction, uri }
    }

    fn follow(&mut self, uri: &str, new: &[Extension]) {
        let same = |new: &&Extension| new.uri == uri && new.id == self.id;
        self.direction = new.iter().find(same).map(|new| new.direction);
    }
}
