//! The datapath: what forwards RTP between the two sides of a call, in XDP or through sockets.
//!
//! `userspace` is always there; `xdp` takes the flows that it can and names the reason for each that it cannot. Both run
//! the packet path of the `flow` crate on the same entries. Owned and called by the media thread only.

pub(crate) mod attach;
mod block_cipher;
mod flood;
mod flows;
mod keystream;
mod mapped;
pub(crate) mod maps;
pub(crate) mod netlink;
mod report;
mod routes;
mod slots;
pub(crate) mod spread;
pub(crate) mod start;
mod userspace;
mod xdp;
pub(crate) mod xdp_ethtool;
pub(crate) mod xdp_probe;

pub use flood::{Flood, Rate};
pub(crate) use flows::{Flows, Given, Outcome};
pub use report::DatapathReport;
pub(crate) use report::Shared;
pub use spread::{Cpus, SpreadReport};

use crate::media::Shards;
use flow::{FlowSnapshot, FlowSpec, FlowState, FlowStats};
use gateway_core::gateway::FlowId;
use routes::Refusal;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `[datapath]` and `[flood]` of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which datapath.
    pub mode: Mode,
    /// Interfaces that XDP attaches to; empty = those that own the media addresses.
    pub interfaces: Vec<String>,
    /// Directory on a bpffs below which link and maps are pinned, in `v<ABI>/`.
    pub pin_dir: PathBuf,
    /// Most memory for keystream made ahead of time, MiB; 0 = none is made.
    pub keystream_mib: u32,
    /// Over which CPUs flows in XDP are spread.
    pub cpus: Cpus,
    /// Media threads where sockets carry the media; 0 = one for each CPU.
    pub threads: u32,
    /// `[flood]`: what one source may send without a flow.
    pub flood: Flood,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            interfaces: Vec::new(),
            pin_dir: PathBuf::from("/sys/fs/bpf/causeway"),
            // Of use for eleven thousand calls.
            keystream_mib: 64,
            cpus: Cpus::Off,
            threads: 0,
            flood: Flood::default(),
        }
    }
}

impl Config {
    /// How many media threads there are to be where sockets carry the media.
    pub(crate) fn shards(&self) -> Shards {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        match self.mode {
            Mode::XdpNative | Mode::XdpGeneric => Shards::new(1),
            Mode::Auto | Mode::Userspace if self.threads == 0 => Shards::new(cpus),
            Mode::Auto | Mode::Userspace => Shards::new(self.threads as usize),
        }
    }
}

/// Which datapath the operator wants.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The best that this host proves to have.
    Auto,
    /// XDP in the driver, or a start-up error.
    XdpNative,
    /// XDP on socket buffers, or a start-up error.
    XdpGeneric,
    /// Sockets.
    Userspace,
}

/// Most flows of a call: what the browser sends arrives on one 4-tuple (BUNDLE), what the SIP side sends on one for each medium.
pub(crate) const FLOWS_PER_CALL: usize = 1 + flow::MEDIA;

/// How long packets of a flow's former 4-tuple are still taken after it moved to another: what the browser sent before it knew of
/// the new pair.
pub(crate) const FORMER_PAIR: Duration = Duration::from_secs(2);

/// What carries flows.
pub(crate) trait Datapath {
    /// Takes a flow on, with the state and counters that it had elsewhere.
    ///
    /// # Errors
    /// Why it cannot; then nothing of the flow is here.
    fn install(
        &mut self,
        id: FlowId,
        spec: &FlowSpec,
        carried: &Carried,
        now: Instant,
    ) -> Result<(), Refusal>;

    /// Changes a flow that is here: 4-tuple, next hop, payload types, not keys. State and counters go on; packets of the 4-tuple before are
    /// taken for [`FORMER_PAIR`] more.
    ///
    /// # Errors
    /// Why it cannot; the flow is still here as it was.
    fn update(&mut self, id: FlowId, spec: &FlowSpec, now: Instant) -> Result<(), Refusal>;

    /// Removes a flow and zeroes its keys.
    fn remove(&mut self, id: FlowId, now: Instant);

    /// Counters of a flow that is here.
    fn read(&self, id: FlowId) -> Option<FlowSnapshot>;
}

/// What moves with a flow from one datapath to the other: rollover counters, replay windows and offsets; counters.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) state: FlowState,
    pub(crate) stats: FlowStats,
}

/// The addresses that media arrives on, each once.
pub(crate) fn media_addresses(web: &[SocketAddr], rtp: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = web.iter().map(SocketAddr::ip).collect();
    addresses.extend(rtp);
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the XDP program (`bpf_ktime_get_ns`) and of `FlowSnapshot`.
pub(crate) fn monotonic_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0)
}
