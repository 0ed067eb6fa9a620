//! A flow of the table on the host, fed packet by packet, at the times that the caller says.

use flow::{
    Flow, FlowEntry, FlowKey, FlowSnapshot, FlowState, FlowStats, KeystreamRing, Outcome, Scratch,
    Unshared, Verdict, Why,
};

use super::{Case, DEVICE, Ran};
use crate::packet::HostFrame;

/// The flow.
pub struct OnHost {
    key: FlowKey,
    looked_up: u32,
    entry: FlowEntry,
    state: FlowState,
    stats: FlowStats,
    /// Without keystream.
    keystream: Box<KeystreamRing>,
    scratch: Box<Scratch>,
}

impl OnHost {
    /// As the row says it is installed.
    pub fn new(case: &Case) -> Self {
        Self {
            key: case.spec.key,
            looked_up: case.looked_up,
            entry: case.entry(),
            state: case.state,
            stats: FlowStats::new(),
            keystream: Box::new(KeystreamRing::new()),
            scratch: Box::new(Scratch::new()),
        }
    }

    /// What becomes of a frame that arrives at `now_ns`.
    pub fn forward(&mut self, frame: &[u8], now_ns: u64) -> Ran {
        let mut frame = HostFrame(frame.to_vec());
        let mut verdict = match flow::arrive(&frame, &mut self.scratch) {
            Err(why) => why.into(),
            Ok(()) if *self.scratch.key() != self.key => Verdict::Pass(Why::NoFlow),
            Ok(()) => {
                let mut flow = Flow {
                    entry: &self.entry.head,
                    keys: &self.entry.keys,
                    state: &mut self.state,
                    stats: &mut self.stats,
                    keystream: &self.keystream,
                };
                flow::forward(
                    &mut frame,
                    &mut flow,
                    self.looked_up,
                    &mut self.scratch,
                    now_ns,
                    &Unshared,
                )
            }
        };
        if let Verdict::Redirect(ifindex) = verdict
            && ifindex != DEVICE
        {
            verdict = Verdict::Drop(Why::NoDevice);
        }
        let told = match verdict.why().outcome() {
            Outcome::Forwarded => self.scratch.event().copied(),
            Outcome::Passed | Outcome::Dropped => None,
        };
        Ran {
            verdict,
            frame: frame.0,
            told,
        }
    }

    /// Its state now.
    pub fn state(&self) -> &FlowState {
        &self.state
    }

    /// Its counters now.
    pub fn counters(&self) -> FlowSnapshot {
        self.stats.snapshot()
    }
}
