//! Where every flow is, and why: in XDP if that can take it, else in the userspace engine.
//!
//! 1. A new flow goes into XDP at once where its next hop is known; else it starts in userspace with the reason.
//! 2. It moves into XDP as soon as that can take it (its neighbour was resolved, routes changed); counters and SRTP state move along.
//! 3. It moves back when its next hop is lost or its new address cannot be reached by XDP.
//! 4. Two flows that hand packets to each other within this host move together (`hairpin`).
//! 5. While it is in XDP its SRTP state is the kernel's. RTP of it that arrives at a socket all the same (too long for the leaving
//!    side, or queued before the move) is dropped and counted: processed with a copy of the state it could repeat an index.

mod former_keys;
mod hairpin;

use super::flood::Budgeted;
use super::routes::{NeighbourKey, Refusal};
use super::userspace::{Forwarded, Userspace};
use super::xdp::{Xdp, XdpChanges};
use super::{Carried, Config, Datapath, FLOWS_PER_CALL, Shared, start};
use flow::{
    ActionSpec, FlowEvent, FlowKey, FlowSnapshot, FlowSpec, FlowState, Guard, Outcome as Exit,
    Protocol, Why, classify,
};
use former_keys::FormerKeys;
use gateway_core::api::{Path, PathView};
use gateway_core::gateway::FlowId;
use hairpin::{Hairpins, Half};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What becomes of a datagram.
pub(crate) enum Outcome<'a> {
    /// To the event loop, unmodified.
    Up,
    /// Dropped and counted.
    Gone,
    /// Rewritten; to be sent.
    Send {
        /// Our socket.
        from: SocketAddr,
        /// Destination.
        remote: SocketAddr,
        /// UDP payload.
        bytes: &'a [u8],
    },
}

/// Events of the userspace engine that may wait; more are lost.
const EVENTS: usize = 1024;

/// All flows.
pub(crate) struct Flows {
    placed: HashMap<FlowId, Placed>,
    userspace: Userspace,
    xdp: Option<Xdp>,
    hairpins: Hairpins,
    budgeted: Budgeted,
    /// Why there is no XDP, or the sentence for flows in it.
    reason: String,
    /// Flows to be tried in XDP again, with the address of the socket that they leave.
    promotable: VecDeque<(FlowId, SocketAddr)>,
    paths: VecDeque<(FlowId, PathView)>,
    /// What packets of the userspace engine told; of [`EVENTS`] at most.
    events: VecDeque<(FlowId, FlowEvent)>,
    report: Arc<Shared>,
}

/// A flow on its way from one media thread to another.
pub(crate) struct Given {
    spec: Box<FlowSpec>,
    former_keys: FormerKeys,
    carried: Carried,
}

impl Given {
    pub(crate) fn spec(&self) -> &FlowSpec {
        &self.spec
    }
}

struct Placed {
    spec: Box<FlowSpec>,
    former_keys: FormerKeys,
    place: Place,
    /// What the event loop was told last.
    path: PathView,
}

impl Placed {
    /// The neighbour without which the flow cannot move into XDP.
    fn waits_for(&self) -> Option<NeighbourKey> {
        match self.place {
            Place::Userspace(neighbour) => neighbour,
            Place::Xdp => None,
        }
    }
}

/// Where a flow is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Xdp,
    /// In userspace; with the neighbour that it waits for.
    Userspace(Option<NeighbourKey>),
}

impl Flows {
    /// Sets up the datapath that the mode asks for.
    ///
    /// # Errors
    /// An explicit mode that cannot be had.
    pub(crate) fn start(
        config: &Config,
        calls: usize,
        media_addresses: &[IpAddr],
        guard: Guard,
        report: &Arc<Shared>,
    ) -> anyhow::Result<Self> {
        let started = start::start(config, calls, media_addresses, &guard, report)?;
        Ok(Self::new(started, calls, guard, report))
    }

    /// Those of another media thread, where the first one has no XDP, for that reason.
    pub(crate) fn further(
        reason: String,
        calls: usize,
        guard: Guard,
        report: &Arc<Shared>,
    ) -> Self {
        Self::new(start::further(reason, calls, report), calls, guard, report)
    }

    fn new(started: start::Started, calls: usize, guard: Guard, report: &Arc<Shared>) -> Self {
        let start::Started { xdp, reason } = started;
        Self {
            placed: HashMap::with_capacity(FLOWS_PER_CALL * calls),
            userspace: Userspace::new(FLOWS_PER_CALL * calls),
            xdp,
            hairpins: Hairpins::default(),
            budgeted: Budgeted::new(guard),
            reason,
            promotable: VecDeque::new(),
            paths: VecDeque::new(),
            events: VecDeque::new(),
            report: report.clone(),
        }
    }

    /// Why there is no XDP, or the sentence for flows in it.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether flows go into XDP.
    pub(crate) fn in_xdp(&self) -> bool {
        self.xdp.is_some()
    }

    /// Takes a flow out for another media thread to go on with; `None` if it is not here.
    pub(crate) fn give(&mut self, id: FlowId) -> Option<Given> {
        let carried = self.userspace.take(id)?;
        let placed = self.placed.remove(&id)?;
        self.tell_counts();
        Some(Given {
            spec: placed.spec,
            former_keys: placed.former_keys,
            carried,
        })
    }

    /// Goes on with a flow of another media thread, as it was there.
    pub(crate) fn adopt(&mut self, id: FlowId, given: Given, now: Instant) {
        let Given {
            spec,
            former_keys,
            carried,
        } = given;
        let (place, path) = self.place(id, &spec, &carried, now);
        let placed = Placed {
            spec,
            former_keys,
            place,
            path,
        };
        self.placed.insert(id, placed);
        self.tell_counts();
    }

    /// What to wait for before [`Self::handle_netlink`].
    pub(crate) fn netlink_fd(&self) -> Option<RawFd> {
        self.xdp.as_ref().map(Xdp::netlink_fd)
    }

    /// Follows changes of routes and neighbours.
    pub(crate) fn handle_netlink(&mut self, now: Instant) {
        let Some(xdp) = &mut self.xdp else {
            return;
        };
        let changes = xdp.handle_netlink(now);
        self.follow(changes, now);
    }

    /// Timers: neighbours to be confirmed, routes that have settled.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let Some(xdp) = &mut self.xdp else {
            return;
        };
        if xdp.poll_timeout() <= now {
            let waiting = self.placed.values().filter_map(Placed::waits_for);
            let changes = xdp.handle_timeout(waiting.collect(), now);
            self.follow(changes, now);
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.xdp.as_ref().map(Xdp::poll_timeout)
    }

    /// A path to be told to the event loop.
    pub(crate) fn poll_path(&mut self) -> Option<(FlowId, PathView)> {
        self.paths.pop_front()
    }

    /// What to wait for besides before [`Self::poll_event`].
    pub(crate) fn events_fd(&self) -> Option<RawFd> {
        self.xdp.as_ref().map(Xdp::events_fd)
    }

    /// What a flow's packets told, each once.
    pub(crate) fn poll_event(&mut self) -> Option<(FlowId, FlowEvent)> {
        let told = self.events.pop_front();
        told.or_else(|| self.xdp.as_mut()?.poll_event())
    }

    /// A flow to be moved into XDP by [`Self::promote`], once the socket with this address was emptied.
    pub(crate) fn poll_promotable(&mut self) -> Option<(FlowId, SocketAddr)> {
        self.promotable.pop_front()
    }

    /// Installs a flow, or replaces the one of this id.
    pub(crate) fn install(&mut self, id: FlowId, spec: Box<FlowSpec>, now: Instant) {
        if self.placed.contains_key(&id) {
            self.replace(id, spec, now);
        } else {
            self.add(id, spec, now);
        }
        if let Some(placed) = self.placed.get(&id) {
            self.paths.push_back((id, placed.path.clone()));
        }
        self.tell_counts();
    }

    fn add(&mut self, id: FlowId, spec: Box<FlowSpec>, now: Instant) {
        let half = Half::of(self.xdp.as_ref(), &spec);
        let (place, path) = if half.is_some() {
            let installed = self.userspace.install(id, &spec, &Carried::default(), now);
            self.stays(installed.err(), Some(Xdp::waits_for_twin()))
        } else {
            self.place(id, &spec, &Carried::default(), now)
        };
        let placed = Placed {
            spec,
            former_keys: FormerKeys::default(),
            place,
            path,
        };
        self.placed.insert(id, placed);
        if let Some(half) = half {
            self.add_half(id, half);
        }
    }

    fn replace(&mut self, id: FlowId, spec: Box<FlowSpec>, now: Instant) {
        let half = Half::of(self.xdp.as_ref(), &spec);
        self.leave_pair(id, now);
        if half.is_some() {
            self.retreat(vec![(id, Xdp::waits_for_twin())], now);
        }
        let Some(placed) = self.placed.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut placed.spec, spec).action;
        let other_keys = FormerKeys::differ(&before, &placed.spec.action);
        match (&mut self.xdp, placed.place) {
            (Some(_), Place::Xdp) if other_keys => self.rekey(id, before, now),
            (Some(xdp), Place::Xdp) => {
                if let Err(refusal) = xdp.update(id, &placed.spec, now) {
                    self.retreat(vec![(id, refusal)], now);
                }
            }
            (xdp, _) => {
                // Its socket may hold packets: it goes on here and is moved by `promote`.
                let updated = self.userspace.update(id, &placed.spec, now);
                if other_keys {
                    let (keys, action) = (&mut placed.former_keys, &placed.spec.action);
                    let change = |state: &FlowState| keys.change(before, action, state);
                    self.userspace.rekey(id, change);
                }
                if let Some(half) = half {
                    self.add_half(id, half);
                } else if xdp.is_some() {
                    self.try_soon(id);
                }
                if let Err(refusal) = updated {
                    let path = self.stays(Some(refusal), None);
                    self.note(id, path);
                }
            }
        }
    }

    /// Moves a flow whose spec has other keys than it had (those of `before`) to another slot of XDP: a program run has the old keys with
    /// the old counters, or the new ones with the new, and no mixture.
    fn rekey(&mut self, id: FlowId, before: ActionSpec, now: Instant) {
        let (Some(xdp), Some(mut placed)) = (&mut self.xdp, self.placed.remove(&id)) else {
            return;
        };
        let moved = match xdp.take(&[id], now).pop().flatten() {
            Some(mut carried) => {
                let (keys, action) = (&mut placed.former_keys, &placed.spec.action);
                carried.state = keys.change(before, action, &carried.state);
                self.place(id, &placed.spec, &carried, now)
            }
            None => {
                let lost = Refusal::Never("its SRTP state is lost: out of service".to_owned());
                self.stays(Some(lost), None)
            }
        };
        self.placed.insert(id, placed);
        self.moved(id, moved);
    }

    /// Removes a flow; its keys are zeroed.
    pub(crate) fn remove(&mut self, id: FlowId, now: Instant) {
        self.leave_pair(id, now);
        match self.placed.remove(&id).map(|placed| placed.place) {
            Some(Place::Xdp) => {
                if let Some(xdp) = &mut self.xdp {
                    xdp.remove(id, now);
                }
            }
            Some(Place::Userspace(_)) => self.userspace.remove(id, now),
            None => {}
        }
        self.tell_counts();
    }

    /// A flow's part in a hairpin, if it has one.
    fn half(&self, id: FlowId) -> Option<Half> {
        Half::of(self.xdp.as_ref(), &self.placed.get(&id)?.spec)
    }

    /// Ends the hairpin that a flow is part of: the other half goes on in userspace.
    fn leave_pair(&mut self, id: FlowId, now: Instant) {
        let (Some(half), Some(placed)) = (self.half(id), self.placed.get(&id)) else {
            return;
        };
        let others = self.hairpins.remove(id, half, &placed.spec).into_iter();
        let others = others.map(|other| (other, Xdp::waits_for_twin())).collect();
        self.retreat(others, now);
    }

    /// Has a flow tried in XDP at the end of this turn.
    fn try_soon(&mut self, id: FlowId) {
        if let Some(placed) = self.placed.get(&id) {
            self.promotable
                .push_back((id, placed.spec.key.local.into()));
        }
    }

    /// A flow's counters.
    pub(crate) fn read(&self, id: FlowId) -> Option<FlowSnapshot> {
        match self.placed.get(&id)?.place {
            Place::Xdp => self.xdp.as_ref()?.read(id),
            Place::Userspace(_) => self.userspace.read(id),
        }
    }

    /// Forwards a datagram that came by a socket; `now_ns` is CLOCK_MONOTONIC.
    pub(crate) fn forward(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
        now_ns: u64,
    ) -> Outcome<'_> {
        let key = FlowKey {
            local: local.into(),
            remote: remote.into(),
        };
        let first = bytes.first().copied().unwrap_or(u8::MAX);
        let why = match classify(first, bytes.get(1).copied().unwrap_or(0)) {
            Protocol::Stun => Why::Stun,
            Protocol::Dtls => Why::Dtls,
            Protocol::Rtcp => Why::Rtcp,
            Protocol::Other => {
                self.report.count(Why::UnknownProtocol);
                return Outcome::Gone;
            }
            Protocol::Rtp => return self.forward_rtp(&key, bytes, now_ns),
        };
        let in_xdp = self.xdp.as_ref().is_some_and(|xdp| xdp.has(&key));
        if !in_xdp
            && !self.userspace.has(&key)
            && let Err(why) = self.budgeted.charge(&key, bytes, now_ns)
        {
            self.report.count(why);
            return Outcome::Gone;
        }
        self.report.count(why);
        Outcome::Up
    }

    fn forward_rtp(&mut self, key: &FlowKey, bytes: &[u8], now_ns: u64) -> Outcome<'_> {
        let (why, outcome) = match self.userspace.forward(key, bytes, now_ns) {
            Forwarded::Send {
                from,
                remote,
                bytes,
                event,
            } => {
                if self.events.len() < EVENTS {
                    self.events.extend(event);
                }
                let sent = Outcome::Send {
                    from,
                    remote,
                    bytes,
                };
                (Why::Forwarded, sent)
            }
            Forwarded::Refused(why) if why.outcome() == Exit::Passed => (why, Outcome::Up),
            Forwarded::Refused(why) => (why, Outcome::Gone),
            Forwarded::NoFlow if self.xdp.as_ref().is_some_and(|xdp| xdp.has(key)) => {
                self.report.kernel_owned.fetch_add(1, Ordering::Relaxed);
                return Outcome::Gone;
            }
            Forwarded::NoFlow => match self.budgeted.charge(key, bytes, now_ns) {
                Ok(()) => (Why::NoFlow, Outcome::Up),
                Err(why) => (why, Outcome::Gone),
            },
        };
        self.report.count(why);
        outcome
    }

    /// Moves a flow into XDP if that can take it now.
    pub(crate) fn promote(&mut self, id: FlowId, now: Instant) {
        let Some(placed) = self.placed.get(&id) else {
            return;
        };
        if placed.place == Place::Xdp {
            return;
        }
        if let Some(half) = self.half(id) {
            self.promote_pair(half, id, now);
            self.tell_counts();
            return;
        }
        let Some(xdp) = &mut self.xdp else {
            return;
        };
        // Asked before the flow is taken out of userspace, so that it is never nowhere.
        let moved = match xdp.ready(&placed.spec, now) {
            Err(refusal) => self.stays(None, Some(refusal)),
            Ok(()) => {
                let Some(carried) = self.userspace.take(id) else {
                    return;
                };
                let Some(placed) = self.placed.remove(&id) else {
                    return;
                };
                let moved = self.place(id, &placed.spec, &carried, now);
                self.placed.insert(id, placed);
                moved
            }
        };
        self.moved(id, moved);
        self.tell_counts();
    }

    /// Notes where a flow is now and tells it if that is news.
    fn moved(&mut self, id: FlowId, (place, path): (Place, PathView)) {
        if self
            .placed
            .get(&id)
            .is_some_and(|placed| placed.path != path)
        {
            self.paths.push_back((id, path.clone()));
        }
        self.note(id, (place, path));
    }

    fn note(&mut self, id: FlowId, (place, path): (Place, PathView)) {
        if let Some(placed) = self.placed.get_mut(&id) {
            placed.place = place;
            placed.path = path;
        }
    }

    /// Puts a flow that is nowhere where it can be.
    fn place(
        &mut self,
        id: FlowId,
        spec: &FlowSpec,
        carried: &Carried,
        now: Instant,
    ) -> (Place, PathView) {
        let refusal = match &mut self.xdp {
            None => None,
            Some(xdp) => match xdp.install(id, spec, carried, now) {
                Ok(()) => return self.enters(),
                Err(refusal) => Some(refusal),
            },
        };
        let installed = self.userspace.install(id, spec, carried, now);
        self.stays(installed.err(), refusal)
    }

    /// Moves flows from XDP back into userspace, with their state, and with the other halves of their hairpins.
    fn retreat(&mut self, mut leaving: Vec<(FlowId, Refusal)>, now: Instant) {
        for place in 0..leaving.len() {
            let id = leaving[place].0;
            let whole = self.half(id).and_then(|half| self.hairpin(id, half));
            let Some((feeder, fed)) = whole else {
                continue;
            };
            for other in fed.into_iter().chain([feeder]) {
                if leaving.iter().all(|(id, _)| *id != other) {
                    leaving.push((other, Xdp::waits_for_twin()));
                }
            }
        }
        leaving.retain(|(id, _)| self.is_in_xdp(*id));
        let Some(xdp) = self.xdp.as_mut().filter(|_| !leaving.is_empty()) else {
            return;
        };
        let ids: Vec<_> = leaving.iter().map(|(id, _)| *id).collect();
        for ((id, refusal), carried) in leaving.into_iter().zip(xdp.take(&ids, now)) {
            let Some(placed) = self.placed.get(&id) else {
                continue;
            };
            let failed = match carried {
                Some(carried) => self
                    .userspace
                    .install(id, &placed.spec, &carried, now)
                    .err(),
                None => Some(Refusal::Never(
                    "its SRTP state is lost: out of service".to_owned(),
                )),
            };
            let path = self.stays(failed, Some(refusal));
            self.moved(id, path);
        }
    }

    fn is_in_xdp(&self, id: FlowId) -> bool {
        let placed = self.placed.get(&id);
        placed.is_some_and(|placed| placed.place == Place::Xdp)
    }

    /// Looks flows up again after something on their way changed.
    fn follow(&mut self, changes: XdpChanges, now: Instant) {
        for (id, placed) in &self.placed {
            let concerned = match &placed.place {
                Place::Xdp => false,
                Place::Userspace(Some(neighbour)) => {
                    changes.routes || changes.neighbours.contains(neighbour)
                }
                Place::Userspace(None) => changes.routes,
            };
            if concerned {
                self.promotable
                    .push_back((*id, placed.spec.key.local.into()));
            }
        }
        let mut leaving = Vec::new();
        for id in changes.flows {
            let (Some(placed), Some(xdp)) = (self.placed.get(&id), &mut self.xdp) else {
                continue;
            };
            if let Err(refusal) = xdp.update(id, &placed.spec, now) {
                leaving.push((id, refusal));
            }
        }
        self.retreat(leaving, now);
        self.tell_counts();
    }

    /// A flow is in XDP.
    fn enters(&self) -> (Place, PathView) {
        let path = self.report.mode();
        let reason = self.reason.clone();
        (Place::Xdp, PathView { path, reason })
    }

    /// A flow is in userspace: because it cannot be forwarded at all, because XDP refused it, or because there is no XDP.
    fn stays(&self, failed: Option<Refusal>, refusal: Option<Refusal>) -> (Place, PathView) {
        let waits_for = match &refusal {
            Some(Refusal::Waiting(neighbour, _)) => Some(*neighbour),
            Some(Refusal::Never(_)) | None => None,
        };
        let reason = failed
            .or(refusal)
            .map_or_else(|| self.reason.clone(), Refusal::reason);
        let path = Path::Userspace;
        (Place::Userspace(waits_for), PathView { path, reason })
    }

    fn tell_counts(&self) {
        let userspace = self.userspace.len();
        let xdp = self.xdp.as_ref().map_or(0, Xdp::len);
        self.report
            .flows_userspace
            .store(userspace, Ordering::Relaxed);
        self.report.flows_xdp.store(xdp, Ordering::Relaxed);
    }
}
