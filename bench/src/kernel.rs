//! The XDP program in the kernel without a network: loaded, its maps filled, run by
//! BPF_PROG_TEST_RUN on frames in memory.
//!
//! Used by [`crate::testrun`] for speed and by the `tests` crate to hold the kernel against the
//! host. Needs root or CAP_BPF.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use aya::maps::xdp::CpuMap;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use flow::{
    ABI, ENTRY_PROGRAM, FlowEntry, FlowEvent, FlowKey, FlowRef, FlowState, FlowStats, Guard,
    KeystreamRing, Spread, TAIL_PROGRAMS, TAKEN_PROGRAM, TAKEN_PROGRAMS, Why,
};

/// `BPF_F_LOCK`: a value with a spin lock is read and written under it.
const UNDER_LOCK: u64 = 4;
/// Room for a frame that grew.
const FRAME_BYTES: usize = 4096;

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The XDP action.
    pub action: Action,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// Average time of one run by the kernel's clock, nanoseconds.
    pub nanoseconds: u64,
}

/// XDP actions that the program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// XDP_DROP.
    Drop,
    /// XDP_PASS.
    Pass,
    /// XDP_TX.
    Tx,
    /// XDP_REDIRECT.
    Redirect,
}

/// The loaded program.
pub struct Kernel {
    bpf: Ebpf,
}

impl Kernel {
    /// Loads the object at `path` with room for `slots` flows.
    ///
    /// # Errors
    /// The object cannot be read, the verifier refuses it, or privileges are missing.
    pub fn load(path: &Path, slots: u32) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        for map in ["FLOWS", "ENTRIES", "STATES", "STATS", "KEYSTREAM"] {
            loader.map_max_entries(map, slots);
        }
        loader.map_max_entries(
            "CPUS",
            u32::try_from(aya::util::nr_cpus().map_err(|(_, error)| error)?)?,
        );
        let bpf = loader
            .load_file(path)
            .with_context(|| format!("loading {}", path.display()))?;
        let mut kernel = Self { bpf };
        kernel
            .program(ENTRY_PROGRAM)?
            .load()
            .context("verifying the XDP program")?;
        for (place, name) in (0..).zip(TAIL_PROGRAMS) {
            let program = kernel.program(name)?;
            program
                .load()
                .with_context(|| format!("verifying the XDP program {name}"))?;
            let program = program.fd()?.try_clone()?;
            ProgramArray::try_from(kernel.map("PROGRAMS")?)?.set(place, &program, 0)?;
        }
        kernel.array::<u32>("CONFIG")?.set(0, ABI, 0)?;
        Ok(kernel)
    }

    /// Instructions that the verifier processed for the largest of the programs.
    ///
    /// # Errors
    /// The kernel does not tell (before 5.16).
    pub fn verified_instructions(&mut self) -> anyhow::Result<u32> {
        let mut most = 0;
        for name in TAIL_PROGRAMS.into_iter().chain([ENTRY_PROGRAM]) {
            let processed = self.program(name)?.info()?.verified_instruction_count();
            most = most.max(processed.context("the kernel does not tell processed instructions")?);
        }
        Ok(most)
    }

    /// Puts a flow into a slot, its state seeded and its counters at zero.
    ///
    /// # Errors
    /// The slot is out of range or a map refuses.
    pub fn install(
        &mut self,
        key: &FlowKey,
        at: FlowRef,
        entry: &FlowEntry,
        state: &FlowState,
    ) -> anyhow::Result<()> {
        self.array::<FlowEntry>("ENTRIES")?.set(at.slot, entry, 0)?;
        self.array::<FlowState>("STATES")?
            .set(at.slot, state, UNDER_LOCK)?;
        self.array::<FlowStats>("STATS")?
            .set(at.slot, FlowStats::new(), 0)?;
        let mut flows: HashMap<_, FlowKey, FlowRef> = HashMap::try_from(self.map("FLOWS")?)?;
        flows.insert(key, at, 0)?;
        Ok(())
    }

    /// Replaces a keystream ring.
    ///
    /// # Errors
    /// There is no such ring.
    pub fn set_keystream(&mut self, ring: u32, content: &KeystreamRing) -> anyhow::Result<()> {
        let mut rings = self.array::<[u8; size_of::<KeystreamRing>()]>("KEYSTREAM")?;
        Ok(rings.set(ring, content.image(), 0)?)
    }

    /// Allows redirection to an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn allow_device(&mut self, ifindex: u32) -> anyhow::Result<()> {
        let mut devices: aya::maps::DevMapHash<_> = self.map("DEVICES")?.try_into()?;
        devices.insert(ifindex, ifindex, None, 0)?;
        Ok(())
    }

    /// Spreads flows over CPUs; so many instructions the verifier processed for the largest program of a CPU that takes packets over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn spread(&mut self, cpus: &[u32]) -> anyhow::Result<u32> {
        let mut most = 0;
        for (place, name) in TAKEN_PROGRAMS
            .into_iter()
            .chain([TAKEN_PROGRAM])
            .enumerate()
        {
            let program = self.program(name)?;
            program
                .load()
                .with_context(|| format!("verifying the XDP program {name}"))?;
            let processed = program.info()?.verified_instruction_count();
            most = most.max(processed.unwrap_or_default());
            let program = program.fd()?.try_clone()?;
            if name == TAKEN_PROGRAM {
                let mut queues = CpuMap::try_from(self.map("CPUS")?)?;
                for cpu in cpus {
                    queues.set(*cpu, 64, Some(&program), 0)?;
                }
            } else {
                let mut programs = ProgramArray::try_from(self.map("TAKEN_PROGRAMS")?)?;
                programs.set(u32::try_from(place)?, &program, 0)?;
            }
        }
        self.array("SPREAD")?.set(0, Spread::new(cpus), 0)?;
        Ok(most)
    }

    /// Guards ports against floods.
    ///
    /// # Errors
    /// The map refuses.
    pub fn guard(&mut self, guard: &Guard) -> anyhow::Result<()> {
        Ok(self.array::<Guard>("GUARD")?.set(0, guard, 0)?)
    }

    /// State of a slot.
    ///
    /// # Errors
    /// The slot is out of range.
    pub fn state(&mut self, slot: u32) -> anyhow::Result<FlowState> {
        Ok(self.array("STATES")?.get(&slot, UNDER_LOCK)?)
    }

    /// Counters of a slot.
    ///
    /// # Errors
    /// The slot is out of range.
    pub fn stats(&mut self, slot: u32) -> anyhow::Result<FlowStats> {
        Ok(self.array("STATS")?.get(&slot, 0)?)
    }

    /// Packets that left for a reason, over all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counted(&mut self, why: Why) -> anyhow::Result<u64> {
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(self.map("COUNTERS")?)?;
        Ok(counters.get(&(why as u32), 0)?.iter().sum())
    }

    /// What the program told since the last call.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn events(&mut self) -> anyhow::Result<Vec<FlowEvent>> {
        let mut ring = RingBuf::try_from(self.map("EVENTS")?)?;
        let mut events = Vec::new();
        while let Some(bytes) = ring.next() {
            events.push(FlowEvent::read(&bytes).context("not an event of this build")?);
        }
        Ok(events)
    }

    /// Runs the program `repeat` times, each time on what the time before left.
    ///
    /// # Errors
    /// The kernel refuses the frame (shorter than an Ethernet header, longer than a page).
    pub fn run(&self, frame: &[u8], repeat: u32) -> anyhow::Result<Outcome> {
        let mut out = vec![0; FRAME_BYTES];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat,
            ..TestRunOptions::new()
        };
        let program = self
            .bpf
            .program(ENTRY_PROGRAM)
            .context("no such program in the object")?;
        let program: &Xdp = program.try_into()?;
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Tx,
            4 => Action::Redirect,
            other => bail!("the program answered {other}"),
        };
        Ok(Outcome {
            action,
            frame: out,
            nanoseconds: u64::try_from(result.duration.as_nanos())?,
        })
    }

    fn program(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        let program = self
            .bpf
            .program_mut(name)
            .with_context(|| format!("no program {name} in the object"))?;
        Ok(program.try_into()?)
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut Map> {
        self.bpf
            .map_mut(name)
            .with_context(|| format!("no map {name} in the object"))
    }

    fn array<V: Pod>(&mut self, name: &str) -> anyhow::Result<Array<&mut MapData, V>> {
        Ok(Array::try_from(self.map(name)?)?)
    }
}

/// An Ethernet frame with an IPv4 or IPv6 UDP datagram from `key.remote` to `key.local`, checksums left out.
///
/// # Errors
/// The payload is too long for a datagram, or the addresses are of different families.
pub fn udp_frame(key: &FlowKey, ttl: u8, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let udp_bytes = u16::try_from(8 + payload.len())?;
    ensure!(
        key.local.addr.is_v4() == key.remote.addr.is_v4(),
        "addresses of different families"
    );
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if key.local.addr.is_v4() {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + udp_bytes).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, ttl, 17, 0, 0]);
        frame.extend(&key.remote.addr.0[12..]);
        frame.extend(&key.local.addr.0[12..]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp_bytes.to_be_bytes());
        frame.extend([17, ttl]);
        frame.extend(key.remote.addr.0);
        frame.extend(key.local.addr.0);
    }
    frame.extend(key.remote.port.0);
    frame.extend(key.local.port.0);
    frame.extend(udp_bytes.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    Ok(frame)
}
