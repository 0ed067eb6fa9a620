//! Which codecs a call speaks, and how payload types translate between the sides.
//!
//! 1. One side offers; what the policy allows of it is shown to the other side ([`Offered`]).
//! 2. The other side answers; [`negotiate`] picks one codec per medium, and for each side a telephone-event: that of the
//!    voice's clock, else one of another. The clocks of the two sides may differ; all that a side may send is understood.
//! 3. Both answers name only these, so both sides send the same and nothing has to be transcoded.
//!
//! The SIP side's order decides in both directions: its answer's order on outgoing calls, its
//! offer's on incoming ones.

use super::extensions::Extensions;
use super::offered::{Binding, Listing, Side, no_common_codec};
use super::{Asked, Codec, Described, Feedback, Kind, Offered, OfferedMedium, Offerer, SdpError};
use flow::{ExtensionMap, PayloadKind, PayloadMap, PayloadSpec};

/// What both sides agreed to: audio, and video where both have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Medium 0 is the audio; medium 1, if there is one, the video.
    pub media: Vec<Medium>,
}

/// One medium of a [`Negotiated`] session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Audio or video.
    pub kind: Kind,
    /// What is spoken, with the browser's payload type.
    pub codec: Codec,
    /// The codec first, then telephone-events if both sides have any, that of the codec's clock before others.
    bindings: Vec<Binding>,
    /// What the SIP side asks for; our descriptions to the browser repeat it.
    pub web_asked: Asked,
    /// What the browser asks for; our descriptions to the SIP side repeat it.
    pub sip_asked: Asked,
    /// Header extensions that both sides had once.
    extensions: Extensions,
}

/// Combines an offer with the other side's answer.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if the answer holds no voice codec that was offered. Video without a
/// common codec is left out.
pub fn negotiate(offered: &Offered, answer: &[Described<'_>]) -> Result<Negotiated, SdpError> {
    let mut media = Vec::new();
    for medium in &offered.media {
        match described(answer, medium.kind).and_then(|answer| medium.answered(answer)) {
            Ok(medium) => media.push(medium),
            Err(error) if medium.kind == Kind::Audio => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Negotiated { media })
}

fn described<'a, 'b>(all: &'a [Described<'b>], kind: Kind) -> Result<&'a Described<'b>, SdpError> {
    all.iter()
        .find(|described| described.kind == kind)
        .ok_or_else(|| SdpError::not_acceptable(format_args!("no {}", kind.word())))
}

impl OfferedMedium {
    /// The medium, if the answer has a codec that was offered.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] with what it has instead.
    pub(crate) fn answered(&self, answer: &Described<'_>) -> Result<Medium, SdpError> {
        let shown = |binding: &Binding| match self.offerer {
            Offerer::Web => binding.sip.codec.clone(),
            Offerer::Sip => binding.web.codec.clone(),
        };
        let answered = |binding: &Binding| {
            let shown = shown(binding);
            answer
                .codecs
                .iter()
                .find(|codec| codec.same_encoding(&shown))
        };
        let spoken = match self.offerer {
            Offerer::Web => answer
                .codecs
                .iter()
                .filter(|codec| !codec.is_telephone_event())
                .find_map(|codec| {
                    self.bindings
                        .iter()
                        .find(|binding| shown(binding).same_encoding(codec))
                }),
            Offerer::Sip => self.bindings.iter().find(|binding| {
                !binding.web.codec.is_telephone_event() && answered(binding).is_some()
            }),
        };
        let Some(spoken) = spoken else {
            let names: Vec<String> = self
                .bindings
                .iter()
                .map(|binding| binding.sip.codec.to_string())
                .collect();
            return Err(no_common_codec(self.kind, answer.codecs, &names.join(", ")));
        };
        let mut bindings: Vec<Binding> = vec![spoken.clone()];
        let events = self.bindings.iter();
        bindings.extend(events.filter(|binding| binding.is_event()).cloned());
        for binding in &mut bindings {
            let answer = answered(binding);
            binding.answer(self.offerer, answer);
        }
        // Events last, those of the voice's clock first.
        let clock_hz = spoken.web.codec.clock_hz;
        bindings
            .sort_by_key(|binding| (binding.is_event(), binding.web.codec.clock_hz != clock_hz));
        let both = [
            bindings.iter().any(Binding::is_event_of_web),
            bindings.iter().any(Binding::is_event_of_sip),
        ];
        bindings.retain(|binding| !binding.is_event() || both == [true; 2]);
        let (web_asked, sip_asked) = match self.offerer {
            Offerer::Web => (answer.asked, self.asked),
            Offerer::Sip => (self.asked, answer.asked),
        };
        let extensions = self.extensions.clone();
        let extensions = match self.offerer {
            Offerer::Web => extensions.described_by_sip(answer.extensions),
            Offerer::Sip => extensions.described_by_web(answer.extensions),
        };
        Ok(Medium {
            kind: self.kind,
            codec: bindings[0].web.codec.clone(),
            bindings,
            web_asked,
            sip_asked,
            extensions: extensions.agreed(),
        })
    }
}

impl Medium {
    /// Under new bindings.
    fn with(&self, bindings: Vec<Binding>) -> Self {
        Self {
            codec: bindings[0].web.codec.clone(),
            bindings,
            ..self.clone()
        }
    }

    /// Header extension elements that come from the SIP side, as the browser gets them.
    pub fn extensions_to_web(&self) -> ExtensionMap {
        ExtensionMap::new(self.extensions.to_web())
    }

    /// RTP clock of all payload types of this medium.
    pub fn clock_hz(&self) -> u32 {
        self.codec.clock_hz
    }

    /// Payload types that come from the SIP side, to those that the browser gets.
    pub fn sip_to_web(&self) -> PayloadMap {
        let mut map = PayloadMap::EMPTY;
        for (from, to) in self.sip_numbers(true).chain(self.sip_numbers(false)) {
            carry(&mut map, from, to);
        }
        map
    }

    /// RTCP feedback that the browser takes for the codec spoken.
    pub fn web_takes(&self) -> Feedback {
        self.bindings[0].web.takes
    }

    /// RTCP feedback that the SIP side takes for the codec spoken.
    pub fn sip_takes(&self) -> Feedback {
        self.bindings[0].sip.takes
    }

    /// What our descriptions to the browser list.
    pub fn web_codecs(&self) -> Vec<Codec> {
        let voice = self.bindings.iter().filter(|binding| !binding.is_event());
        let event = self
            .bindings
            .iter()
            .find(|binding| binding.is_event_of_web());
        let listed = voice.chain(event);
        listed.map(|binding| binding.for_web(self.kind)).collect()
    }

    /// What our descriptions to the SIP side list.
    pub fn sip_codecs(&self) -> Vec<Codec> {
        let voice = self.bindings.iter().filter(|binding| !binding.is_event());
        let event = self
            .bindings
            .iter()
            .find(|binding| binding.is_event_of_sip());
        let listed = voice.chain(event);
        listed.map(|binding| binding.for_sip(self.kind)).collect()
    }

    pub(super) fn web_listing(&self) -> Listing {
        Listing {
            kind: self.kind,
            codecs: self.web_codecs(),
            asked: self.web_asked,
            extensions: self.extensions.for_web(),
        }
    }

    pub(super) fn sip_listing(&self) -> Listing {
        Listing {
            kind: self.kind,
            codecs: self.sip_codecs(),
            asked: self.sip_asked,
            extensions: self.extensions.for_sip(),
        }
    }

    /// Payload types with their translation: those that we `asked` for, or those of the peer's own
    /// description. A peer that sends with the latter (RFC 3264 section 5.1 lets the numbers of
    /// both ways differ, and some mix them up) is understood too, unless that number means
    /// something else.
    fn sip_numbers(&self, asked: bool) -> impl Iterator<Item = (u8, PayloadSpec)> + '_ {
        self.numbers(asked, |binding| &binding.sip, |binding| &binding.web)
    }

    /// The way back.
    fn web_numbers(&self, asked: bool) -> impl Iterator<Item = (u8, PayloadSpec)> + '_ {
        self.numbers(asked, |binding| &binding.web, |binding| &binding.sip)
    }

    fn numbers<'a>(
        &'a self,
        asked: bool,
        arriving: fn(&Binding) -> &Side,
        leaving: fn(&Binding) -> &Side,
    ) -> impl Iterator<Item = (u8, PayloadSpec)> + 'a {
        let has = move |binding: &&Binding| leaving(binding).has;
        let event = self
            .bindings
            .iter()
            .filter(|binding| binding.is_event())
            .find(has);
        self.bindings.iter().filter_map(move |binding| {
            let from = Some(arriving(binding)).filter(|side| side.has)?;
            let (to, kind) = if binding.is_event() {
                let to = leaving(event?);
                let kind = PayloadKind::TelephoneEvent {
                    clock_in_hz: from.codec.clock_hz,
                    clock_out_hz: to.codec.clock_hz,
                };
                (to, kind)
            } else {
                (leaving(binding), PayloadKind::Media)
            };
            let number = if asked {
                from.codec.payload_type
            } else {
                from.out
            };
            let spec = PayloadSpec {
                kind,
                ..PayloadSpec::media(to.out, 0)
            };
            (to.has).then_some((number, spec))
        })
    }

    /// Goes through the bindings with what a new description has for each.
    fn described_again(
        &self,
        codecs: &[Codec],
        apply: impl Fn(&mut Binding, Option<&Codec>),
    ) -> Result<Vec<Binding>, SdpError> {
        let mut bindings = self.bindings.clone();
        for (index, binding) in bindings.iter_mut().enumerate() {
            let new = codecs
                .iter()
                .find(|codec| codec.same_encoding(&binding.sip.codec));
            if index == 0 && new.is_none() {
                return Err(no_common_codec(self.kind, codecs, &self.codec.to_string()));
            }
            apply(binding, new);
        }
        Ok(bindings)
    }
}

/// Has a payload type carried, unless it is already. One that a map has no room for, a fifth pair of telephone-event clocks, is left out.
fn carry(map: &mut PayloadMap, from: u8, to: PayloadSpec) {
    if map.get(from).is_none() {
        let _ = map.set(from, to);
    }
}

impl Negotiated {
    /// The audio.
    pub fn audio(&self) -> &Medium {
        &self.media[0]
    }

    /// The video, if there is one.
    pub fn video(&self) -> Option<&Medium> {
        self.media.get(1)
    }

    /// Payload types that come from the browser, to the medium and the payload type that the SIP
    /// side gets. One map for all media: they arrive on one 4-tuple.
    pub fn web_to_sip(&self) -> PayloadMap {
        let mut map = PayloadMap::EMPTY;
        for asked in [true, false] {
            for (medium, described) in (0..).zip(&self.media) {
                for (from, to) in described.web_numbers(asked) {
                    carry(&mut map, from, PayloadSpec { medium, ..to });
                }
            }
        }
        map
    }

    /// Header extension elements that come from the browser, as the SIP side gets them. One map for all media, too: an identifier
    /// that would leave as two is left out.
    pub fn extensions_to_sip(&self) -> ExtensionMap {
        let all: Vec<(u8, u8)> = self
            .media
            .iter()
            .flat_map(|medium| medium.extensions.to_sip())
            .collect();
        let alone =
            |(from, to): &(u8, u8)| all.iter().all(|other| other.0 != *from || other.1 == *to);
        ExtensionMap::new(all.iter().copied().filter(alone))
    }

    /// The same agreement under the payload types of a new offer of the SIP side. Video that it
    /// does not have any more, or not with this codec, is gone; added video is not taken in.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it: another one would need a
    /// new answer of the page.
    pub(crate) fn reoffered_by_sip(&self, offer: &[Described<'_>]) -> Result<Self, SdpError> {
        self.again(offer, |medium, offer| {
            let bindings = medium.described_again(offer.codecs, |binding, new| {
                binding.sip.has = new.is_some();
                if let Some(new) = new {
                    binding.sip.codec.payload_type = new.payload_type;
                    binding.sip.out = new.payload_type;
                    binding.sip.takes = Feedback::read(&new.rtcp_fb);
                    binding.web.codec.fmtp.clone_from(&new.fmtp);
                }
            })?;
            Ok(Medium {
                web_asked: offer.asked,
                extensions: medium.extensions.clone().described_by_sip(offer.extensions),
                ..medium.with(bindings)
            })
        })
    }

    /// The same agreement after a further answer of the SIP side to what we offered: a 200 after a
    /// 183, or to a re-INVITE of ours. It goes on sending what we asked for, and may want other
    /// numbers than before.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it.
    pub(crate) fn answered_by_sip(&self, answer: &[Described<'_>]) -> Result<Self, SdpError> {
        self.again(answer, |medium, answer| {
            let bindings = medium.described_again(answer.codecs, |binding, new| {
                binding.sip.has = new.is_some();
                if let Some(new) = new {
                    binding.sip.out = new.payload_type;
                    binding.sip.takes = Feedback::read(&new.rtcp_fb);
                    binding.web.codec.fmtp.clone_from(&new.fmtp);
                }
            })?;
            Ok(Medium {
                web_asked: answer.asked,
                extensions: medium
                    .extensions
                    .clone()
                    .described_by_sip(answer.extensions),
                ..medium.with(bindings)
            })
        })
    }

    /// The same agreement under the payload types of a new offer of the browser (ICE restart,
    /// hold). Video that it does not have any more is gone; added video is not taken in.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it: another one would need a
    /// new answer of the SIP side.
    pub(crate) fn reoffered_by_web(&self, offer: &[Described<'_>]) -> Result<Self, SdpError> {
        self.again(offer, |medium, offer| {
            let bindings = medium.described_again(offer.codecs, |binding, new| {
                binding.web.has = new.is_some();
                if let Some(new) = new {
                    binding.web.codec.payload_type = new.payload_type;
                    binding.web.out = new.payload_type;
                    binding.web.takes = Feedback::read(&new.rtcp_fb);
                    binding.sip.codec.fmtp.clone_from(&new.fmtp);
                }
            })?;
            Ok(Medium {
                sip_asked: offer.asked,
                extensions: medium.extensions.clone().described_by_web(offer.extensions),
                ..medium.with(bindings)
            })
        })
    }

    /// Takes each medium through a new description.
    fn again(
        &self,
        new: &[Described<'_>],
        step: impl Fn(&Medium, &Described<'_>) -> Result<Medium, SdpError>,
    ) -> Result<Self, SdpError> {
        let mut media = Vec::new();
        for medium in &self.media {
            match described(new, medium.kind).and_then(|new| step(medium, new)) {
                Ok(medium) => media.push(medium),
                Err(error) if medium.kind == Kind::Audio => return Err(error),
                Err(_) => {}
            }
        }
        Ok(Self { media })
    }

    pub(super) fn web_listings(&self) -> Vec<Listing> {
        self.media.iter().map(Medium::web_listing).collect()
    }

    pub(super) fn sip_listings(&self) -> Vec<Listing> {
        self.media.iter().map(Medium::sip_listing).collect()
    }
}
