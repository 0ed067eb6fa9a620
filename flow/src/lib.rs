//! The contract between the XDP program and the daemon, and the packet path itself.
//!
//! Everything that both sides of the kernel border read or write is defined here once: keys,
//! entries, state, verdicts. The packet path ([`forward()`]) is plain Rust over a scratch frame and
//! compiles for the host and for BPF, so the same bytes run in unit tests, in the userspace
//! datapath and in XDP.
//!
//! Who writes which map: the daemon writes flows and entries; state is seeded once at install and
//! belongs to the datapath afterwards; counters are written by the datapath and read by the daemon.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

mod addr;
mod aes;
mod budget;
mod classify;
mod entry;
mod event;
mod exchange;
mod extension;
mod forward;
mod gcm;
mod ghash;
mod key;
mod keys;
mod keystream;
mod opaque;
mod packet;
mod payload;
#[cfg(feature = "user")]
mod pod;
mod rate;
mod rewrite;
mod rtp;
mod sbox;
mod scratch;
mod sha1;
#[cfg(target_arch = "bpf")]
mod sha1_bpf;
mod spec;
mod spread;
mod srtp;
mod state;
mod stats;
mod template;
mod verdict;
mod window;

pub use addr::{Addr, Endpoint, Port};
pub use budget::{Budgets, CHARGES, Charge, GUARDED, Guard, Limit, SOURCES, Source};
pub use classify::{Protocol, classify};
pub use entry::{Action, Egress, EntryError, Exit, FlowEntry, FlowHead, FlowKeys};
pub use event::{EVENT_RING_BYTES, FlowEvent};
pub use forward::{
    Flow, Leaving, Lock, NO_KEYS, NO_KEYSTREAM, Next, Unshared, begin, forward, forward_payload,
    forward_payload_by, leave, proceed, refuse,
};
pub use key::{FlowKey, FlowRef};
pub use keys::{Family, SessionKey, SrtpKeys, Suite};
pub use keystream::{CELL_PAYLOAD_BYTES, CELLS, Keystream, KeystreamOf, KeystreamRing};
pub use packet::{Frame, arrive};
pub use payload::PayloadMap;
pub use scratch::{PACKET_BYTES, Scratch, SrtpPacket};
pub use spec::{
    ActionSpec, EVENT_CLOCKS, ExtensionMap, FlowSpec, MEDIA, MediumSpec, NewKeys, PayloadKind,
    PayloadSpec, STREAMS, StreamSource, StreamSpec,
};
pub use spread::{SPREAD_CPUS, Spread};
pub use srtp::{CounterMode, Crypto, GaloisMode, Portable};
pub use state::{FlowState, StreamSeed};
pub use stats::{FlowSnapshot, FlowStats, Progress, StreamSnapshot};
pub use verdict::{Outcome, REASONS, Verdict, Why};

/// Program of the object that the network enters.
pub const ENTRY_PROGRAM: &str = "causeway";
/// Programs that are entered by tail call, by their places in the map PROGRAMS: see [`Next::program`].
pub const TAIL_PROGRAMS: [&str; 3] = ["causeway_hairpin", "causeway_cm", "causeway_gcm"];
/// Program of the object that a CPU enters with packets that it takes over from another.
pub const TAKEN_PROGRAM: &str = "taken";
/// [`TAIL_PROGRAMS`] of such a CPU, by the same places.
pub const TAKEN_PROGRAMS: [&str; TAIL_PROGRAMS.len()] = ["taken_hairpin", "taken_cm", "taken_gcm"];
/// Place of the program for packets that one call of this host sends to another.
pub const HAIRPIN_PROGRAM: u32 = 0;

/// Version of every layout in this crate; part of the pin path, raised whenever a layout changes.
pub const ABI: u32 = 12;
