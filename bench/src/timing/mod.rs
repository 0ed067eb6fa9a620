//! Whether the packet path's times tell of its secrets, after dudect (Reparaz, Balasch, Verbauwhede 2017): packets of two classes that
//! differ in nothing but a secret, or in what an attacker may choose, are timed by turns in random order, and Welch's t says how sure it is
//! that the means of the two differ.
//!
//! Timed is the whole path of a packet, as whoever measures from outside sees it: on the host, and by BPF_PROG_TEST_RUN in the kernel,
//! where the JIT has had its say. That a control which does leak is found shows that the method sees something. It reports and never
//! fails: a busy machine makes differences, and none seen proves none.

mod welch;

use std::fmt;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use flow::{
    ActionSpec, FlowEntry, FlowKey, FlowRef, FlowState, FlowStats, Scratch, SessionKey, SrtpKeys,
    Suite, Why, forward_payload,
};
use gateway_core::Random;
use serde::Serialize;

use crate::kernel::{Action, Kernel, udp_frame};
use crate::testrun::{entry, key, rtp};

/// From here on a difference is likely, and from here on it is there (the customary bounds).
const LIKELY: f64 = 4.5;
const CERTAIN: f64 = 10.0;
/// Packets of each class. Both classes are copied out of as many, so that their memory is as warm.
const POOL: usize = 32;
const PAYLOAD: usize = 160;
const SUITES: [Suite; 3] = [
    Suite::AesCm128HmacSha1_80,
    Suite::AeadAes128Gcm,
    Suite::AeadAes256Gcm,
];
const AT: FlowRef = FlowRef {
    slot: 0,
    generation: 1,
};

/// What was compared and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `host` or `kernel`.
    pub path: &'static str,
    /// The suite; empty for the control.
    pub suite: &'static str,
    /// What the classes differ in.
    pub classes: &'static str,
    /// Packets of both.
    pub packets: usize,
    /// Mean time of the first class where the difference shows most, nanoseconds.
    pub mean_ns: f64,
    /// How much longer the second takes there.
    pub difference_ns: f64,
    /// Welch's t of that.
    pub t: f64,
}

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    /// Why a part is missing.
    pub missing: Option<String>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.t.abs() {
            t if t >= CERTAIN => "differ",
            t if t >= LIKELY => "may differ",
            _ => "no difference seen",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<7} {:<24} {:<44} {:>8} {:>9} {:>8} {:>8}",
            "path", "suite", "classes", "packets", "mean ns", "more ns", "t"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<7} {:<24} {:<44} {:>8} {:>9.1} {:>8.2} {:>8.2}  {}",
                row.path,
                row.suite,
                row.classes,
                row.packets,
                row.mean_ns,
                row.difference_ns,
                row.t,
                row.verdict()
            )?;
        }
        if let Some(missing) = &self.missing {
            writeln!(f, "not in the kernel: {missing}")?;
        }
        writeln!(
            f,
            "\nThe crop with the largest |t| of all, 99, 95, 90, 75 and 50 % of the shortest times; {LIKELY} and more is a difference likely, {CERTAIN} and more certain."
        )
    }
}

/// One packet with the flow that it is for.
struct Sample {
    entry: FlowEntry,
    packet: Vec<u8>,
    frame: Vec<u8>,
}

/// Two classes of packets.
struct Experiment {
    suite: Suite,
    classes: &'static str,
    pools: [Vec<Sample>; 2],
    /// What becomes of every packet.
    outcome: Result<(), Why>,
}

/// Compares so many packets for each row; in the kernel too where there is an object at `object`.
///
/// # Errors
/// A packet does not take the path that is to be timed.
pub fn measure(object: Option<&Path>, packets: usize) -> anyhow::Result<Report> {
    let mut random = crate::os_random();
    let mut experiments = Vec::new();
    for suite in SUITES {
        experiments.push(keys_differ(suite, &mut random)?);
        experiments.push(payloads_differ(suite, &mut random)?);
        experiments.push(tags_differ(suite, &mut random)?);
    }
    let mut rows = vec![control(packets, &mut random)];
    for experiment in &experiments {
        rows.push(on_host(experiment, packets, &mut random)?);
    }
    let loaded = object.context("there is no XDP object");
    let loaded = loaded.and_then(|object| Kernel::load(object, 16));
    let missing = match loaded {
        Ok(mut kernel) => {
            for experiment in &experiments {
                rows.push(in_kernel(&mut kernel, experiment, packets, &mut random)?);
            }
            None
        }
        Err(error) => Some(format!("{error:#}")),
    };
    Ok(Report { rows, missing })
}

/// Times samples of both classes in random order.
fn timed(
    packets: usize,
    random: &mut Random,
    mut time: impl FnMut(usize, usize) -> anyhow::Result<u64>,
) -> anyhow::Result<Vec<(bool, u64)>> {
    let mut times = Vec::with_capacity(packets);
    // The first tenth warms up.
    let warm_up = packets / 10;
    for number in 0..warm_up + packets {
        let [class, place] = bytes(random);
        let class = usize::from(class & 1);
        let took = time(class, usize::from(place) % POOL)?;
        if number >= warm_up {
            times.push((class == 1, took));
        }
    }
    Ok(times)
}

fn bytes<const N: usize>(random: &mut Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

impl Row {
    fn new(
        path: &'static str,
        suite: &'static str,
        classes: &'static str,
        mut times: Vec<(bool, u64)>,
    ) -> Self {
        let compared = welch::compare(&mut times);
        Self {
            path,
            suite,
            classes,
            packets: times.len(),
            mean_ns: compared.mean_ns,
            difference_ns: compared.difference_ns,
            t: compared.t,
        }
    }
}

/// A comparison that stops at the first difference: it has to be found.
fn control(packets: usize, random: &mut Random) -> Row {
    let right = vec![0x5a_u8; 1400];
    let wrong = [0, right.len() - 1].map(|place| {
        let mut wrong = right.clone();
        wrong[place] ^= 1;
        wrong
    });
    let stops = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| black_box(a) == b);
    let times = timed(packets, random, |class, _| {
        let begun = Instant::now();
        black_box(stops(black_box(&right), black_box(&wrong[class])));
        Ok(nanoseconds(begun))
    });
    let classes = "control that leaks: first or last byte differs";
    Row::new("host", "", classes, times.unwrap_or_default())
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn on_host(experiment: &Experiment, packets: usize, random: &mut Random) -> anyhow::Result<Row> {
    let mut entry = experiment.pools[0][0].entry;
    let mut scratch = Box::new(Scratch::new());
    let times = timed(packets, random, |class, place| {
        let sample = &experiment.pools[class][place];
        entry.clone_from(&sample.entry);
        scratch.bytes_mut()[..sample.packet.len()].copy_from_slice(&sample.packet);
        let (mut state, mut stats) = (FlowState::new(), FlowStats::new());
        let begun = Instant::now();
        let outcome = forward_payload(
            black_box(&entry),
            &mut state,
            &mut stats,
            &mut scratch,
            sample.packet.len(),
            1,
        );
        let took = nanoseconds(begun);
        ensure!(
            outcome.map(drop) == experiment.outcome,
            "{}: {outcome:?}",
            experiment.classes
        );
        Ok(took)
    })?;
    let suite = experiment.suite.name();
    Ok(Row::new("host", suite, experiment.classes, times))
}

fn in_kernel(
    kernel: &mut Kernel,
    experiment: &Experiment,
    packets: usize,
    random: &mut Random,
) -> anyhow::Result<Row> {
    let expected = match experiment.outcome {
        Ok(()) => Action::Tx,
        Err(_) => Action::Drop,
    };
    let times = timed(packets, random, |class, place| {
        let sample = &experiment.pools[class][place];
        kernel.install(&there(), AT, &sample.entry, &FlowState::new())?;
        let outcome = kernel.run(&sample.frame, 1)?;
        ensure!(
            outcome.action == expected,
            "{}: {:?}",
            experiment.classes,
            outcome.action
        );
        Ok(outcome.nanoseconds)
    })?;
    let suite = experiment.suite.name();
    Ok(Row::new("kernel", suite, experiment.classes, times))
}

fn there() -> FlowKey {
    key(1, 2)
}

fn sample(action: ActionSpec, packet: Vec<u8>) -> anyhow::Result<Sample> {
    Ok(Sample {
        entry: entry(&there(), &there(), action)?,
        frame: udp_frame(&there(), 64, &packet)?,
        packet,
    })
}

fn keys(suite: Suite, random: &mut Random) -> SrtpKeys {
    let (cipher, auth, salt) = (bytes(random), bytes(random), bytes(random));
    SrtpKeys::new(suite, &SessionKey { cipher, auth, salt })
}

/// The same key, whoever asks.
fn fixed_keys(suite: Suite) -> SrtpKeys {
    let (cipher, auth, salt) = ([0; 32], [0; 20], [0; 14]);
    SrtpKeys::new(suite, &SessionKey { cipher, auth, salt })
}

/// One packet encrypted under one key, or each time under another: AES, and GHASH by its key.
fn keys_differ(suite: Suite, random: &mut Random) -> anyhow::Result<Experiment> {
    let pool = |mut keys: Box<dyn FnMut() -> SrtpKeys + '_>| {
        let samples = (0..POOL).map(|_| sample(ActionSpec::Protect(keys()), rtp(7, PAYLOAD)));
        samples.collect::<anyhow::Result<_>>()
    };
    Ok(Experiment {
        suite,
        classes: "encrypt: one key or random keys",
        pools: [
            pool(Box::new(|| fixed_keys(suite)))?,
            pool(Box::new(|| keys(suite, random)))?,
        ],
        outcome: Ok(()),
    })
}

/// Under one key one payload, or each time another: GHASH and SHA-1 by what goes in.
fn payloads_differ(suite: Suite, random: &mut Random) -> anyhow::Result<Experiment> {
    let pool = |payload: &mut dyn FnMut() -> [u8; PAYLOAD]| {
        let samples = (0..POOL).map(|_| {
            let mut packet = rtp(7, 0);
            packet.extend(payload());
            sample(ActionSpec::Protect(fixed_keys(suite)), packet)
        });
        samples.collect::<anyhow::Result<_>>()
    };
    Ok(Experiment {
        suite,
        classes: "encrypt: one payload or random payloads",
        pools: [pool(&mut || [0; PAYLOAD])?, pool(&mut || bytes(random))?],
        outcome: Ok(()),
    })
}

/// A tag that is wrong from its first byte on, or in its last only: what a forger by trial would listen to.
fn tags_differ(suite: Suite, random: &mut Random) -> anyhow::Result<Experiment> {
    let mut pools = [Vec::new(), Vec::new()];
    for _ in 0..POOL {
        let mut plain = rtp(7, 0);
        plain.extend(bytes::<PAYLOAD>(random));
        let right = protected(suite, &plain)?;
        let tag_bytes = right.len() - plain.len();
        for (pool, from_end) in pools.iter_mut().zip([tag_bytes, 1]) {
            let mut wrong = right.clone();
            let place = wrong.len() - from_end;
            wrong[place] ^= 0x80;
            pool.push(sample(ActionSpec::Unprotect(fixed_keys(suite)), wrong)?);
        }
    }
    Ok(Experiment {
        suite,
        classes: "authenticate: first or last byte of tag wrong",
        pools,
        outcome: Err(Why::AuthFailed),
    })
}

fn protected(suite: Suite, plain: &[u8]) -> anyhow::Result<Vec<u8>> {
    let sample = sample(ActionSpec::Protect(fixed_keys(suite)), plain.to_vec())?;
    let mut scratch = Box::new(Scratch::new());
    scratch.bytes_mut()[..plain.len()].copy_from_slice(plain);
    let (mut state, mut stats) = (FlowState::new(), FlowStats::new());
    let leaving = forward_payload(
        &sample.entry,
        &mut state,
        &mut stats,
        &mut scratch,
        plain.len(),
        1,
    );
    let leaving = leaving.map_err(|why| anyhow::anyhow!("not encrypted: {}", why.label()))?;
    Ok(scratch.bytes()[..leaving.bytes].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_measured_on_the_host() {
        let report = measure(None, 50).expect("the packets take their paths");
        assert_eq!(report.rows.len(), 1 + 3 * SUITES.len());
        assert!(report.rows.iter().all(|row| row.packets == 50));
        assert!(report.missing.is_some());
        assert_eq!(report.to_string().lines().count(), report.rows.len() + 4);
    }
}
