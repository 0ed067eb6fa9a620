//! What floods the guarded ports without a flow is dropped per source and kind; a flow is not charged.

use std::net::{IpAddr, SocketAddr};

use bench::kernel::{Action, Kernel, udp_frame};
use flow::{FlowKey, FlowRef, Guard, Limit, Why};
use testbed::table::{self, GENERATION};

use super::kernel;

/// What a frame without a flow is, with the first bytes of its payload and why it is dropped where its source floods us.
const FLOODS: [([u8; 14], Why); 4] = [
    ([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Why::StunBudget),
    (
        [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        Why::HelloBudget,
    ),
    (
        [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        Why::OtherBudget,
    ),
    (
        [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        Why::OtherBudget,
    ),
];

/// The guarded ports' program.
struct Guarded(Kernel);

impl Guarded {
    /// So slow that nothing comes back while the test runs.
    fn new() -> Self {
        let limit = |burst| Limit::new(1, burst);
        let mut guard = Guard::new(limit(10), limit(5), limit(7));
        for (addr, port) in [("192.0.2.1", 40_000), ("2001:db8::1", 20_000)] {
            let addr: IpAddr = addr.parse().expect("an address");
            assert!(guard.add(addr.into(), port, port + 1));
        }
        let mut kernel = kernel();
        kernel.guard(&guard).expect("the map takes it");
        Self(kernel)
    }

    /// How many of twenty pass.
    fn passed(&self, local: &str, remote: &str, payload: &[u8]) -> u32 {
        let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an address").into();
        let key = FlowKey {
            local: endpoint(local),
            remote: endpoint(remote),
        };
        let frame = udp_frame(&key, 60, payload).expect("of one family");
        let pass = |_| self.0.run(&frame, 1).expect("it runs").action == Action::Pass;
        (0..20).map(pass).map(u32::from).sum()
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_flood_without_a_flow_is_dropped_per_source_and_kind() {
    let mut guarded = Guarded::new();
    for (payload, why) in FLOODS {
        let burst = match why {
            Why::StunBudget => 10,
            Why::HelloBudget => 5,
            _ => 7,
        };
        // The two kinds of `other` share a budget; each gets a source of its own.
        let host = payload[0] / 2 + payload[13];
        let four = |port| {
            let remote = format!("198.51.100.{host}:{port}");
            guarded.passed("192.0.2.1:40000", &remote, &payload)
        };
        assert_eq!(four(5000), burst, "{why:?}");
        assert_eq!(four(5001), 0, "{why:?}: another port is no other source");
        let network = format!("{:x}", 100 + u16::from(host));
        let six = |host| {
            let remote = format!("[2001:db8:{network}::{host}]:5000");
            guarded.passed("[2001:db8::1]:20001", &remote, &payload)
        };
        assert_eq!(six(1), burst, "{why:?}");
        assert_eq!(six(2), 0, "{why:?}: nor another host of the network");
        // Ports next to ours, and our ports on another address.
        for local in ["192.0.2.1:40002", "192.0.2.9:40000", "192.0.2.1:39999"] {
            let passed = guarded.passed(local, "198.51.100.99:5000", &payload);
            assert_eq!(passed, 20, "{local}");
        }
    }
    for (why, dropped) in [
        (Why::StunBudget, 2 * (40 - 10)),
        (Why::HelloBudget, 2 * (40 - 5)),
        (Why::OtherBudget, 2 * 2 * (40 - 7)),
    ] {
        let counted = guarded.0.counted(why).expect("counters are readable");
        assert_eq!(counted, dropped);
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_flow_is_not_charged() {
    let mut kernel = kernel();
    let case = table::stream_to_encrypt(100);
    let mut guard = Guard::new(Limit::new(1, 1), Limit::new(1, 1), Limit::new(1, 1));
    let port = case.spec.key.local.port.into();
    assert!(guard.add(case.spec.key.local.addr, port, port));
    kernel.guard(&guard).expect("the map takes it");
    let at = FlowRef {
        slot: 0,
        generation: GENERATION,
    };
    kernel
        .install(&case.spec.key, at, &case.entry(), &case.state)
        .expect("the flow is installed");
    for step in &case.steps {
        let outcome = kernel.run(&step.frame, 1).expect("the program runs");
        assert_eq!(outcome.action, Action::Tx);
    }
}
