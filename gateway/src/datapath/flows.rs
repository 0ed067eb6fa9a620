//! Where every flow is, and why: in XDP if that can take it, else in the userspace engine.

use super::report::Fixed;
use super::{Config, Shared};
use crate::media::sockets::{SocketId, Sockets};
use flow::{FlowSnapshot, FlowSpec};
use gateway_core::api::{Path, PathView};
use gateway_core::gateway::FlowId;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
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
        from: SocketId,
        /// Destination.
        remote: SocketAddr,
        /// UDP payload.
        bytes: &'a [u8],
    },
}

/// All flows.
pub(crate) struct Flows {
    placed: HashMap<FlowId, Box<FlowSpec>>,
    paths: VecDeque<(FlowId, PathView)>,
    report: Arc<Shared>,
}

impl Flows {
    /// Sets up the datapath that the mode asks for.
    pub(crate) fn start(
        config: &Config,
        _calls: usize,
        _media_addresses: &[IpAddr],
        report: &Arc<Shared>,
    ) -> anyhow::Result<Self> {
        report.settle(Fixed {
            mode: Path::Userspace,
            reason: format!("mode {:?}", config.mode),
            memory_bytes: 0,
            xdp_counters: None,
        });
        Ok(Self {
            placed: HashMap::new(),
            paths: VecDeque::new(),
            report: report.clone(),
        })
    }

    pub(crate) fn netlink_fd(&self) -> Option<RawFd> {
        None
    }

    pub(crate) fn handle_netlink(&mut self) {}

    pub(crate) fn handle_timeout(&mut self, _now: Instant) {}

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub(crate) fn poll_path(&mut self) -> Option<(FlowId, PathView)> {
        self.paths.pop_front()
    }

    pub(crate) fn poll_promotable(&mut self) -> Option<(FlowId, SocketAddr)> {
        None
    }

    pub(crate) fn promote(&mut self, _flow: FlowId) {}

    pub(crate) fn install(&mut self, flow: FlowId, spec: Box<FlowSpec>, _sockets: &mut Sockets) {
        self.placed.insert(flow, spec);
    }

    pub(crate) fn remove(&mut self, flow: FlowId) {
        self.placed.remove(&flow);
    }

    pub(crate) fn read(&mut self, _flow: FlowId) -> Option<FlowSnapshot> {
        None
    }

    pub(crate) fn forward<'a>(
        &'a mut self,
        _local: SocketAddr,
        _remote: SocketAddr,
        _bytes: &'a mut [u8],
        _now_ns: u64,
    ) -> Outcome<'a> {
        Outcome::Up
    }
}
