//! What one side offered and the other side was shown.
//!
//! What the policy allows of an offer is bound to the payload types of both sides ([`Binding`]);
//! [`super::negotiate()`] makes the agreement of it when the answer is there.

use super::extensions::{Extension, Extensions};
use super::feedback::Feedback;
use super::policy::{EVENT_CLOCK_HZ, PayloadTypes, free_event, telephone_event};
use super::{Asked, Codec, CodecPolicy, Kind, Medium, Negotiated, SdpError, WebSession};

/// Who made an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offerer {
    /// The page: an outgoing call, or a renegotiation of the page.
    Web,
    /// The SIP side.
    Sip,
}

/// What a description says of one medium that both sides have to know.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// Audio or video.
    pub kind: Kind,
    /// In the order of the description.
    pub codecs: &'a [Codec],
    /// Of what its side receives.
    pub asked: Asked,
    /// Header extensions that may pass.
    pub extensions: &'a [Extension],
}

/// What a description of ours lists of one medium.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) kind: Kind,
    pub(super) codecs: Vec<Codec>,
    pub(super) asked: Asked,
    pub(super) extensions: Vec<Extension>,
}

/// One side of a [`Binding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// As our description to this side says it: what it shall send, with the other side's fmtp.
    pub(super) codec: Codec,
    /// Payload type that it wants to get.
    pub(super) out: u8,
    /// Whether its last description has it. Events can be gone for a while, and of one clock be missing.
    pub(super) has: bool,
    /// RTCP feedback that it takes.
    pub(super) takes: Feedback,
}

/// One encoding with the payload types of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) web: Side,
    pub(super) sip: Side,
}

impl Side {
    fn new(codec: Codec, takes: Feedback) -> Self {
        Self {
            out: codec.payload_type,
            codec,
            has: true,
            takes,
        }
    }
}

impl Binding {
    /// From the browser's offer: the numbers stay as they are.
    fn by_web(codec: &Codec) -> Self {
        Self {
            web: Side::new(codec.clone(), Feedback::read(&codec.rtcp_fb)),
            sip: Side::new(codec.clone(), Feedback::ALL),
        }
    }

    /// From the SIP side's offer, under a number of ours: the offer's may collide with RTCP under
    /// rtcp-mux (RFC 5761 section 4) or with those of another medium.
    fn by_sip(codec: &Codec, payload_type: u8) -> Self {
        let web = Codec {
            payload_type,
            ..codec.clone()
        };
        Self {
            web: Side::new(web, Feedback::ALL),
            sip: Side::new(codec.clone(), Feedback::read(&codec.rtcp_fb)),
        }
    }

    /// The answering side's payload type and parameters come in, if it has the encoding: it wants its own number, its fmtp
    /// is told to the offerer.
    pub(super) fn answer(&mut self, offerer: Offerer, answer: Option<&Codec>) {
        let (answering, offering) = match offerer {
            Offerer::Web => (&mut self.sip, &mut self.web),
            Offerer::Sip => (&mut self.web, &mut self.sip),
        };
        answering.has = answer.is_some();
        if let Some(answer) = answer {
            answering.out = answer.payload_type;
            answering.takes = Feedback::read(&answer.rtcp_fb);
            offering.codec.fmtp.clone_from(&answer.fmtp);
        }
    }

    pub(super) fn is_event(&self) -> bool {
        self.web.codec.is_telephone_event()
    }

    /// Whether it is a telephone-event that the browser has.
    pub(super) fn is_event_of_web(&self) -> bool {
        self.is_event() && self.web.has
    }

    /// Whether it is one that the SIP side has.
    pub(super) fn is_event_of_sip(&self) -> bool {
        self.is_event() && self.sip.has
    }

    /// As our description to the browser lists it.
    pub(super) fn for_web(&self, kind: Kind) -> Codec {
        let rtcp_fb = match kind {
            Kind::Video => self.web.takes.listed_for_web(self.sip.takes),
            Kind::Audio | Kind::Application | Kind::Other => Vec::new(),
        };
        Codec {
            rtcp_fb,
            ..self.web.codec.clone()
        }
    }

    /// As our description to the SIP side lists it.
    pub(super) fn for_sip(&self, kind: Kind) -> Codec {
        let rtcp_fb = match kind {
            Kind::Video => self.sip.takes.listed(self.web.takes),
            Kind::Audio | Kind::Application | Kind::Other => Vec::new(),
        };
        Codec {
            rtcp_fb,
            ..self.sip.codec.clone()
        }
    }
}

/// One medium of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedMedium {
    pub(super) kind: Kind,
    pub(super) offerer: Offerer,
    /// In the order in which it was shown.
    pub(super) bindings: Vec<Binding>,
    pub(super) asked: Asked,
    pub(super) extensions: Extensions,
}

/// An offer: audio, and video if both the offer and the policy have any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    offerer: Offerer,
    pub(super) media: Vec<OfferedMedium>,
}

impl Offered {
    /// From the browser's offer, in our order of preference.
    pub(super) fn by_web(
        described: &[Described<'_>],
        policy: &CodecPolicy,
    ) -> Result<Self, SdpError> {
        Self::of(Offerer::Web, described, |medium| {
            OfferedMedium::by_web(medium, policy)
        })
    }

    /// From the SIP side's offer, in its order.
    pub(super) fn by_sip(
        described: &[Described<'_>],
        policy: &CodecPolicy,
    ) -> Result<Self, SdpError> {
        let mut numbers = PayloadTypes::new(Vec::new());
        Self::of(Offerer::Sip, described, |medium| {
            OfferedMedium::by_sip(medium, policy, &mut numbers)
        })
    }

    /// For an INVITE without an offer: the voices that the policy allows, shown to the browser first.
    pub(super) fn unprompted(policy: &CodecPolicy) -> Result<Self, SdpError> {
        let codecs = policy.own_audio();
        let audio = Described {
            kind: Kind::Audio,
            codecs: &codecs,
            asked: Asked::default(),
            extensions: &[],
        };
        Self::by_sip(&[audio], policy)
    }

    /// Video with nothing in common is left out, audio is an error.
    fn of(
        offerer: Offerer,
        described: &[Described<'_>],
        mut offer: impl FnMut(&Described<'_>) -> Result<OfferedMedium, SdpError>,
    ) -> Result<Self, SdpError> {
        let mut media = Vec::new();
        for medium in described {
            match offer(medium) {
                Ok(medium) => media.push(medium),
                Err(error) if medium.kind == Kind::Audio => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Self { offerer, media })
    }

    /// What the answering side is shown.
    pub(super) fn shown(&self) -> Vec<Listing> {
        self.media.iter().map(OfferedMedium::shown).collect()
    }

    /// Who made the offer.
    pub fn offerer(&self) -> Offerer {
        self.offerer
    }

    /// What is offered: audio, then video if there is any.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.media.iter().map(|medium| medium.kind)
    }
}

impl OfferedMedium {
    /// See [`Offered::by_web`].
    pub(crate) fn by_web(
        described: &Described<'_>,
        policy: &CodecPolicy,
    ) -> Result<Self, SdpError> {
        let kind = described.kind;
        let mut ranked: Vec<(usize, &Codec)> = described
            .codecs
            .iter()
            .filter_map(|codec| Some((policy.rank(kind, codec)?, codec)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let codecs = once_each(ranked.into_iter().map(|(_, codec)| codec));
        let bindings = codecs.iter().map(|codec| Binding::by_web(codec));
        let mut taken: Vec<u8> = described
            .codecs
            .iter()
            .map(|codec| codec.payload_type)
            .collect();
        let events = Event::of(described, &codecs)
            .into_iter()
            .filter_map(|event| match event {
                Event::Has(codec) => Some(Binding::by_web(codec)),
                Event::Lacks(clock_hz) => {
                    let codec = free_event(clock_hz, &taken)?;
                    taken.push(codec.payload_type);
                    let mut binding = Binding::by_web(&codec);
                    binding.web.has = false;
                    Some(binding)
                }
            });
        Self::new(Offerer::Web, described, policy, bindings.chain(events))
    }

    /// See [`Offered::by_sip`]; what there is no number left for is left out.
    pub(super) fn by_sip(
        described: &Described<'_>,
        policy: &CodecPolicy,
        numbers: &mut PayloadTypes,
    ) -> Result<Self, SdpError> {
        let kind = described.kind;
        let allowed = described
            .codecs
            .iter()
            .filter(|codec| policy.rank(kind, codec).is_some());
        let codecs = once_each(allowed);
        let events = Event::of(described, &codecs);
        let mut bindings: Vec<Binding> = codecs
            .into_iter()
            .filter_map(|codec| Some(Binding::by_sip(codec, numbers.next(kind, codec)?)))
            .collect();
        for event in events {
            let codec = match event {
                Event::Has(codec) => codec.clone(),
                // Never sent to the SIP side: any number will do.
                Event::Lacks(clock_hz) => telephone_event(0, clock_hz),
            };
            if let Some(number) = numbers.next(kind, &codec) {
                let mut binding = Binding::by_sip(&codec, number);
                binding.sip.has = matches!(event, Event::Has(_));
                bindings.push(binding);
            }
        }
        Self::new(Offerer::Sip, described, policy, bindings.into_iter())
    }

    fn new(
        offerer: Offerer,
        described: &Described<'_>,
        policy: &CodecPolicy,
        bindings: impl Iterator<Item = Binding>,
    ) -> Result<Self, SdpError> {
        let bindings: Vec<Binding> = bindings.collect();
        if bindings.is_empty() {
            let ours = policy.names(described.kind).join(", ");
            return Err(no_common_codec(described.kind, described.codecs, &ours));
        }
        Ok(Self {
            kind: described.kind,
            offerer,
            bindings,
            asked: described.asked,
            extensions: match offerer {
                Offerer::Web => Extensions::by_web(described.extensions),
                Offerer::Sip => Extensions::by_sip(described.extensions),
            },
        })
    }

    /// Video that the SIP side adds to a session: numbers of ours that mean nothing in it yet, or the same again.
    pub(crate) fn added_by_sip(
        described: &Described<'_>,
        policy: &CodecPolicy,
        session: &Negotiated,
        web: &WebSession,
    ) -> Result<Self, SdpError> {
        let agreed = session.media.iter().flat_map(Medium::web_codecs);
        let described_before = web.media.iter().flat_map(|media| media.codecs.clone());
        let taken = agreed.chain(described_before);
        let taken = taken.map(|codec| codec.payload_type).collect();
        Self::by_sip(described, policy, &mut PayloadTypes::new(taken))
    }

    /// What the answering side is shown.
    pub(super) fn shown(&self) -> Listing {
        let codec = |binding: &Binding| match self.offerer {
            Offerer::Web => binding.for_sip(self.kind),
            Offerer::Sip => binding.for_web(self.kind),
        };
        Listing {
            kind: self.kind,
            codecs: self.bindings.iter().map(codec).collect(),
            asked: self.asked,
            extensions: match self.offerer {
                Offerer::Web => self.extensions.shown_to_sip(),
                Offerer::Sip => self.extensions.shown_to_web(),
            },
        }
    }
}

/// Each encoding once.
fn once_each<'a>(codecs: impl Iterator<Item = &'a Codec>) -> Vec<&'a Codec> {
    let mut once: Vec<&Codec> = Vec::new();
    for codec in codecs {
        if !once.iter().any(|known| known.same_encoding(codec)) {
            once.push(codec);
        }
    }
    once
}

/// telephone-event of a clock, as the answering side is shown it. The offerer need not have it: the packet path brings events
/// from clock to clock.
enum Event<'a> {
    Has(&'a Codec),
    Lacks(u32),
}

impl<'a> Event<'a> {
    /// That of each clock that a voice has and of 8 kHz, which many have alone, by clock; none where the offer has none.
    fn of(described: &Described<'a>, voices: &[&Codec]) -> Vec<Self> {
        let codecs = described.codecs;
        let events = codecs.iter().filter(|codec| codec.is_telephone_event());
        let none = voices.is_empty() || events.clone().next().is_none();
        if described.kind != Kind::Audio || none {
            return Vec::new();
        }
        let mut clocks: Vec<u32> = voices.iter().map(|voice| voice.clock_hz).collect();
        clocks.push(EVENT_CLOCK_HZ);
        clocks.sort_unstable();
        clocks.dedup();
        let of_clock = |clock_hz| match events.clone().find(|codec| codec.clock_hz == clock_hz) {
            Some(codec) => Self::Has(codec),
            None => Self::Lacks(clock_hz),
        };
        clocks.into_iter().map(of_clock).collect()
    }
}

pub(super) fn no_common_codec(kind: Kind, found: &[Codec], wanted: &str) -> SdpError {
    let names: Vec<String> = found
        .iter()
        .filter(|codec| !codec.is_telephone_event())
        .map(ToString::to_string)
        .collect();
    let found = if names.is_empty() {
        "nothing that is known".into()
    } else {
        names.join(", ")
    };
    SdpError::not_acceptable(format_args!(
        "no common {} codec: {wanted} here, {found} there",
        kind.word()
    ))
}
