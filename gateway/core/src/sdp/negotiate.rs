//! Which codec a call speaks, and how payload types translate between the sides.
//!
//! 1. One side offers; what the policy allows of it is shown to the other side ([`OfferedAudio`]).
//! 2. The other side answers; [`negotiate`] picks one voice codec, and the telephone-event of the
//!    same clock.
//! 3. Both answers name only these, so both sides send the same and nothing has to be transcoded.
//!
//! The SIP side's order decides in both directions: its answer's order on outgoing calls, its
//! offer's on incoming ones.

use super::{Codec, PacketTimes, SdpError};

/// What can pass without transcoding: name, clock, channels, the payload type of our own offers
/// (static ones from RFC 3551).
const KNOWN: [(&str, u32, u8, u8); 4] = [
    ("PCMU", 8000, 1, 0),
    ("PCMA", 8000, 1, 8),
    ("G722", 8000, 1, 9),
    ("opus", 48_000, 2, 111),
];
/// Payload types of telephone-event in our own offers, by clock.
const EVENTS: [(u32, u8); 2] = [(8000, 126), (48_000, 110)];

/// Which voice codecs may be used, in our order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecPolicy {
    /// Names out of `PCMU`, `PCMA`, `G722`, `opus`, in any case. Others never match anything.
    pub allowed: Vec<String>,
}

/// All, G.711 first: every peer on both sides has it, with DTMF at the same clock.
impl Default for CodecPolicy {
    fn default() -> Self {
        Self {
            allowed: KNOWN.iter().map(|known| known.0.to_string()).collect(),
        }
    }
}

impl CodecPolicy {
    /// Checks names from a configuration.
    ///
    /// # Errors
    /// The first name that cannot pass, or an empty list.
    pub fn new(names: &[String]) -> Result<Self, String> {
        if names.is_empty() {
            return Err("no codec is allowed".into());
        }
        match names
            .iter()
            .find(|name| !KNOWN.iter().any(|known| known.0.eq_ignore_ascii_case(name)))
        {
            Some(name) => Err(format!(
                "codec {name:?} is not one of PCMU, PCMA, G722, opus"
            )),
            None => Ok(Self {
                allowed: names.to_vec(),
            }),
        }
    }

    /// Our own entries for what is allowed, in order.
    fn own(&self) -> impl Iterator<Item = Codec> {
        self.allowed.iter().filter_map(|name| {
            let known = KNOWN
                .iter()
                .find(|known| known.0.eq_ignore_ascii_case(name))?;
            Some(plain(known.3, known.0, known.1, known.2))
        })
    }

    /// Place in the order of preference, if allowed.
    fn rank(&self, codec: &Codec) -> Option<usize> {
        self.own().position(|own| own.same_encoding(codec))
    }
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

/// Who made the first offer of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offerer {
    /// The page: an outgoing call.
    Web,
    /// The SIP side: an incoming call.
    Sip,
}

/// One encoding with the payload types of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    /// As our description to the browser says it: what it shall send, with the SIP side's fmtp.
    web: Codec,
    /// As our description to the SIP side says it: what it shall send, with the browser's fmtp.
    sip: Codec,
    /// What the browser wants to get.
    web_out: u8,
    /// What the SIP side wants to get.
    sip_out: u8,
    /// Whether the browser's last description has it. Events can be gone for a while.
    web_has: bool,
    /// Whether the SIP side's has it.
    sip_has: bool,
}

/// What one side offered and the other was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedAudio {
    offerer: Offerer,
    /// In the order in which it was shown.
    bindings: Vec<Binding>,
    times: PacketTimes,
}

/// What both sides agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The voice codec, with the browser's payload type.
    pub codec: Codec,
    /// Payload types that come from the browser, to those that the SIP side gets.
    pub web_to_sip: [Option<u8>; 128],
    /// The way back.
    pub sip_to_web: [Option<u8>; 128],
    /// What our descriptions to the browser list: the voice codec, then telephone-event if both
    /// have it.
    pub web_codecs: Vec<Codec>,
    /// What our descriptions to the SIP side list.
    pub sip_codecs: Vec<Codec>,
    /// RTP clock of all of these.
    pub clock_hz: u32,
    /// The voice codec first.
    bindings: Vec<Binding>,
    /// What the SIP side asks for; our descriptions to the browser repeat it.
    pub web_times: PacketTimes,
    /// What the browser asks for; our descriptions to the SIP side repeat it.
    pub sip_times: PacketTimes,
}

impl OfferedAudio {
    /// From the browser's offer, in our order of preference. The payload types stay as they are.
    pub(super) fn by_web(
        codecs: &[Codec],
        times: PacketTimes,
        policy: &CodecPolicy,
    ) -> Result<Self, SdpError> {
        let mut voices: Vec<(usize, &Codec)> = codecs
            .iter()
            .filter_map(|codec| Some((policy.rank(codec)?, codec)))
            .collect();
        voices.sort_by_key(|(rank, _)| *rank);
        voices.dedup_by_key(|(rank, _)| *rank);
        let voices: Vec<&Codec> = voices.into_iter().map(|(_, codec)| codec).collect();
        let bind = |codec: &Codec| Binding::new(codec.clone(), codec.clone());
        Self::new(Offerer::Web, &voices, codecs, times, policy, bind)
    }

    /// From the SIP side's offer, in its order. Towards the browser the payload types are ours: the
    /// offer's may collide with RTCP under rtcp-mux (RFC 5761 section 4).
    pub(super) fn by_sip(
        codecs: &[Codec],
        times: PacketTimes,
        policy: &CodecPolicy,
    ) -> Result<Self, SdpError> {
        let mut voices: Vec<&Codec> = Vec::new();
        for codec in codecs.iter().filter(|codec| policy.rank(codec).is_some()) {
            if !voices.iter().any(|voice| voice.same_encoding(codec)) {
                voices.push(codec);
            }
        }
        let bind = |codec: &Codec| {
            let payload_type =
                own_payload_type(codec).expect("only what we have a number for is taken up");
            Binding::new(
                Codec {
                    payload_type,
                    rtcp_fb: Vec::new(),
                    ..codec.clone()
                },
                codec.clone(),
            )
        };
        Self::new(Offerer::Sip, &voices, codecs, times, policy, bind)
    }

    /// For an INVITE without an offer: all that the policy allows, shown to the browser first.
    pub(super) fn unprompted(policy: &CodecPolicy) -> Result<Self, SdpError> {
        let mut codecs: Vec<Codec> = policy.own().collect();
        codecs.extend(
            EVENTS.iter().map(|(clock_hz, payload_type)| {
                plain(*payload_type, "telephone-event", *clock_hz, 1)
            }),
        );
        Self::by_sip(&codecs, PacketTimes::default(), policy)
    }

    fn new(
        offerer: Offerer,
        voices: &[&Codec],
        all: &[Codec],
        times: PacketTimes,
        policy: &CodecPolicy,
        bind: impl Fn(&Codec) -> Binding,
    ) -> Result<Self, SdpError> {
        if voices.is_empty() {
            return Err(no_common_codec(all, &policy.allowed.join(", ")));
        }
        let mut bindings: Vec<Binding> = voices.iter().map(|codec| bind(codec)).collect();
        for (clock_hz, _) in EVENTS {
            let spoken = voices.iter().any(|voice| voice.clock_hz == clock_hz);
            let event = all
                .iter()
                .find(|codec| codec.is_telephone_event() && codec.clock_hz == clock_hz);
            bindings.extend(event.filter(|_| spoken).map(&bind));
        }
        Ok(Self {
            offerer,
            bindings,
            times,
        })
    }

    /// What the answering side is shown.
    pub(super) fn shown(&self) -> (Vec<Codec>, PacketTimes) {
        let codec = |binding: &Binding| match self.offerer {
            Offerer::Web => binding.sip.clone(),
            Offerer::Sip => binding.web.clone(),
        };
        (self.bindings.iter().map(codec).collect(), self.times)
    }

    /// Who made the offer.
    pub fn offerer(&self) -> Offerer {
        self.offerer
    }
}

fn own_payload_type(codec: &Codec) -> Option<u8> {
    if codec.is_telephone_event() {
        return EVENTS
            .iter()
            .find(|(clock_hz, _)| *clock_hz == codec.clock_hz)
            .map(|(_, payload_type)| *payload_type);
    }
    KNOWN
        .iter()
        .find(|known| known.0.eq_ignore_ascii_case(&codec.name))
        .map(|known| known.3)
}

impl Binding {
    fn new(web: Codec, sip: Codec) -> Self {
        let (web_out, sip_out) = (web.payload_type, sip.payload_type);
        Self {
            web,
            sip,
            web_out,
            sip_out,
            web_has: true,
            sip_has: true,
        }
    }

    /// The answering side's payload type and parameters come in: it wants its own number, its fmtp
    /// is told to the offerer.
    fn answered(mut self, offerer: Offerer, answer: &Codec) -> Self {
        match offerer {
            Offerer::Web => {
                self.sip_out = answer.payload_type;
                self.web.fmtp.clone_from(&answer.fmtp);
            }
            Offerer::Sip => {
                self.web_out = answer.payload_type;
                self.sip.fmtp.clone_from(&answer.fmtp);
            }
        }
        self
    }
}

/// Combines an offer with the other side's answer; `times` are those of the answer.
///
/// # Errors
/// [`SdpError::NotAcceptable`] if the answer holds no voice codec that was offered.
pub fn negotiate(
    offered: &OfferedAudio,
    answer: &[Codec],
    times: PacketTimes,
) -> Result<Negotiated, SdpError> {
    let shown = |binding: &Binding| match offered.offerer {
        Offerer::Web => binding.sip.clone(),
        Offerer::Sip => binding.web.clone(),
    };
    let find = |codec: &Codec| {
        offered
            .bindings
            .iter()
            .find(|binding| shown(binding).same_encoding(codec))
    };
    let answered = |binding: &Binding| {
        answer
            .iter()
            .find(|codec| codec.same_encoding(&shown(binding)))
    };
    let voice = match offered.offerer {
        Offerer::Web => answer
            .iter()
            .filter(|codec| !codec.is_telephone_event())
            .find_map(find),
        Offerer::Sip => offered
            .bindings
            .iter()
            .find(|binding| !binding.web.is_telephone_event() && answered(binding).is_some()),
    };
    let Some(voice) = voice else {
        let names: Vec<String> = offered
            .bindings
            .iter()
            .map(|binding| binding.sip.to_string())
            .collect();
        return Err(no_common_codec(answer, &names.join(", ")));
    };
    let of_clock = |binding: &&Binding| {
        binding.web.is_telephone_event() && binding.web.clock_hz == voice.web.clock_hz
    };
    let bindings = [Some(voice), offered.bindings.iter().find(of_clock)]
        .into_iter()
        .flatten()
        .filter_map(|binding| {
            Some(
                binding
                    .clone()
                    .answered(offered.offerer, answered(binding)?),
            )
        })
        .collect();
    let (web_times, sip_times) = match offered.offerer {
        Offerer::Web => (times, offered.times),
        Offerer::Sip => (offered.times, times),
    };
    Ok(Negotiated::of(bindings, web_times, sip_times))
}

fn no_common_codec(found: &[Codec], wanted: &str) -> SdpError {
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
        "no common audio codec: {wanted} here, {found} there"
    ))
}

impl Negotiated {
    fn of(bindings: Vec<Binding>, web_times: PacketTimes, sip_times: PacketTimes) -> Self {
        let mut web_to_sip = [None; 128];
        let mut sip_to_web = [None; 128];
        // What we asked for comes first. A peer that sends with the number of its own description
        // (RFC 3264 section 5.1 lets the numbers of both ways differ, and some mix them up) is
        // understood too, unless that number means something else.
        for asked in [true, false] {
            for binding in bindings
                .iter()
                .filter(|binding| binding.web_has && binding.sip_has)
            {
                let from_web = if asked {
                    binding.web.payload_type
                } else {
                    binding.web_out
                };
                let from_sip = if asked {
                    binding.sip.payload_type
                } else {
                    binding.sip_out
                };
                web_to_sip[usize::from(from_web & 127)].get_or_insert(binding.sip_out);
                sip_to_web[usize::from(from_sip & 127)].get_or_insert(binding.web_out);
            }
        }
        let codec = bindings[0].web.clone();
        let of_web = |binding: &Binding| binding.web_has.then(|| binding.web.clone());
        let of_sip = |binding: &Binding| binding.sip_has.then(|| binding.sip.clone());
        Self {
            clock_hz: codec.clock_hz,
            codec,
            web_to_sip,
            sip_to_web,
            web_codecs: bindings.iter().filter_map(of_web).collect(),
            sip_codecs: bindings.iter().filter_map(of_sip).collect(),
            bindings,
            web_times,
            sip_times,
        }
    }

    /// The same agreement under the payload types of a new offer of the SIP side.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it: another one would need a
    /// new answer of the page.
    pub(crate) fn reoffered_by_sip(
        &self,
        offer: &[Codec],
        times: PacketTimes,
    ) -> Result<Self, SdpError> {
        let bindings = self.described_again(offer, |binding, new| {
            binding.sip_has = new.is_some();
            if let Some(new) = new {
                binding.sip.payload_type = new.payload_type;
                binding.sip_out = new.payload_type;
                binding.web.fmtp.clone_from(&new.fmtp);
            }
        })?;
        Ok(Self::of(bindings, times, self.sip_times))
    }

    /// The same agreement after a further answer of the SIP side to what we offered: a 200 after a
    /// 183, or to a re-INVITE of ours. It goes on sending what we asked for, and may want other
    /// numbers than before.
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it.
    pub(crate) fn answered_by_sip(
        &self,
        answer: &[Codec],
        times: PacketTimes,
    ) -> Result<Self, SdpError> {
        let bindings = self.described_again(answer, |binding, new| {
            binding.sip_has = new.is_some();
            if let Some(new) = new {
                binding.sip_out = new.payload_type;
                binding.web.fmtp.clone_from(&new.fmtp);
            }
        })?;
        Ok(Self::of(bindings, times, self.sip_times))
    }

    /// The same agreement under the payload types of a new offer of the browser (ICE restart,
    /// hold).
    ///
    /// # Errors
    /// [`SdpError::NotAcceptable`] if the voice codec in use is not in it: another one would need a
    /// new answer of the SIP side.
    pub(crate) fn reoffered_by_web(
        &self,
        offer: &[Codec],
        times: PacketTimes,
    ) -> Result<Self, SdpError> {
        let bindings = self.described_again(offer, |binding, new| {
            binding.web_has = new.is_some();
            if let Some(new) = new {
                binding.web.payload_type = new.payload_type;
                binding.web_out = new.payload_type;
                binding.sip.fmtp.clone_from(&new.fmtp);
            }
        })?;
        Ok(Self::of(bindings, self.web_times, times))
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
                .find(|codec| codec.same_encoding(&binding.sip));
            if index == 0 && new.is_none() {
                return Err(no_common_codec(codecs, &self.codec.to_string()));
            }
            apply(binding, new);
        }
        Ok(bindings)
    }
}
