//! Calls of this host with each other: the SIP side of one is the SIP side of the other, so media between them never reaches a wire.
//!
//! The flow from one browser (the feeder) sends to an address of ours, on which the flow to the other browser (the fed one)
//! receives. In XDP the feeder's packet is handed to the fed flow within the program. Through sockets it works by itself. Mixed it
//! does not: a packet from a socket of ours passes no XDP interface. So the two move together:
//!
//! 1. Each starts in userspace. When both are there, the fed one moves into XDP, then the feeder.
//! 2. When one is removed, changed, or has to leave XDP, the other goes back to userspace.

use super::{Flows, Place};
use crate::datapath::Datapath;
use crate::datapath::routes::Refusal;
use crate::datapath::xdp::{Xdp, twin};
use flow::{FlowKey, FlowSpec};
use gateway_core::gateway::FlowId;
use std::collections::HashMap;
use std::time::Instant;

/// Who feeds whom.
#[derive(Default)]
pub(super) struct Hairpins {
    /// Feeders by the 4-tuple on which their packets arrive at the fed flow.
    feeders: HashMap<FlowKey, FlowId>,
    /// Fed flows by that 4-tuple.
    fed: HashMap<FlowKey, FlowId>,
}

/// A flow's part in a hairpin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Feeder,
    Fed,
}

impl Half {
    /// What a flow is for this host; `None` for nearly all of them.
    pub(super) fn of(xdp: Option<&Xdp>, spec: &FlowSpec) -> Option<Self> {
        let xdp = xdp?;
        if xdp.is_hairpin(spec.egress_remote) {
            Some(Self::Feeder)
        } else if xdp.is_hairpin(spec.key.remote) {
            Some(Self::Fed)
        } else {
            None
        }
    }
}

impl Hairpins {
    pub(super) fn add(&mut self, id: FlowId, half: Half, spec: &FlowSpec) {
        match half {
            Half::Feeder => self.feeders.insert(twin(spec), id),
            Half::Fed => self.fed.insert(spec.key, id),
        };
    }

    /// Forgets one half and answers the other.
    pub(super) fn remove(&mut self, id: FlowId, half: Half, spec: &FlowSpec) -> Option<FlowId> {
        let (own, others, key) = match half {
            Half::Feeder => (&mut self.feeders, &self.fed, twin(spec)),
            Half::Fed => (&mut self.fed, &self.feeders, spec.key),
        };
        if own.get(&key) != Some(&id) {
            return None;
        }
        own.remove(&key);
        others.get(&key).copied()
    }

    /// Feeder and fed flow, if both are there.
    pub(super) fn pair(&self, half: Half, spec: &FlowSpec) -> Option<(FlowId, FlowId)> {
        let key = match half {
            Half::Feeder => twin(spec),
            Half::Fed => spec.key,
        };
        self.feeders
            .get(&key)
            .copied()
            .zip(self.fed.get(&key).copied())
    }
}

impl Flows {
    /// Notes a half that is in userspace, and has the pair tried once it is whole.
    pub(super) fn add_half(&mut self, id: FlowId, half: Half) {
        let Some(placed) = self.placed.get(&id) else {
            return;
        };
        self.hairpins.add(id, half, &placed.spec);
        if let Some((feeder, fed)) = self.hairpins.pair(half, &placed.spec) {
            self.try_soon(feeder);
            self.try_soon(fed);
        }
    }

    /// Moves a whole pair into XDP, or leaves both where they are.
    pub(super) fn promote_pair(&mut self, half: Half, id: FlowId, now: Instant) {
        let pair = self
            .placed
            .get(&id)
            .map(|placed| self.hairpins.pair(half, &placed.spec));
        let Some(Some((feeder, fed))) = pair else {
            return;
        };
        if self.is_in_xdp(feeder) {
            return;
        }
        for half in [fed, feeder] {
            if let Err(refusal) = self.move_in(half, now) {
                let why = self.stays(None, Some(refusal));
                self.retreat(vec![(fed, Xdp::waits_for_twin())], now);
                self.moved(fed, why.clone());
                self.moved(feeder, why);
                return;
            }
        }
        for half in [fed, feeder] {
            let place = self.enters();
            self.moved(half, place);
        }
    }

    /// Moves a flow from userspace into XDP; on an error it is in userspace still.
    fn move_in(&mut self, id: FlowId, now: Instant) -> Result<(), Refusal> {
        let gone = || Refusal::Never("the flow is gone".into());
        let (Some(placed), Some(xdp)) = (self.placed.get_mut(&id), &mut self.xdp) else {
            return Err(gone());
        };
        xdp.ready(&placed.spec, now)?;
        let carried = self.userspace.take(id).ok_or_else(gone)?;
        let installed = xdp.install(id, &placed.spec, &carried, now);
        if installed.is_ok() {
            placed.place = Place::Xdp;
        } else {
            self.userspace.install(id, &placed.spec, &carried, now)?;
        }
        installed
    }
}
