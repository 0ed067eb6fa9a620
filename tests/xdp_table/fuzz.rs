//! Mutated and random packets through the kernel and the host, which have to agree on each.
//!
//! `cargo xtask fuzz` says how many (CAUSEWAY_FUZZ_PACKETS) and from which seed on (CAUSEWAY_FUZZ_SEED); without it as many as a test run
//! has time for. What they differ on is written out as a file for `tests/corpus`; its rows are mutated along with those of the table.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use bench::kernel::Kernel;
use flow::{FlowRef, Outcome};
use testbed::corpus;
use testbed::packet::Arriving;
use testbed::table::{self, Case, DEVICE, OnHost};

use super::lockstep::{Counted, Lockstep};
use super::{SHORTEST_FRAME, kernel};

/// Where nobody says.
const PACKETS: u64 = 100_000;
/// Random packets in front of those of a row.
const RANDOM: usize = 4;

/// A number that the caller of the run sets.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// Packets for the flow of a row.
struct Fed<'c> {
    case: &'c Case,
    frames: Vec<Vec<u8>>,
}

impl<'c> Fed<'c> {
    /// What the table and the corpus have, to be mutated.
    fn all(cases: &'c [Case]) -> Vec<Self> {
        let of_row = |case: &'c Case| {
            let frames = case.steps.iter().map(|step| step.frame.clone()).collect();
            Self { case, frames }
        };
        let kept = corpus::read().expect("the corpus is readable");
        let kept = kept.into_iter().map(|kept| Self {
            case: kept.case(cases).expect("the row is there"),
            frames: kept.frames.into_iter().map(|(_, frame)| frame).collect(),
        });
        let long_enough = |frame: &Vec<u8>| frame.len() >= SHORTEST_FRAME;
        let mut all: Vec<_> = cases.iter().map(of_row).chain(kept).collect();
        for fed in &mut all {
            fed.frames.retain(long_enough);
        }
        all
    }

    /// Its packets mutated, behind random ones: RTP by the look of it, on the flow's 4-tuple.
    fn mutated(&self, seed: u64, number: u64) -> Self {
        let mut frames = random_packets(self.case, seed << 16 | number);
        frames.extend(self.frames.iter().cloned());
        table::mutate(&mut frames[RANDOM..], seed);
        Self {
            case: self.case,
            frames,
        }
    }

    /// Runs it once; how many packets were forwarded.
    fn agrees(
        &self,
        kernel: &mut Kernel,
        counted: &mut Counted,
        at: FlowRef,
    ) -> Result<u64, (usize, String)> {
        let mut both = Lockstep::new(kernel, counted, self.case, at);
        let mut forwarded = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            let why = both.packet(frame).map_err(|what| (number, what))?;
            forwarded += u64::from(why.outcome() == Outcome::Forwarded);
        }
        Ok(forwarded)
    }

    /// Writes the packets up to the one that made a difference, with what the host says of them.
    fn keep(&self, last: usize, seed: u64) -> String {
        let mut host = OnHost::new(self.case);
        let frames: Vec<_> = self.frames[..=last]
            .iter()
            .map(|frame| (host.forward(frame, 0).verdict.why().label(), &frame[..]))
            .collect();
        let object = std::env::var_os("CAUSEWAY_BPF_OBJECT").unwrap_or_default();
        let directory = Path::new(&object).with_file_name("fuzz");
        let file = directory.join(format!("seed-{seed}.txt"));
        fs::create_dir_all(&directory).expect("the target directory is ours");
        fs::write(&file, corpus::text(&self.case.name, frames)).expect("the directory is ours");
        let kept = corpus::directory();
        format!("{} is for {}", file.display(), kept.display())
    }
}

fn random_packets(case: &Case, seed: u64) -> Vec<Vec<u8>> {
    let mut random = seed.wrapping_mul(0xd134_2543_de82_ef95) | 1;
    let mut next = || {
        // xorshift64.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let packets = (0..RANDOM).map(|_| {
        let length = 12 + next() as usize % 90;
        let mut payload: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        payload[0] = 0x80 | (payload[0] & 0x3f);
        let (key, ttl) = (case.spec.key, next() as u8);
        let vlan = None;
        let arriving = Arriving {
            vlan,
            key,
            ttl,
            payload,
        };
        arriving.bytes()
    });
    packets.collect()
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn mutated_and_random_packets_in_the_kernel_and_on_the_host() {
    let packets = setting("CAUSEWAY_FUZZ_PACKETS", PACKETS);
    let first = setting("CAUSEWAY_FUZZ_SEED", 1);
    let mut kernel = kernel();
    kernel.allow_device(DEVICE).expect("loopback is there");
    let mut counted = Counted::of(&mut kernel);
    let cases = table::cases();
    let all = Fed::all(&cases);
    let (mut done, mut forwarded) = (0, 0);
    for seed in first.. {
        for (number, fed) in (0u64..).zip(&all) {
            let fed = fed.mutated(seed, number);
            let at = FlowRef {
                slot: number as u32 % 64,
                generation: fed.case.looked_up,
            };
            match fed.agrees(&mut kernel, &mut counted, at) {
                Ok(of_row) => forwarded += of_row,
                Err((packet, what)) => {
                    let (row, kept) = (&fed.case.name, fed.keep(packet, seed));
                    panic!("seed {seed}, {row}: packet {packet}: {what}; {kept}");
                }
            }
            done += fed.frames.len() as u64;
        }
        if done >= packets {
            let next = seed + 1;
            println!("{done} packets, {forwarded} forwarded, no difference; next seed {next}");
            break;
        }
    }
    assert!(forwarded > done / 100, "{forwarded} of {done} forwarded");
}

/// The packets of a difference come back from their file as they were.
#[test]
fn what_differs_is_kept() {
    let cases = table::cases();
    let fed = Fed::all(&cases).swap_remove(0).mutated(3, 0);
    let kept = fed.keep(fed.frames.len() - 1, u64::MAX);
    let file = kept.split(" is for ").next().expect("it names the file");
    let text = fs::read_to_string(file).expect("it was written");
    fs::remove_file(file).expect("it is ours");
    assert!(text.starts_with(&format!("row: {}\n", fed.case.name)));
    assert_eq!(text.lines().count(), 1 + fed.frames.len());
    let last = fed.frames.last().expect("there are random ones at least");
    assert!(text.ends_with(&format!(" {}\n", hex::encode(last))));
}
