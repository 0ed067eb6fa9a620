//! The sending half: bursts at their times, by sendmmsg.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::prctl::set_timerslack;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use super::{LoadConfig, Shared};

/// Socket buffers.
pub(super) const BUFFER_BYTES: usize = 64 << 20;
/// From the threads' start to the first packet.
const LEAD_NS: u64 = 50_000_000;
/// A burst that is later than this is a slip: the machine did not keep the pace.
const SLIP_NS: u64 = 10_000_000;

pub(super) struct Sender {
    sockets: Vec<UdpSocket>,
    targets: Vec<SockaddrStorage>,
}

/// What the sender did.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Counted packets.
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) slips: u64,
    /// First counted packet to last packet.
    pub(super) seconds: f64,
    /// CPU time of the thread, nanoseconds, and all packets that it sent with it.
    pub(super) cpu_ns: u64,
    pub(super) all: u64,
}

impl Sender {
    pub(super) fn open(config: &LoadConfig) -> anyhow::Result<Self> {
        let count = if config.source_port_per_stream {
            config.streams
        } else {
            1
        };
        let first = config.source.address;
        let sockets = (0..count).map(|stream| {
            let port = match first.port() {
                0 => 0,
                first => usize::from(first) + 2 * stream,
            };
            let port = u16::try_from(port).context("more streams than ports")?;
            let address = SocketAddr::new(first.ip(), port);
            let socket =
                UdpSocket::bind(address).with_context(|| format!("sender on {address}"))?;
            if setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
                // Without the privilege the system's limit has to do.
                setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES)?;
            }
            Ok(socket)
        });
        let sockets = sockets.collect::<anyhow::Result<Vec<_>>>()?;
        let targets = config.targets.iter().map(|target| match target {
            SocketAddr::V4(v4) => SockaddrStorage::from(*v4),
            SocketAddr::V6(v6) => SockaddrStorage::from(*v6),
        });
        Ok(Self {
            sockets,
            targets: targets.collect(),
        })
    }

    pub(super) fn run(&self, config: &LoadConfig, shared: &Shared) -> anyhow::Result<Sent> {
        // Threads that are no realtime ones are woken up to 50 us late otherwise.
        set_timerslack(1)?;
        let (total, counted) = (shared.packets.total(), config.first_counted());
        let mut headers = MultiHeaders::preallocate(config.burst, None);
        let mut sent = Sent::default();
        let cpu = clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let start = clock(ClockId::CLOCK_REALTIME)? + LEAD_NS;
        let mut index = 0;
        while index < total {
            let due = start + (index as f64 * 1e9 / config.pps) as u64;
            let now = clock(ClockId::CLOCK_REALTIME)?;
            if now < due {
                sleep_until(due);
            } else if now > due + SLIP_NS {
                sent.slips += 1;
            }
            let burst = index..(index + config.burst).min(total);
            let now = clock(ClockId::CLOCK_REALTIME)?;
            for place in burst.clone() {
                shared.sent_at[place].store(now, Ordering::Relaxed);
            }
            if self.sockets.len() == 1 {
                self.send_at_once(shared, burst.clone(), counted, &mut headers, &mut sent);
            } else {
                self.send_one_by_one(config, shared, burst.clone(), counted, &mut sent);
            }
            index = burst.end;
        }
        let end = clock(ClockId::CLOCK_REALTIME)?;
        let lead = (counted as f64 * 1e9 / config.pps) as u64;
        sent.seconds = end.saturating_sub(start + lead) as f64 / 1e9;
        sent.cpu_ns = clock(ClockId::CLOCK_THREAD_CPUTIME_ID)? - cpu;
        sent.all = total as u64;
        Ok(sent)
    }

    /// One system call for the whole burst.
    fn send_at_once(
        &self,
        shared: &Shared,
        burst: std::ops::Range<usize>,
        counted: usize,
        headers: &mut MultiHeaders<SockaddrStorage>,
        sent: &mut Sent,
    ) {
        let mut next = burst.start;
        while next < burst.end {
            let slices: Vec<[IoSlice<'_>; 1]> = (next..burst.end)
                .map(|place| [IoSlice::new(shared.packets.packet(place))])
                .collect();
            let addresses: Vec<Option<SockaddrStorage>> = (next..burst.end)
                .map(|place| Some(self.targets[place % self.targets.len()]))
                .collect();
            let none: [ControlMessage<'_>; 0] = [];
            let flags = MsgFlags::empty();
            let socket = self.sockets[0].as_raw_fd();
            let done = sendmmsg(socket, headers, &slices, &addresses, none, flags)
                .map(|results| results.count());
            match done {
                Ok(done) => {
                    let counted_here = next.max(counted)..(next + done).max(counted);
                    sent.packets += counted_here.len() as u64;
                    next += done.max(1);
                }
                Err(Errno::EINTR) => {}
                // The first packet of the rest was refused (an ICMP error of an earlier one, or no buffer): it is lost.
                Err(_) => {
                    sent.errors += 1;
                    next += 1;
                }
            }
        }
    }

    /// Each stream from a socket of its own.
    fn send_one_by_one(
        &self,
        config: &LoadConfig,
        shared: &Shared,
        burst: std::ops::Range<usize>,
        counted: usize,
        sent: &mut Sent,
    ) {
        for place in burst {
            let socket = &self.sockets[place % self.sockets.len()];
            let target = config.targets[place % config.targets.len()];
            match socket.send_to(shared.packets.packet(place), target) {
                Ok(_) => sent.packets += u64::from(place >= counted),
                Err(_) => sent.errors += 1,
            }
        }
    }
}

/// A clock in nanoseconds.
pub(crate) fn clock(id: ClockId) -> nix::Result<u64> {
    clock_gettime(id).map(nanoseconds)
}

pub(super) fn nanoseconds(time: TimeSpec) -> u64 {
    time.tv_sec().max(0).unsigned_abs() * 1_000_000_000 + time.tv_nsec().max(0).unsigned_abs()
}

fn sleep_until(at_ns: u64) {
    let at = TimeSpec::new(
        (at_ns / 1_000_000_000) as i64,
        (at_ns % 1_000_000_000) as i64,
    );
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    // An interruption sends a burst a little early.
    let _ = clock_nanosleep(ClockId::CLOCK_REALTIME, flags, &at);
}
