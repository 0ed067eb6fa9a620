//! What the call logic asks of a datapath: one `FlowSpec` per direction of media, in the terms of
//! RTP and SDP.
//!
//! Why: the gateway core decides in these terms and knows nothing of slots, MAC addresses or map
//! layouts; each datapath turns a spec into its own [`crate::FlowEntry`] and seeds the state. Built
//! by `gateway-core`'s bridge, read by `gateway::datapath`.

use crate::{Action, Endpoint, FlowKey, PayloadMap, SrtpKeys};

/// Most SSRCs one flow can carry.
pub const STREAMS: usize = 4;

/// Most media of one flow: audio and video of a browser arrive on one 4-tuple (BUNDLE, RFC 9143) and leave by different ones.
pub const MEDIA: usize = 2;

/// Most pairs of clocks that the telephone-events of one flow can have.
pub const EVENT_CLOCKS: usize = 4;

/// Where a packet of the flow comes from, what is done to it and where it goes.
pub struct FlowSpec {
    /// 4-tuple on which the packets arrive.
    pub key: FlowKey,
    /// What to do, with the keys that it needs.
    pub action: ActionSpec,
    /// SSRCs of the flow; unused places are `None`.
    pub streams: [Option<StreamSpec>; STREAMS],
    /// By payload type as it arrives; see [`PayloadMap`].
    pub payloads: PayloadMap,
    /// Where the packets of each medium leave; unused places are `None`.
    pub media: [Option<MediumSpec>; MEDIA],
    /// Header extension elements that are kept.
    pub extensions: ExtensionMap,
}

/// A payload type of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadSpec {
    /// Payload type that leaves, 0..=127.
    pub out: u8,
    /// Its medium: place in [`FlowSpec::media`].
    pub medium: u8,
    /// What the payload is.
    pub kind: PayloadKind,
}

/// What a payload is to the packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Carried as it is.
    Media,
    /// RFC 4733 telephone-events: durations are scaled from clock to clock, and the daemon is told of each event once
    /// ([`crate::FlowEvent`]).
    TelephoneEvent {
        /// Clock in Hz of the payload type that arrives.
        clock_in_hz: u32,
        /// Clock in Hz of the payload type that leaves.
        clock_out_hz: u32,
    },
}

impl PayloadSpec {
    /// Media of one payload type.
    pub const fn media(out: u8, medium: u8) -> Self {
        let kind = PayloadKind::Media;
        Self { out, medium, kind }
    }
}

/// Where the packets of one medium leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumSpec {
    /// Our address on the leaving side (source of the packet that is sent).
    pub egress_local: Endpoint,
    /// Peer's address on the leaving side (destination).
    pub egress_remote: Endpoint,
    /// DSCP code point 0..=63 of the packet that is sent (RFC 2474).
    pub dscp: u8,
    /// Most packets a second on average, and as many at once; 0 = no limit. What is over it is dropped ([`crate::Why::OverRate`]).
    pub max_packets_per_s: u32,
}

/// Which header extension elements (RFC 8285) may leave, and under which identifiers; all others are
/// removed, and an extension of more than 128 bytes is removed whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionMap {
    /// By the identifier that arrives; 0 = removed.
    pub(crate) out: [u8; EXTENSION_IDS],
}

/// Identifiers that both forms of RFC 8285 can name are 1..=14: room up to a power of two.
pub(crate) const EXTENSION_IDS: usize = 16;

impl ExtensionMap {
    /// Every extension is removed.
    pub const EMPTY: Self = Self {
        out: [0; EXTENSION_IDS],
    };

    /// Keeps elements by pairs of the identifier that arrives and the one that leaves, 1..=14; others
    /// are not taken.
    pub fn new(pairs: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let mut map = Self::EMPTY;
        for (arrived, out) in pairs {
            if (1..=14).contains(&arrived) && (1..=14).contains(&out) {
                map.out[usize::from(arrived)] = out;
            }
        }
        map
    }
}

/// The action of a flow with its session keys.
pub enum ActionSpec {
    /// RTP in, RTP out.
    Relay,
    /// SRTP in, RTP out.
    Unprotect(SrtpKeys),
    /// RTP in, SRTP out.
    Protect(SrtpKeys),
    /// SRTP in, SRTP out under other keys, of any two suites.
    Transcrypt {
        /// Keys of the arriving side.
        unprotect: SrtpKeys,
        /// Keys of the leaving side.
        protect: SrtpKeys,
    },
}

/// Which sides of a flow get other keys than they had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewKeys {
    /// What arrives.
    pub arriving: bool,
    /// What leaves.
    pub leaving: bool,
}

impl NewKeys {
    /// Whether either does.
    pub const fn any(self) -> bool {
        self.arriving || self.leaving
    }
}

impl ActionSpec {
    /// What of this is new after `before`; a side that is plain now has no keys to be new.
    pub fn new_keys(&self, before: &Self) -> NewKeys {
        let is_new = |now: Option<&SrtpKeys>, before: Option<&SrtpKeys>| match (now, before) {
            (Some(now), Some(before)) => !now.is_same(before),
            (Some(_), None) => true,
            (None, _) => false,
        };
        NewKeys {
            arriving: is_new(self.arriving(), before.arriving()),
            leaving: is_new(self.leaving(), before.leaving()),
        }
    }

    /// Whether what arrives is decrypted with the same keys as by `other`.
    pub fn has_arriving_keys_of(&self, other: &Self) -> bool {
        let sides = self.arriving().zip(other.arriving());
        sides.is_some_and(|(ours, theirs)| ours.is_same(theirs))
    }

    /// Whether what leaves is encrypted with the same keys as by `other`.
    pub fn has_leaving_keys_of(&self, other: &Self) -> bool {
        let sides = self.leaving().zip(other.leaving());
        sides.is_some_and(|(ours, theirs)| ours.is_same(theirs))
    }

    /// What is done to the packets.
    pub const fn action(&self) -> Action {
        match self {
            Self::Relay => Action::Relay,
            Self::Unprotect(_) => Action::Unprotect,
            Self::Protect(_) => Action::Protect,
            Self::Transcrypt { .. } => Action::Transcrypt,
        }
    }

    pub(crate) fn arriving(&self) -> Option<&SrtpKeys> {
        match self {
            Self::Unprotect(keys)
            | Self::Transcrypt {
                unprotect: keys, ..
            } => Some(keys),
            Self::Relay | Self::Protect(_) => None,
        }
    }

    pub(crate) fn leaving(&self) -> Option<&SrtpKeys> {
        match self {
            Self::Protect(keys) | Self::Transcrypt { protect: keys, .. } => Some(keys),
            Self::Relay | Self::Unprotect(_) => None,
        }
    }
}

/// One stream of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Whose packets.
    pub source: StreamSource,
    /// Medium of its packets: place in [`FlowSpec::media`].
    pub medium: u8,
    /// SSRC of the packets that leave.
    pub ssrc_out: u32,
    /// RTP clock in Hz of the stream: for RFC 3550 jitter, and for timestamps that go on over a
    /// change of source or codec.
    pub clock_hz: u32,
}

/// How a stream knows its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSource {
    /// The SSRC was signalled (`a=ssrc`): only that one.
    Signalled(u32),
    /// The SSRC is taken from the first packet of the stream's medium, which its payload type tells:
    /// an authenticated one on `Unprotect` and `Transcrypt`; on `Relay` and `Protect` any from the
    /// pinned 4-tuple, and a new SSRC takes the stream over with sequence and timestamp continued.
    Learnt,
}
