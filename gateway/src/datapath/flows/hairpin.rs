//! Calls of this host with each other: the SIP side of one is the SIP side of the other, so media between them never reaches a wire.
//!
//! The flow from one browser (the feeder) sends to an address of ours, on which the flow to the other browser (the fed one)
//! receives. In XDP the feeder's packet is handed to the fed flow within the program. Through sockets it works by itself. Mixed it
//! does not: a packet from a socket of ours passes no XDP interface. So the two move together:
//!
//! 1. Each starts in userspace. When all are there, the fed ones (one for each medium of the feeder) move into XDP, then the feeder.
//! 2. When one is removed, changed, or has to leave XDP, the others go back to userspace.

use super::{Flows, Place};
use crate::datapath::Datapath;
use crate::datapath::routes::Refusal;
use crate::datapath::xdp::{Xdp, twins};
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
        let mut media = spec.media.iter().flatten();
        if media.any(|medium| xdp.is_hairpin(medium.egress_remote)) {
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
            Half::Feeder => self.feeders.extend(twins(spec).map(|key| (key, id))),
            Half::Fed => {
                self.fed.insert(spec.key, id);
            }
        }
    }

    /// Forgets one flow and answers those at the other end.
    pub(super) fn remove(&mut self, id: FlowId, half: Half, spec: &FlowSpec) -> Vec<FlowId> {
        let (own, others, keys): (_, _, Vec<FlowKey>) = match half {
            Half::Feeder => (&mut self.feeders, &self.fed, twins(spec).collect()),
            Half::Fed => (&mut self.fed, &self.feeders, vec![spec.key]),
        };
        let mut ends = Vec::new();
        for key in keys.iter().filter(|key| own.get(*key) == Some(&id)) {
            ends.extend(others.get(key).copied());
        }
        own.retain(|_, owner| *owner != id);
        ends
    }

    /// The feeder at one end of a flow.
    fn feeder(&self, id: FlowId, half: Half, spec: &FlowSpec) -> Option<FlowId> {
        match half {
            Half::Feeder => Some(id),
            Half::Fed => self.feeders.get(&spec.key).copied(),
        }
    }

    /// What a feeder feeds, if all of that is there.
    fn fed_by(&self, spec: &FlowSpec) -> Option<Vec<FlowId>> {
        twins(spec).map(|key| self.fed.get(&key).copied()).collect()
    }
}

impl Flows {
    /// Notes a flow that is in userspace, and has its hairpin tried once that is whole.
    pub(super) fn add_half(&mut self, id: FlowId, half: Half) {
        let Some(placed) = self.placed.get(&id) else {
            return;
        };
        self.hairpins.add(id, half, &placed.spec);
        if let Some((feeder, fed)) = self.hairpin(id, half) {
            self.try_soon(feeder);
            for id in fed {
                self.try_soon(id);
            }
        }
    }

    /// The feeder and all that it feeds, if they are there.
    pub(super) fn hairpin(&self, id: FlowId, half: Half) -> Option<(FlowId, Vec<FlowId>)> {
        let feeder = self
            .hairpins
            .feeder(id, half, &self.placed.get(&id)?.spec)?;
        let fed = self.hairpins.fed_by(&self.placed.get(&feeder)?.spec)?;
        Some((feeder, fed))
    }

    /// Moves a whole hairpin into XDP, or leaves all of it where it is.
    pub(super) fn promote_pair(&mut self, half: Half, id: FlowId, now: Instant) {
        let Some((feeder, fed)) = self.hairpin(id, half) else {
            return;
        };
        if self.is_in_xdp(feeder) {
            return;
        }
        let all: Vec<FlowId> = fed.iter().copied().chain([feeder]).collect();
        for &one in &all {
            if let Err(refusal) = self.move_in(one, now) {
                let why = self.stays(None, Some(refusal));
                let back = fed.iter().filter(|id| self.is_in_xdp(**id));
                let back = back.map(|id| (*id, Xdp::waits_for_twin())).collect();
                self.retreat(back, now);
                for one in all {
                    self.moved(one, why.clone());
                }
                return;
            }
        }
        for one in all {
            let place = self.enters();
            self.moved(one, place);
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
