//! Servers that are asked for signs of life: OPTIONS to each of their targets, at an interval (RFC 3261 section 11).
//!
//! 1. `watch`: the targets are looked up now and at each interval, and OPTIONS goes to each of them.
//! 2. Any answer but 503 shows that a target lives; then it is no longer one that is tried last.
//! 3. Silence, or 503, makes it one, and the bindings that were made there are made anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::Transport;
use super::event::{Event, Watch, WatchHandle};
use super::message::{Method, Request, Response};
use super::outgoing::{Hop, Outgoing, Owner, retry_after};
use super::stack::Stack;
use super::timers::{Deadline, TimerId};

/// More targets of one server are not asked.
const MAX_TARGETS: usize = 32;

/// See the module.
pub(super) struct Watched {
    watch: Watch,
    call_id: String,
    cseq: u32,
    targets: BTreeMap<(Transport, SocketAddr), Target>,
    /// Places whose targets of this round are not known yet.
    places: usize,
    timer: Option<TimerId>,
}

/// What is known of one target.
struct Target {
    alive: Option<bool>,
    /// Whether DNS named it in this round.
    named: bool,
}

impl Stack {
    /// Asks a server for signs of life from now on: `Event::Target` tells of changes.
    pub fn watch(&mut self, now: Instant, watch: Watch) -> WatchHandle {
        let handle = WatchHandle(self.io.number());
        let watched = Watched {
            watch,
            call_id: self.io.random.token(24),
            cseq: 0,
            targets: BTreeMap::new(),
            places: 0,
            timer: None,
        };
        self.watches.insert(handle, watched);
        self.ask_targets(now, handle);
        handle
    }

    /// A round begins.
    pub(super) fn ask_targets(&mut self, now: Instant, handle: WatchHandle) {
        let Some(watched) = self.watches.get_mut(&handle) else {
            return;
        };
        // Not all servers of a configuration at the same moment.
        let spread = u64::from(self.io.random.u32() % 100);
        let every = watched.watch.every.max(Duration::from_secs(1));
        let next = now + every * 9 / 10 + every * u32::try_from(spread).unwrap_or(0) / 1000;
        self.io.timers.cancel(&mut watched.timer);
        watched.timer = Some(self.io.timers.set(next, Deadline::Watch(handle)));
        for target in watched.targets.values_mut() {
            target.named = false;
        }
        watched.cseq += 1;
        let proxies = watched.watch.proxies.clone();
        watched.places = proxies.len();
        let request = watched.request();
        for proxy in proxies.iter() {
            let nowhere = Hop {
                transport: Transport::Udp,
                addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            };
            let outgoing =
                Outgoing::new(Owner::Watch(handle, nowhere), request.clone(), None, false);
            self.send(now, outgoing.by([proxy.clone()].into()));
        }
    }

    /// The targets of one of its places.
    pub(super) fn targets_found(
        &mut self,
        now: Instant,
        handle: WatchHandle,
        outgoing: Outgoing,
        hops: Vec<Hop>,
    ) {
        let Some(watched) = self.watches.get_mut(&handle) else {
            return;
        };
        watched.places = watched.places.saturating_sub(1);
        let mut fresh = Vec::new();
        for hop in hops {
            let key = (hop.transport, hop.addr);
            if watched.targets.len() >= MAX_TARGETS && !watched.targets.contains_key(&key) {
                break;
            }
            let unknown = Target {
                alive: None,
                named: false,
            };
            let target = watched.targets.entry(key).or_insert(unknown);
            // Two names may lead to one address.
            if !std::mem::replace(&mut target.named, true) {
                fresh.push(hop);
            }
        }
        if watched.places == 0 {
            self.forget_unnamed(handle);
        }
        for hop in fresh {
            let owner = Owner::Watch(handle, hop);
            let options = Outgoing::new(owner, outgoing.request.clone(), None, false);
            self.attempt(now, options.to(hop));
        }
    }

    /// Targets that DNS names no more. Without any answer of DNS all stay: it may be away.
    fn forget_unnamed(&mut self, handle: WatchHandle) {
        let Some(watched) = self.watches.get_mut(&handle) else {
            return;
        };
        if !watched.targets.values().any(|target| target.named) {
            return;
        }
        let io = &mut self.io;
        watched.targets.retain(|(transport, addr), target| {
            if !target.named {
                io.event(Event::Target {
                    watch: handle,
                    transport: *transport,
                    addr: *addr,
                    alive: None,
                });
            }
            target.named
        });
    }

    /// The final response to OPTIONS.
    pub(super) fn target_answered(
        &mut self,
        now: Instant,
        handle: WatchHandle,
        hop: Hop,
        response: &Response,
    ) {
        if response.status == 503 {
            let interval = self.watches.get(&handle).map(|watched| watched.watch.every);
            let time = retry_after(response).or(interval).unwrap_or_default();
            self.avoid(now, hop, time);
            return self.target_is(handle, hop, false);
        }
        self.avoided.remove(&hop);
        self.target_is(handle, hop, true);
    }

    /// No response to OPTIONS; the target is avoided already.
    pub(super) fn target_silent(&mut self, handle: WatchHandle, hop: Hop) {
        self.target_is(handle, hop, false);
    }

    fn target_is(&mut self, handle: WatchHandle, hop: Hop, alive: bool) {
        let watched = self.watches.get_mut(&handle);
        let target =
            watched.and_then(|watched| watched.targets.get_mut(&(hop.transport, hop.addr)));
        let Some(target) = target else { return };
        if target.alive.replace(alive) != Some(alive) {
            self.io.event(Event::Target {
                watch: handle,
                transport: hop.transport,
                addr: hop.addr,
                alive: Some(alive),
            });
        }
    }
}

impl Watched {
    fn request(&self) -> Request {
        let uri = &self.watch.uri;
        let mut request = Request::new(Method::Options, uri.clone());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", format!("<{uri}>;tag={}", &self.call_id[..8]));
        headers.push("To", format!("<{uri}>"));
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{} OPTIONS", self.cseq));
        headers.push("Accept", "application/sdp");
        request
    }
}
