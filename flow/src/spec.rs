//! What the call logic asks of a datapath: one `FlowSpec` per direction of media, in the terms of
//! RTP and SDP.
//!
//! Why: the gateway core decides in these terms and knows nothing of slots, MAC addresses or map
//! layouts; each datapath turns a spec into its own [`crate::FlowEntry`] and seeds the state. Built
//! by `gateway-core`'s bridge, read by `gateway::datapath`.

use crate::{Endpoint, FlowKey, SrtpKeys};

/// Most SSRCs one flow can carry.
pub const STREAMS: usize = 4;

/// Most media of one flow: audio and video of a browser arrive on one 4-tuple (BUNDLE, RFC 9143) and leave by different ones.
pub const MEDIA: usize = 2;

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
    /// What becomes of RFC 8285 header extensions.
    pub extensions: ExtensionMap,
}

/// By payload type as it arrives (0..=127) what it leaves as; `None` = not negotiated, the packet is dropped and counted.
pub type PayloadMap = [Option<PayloadSpec>; 128];

/// A payload type of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadSpec {
    /// Payload type that leaves, 0..=127.
    pub out: u8,
    /// Its medium: place in [`FlowSpec::media`].
    pub medium: u8,
}

impl PayloadSpec {
    /// For a flow of one medium: payload types that arrive and leave.
    pub fn single(pairs: impl IntoIterator<Item = (u8, u8)>) -> PayloadMap {
        let mut payloads = [None; 128];
        for (arrived, out) in pairs {
            if let Some(place) = payloads.get_mut(usize::from(arrived)) {
                *place = Some(Self { out, medium: 0 });
            }
        }
        payloads
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
}

/// What becomes of RFC 8285 header extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionMap {
    /// They leave as they came.
    Keep,
    /// They are removed: nothing was negotiated on the leaving side.
    Remove,
}

/// The action of a flow with its session keys.
pub enum ActionSpec {
    /// RTP in, RTP out.
    Relay,
    /// SRTP in, RTP out.
    Unprotect(SrtpKeys),
    /// RTP in, SRTP out.
    Protect(SrtpKeys),
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
    /// RTP clock in Hz of the stream, for RFC 3550 jitter.
    pub clock_hz: u32,
}

/// How a stream knows its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSource {
    /// The SSRC was signalled (`a=ssrc`): only that one.
    Signalled(u32),
    /// The SSRC is taken from the first packet of the stream's medium, which its payload type tells: an authenticated one on `Unprotect`; on `Relay` and
    /// `Protect` any from the pinned 4-tuple, and a new SSRC takes the stream over with sequence
    /// and timestamp continued.
    Learnt,
}
