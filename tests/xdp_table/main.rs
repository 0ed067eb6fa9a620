//! The packet table in the kernel: the same rows through BPF_PROG_TEST_RUN, with the verdicts,
//! bytes and counters of the host.

mod fuzz;
mod measuring;
mod spread;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use bench::kernel::{Action, Kernel, Outcome, udp_frame};
use bench::testrun::INSTRUCTION_CAP;
use flow::{FlowEvent, FlowKey, FlowRef, FlowSnapshot, Guard, KeystreamRing, Limit, Verdict, Why};
use testbed::table::{self, Case, DEVICE, GENERATION, KEYSTREAM_EPOCH, Ran, digit};

/// Most that may pass between two packets of a row: a stream that is taken over makes up for longer gaps, and the host's
/// clock is a virtual one.
const GAP: Duration = Duration::from_millis(15);
/// How often a row is run anew that the machine was too busy for.
const TRIES: usize = 100;
/// The shortest frame that BPF_PROG_TEST_RUN takes.
const SHORTEST_FRAME: usize = 14;

fn kernel() -> Kernel {
    let path =
        std::env::var_os("CAUSEWAY_BPF_OBJECT").expect("CAUSEWAY_BPF_OBJECT names the XDP object");
    Kernel::load(&PathBuf::from(path), 64).expect("the XDP program loads")
}

/// The counters without what hangs on the clock.
fn timeless(mut counters: FlowSnapshot) -> FlowSnapshot {
    counters.last_seen_ns = 0;
    // The host's path has no ring.
    counters.keystream_hits = 0;
    for stream in counters.streams.iter_mut().flatten() {
        stream.last_seen_ns = 0;
        stream.jitter = 0;
    }
    counters
}

/// For which packets of a row the keystream is made ahead of time.
type Ahead = fn(usize) -> bool;

/// What the kernel did with a packet of a row.
struct Observed {
    outcome: Outcome,
    /// How often the reason that the host gives was counted.
    counted: u64,
    told: Vec<FlowEvent>,
}

/// Runs a row; how many packets found their keystream.
fn run(kernel: &mut Kernel, case: &Case, at: FlowRef, ahead: Ahead) -> u64 {
    let (on_host, counters) = case.run_on_host();
    let mut observed = Vec::new();
    for _ in 0..TRIES {
        let in_time;
        (observed, in_time) = observe(kernel, case, at, ahead, &on_host);
        if in_time {
            break;
        }
    }
    for (number, (ran, observed)) in on_host.iter().zip(observed).enumerate() {
        if let Some(observed) = observed {
            compare(&format!("{}: packet {number}", case.name), ran, &observed);
            let at_flow =
                |event: &FlowEvent| (event.slot, event.generation) == (at.slot, at.generation);
            assert!(observed.told.iter().all(at_flow), "{}", case.name);
        }
    }
    let in_kernel = kernel
        .stats(at.slot)
        .expect("counters are readable")
        .snapshot();
    assert_eq!(timeless(in_kernel), timeless(counters), "{}", case.name);
    in_kernel.keystream_hits
}

/// Runs a row once, and whether its packets followed each other as fast as the host's virtual clock says.
fn observe(
    kernel: &mut Kernel,
    case: &Case,
    at: FlowRef,
    ahead: Ahead,
    on_host: &[Ran],
) -> (Vec<Option<Observed>>, bool) {
    let mut entry = case.entry();
    entry.use_keystream(at.slot, KEYSTREAM_EPOCH);
    let ring = KeystreamRing::new();
    kernel
        .install(&case.spec.key, at, &entry, &case.state)
        .expect("the flow is installed");
    let (mut all, mut last, mut in_time) = (Vec::new(), Instant::now(), true);
    for (number, (step, ran)) in case.steps.iter().zip(on_host).enumerate() {
        if step.frame.len() < SHORTEST_FRAME {
            all.push(None);
            continue;
        }
        if ahead(number)
            && let Some((of, keys)) = case.keystream_of(step)
        {
            ring.fill(of, &keys.keystream(of.ssrc, of.index));
        }
        kernel
            .set_keystream(at.slot, &ring)
            .expect("there is a ring for each slot");
        let why = ran.verdict.why();
        let before = kernel.counted(why).expect("counters are readable");
        let outcome = kernel.run(&step.frame, 1).expect("the program runs");
        in_time &= last.elapsed() < GAP;
        last = Instant::now();
        let after = kernel.counted(why).expect("counters are readable");
        all.push(Some(Observed {
            outcome,
            counted: after - before,
            told: kernel.events().expect("the ring is readable"),
        }));
    }
    (all, in_time)
}

/// Holds the kernel against the host.
fn compare(packet: &str, ran: &Ran, observed: &Observed) {
    let expected = match ran.verdict {
        Verdict::Pass(_) => Action::Pass,
        Verdict::Drop(_) => Action::Drop,
        Verdict::Tx => Action::Tx,
        Verdict::Redirect(_) | Verdict::Spread => Action::Redirect,
        // The table has one flow at a time, and the second program is not there.
        Verdict::Again => Action::Drop,
    };
    let why = ran.verdict.why();
    assert_eq!(observed.outcome.action, expected, "{packet}, {why:?}");
    assert_eq!(observed.counted, 1, "{packet} is counted as {why:?}");
    let told = &observed.told;
    assert!(
        told.iter().map(digit).eq(ran.told.iter().map(digit)),
        "{packet}: {told:?}"
    );
    if expected != Action::Drop {
        assert_eq!(
            hex::encode(&observed.outcome.frame),
            hex::encode(&ran.frame),
            "{packet}"
        );
    }
}

fn never(_: usize) -> bool {
    false
}

fn always(_: usize) -> bool {
    true
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_row_in_the_kernel() {
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    for (number, case) in table::cases().iter().enumerate() {
        let at = FlowRef {
            slot: number as u32 % 64,
            generation: case.looked_up,
        };
        assert_eq!(run(&mut kernel, case, at, never), 0, "{}", case.name);
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_row_in_the_kernel_with_keystream_made_ahead() {
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    let mut hits = 0;
    for (number, case) in table::cases().iter().enumerate() {
        let at = FlowRef {
            slot: number as u32 % 64,
            generation: case.looked_up,
        };
        hits += run(&mut kernel, case, at, always);
    }
    assert!(hits > 100, "only {hits} packets found their keystream");
}

/// A daemon that is late, or gone, costs speed and no packet.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn packets_without_keystream_are_forwarded_all_the_same() {
    let mut kernel = kernel();
    for case in table::streams_both_ways(60) {
        let at = FlowRef {
            slot: 0,
            generation: case.looked_up,
        };
        let every_third = run(&mut kernel, &case, at, |number| number % 3 == 0);
        assert_eq!(every_third, 20, "{}", case.name);
        let until_it_died = run(&mut kernel, &case, at, |number| number < 30);
        assert_eq!(until_it_died, 30, "{}", case.name);
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn damaged_frames_in_the_kernel() {
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    for seed in 0..20 {
        for (number, case) in table::cases().into_iter().enumerate() {
            let case = case.mutated(seed);
            run(
                &mut kernel,
                &case,
                FlowRef {
                    slot: number as u32 % 64,
                    generation: case.looked_up,
                },
                always,
            );
        }
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn one_call_hands_its_packets_to_another() {
    let mut kernel = kernel();
    let [first, second] = table::hairpin();
    let at = |slot| FlowRef {
        slot,
        generation: GENERATION,
    };
    kernel
        .install(&first.spec.key, at(0), &first.entry(), &first.state)
        .expect("the flow is installed");
    let stray = kernel
        .run(&second.steps[0].frame, 1)
        .expect("the program runs");
    assert_eq!(
        stray.action,
        Action::Drop,
        "no second flow: what was rewritten is not passed"
    );
    assert_eq!(
        kernel
            .counted(Why::HairpinMiss)
            .expect("counters are readable"),
        1
    );
    kernel
        .install(&second.spec.key, at(1), &second.entry(), &second.state)
        .expect("the flow is installed");
    for (number, step) in second.steps.iter().enumerate().skip(1) {
        let outcome = kernel.run(&step.frame, 1).expect("the program runs");
        assert_eq!(outcome.action, Action::Tx, "packet {number}");
        let leaves = step.leaves.as_ref().map(|(frame, _)| hex::encode(frame));
        assert_eq!(Some(hex::encode(outcome.frame)), leaves, "packet {number}");
    }
    assert_eq!(
        kernel.counted(Why::Hairpin).expect("counters are readable"),
        5
    );
    assert_eq!(
        kernel
            .counted(Why::Forwarded)
            .expect("counters are readable"),
        4
    );
}

/// Two CPUs that hold packets of one stream: the lock lets each index out once, whoever comes first.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn two_cpus_never_encrypt_under_one_index() {
    let mut kernel = kernel();
    let case = table::stream_to_encrypt(4000);
    let at = FlowRef {
        slot: 0,
        generation: GENERATION,
    };
    kernel
        .install(&case.spec.key, at, &case.entry(), &case.state)
        .expect("the flow is installed");
    // Further apart than the window of 128, the slower one's packets would restart the stream, again and again over the wrap.
    let together = Barrier::new(2);
    let send_all = || -> Vec<u16> {
        let mut numbers = Vec::new();
        for steps in case.steps.chunks(32) {
            together.wait();
            for step in steps {
                let outcome = kernel.run(&step.frame, 1).expect("the program runs");
                if outcome.action == Action::Tx {
                    // Sequence number behind 42 bytes of headers; the row stays within one rollover.
                    numbers.push(u16::from_be_bytes([outcome.frame[44], outcome.frame[45]]));
                }
            }
        }
        numbers
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(send_all);
        (
            send_all(),
            other.join().expect("the other sender does not panic"),
        )
    });
    let used: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!(
        used.len(),
        first.len() + second.len(),
        "each index leaves once"
    );
    let counted = kernel
        .stats(0)
        .expect("counters are readable")
        .snapshot()
        .packets;
    assert_eq!(counted, used.len() as u64);
    assert!(!first.is_empty() && !second.is_empty());
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_verifier_stays_under_its_cap() {
    let processed = kernel().verified_instructions().expect("the kernel tells");
    println!("the verifier processed {processed} instructions of the largest program");
    assert!(
        processed <= INSTRUCTION_CAP,
        "{processed} processed instructions"
    );
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_map_layouts_are_those_of_the_host() {
    let mut kernel = kernel();
    let case = &table::cases()[0];
    let at = FlowRef {
        slot: 63,
        generation: GENERATION,
    };
    kernel
        .install(&case.spec.key, at, &case.entry(), &case.state)
        .expect("sizes agree, or aya refuses");
    kernel.state(63).expect("sizes agree");
    kernel.stats(63).expect("sizes agree");
}

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

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_flood_without_a_flow_is_dropped_per_source_and_kind() {
    let mut kernel = kernel();
    // So slow that nothing comes back while the test runs.
    let limit = |burst| Limit::new(1, burst);
    let mut guard = Guard::new(limit(10), limit(5), limit(7));
    for (addr, port) in [("192.0.2.1", 40_000), ("2001:db8::1", 20_000)] {
        let addr: IpAddr = addr.parse().expect("an address");
        assert!(guard.add(addr.into(), port, port + 1));
    }
    kernel.guard(&guard).expect("the map takes it");
    let frame = |local: &str, remote: &str, payload: &[u8]| {
        let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an address").into();
        let key = FlowKey {
            local: endpoint(local),
            remote: endpoint(remote),
        };
        udp_frame(&key, 60, payload).expect("of one family")
    };
    let passed = |frame: &[u8]| -> u32 {
        let pass = |_| kernel.run(frame, 1).expect("it runs").action == Action::Pass;
        (0..20).map(pass).map(u32::from).sum()
    };
    for (payload, why) in FLOODS {
        let burst = match why {
            Why::StunBudget => 10,
            Why::HelloBudget => 5,
            _ => 7,
        };
        // The two kinds of `other` share a budget; each gets a source of its own.
        let host = payload[0] / 2 + payload[13];
        let flood = |port| {
            frame(
                "192.0.2.1:40000",
                &format!("198.51.100.{host}:{port}"),
                &payload,
            )
        };
        assert_eq!(passed(&flood(5000)), burst, "{why:?}");
        assert_eq!(
            passed(&flood(5001)),
            0,
            "{why:?}: another port is no other source"
        );
        let flood = |host: &str| {
            frame(
                "[2001:db8::1]:20001",
                &format!("[2001:db8:{host}]:5000"),
                &payload,
            )
        };
        let network = format!("{:x}", 100 + u16::from(host));
        assert_eq!(passed(&flood(&format!("{network}::1"))), burst, "{why:?}");
        assert_eq!(
            passed(&flood(&format!("{network}::2"))),
            0,
            "{why:?}: nor another host of the network"
        );
        // Ports next to ours, and our ports on another address.
        for local in ["192.0.2.1:40002", "192.0.2.9:40000", "192.0.2.1:39999"] {
            assert_eq!(
                passed(&frame(local, "198.51.100.99:5000", &payload)),
                20,
                "{local}"
            );
        }
    }
    for (why, dropped) in [
        (Why::StunBudget, 2 * (40 - 10)),
        (Why::HelloBudget, 2 * (40 - 5)),
        (Why::OtherBudget, 2 * 2 * (40 - 7)),
    ] {
        assert_eq!(kernel.counted(why).expect("counters are readable"), dropped);
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
