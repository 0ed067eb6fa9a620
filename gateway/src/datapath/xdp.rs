//! The datapath in XDP: flows as map entries, their next hops kept fresh.
//!
//! Install: the slot first (state, counters, entry), then the hash entry; packets see all of a flow or nothing. Remove: the hash
//! entry first, then, when no program run can still use them, the keys are zeroed; then the slot rests. An entry is changed in
//! place, its state goes on; a packet that is forwarded meanwhile may leave by a mixture of old and new next hop, but always
//! under the same keys and numbers.

use super::attach::Attachment;
use super::keystream::{Keystreams, Uses};
use super::maps::{Maps, Room};
use super::routes::{Hop, NeighbourKey, Refusal, Routes};
use super::slots::Slots;
use super::spread::SpreadReport;
use super::{Carried, Datapath, FORMER_PAIR};
use flow::{
    Endpoint, FlowEntry, FlowEvent, FlowKey, FlowRef, FlowSnapshot, FlowSpec, MEDIA, MediumSpec,
};
use gateway_core::gateway::FlowId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than a program run: a packet that looked its flow up before the removal is done by then.
const RUN: Duration = Duration::from_millis(1);
/// Slots are zeroed this long after their removal.
const ZERO_AFTER: Duration = Duration::from_millis(500);

/// The flows in XDP.
pub(crate) struct Xdp {
    maps: Maps,
    slots: Slots,
    flows: HashMap<FlowId, InKernel>,
    keys: HashMap<FlowKey, FlowId>,
    /// By slot: its last flow, kept beyond its removal for what it told before.
    told_by: HashMap<u32, (u32, FlowId)>,
    /// Former 4-tuples of flows, in the order in which they end.
    formers: VecDeque<(Instant, FlowKey, FlowId)>,
    /// Removed flows whose keys are still to be zeroed.
    leaving: VecDeque<(Instant, FlowRef)>,
    routes: Routes,
    keystreams: Option<Keystreams>,
    /// On which interface with our program the packets to each media address arrive.
    arrivals: HashMap<IpAddr, u32>,
    attachment: Attachment,
}

struct InKernel {
    key: FlowKey,
    place: FlowRef,
    hops: Hops,
}

/// How the packets of each medium of a flow leave.
type Hops = [Option<Hop>; MEDIA];

/// What changed for flows, here and elsewhere.
#[derive(Default)]
pub(crate) struct XdpChanges {
    /// Flows in XDP that have to be updated.
    pub(crate) flows: Vec<FlowId>,
    /// Neighbours that were resolved or lost.
    pub(crate) neighbours: Vec<NeighbourKey>,
    /// Every flow has to be looked up again.
    pub(crate) routes: bool,
}

impl Xdp {
    /// With the program attached; `arrivals` names the interface on which packets to each media address arrive.
    pub(crate) fn new(
        attachment: Attachment,
        mut maps: Maps,
        arrivals: HashMap<IpAddr, u32>,
        room: Room,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let rings = maps.take_rings().filter(|_| room.rings > 0);
        let keystreams = rings.map(|(rings, stats)| Keystreams::start(rings, stats));
        let flows = room.slots as usize;
        Ok(Self {
            maps,
            keystreams: keystreams.transpose()?,
            slots: Slots::new(room.slots, now),
            flows: HashMap::with_capacity(flows),
            keys: HashMap::with_capacity(flows),
            told_by: HashMap::with_capacity(flows),
            formers: VecDeque::new(),
            leaving: VecDeque::new(),
            routes: Routes::open(attachment.indices())?,
            arrivals,
            attachment,
        })
    }

    /// Names of the interfaces with the program.
    pub(crate) fn interfaces(&self) -> String {
        self.attachment.names()
    }

    /// Over which CPUs flows are spread.
    pub(crate) fn spread(&self) -> &SpreadReport {
        &self.attachment.spread
    }

    /// What the keystream rings were good for, where there are any.
    pub(crate) fn keystream_uses(&self) -> Option<Arc<Uses>> {
        self.keystreams.as_ref().map(Keystreams::uses)
    }

    /// How many flows are here.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether packets of this 4-tuple are the kernel's.
    pub(crate) fn has(&self, key: &FlowKey) -> bool {
        self.keys.contains_key(key)
    }

    pub(crate) fn netlink_fd(&self) -> RawFd {
        self.routes.fd()
    }

    pub(crate) fn events_fd(&self) -> RawFd {
        self.maps.events_fd()
    }

    /// What a flow told, each once.
    pub(crate) fn poll_event(&mut self) -> Option<(FlowId, FlowEvent)> {
        loop {
            let event = self.maps.next_event()?;
            match self.told_by.get(&event.slot) {
                Some((generation, id)) if *generation == event.generation => {
                    return Some((*id, event));
                }
                _ => {}
            }
        }
    }

    /// Follows netlink.
    pub(crate) fn handle_netlink(&mut self, now: Instant) -> XdpChanges {
        let changes = self.routes.handle_netlink(now);
        let concerned = |flow: &InKernel| {
            flow.neighbours()
                .any(|key| changes.neighbours.contains(&key))
        };
        let flows = self.flows.iter().filter(|(_, flow)| concerned(flow));
        XdpChanges {
            flows: flows.map(|(id, _)| *id).collect(),
            neighbours: changes.neighbours.clone(),
            routes: changes.routes,
        }
    }

    /// Zeroes what has left, confirms neighbours, and answers for routes that have settled. `waiting` are the neighbours that
    /// flows outside wait for.
    pub(crate) fn handle_timeout(
        &mut self,
        waiting: HashSet<NeighbourKey>,
        now: Instant,
    ) -> XdpChanges {
        self.zero(now);
        self.end_formers(|until, _| until <= now);
        self.attachment.flush_log();
        let mut used = waiting;
        used.extend(self.flows.values().flat_map(InKernel::neighbours));
        let routes = self.routes.handle_timeout(&used, now);
        let flows = if routes {
            self.flows.keys().copied().collect()
        } else {
            Vec::new()
        };
        XdpChanges {
            flows,
            neighbours: Vec::new(),
            routes,
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Instant {
        let leaving = self.leaving.front().map(|(at, _)| *at);
        let former = self.formers.front().map(|(until, ..)| *until);
        let routes = self.routes.poll_timeout();
        leaving.into_iter().chain(former).fold(routes, Instant::min)
    }

    /// Whether [`Datapath::install`] would take this flow now.
    pub(crate) fn ready(&mut self, spec: &FlowSpec, now: Instant) -> Result<(), Refusal> {
        self.hops(spec, now).map(drop)
    }

    /// Removes flows and answers, in their order, what has to move along; waits until no program run can change that any more. `None`
    /// for a flow whose state cannot be had: it must not go on under the same keys, or it would use an index twice.
    pub(crate) fn take(&mut self, ids: &[FlowId], now: Instant) -> Vec<Option<Carried>> {
        let withdrawn: Vec<_> = ids.iter().map(|id| self.withdraw(*id)).collect();
        // Rare (a next hop was lost), once for all flows of it, and shorter than the gap between two packets of a call.
        std::thread::sleep(RUN);
        let mut taken = Vec::with_capacity(ids.len());
        for flow in withdrawn {
            let carried = flow.and_then(|flow| {
                self.leaving.push_back((now + ZERO_AFTER, flow.place));
                let carried = self.maps.carried(flow.place.slot);
                carried
                    .inspect_err(|error| tracing::error!(%error, "the state of a flow is lost"))
                    .ok()
            });
            taken.push(carried);
        }
        taken
    }

    /// Ends the former 4-tuples of which `ends` holds.
    fn end_formers(&mut self, ends: impl Fn(Instant, FlowId) -> bool) {
        self.formers.retain(|(until, key, id)| {
            if !ends(*until, *id) {
                return true;
            }
            // The flow may have come back to it, or another one taken it over.
            let current = self.flows.get(id).is_some_and(|flow| flow.key == *key);
            if !current && self.keys.get(key) == Some(id) {
                self.keys.remove(key);
                self.maps.withdraw(key);
            }
            false
        });
    }

    /// Publishes a 4-tuple, for which former ones make room where there is none.
    fn publish(&mut self, key: &FlowKey, place: FlowRef) -> anyhow::Result<()> {
        self.maps.publish(key, place).or_else(|_| {
            self.end_formers(|_, _| true);
            self.maps.publish(key, place)
        })
    }

    fn withdraw(&mut self, id: FlowId) -> Option<InKernel> {
        self.end_formers(|_, former| former == id);
        let flow = self.flows.remove(&id)?;
        if let Some(keystreams) = &mut self.keystreams {
            keystreams.take_back(flow.place.slot);
        }
        // A newer flow may have taken the 4-tuple over.
        if self.keys.get(&flow.key) == Some(&id) {
            self.keys.remove(&flow.key);
            self.maps.withdraw(&flow.key);
        }
        Some(flow)
    }

    fn zero(&mut self, now: Instant) {
        while let Some((at, place)) = self.leaving.front().copied() {
            if at > now {
                return;
            }
            self.leaving.pop_front();
            match self.maps.wipe(place.slot) {
                Ok(()) => self.slots.give_back(place, now),
                // Never given out again, or two calls could meet in it.
                Err(error) => tracing::error!(%error, place.slot, "a slot cannot be zeroed"),
            }
        }
    }

    /// Whether packets to or from this peer stay within this host, between two calls of ours. On loopback they do not stay: what
    /// one flow sends there arrives there again.
    pub(crate) fn is_hairpin(&self, peer: Endpoint) -> bool {
        let arrival = self.arrivals.get(&ip(peer));
        arrival.is_some_and(|arrival| !self.routes.is_loopback(*arrival))
    }

    /// The refusal of one half of a hairpin on its own.
    pub(crate) fn waits_for_twin() -> Refusal {
        Refusal::Never(
            "its peer is an address of this host, and no other call's flow in XDP".into(),
        )
    }

    /// How the flow's packets leave, and whether they come in by XDP at all.
    fn hops(&mut self, spec: &FlowSpec, now: Instant) -> Result<Hops, Refusal> {
        let leaving = spec.media.iter().flatten();
        let mut peers = leaving
            .map(|medium| medium.egress_remote)
            .chain([spec.key.remote]);
        if peers.any(|peer| crate::ice_tcp::is_relayed(ip(peer))) {
            return Err(Refusal::Never("the browser comes by TCP".into()));
        }
        let (local, remote) = (ip(spec.key.local), ip(spec.key.remote));
        let Some(arrival) = self.arrivals.get(&local).copied() else {
            return Err(Refusal::Never(format!(
                "packets to {local} arrive on an interface without the XDP program"
            )));
        };
        if !self.is_hairpin(spec.key.remote) {
            self.routes.arrives(local, remote, arrival)?;
        }
        let mut hops = Hops::default();
        for (hop, medium) in hops.iter_mut().zip(&spec.media) {
            if let Some(medium) = medium {
                *hop = Some(self.hop(medium, now)?);
            }
        }
        Ok(hops)
    }

    fn hop(&mut self, medium: &MediumSpec, now: Instant) -> Result<Hop, Refusal> {
        if self.is_hairpin(medium.egress_remote) {
            return if self.keys.contains_key(&twin(medium)) {
                Ok(Hop::Hairpin)
            } else {
                Err(Self::waits_for_twin())
            };
        }
        let (from, to) = (ip(medium.egress_local), ip(medium.egress_remote));
        self.routes.resolve(from, to, now).map(Hop::Wire)
    }

    fn entry(&self, spec: &FlowSpec, place: FlowRef, hops: &Hops) -> Result<FlowEntry, Refusal> {
        // With one interface every packet leaves by the one that it came in by; with several it could have come in by any.
        let alone = self.attachment.interfaces.len() == 1;
        let egress = hops.each_ref().map(|hop| Some(hop.as_ref()?.egress(alone)));
        FlowEntry::new(spec, place.generation, &egress)
            .map_err(|error| Refusal::Never(format!("XDP cannot carry the flow: {error}")))
    }
}

impl InKernel {
    /// The next hops that the flow depends on.
    fn neighbours(&self) -> impl Iterator<Item = NeighbourKey> + '_ {
        self.hops.iter().flatten().filter_map(Hop::neighbour)
    }
}

impl Datapath for Xdp {
    fn install(
        &mut self,
        id: FlowId,
        spec: &FlowSpec,
        carried: &Carried,
        now: Instant,
    ) -> Result<(), Refusal> {
        let hops = self.hops(spec, now)?;
        self.zero(now);
        let Some(place) = self.slots.take(now) else {
            return Err(Refusal::Never(
                "every slot of the XDP maps is in use".into(),
            ));
        };
        let mut entry = self
            .entry(spec, place, &hops)
            .inspect_err(|_| self.slots.give_back(place, now))?;
        if let Some(keystreams) = &mut self.keystreams {
            keystreams.give(place.slot, spec, &mut entry);
        }
        let filled = self.maps.fill(place.slot, &entry, carried);
        entry.wipe();
        if let Err(error) = filled.and_then(|()| self.publish(&spec.key, place)) {
            self.leaving.push_back((now, place));
            if let Some(keystreams) = &mut self.keystreams {
                keystreams.take_back(place.slot);
            }
            return Err(Refusal::Never(format!(
                "the XDP maps refuse the flow: {error:#}"
            )));
        }
        let key = spec.key;
        self.keys.insert(key, id);
        self.told_by.insert(place.slot, (place.generation, id));
        self.flows.insert(id, InKernel { key, place, hops });
        Ok(())
    }

    fn update(&mut self, id: FlowId, spec: &FlowSpec, now: Instant) -> Result<(), Refusal> {
        let hops = self.hops(spec, now)?;
        let Some(flow) = self.flows.get(&id) else {
            return Err(Refusal::Never("the flow is not in XDP".into()));
        };
        let (place, key) = (flow.place, spec.key);
        let old_key = flow.key;
        let mut entry = self.entry(spec, place, &hops)?;
        if let Some(keystreams) = &mut self.keystreams {
            keystreams.give(place.slot, spec, &mut entry);
        }
        let replaced = self.maps.replace(place.slot, &entry);
        entry.wipe();
        let rekeyed = replaced.and_then(|()| {
            if old_key == spec.key {
                return Ok(());
            }
            self.publish(&spec.key, place)
        });
        if let Err(error) = rekeyed {
            return Err(Refusal::Never(format!(
                "the XDP maps refuse the flow: {error:#}"
            )));
        }
        self.flows.insert(id, InKernel { key, place, hops });
        self.keys.insert(key, id);
        if old_key != spec.key {
            // One each: the 4-tuple before the last one ends now.
            self.end_formers(|_, former| former == id);
            self.formers.push_back((now + FORMER_PAIR, old_key, id));
        }
        Ok(())
    }

    fn remove(&mut self, id: FlowId, now: Instant) {
        if let Some(flow) = self.withdraw(id) {
            self.leaving.push_back((now + ZERO_AFTER, flow.place));
        }
    }

    fn read(&self, id: FlowId) -> Option<FlowSnapshot> {
        let flow = self.flows.get(&id)?;
        Some(self.maps.read(flow.place.slot))
    }
}

/// The 4-tuple with which the packets of a medium arrive at whom they are sent to.
pub(crate) fn twin(medium: &MediumSpec) -> FlowKey {
    FlowKey {
        local: medium.egress_remote,
        remote: medium.egress_local,
    }
}

/// The same for all media of a flow.
pub(crate) fn twins(spec: &FlowSpec) -> impl Iterator<Item = FlowKey> {
    spec.media.iter().flatten().map(twin)
}

fn ip(endpoint: Endpoint) -> IpAddr {
    endpoint.addr.into()
}
