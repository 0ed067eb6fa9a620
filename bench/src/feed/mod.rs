//! Packets for a device under test as a network driver hands them over, and a sink that costs next to nothing.
//!
//! From local sockets a veth copies every packet into an XDP frame, at the cost of the device behind it, and a generator of sockets
//! ends at some 280 000 packets a second. Here all packets of a run are recorded beforehand (SRTP really encrypted) in a BPF map, and
//! a program run by BPF_PROG_TEST_RUN on live frames turns the kernel's own frames into them, each at its time, and redirects them
//! into the veth towards the device. Where they come out another program notes the time and drops them. The send and arrival times
//! of each packet are kept by its SSRC and sequence number, which encryption leaves readable, in a third map; a sample of the
//! packets is checked byte by byte afterwards, decrypted where they come as SRTP.
//!
//! The programs are `ebpf/src/bed/main.rs`. UDP checksums are left out (RFC 768), since a card would have checked them.

pub mod layout;
mod tape;

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aya::maps::xdp::DevMap;
use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use nix::time::ClockId;
use serde::Serialize;

use crate::load::{Latency, MasterKey, clock, enter};
use layout::{HEADERS, PACKET, TIMES_BITS, VALUE, plan, sink, source};
use tape::Tape;
pub use tape::{Front, Recording};

/// Words of a value of the times.
const WORDS: usize = VALUE / 8;
/// Frames that the kernel prepares at once.
const BATCH: u32 = 64;
/// Runs of the source in a system call that is to take a [`MILLISECOND`]: what one takes differs by kernel and CPU. In a longer call the sink,
/// which has to wait for its end, would lose what a veth's 256 frames do not hold.
const MILLISECOND_RUNS: std::ops::RangeInclusive<u32> = 1_000..=25_000;
const MILLISECOND: Duration = Duration::from_micros(900);
/// And in one of some 20 ms.
const LONG_RUNS: u32 = 300_000;
/// What it is waited for the kernel where it has no more pools of pages.
const POOLS_RETURN: Duration = Duration::from_millis(100);
/// What a system call takes until the source's first run.
const HEAD_START_NS: u64 = 4_000;
/// From the start to the first packet.
const LEAD_NS: u64 = 2_000_000;
/// What is on its way at the end gets so long to arrive.
const DRAIN: Duration = Duration::from_millis(300);
/// And then is waited for no longer once nothing more has come for so long.
const QUIET: Duration = Duration::from_millis(40);
/// A run that takes so much longer than it should is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Source and sinks, loaded.
pub struct Feed {
    bpf: Ebpf,
    tape_values: u32,
    packets: usize,
    tape: Option<Tape>,
    devices: u32,
    runs: u64,
}

/// A piece of the recording, played at a pace.
#[derive(Clone, Debug)]
pub struct Play {
    /// Sequence number of the first packet of each stream, counted from the recording's first.
    pub first: usize,
    /// Packets of each stream.
    pub per_stream: usize,
    /// Packets per second of all streams.
    pub pps: f64,
    /// Packets that leave at once.
    pub burst: usize,
    /// Share of the packets at the beginning that do not count.
    pub warm_up: f64,
    /// The device by which they leave, as [`Feed::attach`] numbered it.
    pub device: u32,
    /// How source and sink share their CPU.
    pub turns: Turns,
    /// What arrives later than this is late and counts as lost.
    pub late: Duration,
}

/// How source and sink share their CPU.
///
/// The device wakes the sink up. Where that preempts the source, it is an interrupt sent to another CPU, which under a hypervisor costs
/// the device several times what forwarding a packet does. Where the source is no less urgent than the sink, nothing is sent, and the
/// sink has its turn when the source gives the CPU away: at the end of a system call. But every call leaves a pool of pages behind for
/// a second, and more than a few thousand of them slow the kernel down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// A call for each burst: no more than some 3000 a second. The calling thread is as urgent as the sink's.
    Bursts,
    /// A call for each millisecond: delays cannot be measured, and a veth's 256 frames are filled at 250 000 packets a second. Again as
    /// urgent as the sink.
    Milliseconds,
    /// The sink preempts the source after so many runs, each of which waits so long (in readings of the clock) for its packet. The
    /// calling thread is less urgent than the sink's.
    Preempted {
        /// Runs, 256 at most.
        batch: u32,
        /// Readings of the clock, 64 at most.
        patience: u64,
    },
}

/// Parts of a run whose losses are told apart.
const PARTS: usize = 10;

/// What came of it; packets of the warm-up are in `total` and in nothing else.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// Packets that count.
    pub sent: u64,
    /// Their rate.
    pub sent_pps: f64,
    /// Packets that arrived in time.
    pub received: u64,
    /// Packets that arrived too late.
    pub late: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Lost or late, in percent of those sent.
    pub loss_percent: f64,
    /// The same of the middle one of ten parts of the run: a moment in which the host took the CPU away is not in it.
    pub usual_loss_percent: f64,
    /// Packets that arrived again.
    pub again: u64,
    /// RTP that is none of this run.
    pub foreign: u64,
    /// Bursts that were late because the source's CPU was taken away.
    pub slips: u64,
    /// Packets whose content was checked.
    pub checked: u64,
    /// Of these, the ones that were not what was sent.
    pub corrupt: u64,
    /// One-way delay.
    pub latency: Latency,
    /// All packets sent, those of the warm-up too.
    pub total: u64,
}

impl Feed {
    /// Loads the object at `path`, with room for `tape_bytes` of recorded packets and for `packets` times.
    ///
    /// # Errors
    /// The object cannot be read, the verifier refuses it, or privileges are missing.
    pub fn load(path: &Path, tape_bytes: usize, packets: usize) -> anyhow::Result<Self> {
        let tape_values = u32::try_from(tape_bytes.div_ceil(VALUE))?;
        let times = u32::try_from(packets.div_ceil(1 << TIMES_BITS))?;
        let mut bpf = EbpfLoader::new()
            .map_max_entries("TAPE", tape_values)
            .map_max_entries("TIMES", times)
            .map_max_entries("FRONTS", tape::MAX_STREAMS)
            .load_file(path)
            .with_context(|| format!("loading {}", path.display()))?;
        for name in ["feed", "drain"] {
            let program: &mut Xdp = bpf
                .program_mut(name)
                .context("no such program")?
                .try_into()?;
            program
                .load()
                .with_context(|| format!("verifying {name}"))?;
        }
        Ok(Self {
            bpf,
            tape_values,
            packets,
            tape: None,
            devices: 0,
            runs: 0,
        })
    }

    /// Makes a device of a namespace a place where packets leave and where they come out; returns its number.
    ///
    /// # Errors
    /// There is no such device, or it takes no program.
    pub fn attach(&mut self, namespace: &Path, device: &str) -> anyhow::Result<u32> {
        let number = self.devices;
        self.devices += 1;
        std::thread::scope(|scope| {
            let attached = scope.spawn(|| {
                enter(namespace)?;
                let program: &mut Xdp = self.program("drain")?;
                program
                    .attach(device, XdpMode::Driver)
                    .with_context(|| format!("sink on {device}"))?;
                let index = nix::net::if_::if_nametoindex(device)?;
                let mut devices = DevMap::try_from(self.map("DEVICES")?)?;
                devices.set(number, index, None, 0)?;
                anyhow::Ok(())
            });
            attached
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(number)
    }

    /// Lets the kernel prepare for the source once instead of at every call: it does so for programs that are attached somewhere.
    ///
    /// # Errors
    /// There is no such device, or it takes no program.
    pub fn keep_ready(&mut self, namespace: &Path, device: &str) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let attached = scope.spawn(|| {
                enter(namespace)?;
                self.program("feed")?.attach(device, XdpMode::Driver)?;
                anyhow::Ok(())
            });
            attached
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// How many packets of a length have room.
    pub fn room(&self, length: usize) -> usize {
        (tape::per_value(length) * self.tape_values as usize).min(self.packets)
    }

    /// Records packets in place of those of before; nothing happens where they are the same.
    ///
    /// # Errors
    /// They do not fit.
    pub fn record(&mut self, recording: &Recording) -> anyhow::Result<()> {
        if self.tape.as_ref().is_some_and(|tape| tape.is(recording)) {
            return Ok(());
        }
        let tape = Tape::new(recording, self.tape_values as usize)?;
        let mut values: Array<_, [u8; VALUE]> = self.array("TAPE")?;
        tape.write(|index, value| Ok(values.set(index, value, 0)?))?;
        self.tape = Some(tape);
        Ok(())
    }

    /// Sets the headers in front of the packets of each stream, and the keys under which they come out: one for all streams or one for
    /// each, none where RTP comes out.
    ///
    /// # Errors
    /// There are too many.
    pub fn address(&mut self, fronts: &[Front], keys: &[MasterKey]) -> anyhow::Result<()> {
        let tape = self.tape.as_mut().context("nothing is recorded")?;
        tape.expect(keys)?;
        let length = tape.length();
        let mut values: Array<_, [u8; 64]> = self.array("FRONTS")?;
        for (stream, front) in fronts.iter().enumerate() {
            values.set(u32::try_from(stream)?, front.bytes(length)?, 0)?;
        }
        Ok(())
    }

    /// Plays a piece of the recording with the calling thread, which stays on its CPU all the time, and waits for what is on its way.
    ///
    /// # Errors
    /// The piece is none of the recording, or the kernel refuses.
    pub fn play(&mut self, play: &Play) -> anyhow::Result<Played> {
        let tape = self.tape.as_ref().context("nothing is recorded")?;
        let streams = tape.streams();
        let (first, end) = (
            play.first * streams,
            (play.first + play.per_stream) * streams,
        );
        ensure!(
            end <= tape.packets() && end > first && play.burst > 0,
            "packets {first} to {end} of a recording of {}",
            tape.packets()
        );
        let frame = vec![0; HEADERS + tape.length() + layout::SPARE as usize];
        let mut places = [0; plan::PLACES];
        places[plan::FIRST] = first as u64;
        places[plan::END] = end as u64;
        places[plan::STREAMS] = streams as u64;
        places[plan::LENGTH] = tape.length() as u64;
        places[plan::STRIDE] = tape.stride() as u64;
        places[plan::BURST] = play.burst as u64;
        places[plan::BURST_NS] = (play.burst as f64 * 1e9 / play.pps) as u64;
        places[plan::FIRST_SSRC] = u64::from(tape.first_ssrc());
        places[plan::FIRST_SEQUENCE] = u64::from(tape.first_sequence());
        places[plan::DEVICE] = u64::from(play.device);
        if let Turns::Preempted { patience, .. } = play.turns {
            places[plan::PATIENCE] = patience;
        }
        self.runs += 1;
        places[plan::RUN] = self.runs;
        let (value, offset) = tape.place(first);
        let mut state = [0; source::PLACES];
        state[source::NEXT] = first as u64;
        state[source::VALUE] = value as u64;
        state[source::OFFSET] = offset as u64;
        state[source::DUE] = clock(ClockId::CLOCK_MONOTONIC)? + LEAD_NS;
        self.array::<[u64; plan::PLACES]>("PLAN")?
            .set(0, places, 0)?;
        let unseen = [0; sink::PLACES];
        self.array::<[u64; sink::PLACES]>("SINK")?
            .set(0, unseen, 0)?;
        self.array::<[u64; source::PLACES]>("SOURCE")?
            .set(0, state, 0)?;

        state = self.run_source(play, &frame, state, end)?;
        self.drained((end - first) as u64)?;
        self.outcome(play, first..end, state[source::SLIPS])
    }

    /// Runs the source until it has sent everything; returns its last state.
    fn run_source(
        &mut self,
        play: &Play,
        frame: &[u8],
        mut state: [u64; source::PLACES],
        end: usize,
    ) -> anyhow::Result<[u64; source::PLACES]> {
        let seconds = Duration::from_secs_f64((end as u64 - state[source::NEXT]) as f64 / play.pps);
        let deadline = Instant::now() + 3 * seconds + PATIENCE;
        let mut millisecond_runs = *MILLISECOND_RUNS.end() / 4;
        while state[source::NEXT] < end as u64 {
            if play.turns == Turns::Bursts
                && state[source::LEFT] == 0
                && clock(ClockId::CLOCK_MONOTONIC)? + HEAD_START_NS < state[source::DUE]
            {
                std::thread::yield_now();
                continue;
            }
            let (repeat, batch) = match play.turns {
                Turns::Bursts => (play.burst as u32, (play.burst as u32).min(BATCH)),
                Turns::Milliseconds => (millisecond_runs, BATCH),
                Turns::Preempted { batch, .. } => (LONG_RUNS, batch),
            };
            let options = TestRunOptions {
                data_in: Some(frame),
                repeat,
                attrs: TestRunAttrs::new().xdp_live_frames(batch),
                ..TestRunOptions::new()
            };
            let called = Instant::now();
            match self.program("feed")?.test_run(options) {
                Ok(_) => {
                    millisecond_runs = fitting(millisecond_runs, called.elapsed());
                    std::thread::yield_now();
                }
                // Every call has a pool of pages, which the kernel takes back a second later; there are 65534 at most.
                Err(ProgramError::SyscallError(error))
                    if error.io_error.kind() == ErrorKind::StorageFull =>
                {
                    std::thread::sleep(POOLS_RETURN);
                }
                Err(error) => return Err(error.into()),
            }
            state = self.array("SOURCE")?.get(&0, 0)?;
            ensure!(
                Instant::now() < deadline,
                "the source stands still at {}",
                state[source::NEXT]
            );
        }
        Ok(state)
    }

    /// Waits until all has arrived, or nothing more comes.
    fn drained(&mut self, sent: u64) -> anyhow::Result<()> {
        let end = Instant::now() + DRAIN;
        let (mut before, mut since) = (u64::MAX, Instant::now());
        while Instant::now() < end {
            let seen: [u64; sink::PLACES] = self.array("SINK")?.get(&0, 0)?;
            let arrived = seen[sink::ARRIVED];
            if arrived >= sent {
                break;
            }
            if arrived != before {
                (before, since) = (arrived, Instant::now());
            } else if since.elapsed() > QUIET && arrived > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn outcome(
        &mut self,
        play: &Play,
        packets: std::ops::Range<usize>,
        slips: u64,
    ) -> anyhow::Result<Played> {
        let counted = packets.start + (packets.len() as f64 * play.warm_up) as usize;
        let late_ns = play.late.as_nanos() as u64;
        let times: Array<_, [u64; WORDS]> = self.array("TIMES")?;
        let mut delays = Vec::with_capacity(packets.end - counted);
        let (mut first_at, mut last_at) = (u64::MAX, 0);
        let mut late = 0;
        let sent = (packets.end - counted) as u64;
        let mut missing = [0; PARTS];
        for value in counted >> TIMES_BITS..=(packets.end - 1) >> TIMES_BITS {
            let words = times.get(&u32::try_from(value)?, 0)?;
            for (place, pair) in words.chunks_exact(2).enumerate() {
                let index = (value << TIMES_BITS) + place;
                if !(counted..packets.end).contains(&index) {
                    continue;
                }
                first_at = first_at.min(pair[0]);
                last_at = last_at.max(pair[0]);
                let part = (index - counted) * PARTS / sent as usize;
                let delay = pair[1].saturating_sub(pair[0]);
                let in_time = pair[1] != 0 && delay <= late_ns;
                missing[part] += u64::from(!in_time);
                if pair[1] != 0 {
                    late += u64::from(!in_time);
                    delays.push(delay);
                }
            }
        }
        missing.sort_unstable();
        let arrived = delays.len() as u64;
        let span = last_at.saturating_sub(first_at).max(1) as f64 / 1e9;
        let seen: [u64; sink::PLACES] = self.array("SINK")?.get(&0, 0)?;
        let (checked, corrupt) = self.check(packets.clone())?;
        Ok(Played {
            sent,
            sent_pps: sent.saturating_sub(1) as f64 / span,
            received: arrived - late,
            late,
            lost: sent - arrived,
            loss_percent: 100.0 * (sent - arrived + late) as f64 / sent as f64,
            usual_loss_percent: 100.0 * (missing[PARTS / 2] * PARTS as u64) as f64 / sent as f64,
            again: seen[sink::AGAIN],
            foreign: seen[sink::FOREIGN],
            slips,
            checked,
            corrupt,
            latency: Latency::of(&mut delays),
            total: packets.len() as u64,
        })
    }

    /// Packets of the sample, and how many of them are not what was sent.
    fn check(&mut self, packets: std::ops::Range<usize>) -> anyhow::Result<(u64, u64)> {
        let run = self.runs as usize;
        let kept: Array<_, [u8; PACKET]> = self.array("KEPT")?;
        let mut samples = Vec::new();
        for place in 0..layout::SAMPLES as u32 {
            let value = kept.get(&place, 0)?;
            let word = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&value[at..at + 8]);
                u64::from_ne_bytes(bytes) as usize
            };
            let (mark, length) = (word(0), word(8));
            let index = mark & ((1 << layout::RUN_BITS) - 1);
            if mark >> layout::RUN_BITS == run && packets.contains(&index) {
                let bytes = &value[layout::SAMPLE_BYTES..][..length];
                samples.push((index, bytes.to_vec()));
            }
        }
        samples.sort_unstable();
        let tape = self.tape.as_mut().context("nothing is recorded")?;
        let wrong = samples
            .iter()
            .filter(|(index, bytes)| !tape.is_intact(*index, bytes))
            .count();
        Ok((samples.len() as u64, wrong as u64))
    }

    fn program(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        let program = self.bpf.program_mut(name);
        Ok(program
            .with_context(|| format!("no program {name}"))?
            .try_into()?)
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.bpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))
    }

    fn array<V: Pod>(&mut self, name: &str) -> anyhow::Result<Array<&mut MapData, V>> {
        Ok(Array::try_from(self.map(name)?)?)
    }
}

/// How many runs take a millisecond, after so many took so long: a step towards it, since a call may have been interrupted.
fn fitting(runs: u32, took: Duration) -> u32 {
    let share = MILLISECOND.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let next = f64::from(runs) * share.clamp(0.8, 1.25);
    (next as u32).clamp(*MILLISECOND_RUNS.start(), *MILLISECOND_RUNS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_to_take_a_millisecond() {
        for ns_per_run in [40, 100, 400] {
            let mut runs = *MILLISECOND_RUNS.end();
            for _ in 0..20 {
                runs = fitting(runs, Duration::from_nanos(u64::from(runs) * ns_per_run));
            }
            let took = Duration::from_nanos(u64::from(runs) * ns_per_run);
            assert!((850..=1050).contains(&took.as_micros()), "{took:?}");
        }
    }
}
