//! Loads the XDP program and attaches it, with link and maps pinned in `<pin_dir>/v<ABI>/`.
//!
//! Pins let media outlive the daemon one day; for now a start removes what a dead daemon left (its program, too), and a stop
//! removes our own. A lock on the directory tells a dead daemon from one that runs.

use super::maps::{self, Counters, Maps, Room};
use super::netlink::{Link, Netlink};
use super::spread::{self, Cpus, SpreadReport};
use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramError, Xdp, XdpMode};
use flow::{ENTRY_PROGRAM, TAIL_PROGRAMS};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The object that the daemon was built with; empty without one.
pub(crate) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/causeway-xdp"));

/// The program on its interfaces. Dropping it detaches and unpins.
pub(crate) struct Attachment {
    /// Interfaces with the program.
    pub(crate) interfaces: Vec<Link>,
    /// Over which CPUs their flows are spread.
    pub(crate) spread: SpreadReport,
    links: Vec<PinnedLink>,
    log: ProgramLog,
    /// Keeps the program loaded.
    _ebpf: Ebpf,
    /// Cleared last.
    _pins: Pins,
}

impl Attachment {
    /// Names of the interfaces, for people.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self
            .interfaces
            .iter()
            .map(|link| link.name.as_str())
            .collect();
        names.join(", ")
    }

    /// Hands on what the program has logged.
    pub(crate) fn flush_log(&mut self) {
        if let Some(flush) = &mut self.log.flush {
            flush();
        }
    }

    /// Their indices.
    pub(crate) fn indices(&self) -> HashSet<u32> {
        self.interfaces.iter().map(|link| link.index).collect()
    }
}

/// What the program logs, with the feature `xdp-log` on both sides; nothing without.
struct ProgramLog {
    flush: Option<Box<dyn FnMut() + Send>>,
}

impl ProgramLog {
    /// Before the program is loaded, which refers to the map of the log.
    #[cfg(feature = "xdp-log")]
    fn open(ebpf: &mut Ebpf) -> Self {
        let logger = aya_log::EbpfLogger::init(ebpf);
        let logger = logger.inspect_err(|error| {
            tracing::warn!(%error, "the XDP object was built without the feature xdp-log");
        });
        let flush = logger
            .ok()
            .map(|mut logger| Box::new(move || logger.flush()) as _);
        Self { flush }
    }

    #[cfg(not(feature = "xdp-log"))]
    fn open(_: &mut Ebpf) -> Self {
        Self { flush: None }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Closing an unpinned link detaches the program.
        for link in self.links.drain(..) {
            if let Err(error) = link.unpin() {
                tracing::warn!(%error, "XDP link not unpinned");
            }
        }
    }
}

/// Loads and attaches; what it returns is live, but passes every packet until flows are published.
///
/// # Errors
/// One sentence that says what is missing.
pub(crate) fn attach(
    object: &[u8],
    mode: XdpMode,
    interfaces: Vec<Link>,
    pin_dir: &Path,
    room: Room,
    cpus: &Cpus,
) -> anyhow::Result<(Attachment, Maps, Counters)> {
    if object.is_empty() {
        bail!("this daemon was built without the XDP program");
    }
    let pins = Pins::prepare(pin_dir)?;
    let mut ebpf = maps::load(object, room)?;
    let log = ProgramLog::open(&mut ebpf);
    // Before the maps are taken: until then the program knows them by their descriptors only.
    load_programs(&mut ebpf)?;
    let spread = spread_over(&mut ebpf, spread::plan(cpus, &interfaces));
    let (mut maps, counters) = Maps::take(&mut ebpf, &pins.directory)?;
    for (place, name) in (0..).zip(TAIL_PROGRAMS) {
        maps.add_program(place, program(&mut ebpf, name)?.fd()?)?;
    }
    let program = program(&mut ebpf, ENTRY_PROGRAM)?;
    let mut links = Vec::new();
    for link in &interfaces {
        links.push(attach_one(program, link, mode, &pins.directory)?);
        maps.add_device(link.index)
            .with_context(|| format!("{} cannot be redirected to", link.name))?;
    }
    let attachment = Attachment {
        interfaces,
        spread,
        links,
        log,
        _ebpf: ebpf,
        _pins: pins,
    };
    Ok((attachment, maps, counters))
}

/// Spreads flows as planned where the kernel lets us.
fn spread_over(ebpf: &mut Ebpf, plan: SpreadReport) -> SpreadReport {
    if plan.cpus.is_empty() {
        return plan;
    }
    let started = spread::load(ebpf).and_then(|()| spread::start(ebpf, &plan.cpus));
    match started {
        Ok(()) => plan,
        Err(error) => {
            let reason = format!("off, because {error:#}");
            tracing::warn!(%reason, "flows are not spread over CPUs");
            SpreadReport {
                reason,
                ..SpreadReport::default()
            }
        }
    }
}

/// Whether the kernel takes object, maps and programs, and what becomes of spreading over CPUs; nothing stays.
///
/// # Errors
/// What it refuses.
pub(crate) fn try_load(
    object: &[u8],
    room: Room,
    plan: SpreadReport,
) -> anyhow::Result<SpreadReport> {
    let mut ebpf = maps::load(object, room)?;
    load_programs(&mut ebpf)?;
    Ok(spread_over(&mut ebpf, plan))
}

fn load_programs(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    for name in TAIL_PROGRAMS.into_iter().chain([ENTRY_PROGRAM]) {
        load_program(ebpf, name)?;
    }
    Ok(())
}

/// Has the kernel verify one program.
///
/// # Errors
/// It refuses.
pub(crate) fn load_program(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<()> {
    let mut loaded = program(ebpf, name)?.load();
    if let Err(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = loaded
    {
        tracing::debug!(name, %verifier_log, "the verifier refused the XDP program");
        loaded = Err(ProgramError::IOError(io_error));
    }
    loaded.with_context(|| format!("the kernel refused the XDP program {name}"))
}

/// A program of the object.
///
/// # Errors
/// There is none of that name.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name);
    let program = program.with_context(|| format!("the XDP object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn attach_one(
    program: &mut Xdp,
    link: &Link,
    mode: XdpMode,
    pins: &Path,
) -> anyhow::Result<PinnedLink> {
    let name = &link.name;
    let id = program
        .attach_to_if_index(link.index, mode)
        .map_err(|error| anyhow::anyhow!("{name}: {}", explain(&error)))?;
    // aya falls back to a netlink attachment, which ends with the daemon and cannot be replaced atomically: refused. Dropping it
    // detaches the program.
    let fd = FdLink::try_from(program.take_link(id)?).with_context(|| {
        format!("{name}: the driver or kernel has no bpf_link for XDP in this mode")
    })?;
    let path = pins.join(format!("link-{name}"));
    fd.pin(&path)
        .with_context(|| format!("cannot pin {}", path.display()))
}

/// Why a program cannot be attached, in words.
fn explain(error: &ProgramError) -> String {
    let errno = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    explain_errno(errno).map_or_else(|| error.to_string(), str::to_owned)
}

/// What an error number of an XDP attachment means.
pub(crate) fn explain_errno(errno: Option<i32>) -> Option<&'static str> {
    Some(match errno? {
        libc::EBUSY => "another XDP program is attached",
        libc::EOPNOTSUPP => "the driver has no native XDP, or an offload (LRO) forbids it",
        libc::EINVAL | libc::ERANGE => {
            "the driver refuses native XDP with these settings (MTU, LRO or queues)"
        }
        libc::EPERM | libc::EACCES => "not permitted: CAP_NET_ADMIN and CAP_BPF are needed",
        _ => return None,
    })
}

/// The interfaces to attach to: the configured ones, else those that own the media addresses; for a VLAN interface the device
/// below it. Also whether `lo` was left out because it is only good for generic XDP.
///
/// # Errors
/// A configured interface does not exist, or nothing is left.
pub(crate) fn choose(
    netlink: &mut Netlink,
    configured: &[String],
    owners: &HashMap<IpAddr, String>,
    with_loopback: bool,
) -> anyhow::Result<Vec<Link>> {
    let links = netlink.links()?;
    let mut names: Vec<String> = if configured.is_empty() {
        owners.values().cloned().collect()
    } else {
        configured.to_vec()
    };
    if names.is_empty() {
        bail!("no interface owns the media addresses");
    }
    names.sort_unstable();
    names.dedup();
    let mut chosen: Vec<Link> = Vec::new();
    for name in &names {
        let link = links
            .iter()
            .find(|link| link.name == *name)
            .with_context(|| format!("there is no interface {name}"))?;
        let below = link
            .vlan
            .and_then(|(index, _)| links.iter().find(|l| l.index == index));
        let link = below.unwrap_or(link);
        if (with_loopback || !link.loopback) && !chosen.contains(link) {
            chosen.push(link.clone());
        }
    }
    if chosen.is_empty() {
        bail!("the media addresses are on the loopback interface");
    }
    Ok(chosen)
}

/// Which interface owns each of our addresses.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn owners(addresses: &[IpAddr]) -> anyhow::Result<HashMap<IpAddr, String>> {
    let mut owners = HashMap::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else {
            continue;
        };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        // All of 127.0.0.0/8 is ours, though only 127.0.0.1 is listed.
        for wanted in addresses {
            if *wanted == ip || (wanted.is_loopback() && ip.is_loopback()) {
                owners.insert(*wanted, interface.interface_name.clone());
            }
        }
    }
    Ok(owners)
}

/// The directory of pins, locked.
struct Pins {
    /// The configured one, locked.
    root: PathBuf,
    /// The one of this ABI in it.
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    fn prepare(pin_dir: &Path) -> anyhow::Result<Self> {
        let parent = pin_dir
            .parent()
            .context("[datapath] pin_dir has no parent directory")?;
        if !is_bpffs(parent) {
            mount(
                Some("bpf"),
                parent,
                Some("bpf"),
                MsFlags::empty(),
                Some("mode=0700"),
            )
            .with_context(|| {
                format!(
                    "no bpffs is mounted at {} and none can be",
                    parent.display()
                )
            })?;
        }
        make_directory(pin_dir)?;
        let opened = File::open(pin_dir)?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
            .map_err(|_| anyhow::anyhow!("another causeway is running on {}", pin_dir.display()))?;
        // Of every layout version: none of their daemons runs any more.
        for stale in fs::read_dir(pin_dir)? {
            clear(&stale?.path());
        }
        let directory = pin_dir.join(format!("v{}", flow::ABI));
        make_directory(&directory)?;
        Ok(Self {
            root: pin_dir.to_owned(),
            directory,
            _lock: lock,
        })
    }
}

impl Drop for Pins {
    /// Also after a start that failed half-way.
    fn drop(&mut self) {
        clear(&self.directory);
        // Stays where the operator keeps other things in it.
        let _ = fs::remove_dir(&self.root);
    }
}

/// Whether a path lies on a bpffs.
pub(crate) fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Session keys are in the pinned maps: nobody but us may open them.
fn make_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot create {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, mode).with_context(|| format!("cannot protect {}", path.display()))
}

/// Removes a directory of pins; links detach with their last pin.
fn clear(directory: &Path) {
    let pins = fs::read_dir(directory).into_iter().flatten().flatten();
    for pin in pins {
        if let Err(error) = fs::remove_file(pin.path()) {
            tracing::warn!(pin = %pin.path().display(), %error, "pin not removed");
        }
    }
    if let Err(error) = fs::remove_dir(directory) {
        tracing::warn!(directory = %directory.display(), %error, "pins not removed");
    }
}
