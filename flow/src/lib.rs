//! The contract between the XDP program and the daemon, and the packet path itself.
//!
//! Everything that both sides of the kernel border read or write is defined here once: keys, entries, state, verdicts. The
//! packet path ([`forward`]) is plain Rust over a scratch frame and compiles for the host and for BPF, so the same bytes run in
//! unit tests, in the userspace datapath and in XDP.
//!
//! Who writes which map: the daemon writes flows and entries; state is seeded once at install and belongs to the datapath
//! afterwards; counters are written by the datapath and read by the daemon.
#![no_std]

mod addr;
mod key;
mod spec;
mod srtp;
mod stats;
mod verdict;

pub use addr::{Addr, Endpoint, Port};
pub use key::{FlowKey, FlowRef};
pub use spec::{ActionSpec, FlowSpec, STREAMS, StreamSource, StreamSpec};
pub use srtp::{SessionKey, SrtpKeys, Suite};
pub use stats::{FlowSnapshot, StreamSnapshot};
pub use verdict::{REASONS, Verdict, Why};

/// Version of every layout in this crate; part of the pin path, raised whenever a layout changes.
pub const ABI: u32 = 1;
