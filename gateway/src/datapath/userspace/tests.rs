//! The packet table through the userspace datapath: what the CPU's instructions make of each row is what the packet path's own code does.

use super::*;
use flow::FlowStats;
use testbed::table;

#[test]
fn every_row_by_the_cpus_instructions() {
    let mut packets = 0;
    for case in table::cases() {
        let mut datapath = Userspace::new(1);
        let carried = Carried {
            state: case.state,
            stats: FlowStats::new(),
        };
        if let Err(refusal) = datapath.install(FlowId(1), &case.spec, &carried, Instant::now()) {
            panic!("{}: {}", case.name, refusal.reason());
        }
        let expected = case.run_in_userspace();
        for (number, (step, expected)) in (1..).zip(case.steps.iter().zip(expected)) {
            let (Some(payload), Some(expected)) = (&step.payload, expected) else {
                continue;
            };
            // Refused before any state; sockets have no such limit, the kernel fragments.
            if expected == Err(Why::TooLong) {
                continue;
            }
            let got = match datapath.forward(&case.spec.key, payload, number * 1000) {
                Forwarded::Send { bytes, .. } => Ok(bytes.to_vec()),
                Forwarded::Refused(why) => Err(why),
                Forwarded::NoFlow => panic!("{}: no flow", case.name),
            };
            assert_eq!(got, expected, "{}: packet {number}", case.name);
            packets += 1;
        }
    }
    assert!(packets > 100, "only {packets} packets");
}
