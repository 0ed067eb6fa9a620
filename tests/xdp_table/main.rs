//! The packet table in the kernel: the same rows through BPF_PROG_TEST_RUN, with the verdicts,
//! bytes and counters of the host.

mod flood;
mod fuzz;
mod lockstep;
mod measuring;
mod spread;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Barrier;

use bench::kernel::{Action, Kernel};
use bench::testrun::INSTRUCTION_CAP;
use flow::{FlowRef, KeystreamRing, Why};
use lockstep::{Counted, Lockstep};
use testbed::corpus;
use testbed::table::{self, Case, DEVICE, GENERATION};

/// The shortest frame that BPF_PROG_TEST_RUN takes.
const SHORTEST_FRAME: usize = 14;

fn kernel() -> Kernel {
    let path =
        std::env::var_os("CAUSEWAY_BPF_OBJECT").expect("CAUSEWAY_BPF_OBJECT names the XDP object");
    Kernel::load(&PathBuf::from(path), 64).expect("the XDP program loads")
}

/// For which packets of a row the keystream is made ahead of time.
type Ahead = fn(usize) -> bool;

/// Runs a row; how many packets found their keystream.
fn run(kernel: &mut Kernel, case: &Case, at: FlowRef, ahead: Ahead) -> u64 {
    let mut counted = Counted::of(kernel);
    let mut both = Lockstep::new(kernel, &mut counted, case, at);
    let ring = KeystreamRing::new();
    for (number, step) in case.steps.iter().enumerate() {
        if step.frame.len() < SHORTEST_FRAME {
            continue;
        }
        if ahead(number)
            && let Some((of, keys)) = case.keystream_of(step)
        {
            ring.fill(of, &keys.keystream(of.ssrc, of.index));
        }
        let kernel = both.kernel();
        kernel
            .set_keystream(at.slot, &ring)
            .expect("there is a ring for each slot");
        if let Err(what) = both.packet(&step.frame) {
            panic!("{}: packet {number}: {what}", case.name);
        }
    }
    both.counters().keystream_hits
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

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_corpus_in_the_kernel() {
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    let (cases, mut counted) = (table::cases(), Counted::of(&mut kernel));
    for kept in corpus::read().expect("the corpus is readable") {
        let case = kept.case(&cases).expect("the row is there");
        let at = FlowRef {
            slot: 0,
            generation: case.looked_up,
        };
        let mut both = Lockstep::new(&mut kernel, &mut counted, case, at);
        for (number, (label, frame)) in kept.frames.iter().enumerate() {
            match both.packet(frame) {
                Ok(why) => assert_eq!(why.label(), label, "{}: packet {number}", kept.name),
                Err(what) => panic!("{}: packet {number}: {what}", kept.name),
            }
        }
    }
}
