//! What the receiving CPU hands to the CPU of a flow, and what it keeps.
//!
//! What comes out at the other CPU is a matter of live frames: `gateway/src/media/xdp_tests/spread.rs`.

use bench::kernel::{Action, udp_frame};
use bench::testrun::INSTRUCTION_CAP;
use flow::{FlowRef, Why};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use testbed::table::{self, GENERATION};

use super::kernel;

#[test]
#[ignore = "needs root, BPF and two CPUs: cargo xtask test"]
fn only_rtp_of_a_flow_goes_to_the_cpu_of_the_flow() {
    let mut set = CpuSet::new();
    set.set(0).expect("the first CPU");
    sched_setaffinity(Pid::from_raw(0), &set).expect("there is a first CPU");
    let mut kernel = kernel();
    let processed = kernel
        .spread(&[0, 1])
        .expect("the kernel takes the programs");
    assert!(processed <= INSTRUCTION_CAP, "{processed} instructions");
    println!("{processed} instructions processed for the largest program of a CPU that takes over");
    let case = table::stream_to_encrypt(3);
    for (slot, expected) in [(0, Action::Tx), (1, Action::Redirect), (2, Action::Tx)] {
        let generation = GENERATION;
        let at = FlowRef { slot, generation };
        kernel
            .install(&case.spec.key, at, &case.entry(), &case.state)
            .expect("the flow is installed");
        let spread = kernel.counted(Why::Spread).expect("counters are readable");
        for step in &case.steps {
            let outcome = kernel.run(&step.frame, 1).expect("the program runs");
            assert_eq!(outcome.action, expected, "slot {slot}");
            if expected == Action::Redirect {
                assert_eq!(outcome.frame, step.frame, "untouched on its way");
            }
        }
        let handed = if expected == Action::Redirect { 3 } else { 0 };
        let now = kernel.counted(Why::Spread).expect("counters are readable");
        assert_eq!(now, spread + handed);
        let stats = kernel.stats(slot).expect("counters are readable");
        assert_eq!(stats.snapshot().packets, 3 - handed);
        for (payload, why) in [
            (&[0, 1, 0, 0][..], Why::Stun),
            (&[22, 254, 253, 0], Why::Dtls),
            (&[0x80, 200, 0, 1], Why::Rtcp),
        ] {
            let before = kernel.counted(why).expect("counters are readable");
            let frame = udp_frame(&case.spec.key, 60, payload).expect("of one family");
            let outcome = kernel.run(&frame, 1).expect("the program runs");
            assert_eq!(outcome.action, Action::Pass, "{why:?} in slot {slot}");
            let after = kernel.counted(why).expect("counters are readable");
            assert_eq!(after, before + 1);
        }
    }
}
