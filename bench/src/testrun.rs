//! Nanoseconds per packet of the XDP program by BPF_PROG_TEST_RUN, per suite, direction and size,
//! and the verifier's count of processed instructions with its cap.
//!
//! A repeated run would meet the replay check, since it sees the frame that the run before left. So
//! it is made honest: `Protect` and `Unprotect` are timed on packets of their own, one run each,
//! the floor of such a run (a frame that is passed at once) taken off: these times include cold
//! caches. And `Round` lets a packet go round: one flow protects it and addresses it so that it
//! meets the other, which unprotects it, moves its sequence number on by one and addresses it back;
//! 250 runs in one call, warm, all counted. `Relay` goes round between two relaying flows.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::ensure;
use flow::{
    ActionSpec, CELL_PAYLOAD_BYTES, Egress, Endpoint, Exit, ExtensionMap, FlowEntry, FlowKey,
    FlowRef, FlowSpec, FlowState, FlowStats, KeystreamOf, KeystreamRing, MediumSpec, PayloadMap,
    Scratch, SessionKey, SrtpKeys, StreamSeed, StreamSource, StreamSpec, Suite, forward_payload,
};
use serde::{Deserialize, Serialize};

use crate::kernel::{Action, Kernel, udp_frame};

/// Most instructions that the verifier may process: the kernel's own limit is a million.
pub const INSTRUCTION_CAP: u32 = 600_000;

/// Payload sizes in bytes.
const SIZES: [usize; 4] = [20, 80, 160, 1100];
/// Single runs per row.
const SINGLES: u16 = 2000;
/// Runs in one call of a packet that goes round: less than the hops that a packet may live.
const ROUND_RUNS: u32 = 250;
/// Calls per row of a packet that goes round.
const ROUND_CALLS: u16 = 40;
const SSRC: u32 = 0x0102_0304;
const KEYSTREAM_EPOCH: u32 = 1;

/// The measurements of one object on this machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Instructions that the verifier processed.
    pub verified_instructions: u32,
    /// Time of a single run that passes its frame at once, nanoseconds; taken off the single rows.
    pub floor_ns: u64,
    /// One row per suite, direction and size.
    pub rows: Vec<Row>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// `none` or [`Suite::name`].
    pub suite: Cow<'static, str>,
    /// `protect`, `unprotect` (single runs), the same with `+`: keystream made ahead of time; `round` (both by turns, warm), `relay`
    /// (warm).
    pub direction: Cow<'static, str>,
    /// RTP payload bytes.
    pub payload_bytes: usize,
    /// Best.
    pub best_ns: u64,
    /// Median.
    pub median_ns: u64,
}

impl Report {
    /// Median of a suite, direction and size.
    pub fn median_ns(&self, suite: &str, direction: &str, payload_bytes: usize) -> Option<u64> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| {
            row.suite == suite && row.direction == direction && row.payload_bytes == payload_bytes
        })?;
        Some(row.median_ns)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Verifier: {} instructions processed (cap {INSTRUCTION_CAP})",
            self.verified_instructions
        )?;
        writeln!(
            f,
            "Floor of a single run, taken off the single rows: {} ns\n",
            self.floor_ns
        )?;
        writeln!(
            f,
            "{:<26} {:<10} {:>8} {:>10} {:>10}",
            "suite", "direction", "payload", "best ns", "median ns"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<26} {:<10} {:>8} {:>10} {:>10}",
                row.suite, row.direction, row.payload_bytes, row.best_ns, row.median_ns
            )?;
        }
        writeln!(
            f,
            "\nprotect, unprotect: one run per packet, cold; with +: keystream made ahead; round: the two by turns, warm; relay: warm."
        )
    }
}

/// Loads the object at `path` and measures packets of each size of `sizes`, without any of all usual ones, for the suites that have
/// `suite` in their names.
///
/// # Errors
/// The object does not load, or a packet is not forwarded.
pub fn measure(path: &Path, sizes: &[usize], suite: &str) -> anyhow::Result<Report> {
    let sizes = if sizes.is_empty() { &SIZES } else { sizes };
    let mut kernel = Kernel::load(path, 16)?;
    let verified_instructions = kernel.verified_instructions()?;
    let mut floor = Vec::new();
    for _ in 0..SINGLES {
        floor.push(kernel.run(&[0; 64], 1)?.nanoseconds);
    }
    let floor_ns = best_and_median(&mut floor).1;
    let mut rows = Vec::new();
    let chosen = |candidate| suite_name(candidate).contains(suite);
    for &payload_bytes in sizes.iter().filter(|_| chosen(None)) {
        rows.push(rounds(&mut kernel, None, payload_bytes)?);
    }
    for suite in Suite::ALL.into_iter().filter(|suite| chosen(Some(*suite))) {
        for &payload_bytes in sizes {
            for ahead in [false, true] {
                if ahead && payload_bytes > CELL_PAYLOAD_BYTES {
                    continue;
                }
                for protect in [true, false] {
                    let single = Single {
                        suite,
                        protect,
                        ahead,
                        payload_bytes,
                    };
                    rows.push(singles(&mut kernel, &single, floor_ns)?);
                }
            }
            rows.push(rounds(&mut kernel, Some(suite), payload_bytes)?);
        }
    }
    Ok(Report {
        verified_instructions,
        floor_ns,
        rows,
    })
}

/// What single runs time.
struct Single {
    suite: Suite,
    protect: bool,
    /// With keystream made ahead of time.
    ahead: bool,
    payload_bytes: usize,
}

impl Single {
    fn direction(&self) -> &'static str {
        match (self.protect, self.ahead) {
            (true, false) => "protect",
            (false, false) => "unprotect",
            (true, true) => "protect+",
            (false, true) => "unprotect+",
        }
    }
}

/// Times one direction on distinct packets, one run each.
fn singles(kernel: &mut Kernel, single: &Single, floor_ns: u64) -> anyhow::Result<Row> {
    let &Single {
        suite,
        protect,
        ahead,
        payload_bytes,
    } = single;
    let there = key(1, 2);
    let mut protecting = entry(&there, &there, ActionSpec::Protect(keys(suite)))?;
    let mut unprotecting = entry(&there, &there, ActionSpec::Unprotect(keys(suite)))?;
    if ahead {
        protecting.head.use_keystream(0, KEYSTREAM_EPOCH);
        unprotecting.head.use_keystream(0, KEYSTREAM_EPOCH);
    }
    let timed = if protect { &protecting } else { &unprotecting };
    let ring = KeystreamRing::new();
    kernel.install(
        &there,
        FlowRef {
            slot: 0,
            generation: 1,
        },
        timed,
        &FlowState::new(),
    )?;
    let (mut state, mut stats, mut scratch) = (FlowState::new(), FlowStats::new(), Scratch::new());
    let mut times = Vec::new();
    for sequence in 0..SINGLES {
        let mut payload = rtp(sequence, payload_bytes);
        if !protect {
            scratch.bytes_mut()[..payload.len()].copy_from_slice(&payload);
            let leaving = forward_payload(
                &protecting,
                &mut state,
                &mut stats,
                &mut scratch,
                payload.len(),
                1,
            )
            .map_err(|why| anyhow::anyhow!("sequence {sequence} on the host: {}", why.label()))?;
            payload = scratch.bytes()[..leaving.bytes].to_vec();
        }
        if ahead {
            let (epoch, ssrc, index) = (KEYSTREAM_EPOCH, SSRC, u64::from(sequence));
            let of = KeystreamOf { epoch, ssrc, index };
            ring.fill(of, &keys(suite).keystream(ssrc, index));
            kernel.set_keystream(0, &ring)?;
        }
        let outcome = kernel.run(&udp_frame(&there, 64, &payload)?, 1)?;
        ensure!(
            outcome.action == Action::Tx,
            "sequence {sequence}: {:?}",
            outcome.action
        );
        times.push(outcome.nanoseconds.saturating_sub(floor_ns));
    }
    let hits = kernel.stats(0)?.snapshot().keystream_hits;
    ensure!(
        hits == if ahead { u64::from(SINGLES) } else { 0 },
        "{hits} packets found their keystream"
    );
    let (best_ns, median_ns) = best_and_median(&mut times);
    Ok(Row {
        suite: suite_name(Some(suite)).into(),
        direction: single.direction().into(),
        payload_bytes,
        best_ns,
        median_ns,
    })
}

/// Times a packet that goes round between two flows.
fn rounds(kernel: &mut Kernel, suite: Option<Suite>, payload_bytes: usize) -> anyhow::Result<Row> {
    let (there, back) = (key(1, 2), key(3, 4));
    let (first, second) = match suite {
        Some(suite) => (
            ActionSpec::Protect(keys(suite)),
            ActionSpec::Unprotect(keys(suite)),
        ),
        None => (ActionSpec::Relay, ActionSpec::Relay),
    };
    let (first, second) = (entry(&there, &back, first)?, entry(&back, &there, second)?);
    let mut times = Vec::new();
    for call in 0..ROUND_CALLS {
        let (first_at, second_at) = (
            FlowRef {
                slot: 0,
                generation: 1,
            },
            FlowRef {
                slot: 1,
                generation: 1,
            },
        );
        let mut moving = FlowState::new();
        // The way back adds one to the sequence number, so that no number is used twice.
        moving.seed(
            0,
            &StreamSeed {
                ssrc_in: SSRC,
                sequence_offset: 1,
                ..StreamSeed::default()
            },
        );
        kernel.install(&there, first_at, &first, &FlowState::new())?;
        kernel.install(&back, second_at, &second, &moving)?;
        let outcome = kernel.run(
            &udp_frame(&there, 255, &rtp(call, payload_bytes))?,
            ROUND_RUNS,
        )?;
        let packets = kernel.stats(0)?.snapshot().packets + kernel.stats(1)?.snapshot().packets;
        ensure!(
            packets == u64::from(ROUND_RUNS),
            "{packets} of {ROUND_RUNS} runs forwarded the packet"
        );
        times.push(outcome.nanoseconds);
    }
    let (best_ns, median_ns) = best_and_median(&mut times);
    let direction = if suite.is_some() { "round" } else { "relay" };
    Ok(Row {
        suite: suite_name(suite).into(),
        direction: direction.into(),
        payload_bytes,
        best_ns,
        median_ns,
    })
}

fn best_and_median(times: &mut [u64]) -> (u64, u64) {
    times.sort_unstable();
    (
        times.first().copied().unwrap_or(0),
        times.get(times.len() / 2).copied().unwrap_or(0),
    )
}

fn suite_name(suite: Option<Suite>) -> &'static str {
    match suite {
        None => "none",
        Some(suite) => suite.name(),
    }
}

pub(crate) fn key(local: u16, remote: u16) -> FlowKey {
    let endpoint = |port: u16| {
        Endpoint::from(SocketAddr::from((
            Ipv4Addr::new(192, 0, 2, port as u8),
            4000 + port,
        )))
    };
    FlowKey {
        local: endpoint(local),
        remote: endpoint(remote),
    }
}

/// An entry for packets of `arriving` that leave so that they are packets of `leaving`.
pub(crate) fn entry(
    arriving: &FlowKey,
    leaving: &FlowKey,
    action: ActionSpec,
) -> anyhow::Result<FlowEntry> {
    let stream = StreamSpec {
        source: StreamSource::Signalled(SSRC),
        medium: 0,
        ssrc_out: SSRC,
        clock_hz: 8000,
    };
    let spec = FlowSpec {
        key: *arriving,
        action,
        streams: [Some(stream), None, None, None],
        payloads: PayloadMap::single([(0, 0)]),
        media: [
            Some(MediumSpec {
                egress_local: leaving.remote,
                egress_remote: leaving.local,
                dscp: 46,
                max_packets_per_s: 0,
            }),
            None,
        ],
        extensions: ExtensionMap::EMPTY,
    };
    let egress = Egress {
        exit: Exit::Tx,
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        vlan: None,
        ttl: 255,
        mtu: 1500,
    };
    Ok(FlowEntry::new(&spec, 1, &[Some(egress), None])?)
}

fn keys(suite: Suite) -> SrtpKeys {
    SrtpKeys::new(
        suite,
        &SessionKey {
            cipher: [0x11; 32],
            auth: [0x22; 20],
            salt: [0x33; 14],
        },
    )
}

pub(crate) fn rtp(sequence: u16, payload_bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(SSRC.to_be_bytes());
    packet.resize(12 + payload_bytes, 0x55);
    packet
}
