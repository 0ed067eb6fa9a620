//! Mutated and random packets through the kernel and the host, which have to agree on each: verdict, reason, bytes, counters.
//!
//! `CAUSEWAY_FUZZ_PACKETS` says how many; without it as many as a test run has time for.

use std::collections::HashMap;
use std::time::Instant;

use bench::kernel::{Action, Kernel};
use flow::{FlowRef, Verdict, Why};
use testbed::packet::Arriving;
use testbed::table::{self, Case, DEVICE, Ran, Step, digit};

use super::{GAP, SHORTEST_FRAME, TRIES, kernel, timeless};

/// Where the environment says nothing.
const PACKETS: u64 = 100_000;

/// Random packets in front of the row's own: RTP by the look of it, on the flow's 4-tuple.
fn with_random_packets(mut case: Case, seed: u64) -> Case {
    let mut random = seed.wrapping_mul(0xd134_2543_de82_ef95) | 1;
    let mut next = || {
        // xorshift64.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..4 {
        let length = 12 + next() as usize % 90;
        let mut payload: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        payload[0] = 0x80 | (payload[0] & 0x3f);
        let frame = Arriving {
            vlan: None,
            key: case.spec.key,
            ttl: next() as u8,
            payload,
        };
        let step = Step {
            frame: frame.bytes(),
            payload: None,
            verdict: Verdict::Tx,
            leaves: None,
            medium: 0,
            told: None,
        };
        case.steps.insert(0, step);
    }
    case.steps.retain(|step| step.frame.len() >= SHORTEST_FRAME);
    case
}

/// Runs a row once; whether all agreed, and whether packets followed each other fast enough to ask for it.
fn agree(kernel: &mut Kernel, case: &Case, at: FlowRef) -> Result<(), (String, bool)> {
    kernel
        .install(&case.spec.key, at, &case.entry(), &case.state)
        .expect("the flow is installed");
    let (on_host, counters) = case.run_on_host();
    let mut expected: HashMap<Why, u64> = HashMap::new();
    for ran in &on_host {
        let why = ran.verdict.why();
        let counted = || kernel.counted(why).expect("counters are readable");
        *expected.entry(why).or_insert_with(counted) += 1;
    }
    let (mut last, mut in_time) = (Instant::now(), true);
    for (number, (step, ran)) in case.steps.iter().zip(on_host).enumerate() {
        let Ran {
            verdict,
            frame,
            told,
        } = ran;
        let outcome = kernel.run(&step.frame, 1).expect("the program runs");
        in_time &= last.elapsed() < GAP;
        last = Instant::now();
        let action = match verdict {
            Verdict::Pass(_) => Action::Pass,
            Verdict::Drop(_) | Verdict::Again => Action::Drop,
            Verdict::Tx => Action::Tx,
            Verdict::Redirect(_) | Verdict::Spread => Action::Redirect,
        };
        if outcome.action != action || (action != Action::Drop && outcome.frame != frame) {
            let arrived = hex::encode(&step.frame);
            let what = format!("{}: packet {number}, {verdict:?}, {arrived}", case.name);
            return Err((what, in_time));
        }
        let heard = kernel.events().expect("the ring is readable");
        if !heard.iter().map(digit).eq(told.iter().map(digit)) {
            let what = format!("{}: packet {number} tells {heard:?}", case.name);
            return Err((what, in_time));
        }
    }
    for (why, count) in expected {
        if kernel.counted(why).expect("counters are readable") != count {
            return Err((format!("{}: counted as {why:?}", case.name), in_time));
        }
    }
    let in_kernel = kernel.stats(at.slot).expect("counters are readable");
    if timeless(in_kernel.snapshot()) != timeless(counters) {
        return Err((format!("{}: the flow's counters", case.name), in_time));
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn mutated_and_random_packets_in_the_kernel_and_on_the_host() {
    let packets = match std::env::var("CAUSEWAY_FUZZ_PACKETS") {
        Ok(packets) => packets.parse().expect("CAUSEWAY_FUZZ_PACKETS is a number"),
        Err(_) => PACKETS,
    };
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    let (mut done, mut forwarded) = (0, 0);
    for seed in 1.. {
        for (number, case) in (0u64..).zip(table::cases()) {
            let case = with_random_packets(case.mutated(seed), seed << 16 | number);
            let at = FlowRef {
                slot: number as u32 % 64,
                generation: case.looked_up,
            };
            for tries in 1.. {
                match agree(&mut kernel, &case, at) {
                    Ok(()) => break,
                    Err((what, in_time)) => {
                        assert!(
                            !in_time && tries < TRIES,
                            "seed {seed}, row {number}: {what}"
                        );
                    }
                }
            }
            done += case.steps.len() as u64;
            let stats = kernel.stats(at.slot).expect("counters are readable");
            forwarded += stats.snapshot().packets;
        }
        if done >= packets {
            break;
        }
    }
    println!("{done} packets, {forwarded} of them forwarded, no difference");
    assert!(forwarded > done / 100, "{forwarded} of {done} forwarded");
}
