//! The key of a flow (its 4-tuple) and what the hash map answers for it.

use crate::{Addr, Endpoint, Port};

/// The 4-tuple of arriving packets: 36 bytes, alignment 1, no padding, so that packet bytes can be
/// copied straight in.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowKey {
    /// Our address and port (destination of the arriving packet).
    pub local: Endpoint,
    /// The peer's (source of the arriving packet).
    pub remote: Endpoint,
}

impl FlowKey {
    /// Key of no flow: all zeros.
    pub const UNSPECIFIED: Self = {
        let endpoint = Endpoint {
            addr: Addr([0; 16]),
            port: Port([0; 2]),
        };
        Self {
            local: endpoint,
            remote: endpoint,
        }
    };
}

/// Where a flow's entry and state stand: index into the slot arrays and the generation that the
/// entry there must show.
///
/// The generation is why a stale hash entry can never use another call's keys: a slot that was
/// given to a new flow shows a new number, and the packet is passed up instead.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowRef {
    /// Index into the slot arrays.
    pub slot: u32,
    /// Must equal the entry's; never zero.
    pub generation: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 36 && align_of::<FlowKey>() == 1);
const _: () = assert!(size_of::<FlowRef>() == 8);
