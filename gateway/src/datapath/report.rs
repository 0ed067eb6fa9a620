//! What the datapath counts and what it runs as, readable from any thread.
//!
//! The media thread stores, [`crate::media::Media::report`] reads: metrics and the admin API never wait for a packet.

use super::keystream::Uses;
use super::maps::Counters as XdpCounters;
use super::spread::SpreadReport;
use flow::{REASONS, Why};
use gateway_core::api::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The datapath as metrics and the admin API show it.
#[derive(Clone, Debug)]
pub struct DatapathReport {
    /// The best path that a flow can get here.
    pub mode: Path,
    /// One sentence: why that one.
    pub reason: String,
    /// Packets by the reason of their exit in the XDP program, summed over CPUs; empty without XDP.
    pub xdp: Vec<(Why, u64)>,
    /// Packets by the reason of their exit in the userspace datapath.
    pub userspace: Vec<(Why, u64)>,
    /// Flows in XDP now.
    pub flows_xdp: usize,
    /// Flows in the userspace datapath now.
    pub flows_userspace: usize,
    /// RTP packets of a flow that stands in XDP, but that XDP passed up: dropped, because its SRTP state is in the kernel.
    pub kernel_owned: u64,
    /// Datagrams dropped because the event loop was too far behind.
    pub datagrams_lost: u64,
    /// Outgoing datagrams dropped because the media thread was too far behind or no socket had the address.
    pub transmits_lost: u64,
    /// Packets that a socket refused to send.
    pub send_errors: u64,
    /// Packets of protected flows in XDP that found their keystream made ahead of time, and those that did not; `None` where none is made.
    pub keystream: Option<(u64, u64)>,
    /// Over which CPUs flows in XDP are spread.
    pub spread: SpreadReport,
    /// Bytes of the XDP maps, or of the userspace flow table.
    pub memory_bytes: u64,
}

impl DatapathReport {
    /// With what another media thread counts; both are in userspace.
    pub(crate) fn with(mut self, other: Self) -> Self {
        for ((_, count), (_, more)) in self.userspace.iter_mut().zip(&other.userspace) {
            *count += more;
        }
        self.flows_userspace += other.flows_userspace;
        self.datagrams_lost += other.datagrams_lost;
        self.transmits_lost += other.transmits_lost;
        self.send_errors += other.send_errors;
        self.memory_bytes += other.memory_bytes;
        self
    }
}

/// What stays the same after start.
pub(crate) struct Fixed {
    pub(crate) mode: Path,
    pub(crate) reason: String,
    pub(crate) memory_bytes: u64,
    pub(crate) xdp_counters: Option<XdpCounters>,
    pub(crate) keystream: Option<Arc<Uses>>,
    pub(crate) spread: SpreadReport,
}

impl Fixed {
    /// Over which CPUs flows are spread, with what they took over so far.
    fn spread(&self) -> SpreadReport {
        let mut spread = self.spread.clone();
        if let Some(counters) = &self.xdp_counters {
            spread.taken = counters.taken.by(&spread.cpus);
        }
        spread
    }
}

/// The counters behind a [`DatapathReport`].
#[derive(Default)]
pub(crate) struct Shared {
    fixed: OnceLock<Fixed>,
    userspace: Counters,
    pub(crate) flows_xdp: AtomicUsize,
    pub(crate) flows_userspace: AtomicUsize,
    pub(crate) kernel_owned: AtomicU64,
    pub(crate) datagrams_lost: AtomicU64,
    transmits_lost: AtomicU64,
    pub(crate) send_errors: AtomicU64,
}

struct Counters([AtomicU64; REASONS]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Shared {
    /// States once what the datapath runs as.
    pub(crate) fn settle(&self, fixed: Fixed) {
        // Only the start-up path calls this, once.
        let _ = self.fixed.set(fixed);
    }

    /// The best path that a flow can get here.
    pub(crate) fn mode(&self) -> Path {
        self.fixed.get().map_or(Path::Userspace, |fixed| fixed.mode)
    }

    /// Counts a packet of the userspace datapath.
    pub(crate) fn count(&self, why: Why) {
        self.userspace.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an outgoing datagram that was dropped.
    pub(crate) fn transmit_lost(&self) {
        self.transmits_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything as of now.
    pub(crate) fn report(&self) -> DatapathReport {
        let fixed = self.fixed.get();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let userspace = Why::ALL.iter().zip(&self.userspace.0);
        DatapathReport {
            mode: fixed.map_or(Path::Userspace, |fixed| fixed.mode),
            reason: fixed.map_or_else(String::new, |fixed| fixed.reason.clone()),
            xdp: fixed
                .and_then(|fixed| fixed.xdp_counters.as_ref())
                .map_or_else(Vec::new, XdpCounters::read),
            userspace: userspace.map(|(why, n)| (*why, load(n))).collect(),
            flows_xdp: self.flows_xdp.load(Ordering::Relaxed),
            flows_userspace: self.flows_userspace.load(Ordering::Relaxed),
            kernel_owned: load(&self.kernel_owned),
            datagrams_lost: load(&self.datagrams_lost),
            transmits_lost: load(&self.transmits_lost),
            send_errors: load(&self.send_errors),
            keystream: fixed.and_then(|fixed| Some(fixed.keystream.as_ref()?.read())),
            spread: fixed.map_or_else(SpreadReport::default, Fixed::spread),
            memory_bytes: fixed.map_or(0, |fixed| fixed.memory_bytes),
        }
    }
}
