//! The datapath of sockets: the packet path of the `flow` crate on datagrams that the media thread received.
//!
//! Always there: it carries the flows that XDP cannot, and all of them where there is no XDP. Per packet one hash look-up, one
//! copy into scratch memory and [`flow::forward_payload_by`], with the CPU's own instructions for SRTP (`srtp`); no allocation, no lock.

mod srtp;
#[cfg(test)]
mod tests;

use super::routes::Refusal;
use super::{Carried, Datapath, FORMER_PAIR, monotonic_ns};
use flow::{
    Egress, Flow, FlowEvent, FlowHead, FlowKey, FlowSnapshot, FlowSpec, FlowState, MEDIA, NO_KEYS,
    NO_KEYSTREAM, Scratch, Why, forward_payload_by,
};
use gateway_core::gateway::FlowId;
use srtp::Host;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

/// No check against the path MTU here: the kernel makes the headers and fragments where it has to.
const MTU: u16 = u16::MAX;

/// The flows that sockets carry.
pub(crate) struct Userspace {
    by_key: HashMap<FlowKey, FlowId>,
    /// Boxed: a table with room for all calls would else touch two pages for each.
    flows: HashMap<FlowId, Box<UserFlow>>,
    scratch: Box<Scratch>,
}

struct UserFlow {
    key: FlowKey,
    /// The 4-tuple that it had before, and until when (CLOCK_MONOTONIC nanoseconds) packets of it are still taken.
    former: Option<(FlowKey, u64)>,
    head: FlowHead,
    srtp: Host,
    carried: Carried,
    /// By medium: our socket and the destination.
    ends: [Option<(SocketAddr, SocketAddr)>; MEDIA],
}

impl UserFlow {
    /// Whether packets of this 4-tuple, under which the flow was found, are still taken.
    fn takes(&self, key: &FlowKey, now_ns: u64) -> bool {
        let former = self.former.as_ref();
        *key == self.key || former.is_some_and(|(former, until)| former == key && now_ns < *until)
    }
}

/// What became of a datagram.
pub(crate) enum Forwarded<'a> {
    /// No flow here has this 4-tuple.
    NoFlow,
    /// Not forwarded; the reason says whether it is dropped or meant for the daemon.
    Refused(Why),
    /// Rewritten; to be sent.
    Send {
        /// Our socket.
        from: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// UDP payload.
        bytes: &'a [u8],
        /// What the event loop is told with it.
        event: Option<(FlowId, FlowEvent)>,
    },
}

impl Userspace {
    /// Without flows, with room for `flows` of them before a table has to grow.
    pub(crate) fn new(flows: usize) -> Self {
        Self {
            by_key: HashMap::with_capacity(flows),
            flows: HashMap::with_capacity(flows),
            scratch: Box::new(Scratch::new()),
        }
    }

    /// Bytes that one flow takes.
    pub(crate) const FLOW_BYTES: usize = size_of::<UserFlow>() + 2 * size_of::<FlowKey>();

    /// How many flows are here.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether packets of this 4-tuple are ours.
    pub(crate) fn has(&self, key: &FlowKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Forwards one datagram of RTP; `now_ns` is CLOCK_MONOTONIC.
    pub(crate) fn forward(&mut self, key: &FlowKey, bytes: &[u8], now_ns: u64) -> Forwarded<'_> {
        let Some(id) = self.by_key.get(key).copied() else {
            return Forwarded::NoFlow;
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return Forwarded::NoFlow;
        };
        if !flow.takes(key, now_ns) {
            flow.former = None;
            self.by_key.remove(key);
            return Forwarded::NoFlow;
        }
        let Some(room) = self.scratch.bytes_mut().get_mut(..bytes.len()) else {
            return Forwarded::Refused(Why::TooLong);
        };
        room.copy_from_slice(bytes);
        let Carried { state, stats } = &mut flow.carried;
        let scratch = &mut self.scratch;
        let (length, mut srtp) = (bytes.len(), &flow.srtp);
        let taken = Flow {
            entry: &flow.head,
            keys: &NO_KEYS,
            state,
            stats,
            keystream: &NO_KEYSTREAM,
        };
        match forward_payload_by(&mut srtp, taken, scratch, length, now_ns) {
            Ok(leaving) => match flow.ends[leaving.medium] {
                Some((from, remote)) => Forwarded::Send {
                    from,
                    remote,
                    bytes: &self.scratch.bytes()[..leaving.bytes],
                    event: leaving.event.map(|event| (id, event)),
                },
                None => Forwarded::Refused(Why::NoDevice),
            },
            Err(why) => Forwarded::Refused(why),
        }
    }

    /// Removes a flow and answers what has to move along with it.
    pub(crate) fn take(&mut self, id: FlowId) -> Option<Carried> {
        let flow = self.flows.remove(&id)?;
        self.forget_key(&flow.key, id);
        if let Some((former, _)) = &flow.former {
            self.forget_key(former, id);
        }
        Some(flow.carried)
    }

    /// A flow that got other keys counts on as `change` says.
    pub(crate) fn rekey(&mut self, id: FlowId, change: impl FnOnce(&FlowState) -> FlowState) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.carried.state = change(&flow.carried.state);
        }
    }

    /// A newer flow may have taken the 4-tuple over: then it stays that one's.
    fn forget_key(&mut self, key: &FlowKey, id: FlowId) {
        if self.by_key.get(key) == Some(&id) {
            self.by_key.remove(key);
        }
    }

    fn place(&mut self, id: FlowId, spec: &FlowSpec, carried: Carried) -> Result<(), Refusal> {
        // The generation only tells slots of the kernel apart.
        let head = FlowHead::new(spec, 1, &[Some(Egress::socket(MTU)); MEDIA])
            .map_err(|error| Refusal::Never(format!("the flow cannot be carried: {error}")))?;
        self.by_key.insert(spec.key, id);
        let flow = Box::new(UserFlow {
            key: spec.key,
            former: None,
            head,
            srtp: Host::new(&spec.action),
            carried,
            ends: spec.media.map(|medium| {
                let medium = medium?;
                Some((medium.egress_local.into(), medium.egress_remote.into()))
            }),
        });
        self.flows.insert(id, flow);
        Ok(())
    }
}

impl Datapath for Userspace {
    fn install(
        &mut self,
        id: FlowId,
        spec: &FlowSpec,
        carried: &Carried,
        _now: Instant,
    ) -> Result<(), Refusal> {
        self.place(id, spec, *carried)
    }

    fn update(&mut self, id: FlowId, spec: &FlowSpec, _now: Instant) -> Result<(), Refusal> {
        let before = self.flows.get(&id);
        let (old_key, former) = before.map(|flow| (flow.key, flow.former)).unzip();
        let carried = before.map(|flow| flow.carried).unwrap_or_default();
        self.place(id, spec, carried)?;
        let mut former = former.flatten();
        if let Some(key) = old_key
            && key != spec.key
        {
            let until = monotonic_ns().saturating_add(FORMER_PAIR.as_nanos() as u64);
            if let Some((oldest, _)) = former.replace((key, until))
                && oldest != spec.key
                && oldest != key
            {
                self.forget_key(&oldest, id);
            }
        }
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.former = former;
        }
        Ok(())
    }

    fn remove(&mut self, id: FlowId, _now: Instant) {
        self.take(id);
    }

    fn read(&self, id: FlowId) -> Option<FlowSnapshot> {
        let flow = self.flows.get(&id)?;
        Some(flow.carried.stats.snapshot())
    }
}
