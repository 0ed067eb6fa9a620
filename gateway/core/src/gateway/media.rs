//! Media-side inputs: datagrams that the datapath passed up, and what it says of flows.

use super::{FlowId, Gateway};
use crate::api::PathView;
use crate::bridge::Pair;
use crate::webrtc::stun_username_local;
use flow::{FlowEvent, FlowSnapshot};
use std::net::SocketAddr;
use std::time::Instant;

impl Gateway {
    /// Routes by socket, then by 4-tuple, then by the STUN user name; what belongs to no call is dropped.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some(call) = self.hub.routes.port.get(&local).cloned() {
            self.with_call(now, &call, |call, hub| {
                call.handle_sip_media(hub, now, local, remote, bytes)
            });
            return;
        }
        let pair = Pair { local, remote };
        // RFC 7983: the first byte tells the protocols on this socket apart.
        match bytes.first() {
            Some(0..=3) => {
                // The user name decides over the 4-tuple: the same browser socket may serve a new call.
                let by_name =
                    stun_username_local(bytes).and_then(|ufrag| self.hub.routes.ufrag.get(&ufrag));
                let call = by_name.or_else(|| self.hub.routes.pair.get(&pair)).cloned();
                if let Some(call) = call {
                    self.with_call(now, &call, |call, hub| {
                        call.handle_leg_datagram(hub, now, pair, bytes)
                    });
                }
            }
            Some(20..=63) => {
                if let Some(call) = self.hub.routes.pair.get(&pair).cloned() {
                    self.with_call(now, &call, |call, hub| {
                        call.handle_leg_datagram(hub, now, pair, bytes)
                    });
                }
            }
            Some(128..=191) => {
                let rtcp = bytes
                    .get(1)
                    .is_some_and(|second| (192..=223).contains(second));
                if let (true, Some(call)) = (rtcp, self.hub.routes.pair.get(&pair).cloned()) {
                    self.with_call(now, &call, |call, hub| {
                        call.handle_browser_rtcp(hub, now, bytes)
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn handle_flow_path(&mut self, now: Instant, flow: FlowId, path: PathView) {
        if let Some(call) = self.hub.routes.flow.get(&flow).cloned() {
            self.with_call(now, &call, |call, hub| call.handle_path(hub, flow, path));
        }
    }

    pub(super) fn handle_flow_event(&mut self, now: Instant, flow: FlowId, event: FlowEvent) {
        if let Some(call) = self.hub.routes.flow.get(&flow).cloned() {
            self.with_call(now, &call, |call, hub| {
                call.handle_flow_event(hub, flow, &event)
            });
        }
    }

    pub(super) fn handle_flow_counters(
        &mut self,
        now: Instant,
        flow: FlowId,
        snapshot: Option<FlowSnapshot>,
        monotonic_ns: u64,
    ) {
        if let (Some(call), Some(snapshot)) = (self.hub.routes.flow.get(&flow).cloned(), snapshot) {
            self.with_call(now, &call, |call, hub| {
                call.handle_counters(hub, now, flow, snapshot, monotonic_ns)
            });
        }
        self.monotonic_ns = self.monotonic_ns.max(monotonic_ns);
        self.read_done(now, flow);
    }
}
