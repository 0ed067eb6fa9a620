//! A panic is a bug, and ends what it happened in: the call, if it happened in one, else the request or the SIP message. All else goes on.
//!
//! A call is dispatched outside its table: one whose step panicked is not put back, whatever state it was left in. What the tables
//! that all calls share still say of it is found by its name, which stands in every entry, and taken back: flows, ports, dialogs,
//! routes, requests without a reply. Each entry is complete in itself, so a panic between two of them leaves at most an entry whose owner
//! is gone, never a wrong one.

use super::{Gateway, Hub, Input, MediaPorts, RequestId};
use crate::api::{CallId, Event, Problem};
use crate::call::{By, Call, State};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// What the page of a broken call is told.
const REASON: &str = "internal error";

/// To whom a request's reply is still owed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Owed {
    /// Nothing but the request itself.
    Request,
    /// The call has it in its state.
    Call(CallId),
}

impl Gateway {
    /// Takes one input; afterwards `poll_output` has to be drained.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        let request = match &input {
            Input::Request(id, _) => Some(*id),
            _ => None,
        };
        if let Some(request) = request {
            self.hub.owed.insert(request, Owed::Request);
        }
        self.guarded(now, |gateway| gateway.dispatch(now, input));
        if let Some(request) = request {
            // What waits in a session or for counters is found there.
            self.hub.owed.remove_if(request, &Owed::Request);
        }
        self.drain(now);
    }

    /// Takes everything that the SIP stack has to say, whatever happens at it.
    pub(super) fn drain(&mut self, now: Instant) {
        loop {
            let before = self.panics;
            self.guarded(now, |gateway| gateway.drain_stack(now));
            if self.panics == before {
                break;
            }
        }
    }

    /// Panics so far: each is a bug, and one call or one input that went wrong.
    pub fn panics(&self) -> u64 {
        self.panics
    }

    /// Runs a step that belongs to no call, or to calls that are guarded by themselves.
    pub(super) fn guarded(&mut self, now: Instant, step: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_ok() {
            return;
        }
        self.panics += 1;
        tracing::error!("a bug: an input was given up half done");
        for request in self.hub.owed.of(&Owed::Request) {
            self.hub.reply(request, Err(bug()));
        }
        self.repair(now);
    }

    /// Runs one step of a call, then settles it: its deadline, and its removal when it is over.
    pub(super) fn with_call(
        &mut self,
        now: Instant,
        id: &CallId,
        step: impl FnOnce(&mut Call, &mut Hub),
    ) {
        let Some(mut call) = self.calls.remove(id) else {
            return;
        };
        let hub = &mut self.hub;
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            step(&mut call, hub);
            (call.deadline(), matches!(call.state, State::Ended))
        }));
        match stepped {
            Ok((deadline, over)) => {
                self.deadlines.set(super::Owner::Call(id.clone()), deadline);
                if over {
                    self.forget_call(now, call);
                } else {
                    self.calls.insert(id.clone(), call);
                }
            }
            Err(_) => self.discard(now, call),
        }
    }

    /// A call whose step panicked: its state is not looked at any more.
    fn discard(&mut self, now: Instant, call: Call) {
        self.panics += 1;
        tracing::error!(call = call.id.0, "a bug: the call is given up");
        self.deadlines
            .set(super::Owner::Call(call.id.clone()), None);
        let (id, session) = (call.id.clone(), call.session.clone());
        self.repair(now);
        let ended = Event::Ended {
            call: id,
            by: By::Gateway.name().into(),
            status: Some(500),
            reason: REASON.into(),
            causes: Vec::new(),
        };
        self.hub.event(&session, ended);
        self.forget_call(now, call);
    }

    /// Takes back what is said of calls and sessions that are not there, and ends calls whose dialog is not.
    fn repair(&mut self, now: Instant) {
        for (flow, _) in self.gone(|hub| &hub.routes.flow) {
            self.hub.remove_flow(flow);
        }
        let ports = self.gone(|hub| &hub.routes.port);
        let ports: HashSet<SocketAddr> = ports.into_iter().map(|(port, _)| port).collect();
        self.hub.close_ports(pairs(&ports));
        for (handle, _) in self.gone(|hub| &hub.routes.sip) {
            self.hub.routes.sip.remove(&handle);
            let stack = &mut self.hub.stack;
            let told = catch_unwind(AssertUnwindSafe(|| {
                stack.reject(now, handle, 500, REASON);
                stack.hang_up(now, handle);
            }));
            self.panics += u64::from(told.is_err());
        }
        let calls = &self.calls;
        self.hub.routes.retain(|call| calls.contains_key(call));
        for (request, call) in self.hub.owed.calls() {
            if !self.calls.contains_key(&call) {
                self.hub.reply(request, Err(bug()));
            }
        }
        self.repair_sessions(now);
        let stack = &self.hub.stack;
        let sip = self.hub.routes.sip.iter();
        let silent = sip.filter(|(handle, _)| !stack.has_call(**handle));
        let silent: Vec<CallId> = silent.map(|(_, call)| call.clone()).collect();
        for call in silent {
            self.with_call(now, &call, |call, hub| {
                call.end_dialog(hub, now, By::Gateway, REASON)
            });
        }
    }

    fn repair_sessions(&mut self, now: Instant) {
        let sessions = &self.sessions;
        self.contacts.retain(|_, id| sessions.contains_key(id));
        self.users.retain(|_, id| sessions.contains_key(id));
        let registrations = self.registrations.iter();
        let orphans = registrations.filter(|(_, id)| !sessions.contains_key(id));
        let orphans: Vec<_> = orphans.map(|(handle, _)| *handle).collect();
        for handle in orphans {
            let stack = &mut self.hub.stack;
            let told = catch_unwind(AssertUnwindSafe(|| stack.unregister(now, handle)));
            self.panics += u64::from(told.is_err());
            if !self.hub.stack.has_registration(handle) {
                self.registrations.remove(&handle);
            }
        }
        let stack = &self.hub.stack;
        let lost = self.registrations.keys();
        let lost: Vec<_> = lost
            .filter(|handle| !stack.has_registration(**handle))
            .copied()
            .collect();
        for handle in lost {
            self.handle_registration_failed(now, handle, 500, REASON.into());
        }
        let messages = self.messages.iter();
        let lost = messages.filter(|(handle, _)| !self.hub.stack.has_message(**handle));
        let lost: Vec<_> = lost.map(|(handle, request)| (*handle, *request)).collect();
        for (handle, request) in lost {
            self.messages.remove(&handle);
            self.hub.reply(request, Err(bug()));
        }
        for session in self.sessions.values_mut() {
            let gone: Vec<CallId> = session
                .calls
                .iter()
                .filter(|call| !self.calls.contains_key(*call))
                .cloned()
                .collect();
            for call in gone {
                session.forget(&call);
            }
        }
    }

    /// Entries of a routing table whose call is gone.
    fn gone<K: Copy>(
        &self,
        table: impl Fn(&Hub) -> &std::collections::HashMap<K, CallId>,
    ) -> Vec<(K, CallId)> {
        let entries = table(&self.hub).iter();
        let gone = entries.filter(|(_, call)| !self.calls.contains_key(*call));
        gone.map(|(key, call)| (*key, call.clone())).collect()
    }
}

/// The reply to a request that met a bug.
pub(super) fn bug() -> Problem {
    let detail = "this is a bug of the gateway; its log says more";
    Problem::new(500, "bug", "The gateway failed", detail)
}

/// Ports by pairs as they were opened: RTP even, RTCP next to it (RFC 3550 section 11).
fn pairs(ports: &HashSet<SocketAddr>) -> Vec<MediaPorts> {
    let next = |rtp: &SocketAddr| SocketAddr::new(rtp.ip(), rtp.port() | 1);
    let even = ports.iter().filter(|port| port.port() % 2 == 0);
    even.map(|rtp| MediaPorts {
        rtp: *rtp,
        rtcp: next(rtp),
    })
    .collect()
}

/// Requests that have no reply yet.
#[derive(Default)]
pub(crate) struct Debts(std::collections::HashMap<RequestId, Owed>);

impl Debts {
    pub(crate) fn insert(&mut self, request: RequestId, owed: Owed) {
        self.0.insert(request, owed);
    }

    /// It has its reply.
    pub(crate) fn remove(&mut self, request: RequestId) {
        self.0.remove(&request);
    }

    fn remove_if(&mut self, request: RequestId, owed: &Owed) {
        if self.0.get(&request) == Some(owed) {
            self.0.remove(&request);
        }
    }

    fn of(&self, owed: &Owed) -> Vec<RequestId> {
        let debts = self.0.iter().filter(|(_, found)| *found == owed);
        debts.map(|(request, _)| *request).collect()
    }

    fn calls(&self) -> Vec<(RequestId, CallId)> {
        let of_call = |(request, owed): (&RequestId, &Owed)| match owed {
            Owed::Call(call) => Some((*request, call.clone())),
            Owed::Request => None,
        };
        self.0.iter().filter_map(of_call).collect()
    }
}
