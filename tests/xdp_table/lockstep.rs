//! One flow in the kernel and on the host, fed with the same packets at the same times: verdict, bytes, counters and state have to agree
//! after each.
//!
//! The time is the kernel's: it is read back from the counters of the packet that it has just forwarded, and only those are timed. With a
//! clock of its own the host would differ wherever a stream goes on after a gap, and a busy machine makes gaps.

use std::collections::HashMap;

use bench::kernel::{Action, Kernel};
use flow::{FlowEvent, FlowRef, FlowSnapshot, Outcome, Verdict, Why};
use testbed::table::{Case, KEYSTREAM_EPOCH, OnHost, digit};

/// The flow on both sides.
pub(crate) struct Lockstep<'k> {
    kernel: &'k mut Kernel,
    at: FlowRef,
    host: OnHost,
    counted: &'k mut Counted,
}

/// Packets by reason so far.
pub(crate) struct Counted(HashMap<Why, u64>);

impl Counted {
    /// As the kernel has them now.
    pub(crate) fn of(kernel: &mut Kernel) -> Self {
        let counted = |why: &Why| (*why, count(kernel, *why));
        Self(Why::ALL.iter().map(counted).collect())
    }
}

impl<'k> Lockstep<'k> {
    /// Installs the row's flow.
    pub(crate) fn new(
        kernel: &'k mut Kernel,
        counted: &'k mut Counted,
        case: &Case,
        at: FlowRef,
    ) -> Self {
        let mut entry = case.entry();
        entry.head.use_keystream(at.slot, KEYSTREAM_EPOCH);
        kernel
            .install(&case.spec.key, at, &entry, &case.state)
            .expect("the flow is installed");
        Self {
            counted,
            kernel,
            at,
            host: OnHost::new(case),
        }
    }

    /// The kernel, between two packets.
    pub(crate) fn kernel(&mut self) -> &mut Kernel {
        self.kernel
    }

    /// Feeds a frame to both; the reason of its exit.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn packet(&mut self, frame: &[u8]) -> Result<Why, String> {
        let outcome = self.kernel.run(frame, 1).expect("the program runs");
        let in_kernel = self.counters();
        let ran = self.host.forward(frame, in_kernel.last_seen_ns);
        let (verdict, on_host) = (ran.verdict, ran.frame);
        let why = verdict.why();
        // The table has one flow at a time, and the second program has none to go on with.
        let why = if verdict == Verdict::Again {
            Why::HairpinMiss
        } else {
            why
        };
        let action = match why.outcome() {
            Outcome::Passed => Action::Pass,
            Outcome::Dropped => Action::Drop,
            Outcome::Forwarded if verdict == Verdict::Tx => Action::Tx,
            Outcome::Forwarded => Action::Redirect,
        };
        if outcome.action != action {
            return Err(format!(
                "{:?} in the kernel, {verdict:?} on the host",
                outcome.action
            ));
        }
        if action != Action::Drop && outcome.frame != on_host {
            let (kernel, host) = (hex::encode(outcome.frame), hex::encode(on_host));
            return Err(format!(
                "{why:?}: {kernel} in the kernel, {host} on the host"
            ));
        }
        let told = self.kernel.events().expect("the ring is readable");
        let of_us = |event: &FlowEvent| {
            (event.slot, event.generation) == (self.at.slot, self.at.generation)
        };
        if !told.iter().map(digit).eq(ran.told.iter().map(digit)) || !told.iter().all(of_us) {
            return Err(format!("{why:?}: the daemon is told {told:?}"));
        }
        let expected = self.counted.0[&why] + 1;
        self.counted.0.insert(why, expected);
        if count(self.kernel, why) != expected {
            return Err(format!("not counted as {why:?}"));
        }
        let mut counters = self.host.counters();
        // The host's path has no ring.
        counters.keystream_hits = in_kernel.keystream_hits;
        if counters != in_kernel {
            return Err(format!(
                "{why:?}: {in_kernel:?} in the kernel, {counters:?} on the host"
            ));
        }
        let state = self.kernel.state(self.at.slot).expect("state is readable");
        if state != *self.host.state() {
            return Err(format!(
                "{why:?}: other state in the kernel than on the host"
            ));
        }
        Ok(why)
    }

    /// The flow's counters in the kernel.
    pub(crate) fn counters(&mut self) -> FlowSnapshot {
        let stats = self.kernel.stats(self.at.slot);
        stats.expect("counters are readable").snapshot()
    }
}

fn count(kernel: &mut Kernel, why: Why) -> u64 {
    kernel.counted(why).expect("counters are readable")
}
