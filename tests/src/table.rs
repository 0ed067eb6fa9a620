//! The packet table: flows, the packets that arrive for them, and what has to become of each. One
//! table for the packet path on the host, as datagrams in userspace, and in the kernel; what is
//! expected comes from [`crate::packet`] and [`crate::oracle`].

mod bundle;
mod continuity;
mod events;
mod extensions;
mod headers;
mod on_host;
mod rtp;
mod srtp;
mod streams;

pub use on_host::OnHost;

use std::net::SocketAddr;

use flow::{
    ActionSpec, Egress, Exit, ExtensionMap, FlowEntry, FlowEvent, FlowKey, FlowSnapshot, FlowSpec,
    FlowState, FlowStats, KeystreamOf, MediumSpec, Outcome, PayloadMap, Port, Scratch, SrtpKeys,
    StreamSource, StreamSpec, Suite, Verdict, Why,
};

use crate::oracle::Keys;
use crate::packet::{Arriving, Rtp, leaving};

/// Interface that the table's flows may redirect to: loopback, which every kernel has.
pub const DEVICE: u32 = 1;
/// Number of the keys in keystream rings.
pub const KEYSTREAM_EPOCH: u32 = 77;
/// Generation of the table's entries.
pub const GENERATION: u32 = 7;
/// SSRC of arriving packets.
const SSRC_IN: u32 = 0x1122_3344;
/// SSRC of leaving packets.
const SSRC_OUT: u32 = 0xaabb_ccdd;
/// TTL of arriving packets.
const TTL: u8 = 60;

/// One row: a flow and the packets that arrive, in order.
pub struct Case {
    /// What the row shows.
    pub name: String,
    /// The flow.
    pub spec: FlowSpec,
    /// Leaving side of its first medium.
    pub egress: Egress,
    /// And of the second, where it has one.
    pub second_egress: Option<Egress>,
    /// State that it is installed with.
    pub state: FlowState,
    /// Generation that the lookup answers.
    pub looked_up: u32,
    /// Packets.
    pub steps: Vec<Step>,
}

/// One packet.
pub struct Step {
    /// As it arrives.
    pub frame: Vec<u8>,
    /// Its UDP payload, where the frame around it is an ordinary one: then the userspace path has
    /// to do the same.
    pub payload: Option<Vec<u8>>,
    /// What has to become of it.
    pub verdict: Verdict,
    /// Frame and UDP payload that leave.
    pub leaves: Option<(Vec<u8>, Vec<u8>)>,
    /// By which medium they leave.
    pub medium: usize,
    /// Of which telephone-event the daemon is told with it: code and milliseconds.
    pub told: Option<(u8, u32)>,
}

/// What became of a packet.
pub struct Ran {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What the daemon is told.
    pub told: Option<FlowEvent>,
}

/// As [`Step::told`] has it.
pub fn digit(event: &FlowEvent) -> (u8, u32) {
    let code = u8::try_from(event.code).expect("a code has eight bits");
    (code, event.duration_ms)
}

/// Address families of the two sides.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// Rows of distinct packets in order, to be encrypted and to be decrypted.
pub fn streams_both_ways(packets: u16) -> Vec<Case> {
    let mut decrypted = Case::new("a stream to be decrypted", unprotect());
    for sequence in 0..packets {
        let (rtp, out) = pair(sequence, 160);
        decrypted.sends(&usual_keys().protect(&rtp.bytes(), 0), &out.bytes());
    }
    vec![stream_to_encrypt(packets), decrypted]
}

/// A row of many distinct packets to be encrypted, in order.
pub fn stream_to_encrypt(packets: u16) -> Case {
    let mut case = Case::new("a stream to be encrypted", protect());
    for sequence in 0..packets {
        let (rtp, out) = pair(sequence, 160);
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
    }
    case
}

/// Two calls of one host: the first decrypts and addresses its packet to where the second's arrive,
/// which encrypts it.
pub fn hairpin() -> [Case; 2] {
    let mut second = Case::new("the second call's side", protect());
    let mut first = Case::new("the first call's side", unprotect());
    first.egress.exit = Exit::Hairpin;
    first.spec.key.remote.port = Port([9, 9]);
    first.spec.streams[0] = Some(stream(StreamSource::Signalled(SSRC_IN), SSRC_IN));
    first.spec.media[0] = Some(MediumSpec {
        egress_local: second.spec.key.remote,
        egress_remote: second.spec.key.local,
        dscp: 46,
        max_packets_per_s: 0,
    });
    for sequence in 0..5 {
        let (rtp, out) = pair(sequence, 160);
        let frame = first
            .arriving(&usual_keys().protect(&rtp.bytes(), 0))
            .bytes();
        second.sends_frame(frame, None, &usual_keys().protect(&out.bytes(), 0), TTL - 2);
    }
    [first, second]
}

/// All rows.
pub fn cases() -> Vec<Case> {
    let mut cases = headers::cases();
    cases.extend(rtp::cases());
    cases.extend(srtp::cases());
    cases.extend(streams::cases());
    cases.extend(bundle::cases());
    cases.extend(continuity::cases());
    cases.extend(events::cases());
    cases.extend(extensions::cases());
    cases
}

impl Case {
    /// Where the packets of the row leave.
    fn medium(&self) -> MediumSpec {
        self.spec.media[0].expect("every row has a first medium")
    }

    fn new(name: impl Into<String>, action: ActionSpec) -> Self {
        Self::between(name, action, Family::V4, Family::V4)
    }

    fn between(
        name: impl Into<String>,
        action: ActionSpec,
        arriving: Family,
        leaving: Family,
    ) -> Self {
        let [local, remote] = endpoints(arriving, 1);
        let [egress_local, egress_remote] = endpoints(leaving, 3);
        Self {
            name: name.into(),
            spec: FlowSpec {
                key: FlowKey {
                    local: local.into(),
                    remote: remote.into(),
                },
                action,
                streams: [
                    Some(stream(StreamSource::Signalled(SSRC_IN), SSRC_OUT)),
                    None,
                    None,
                    None,
                ],
                payloads: PayloadMap::single([(0, 0), (8, 8), (96, 111), (101, 110)]),
                media: [
                    Some(MediumSpec {
                        egress_local: egress_local.into(),
                        egress_remote: egress_remote.into(),
                        dscp: 46,
                        max_packets_per_s: 0,
                    }),
                    None,
                ],
                extensions: ExtensionMap::EMPTY,
            },
            egress: Egress {
                exit: Exit::Tx,
                source_mac: [2, 0, 0, 0, 0, 3],
                destination_mac: [2, 0, 0, 0, 0, 4],
                vlan: None,
                ttl: 64,
                mtu: 1500,
            },
            second_egress: None,
            state: FlowState::new(),
            looked_up: GENERATION,
            steps: Vec::new(),
        }
    }

    /// A packet with this payload arrives, one with that payload leaves.
    fn sends(&mut self, payload: &[u8], out: &[u8]) {
        let arriving = self.arriving(payload);
        self.sends_frame(arriving.bytes(), Some(payload), out, TTL - 1);
    }

    fn sends_frame(&mut self, frame: Vec<u8>, payload: Option<&[u8]>, out: &[u8], ttl: u8) {
        self.sends_by(0, frame, payload, out, ttl);
    }

    /// A frame arrives, one with that payload leaves by a medium.
    fn sends_by(
        &mut self,
        medium: usize,
        frame: Vec<u8>,
        payload: Option<&[u8]>,
        out: &[u8],
        ttl: u8,
    ) {
        let egress = [Some(self.egress), self.second_egress][medium];
        let (Some(spec), Some(egress)) = (self.spec.media[medium], egress) else {
            panic!("{}: no medium {medium}", self.name);
        };
        let verdict = match egress.exit {
            Exit::Tx => Verdict::Tx,
            Exit::Redirect(ifindex) => Verdict::Redirect(ifindex),
            Exit::Hairpin => Verdict::Again,
        };
        let leaves = Some((leaving(&spec, &egress, ttl, out), out.to_vec()));
        self.steps.push(Step {
            frame,
            payload: payload.map(<[u8]>::to_vec),
            verdict,
            leaves,
            medium,
            told: None,
        });
    }

    /// A packet with this payload arrives and does not leave.
    fn refuses(&mut self, payload: &[u8], why: Why) {
        let frame = self.arriving(payload).bytes();
        self.steps.push(Step {
            frame,
            payload: Some(payload.to_vec()),
            verdict: why.into(),
            leaves: None,
            medium: 0,
            told: None,
        });
    }

    /// A frame that has no ordinary datagram for us arrives.
    fn refuses_frame(&mut self, frame: Vec<u8>, why: Why) {
        self.steps.push(Step {
            frame,
            payload: None,
            verdict: why.into(),
            leaves: None,
            medium: 0,
            told: None,
        });
    }

    fn arriving(&self, payload: &[u8]) -> Arriving {
        Arriving {
            vlan: None,
            key: self.spec.key,
            ttl: TTL,
            payload: payload.to_vec(),
        }
    }

    /// The entry of the flow.
    pub fn entry(&self) -> FlowEntry {
        FlowEntry::new(
            &self.spec,
            GENERATION,
            &[Some(self.egress), self.second_egress],
        )
        .expect("the table's specs are in range")
    }

    /// The row with its frames [`mutate`]d: what becomes of them is only to be the same everywhere.
    #[must_use]
    pub fn mutated(mut self, seed: u64) -> Self {
        for step in &mut self.steps {
            step.payload = None;
        }
        mutate(self.steps.iter_mut().map(|step| &mut step.frame), seed);
        self
    }

    /// The packet whose keystream a step uses, and the keys it is under, where it is one of the first 2^16 of its stream; `None` where
    /// there is nothing to encrypt or decrypt.
    pub fn keystream_of(&self, step: &Step) -> Option<(KeystreamOf, &SrtpKeys)> {
        let (packet, keys) = match &self.spec.action {
            ActionSpec::Unprotect(keys) => (step.payload.as_ref()?, keys),
            // From SRTP to SRTP the ring is the leaving side's.
            ActionSpec::Protect(keys) | ActionSpec::Transcrypt { protect: keys, .. } => {
                (&step.leaves.as_ref()?.1, keys)
            }
            ActionSpec::Relay => return None,
        };
        let of = KeystreamOf {
            epoch: KEYSTREAM_EPOCH,
            ssrc: u32::from_be_bytes(*packet.get(8..)?.first_chunk()?),
            index: u16::from_be_bytes(*packet.get(2..)?.first_chunk()?).into(),
        };
        Some((of, keys))
    }

    /// Runs the row through the packet path on the host; what became of each packet, and the counters.
    pub fn run_on_host(&self) -> (Vec<Ran>, FlowSnapshot) {
        let mut results = Vec::new();
        let counters = self.each_on_host(|ran, _| results.push(ran));
        (results, counters)
    }

    /// Packets of the row that were not forwarded on the host, and changed the flow's state.
    pub fn refused_with_traces(&self) -> Vec<(usize, Verdict)> {
        let (mut before, mut number, mut found) = (self.state, 0, Vec::new());
        self.each_on_host(|Ran { verdict, .. }, state| {
            if verdict.why().outcome() != Outcome::Forwarded && *state != before {
                found.push((number, verdict));
            }
            (before, number) = (*state, number + 1);
        });
        found
    }

    /// Tells what became of each packet, and the state after it; the counters in the end.
    fn each_on_host(&self, mut seen: impl FnMut(Ran, &FlowState)) -> FlowSnapshot {
        let mut host = OnHost::new(self);
        for (number, step) in (1..).zip(&self.steps) {
            let ran = host.forward(&step.frame, number * 1000);
            seen(ran, host.state());
        }
        host.counters()
    }

    /// Runs the row's ordinary datagrams through the userspace path; `None` for the other frames.
    pub fn run_in_userspace(&self) -> Vec<Option<Result<Vec<u8>, Why>>> {
        let (entry, mut state, mut stats) = (self.entry(), self.state, FlowStats::new());
        let mut scratch = Scratch::new();
        let mut results = Vec::new();
        for (number, step) in (1..).zip(&self.steps) {
            results.push(step.payload.as_ref().map(|payload| {
                scratch.bytes_mut()[..payload.len()].copy_from_slice(payload);
                flow::forward_payload(
                    &entry,
                    &mut state,
                    &mut stats,
                    &mut scratch,
                    payload.len(),
                    number * 1000,
                )
                .map(|leaving| {
                    assert_eq!(leaving.medium, step.medium, "{}: the medium", self.name);
                    let told = leaving.event.as_ref().map(digit);
                    assert_eq!(told, step.told, "{}: packet {number}", self.name);
                    scratch.bytes()[..leaving.bytes].to_vec()
                })
            }));
        }
        results
    }
}

/// Changes, cuts off and adds bytes of frames, by `seed`.
pub fn mutate<'a>(frames: impl IntoIterator<Item = &'a mut Vec<u8>>, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        // xorshift64.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for frame in frames {
        let length = frame.len();
        match next(8) {
            0 => frame.truncate(14 + next(length - 13)),
            1 => frame.resize(length + next(20), 0x5a),
            _ => {}
        }
        for _ in 0..next(4) {
            // Headers more often than payload.
            let within = if next(3) == 0 {
                frame.len()
            } else {
                frame.len().min(70)
            };
            frame[next(within)] ^= 1 << next(8);
        }
    }
}

/// Two endpoints; others for another `host`.
fn endpoints(family: Family, host: u8) -> [SocketAddr; 2] {
    let endpoint = |host: u8| match family {
        Family::V4 => SocketAddr::from(([192, 0, 2, host], 40_000 + u16::from(host))),
        Family::V6 => SocketAddr::from((
            [0x2001, 0xdb8, 0, 0, 1, 0, 0, u16::from(host)],
            40_000 + u16::from(host),
        )),
    };
    [endpoint(host), endpoint(host + 1)]
}

fn stream(source: StreamSource, ssrc_out: u32) -> StreamSpec {
    StreamSpec {
        source,
        medium: 0,
        ssrc_out,
        clock_hz: 8000,
    }
}

fn keys(suite: Suite) -> Keys {
    Keys::new(suite, 9)
}

/// Keys of the rows that do not depend on the suite.
fn usual_keys() -> Keys {
    keys(Suite::AesCm128HmacSha1_80)
}

fn protect() -> ActionSpec {
    ActionSpec::Protect(usual_keys().expanded())
}

fn unprotect() -> ActionSpec {
    ActionSpec::Unprotect(usual_keys().expanded())
}

/// An arriving packet of the signalled stream and the plain packet that leaves for it.
fn pair(sequence: u16, payload_bytes: usize) -> (Rtp, Rtp) {
    let arriving = Rtp::new(SSRC_IN, sequence, payload_bytes);
    let leaving = Rtp {
        ssrc: SSRC_OUT,
        ..arriving.clone()
    };
    (arriving, leaving)
}
