//! The receiving half: recvmmsg with the kernel's timestamps, and the check of a sample.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use flow::{ActionSpec, Scratch};
use hdrhistogram::Histogram;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;

use super::packets::Crypt;
use super::sender::{BUFFER_BYTES, clock, nanoseconds};
use super::{LoadConfig, Shared};

const BATCH: usize = 64;
const DATAGRAM_BYTES: usize = 2048;
/// How often the end is looked for.
const WAKE: Duration = Duration::from_millis(50);
/// One packet in so many is checked byte by byte.
const SAMPLE: usize = 61;
/// Latencies up to a minute, in nanoseconds, three digits.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

pub(super) struct Sink {
    socket: UdpSocket,
    shared: Arc<Shared>,
    seen: Vec<bool>,
    counted: usize,
    late_ns: u64,
    streams: usize,
    /// By stream, where SRTP arrives.
    crypt: Vec<Crypt>,
    scratch: Box<Scratch>,
    received: Received,
}

/// What arrived. Packets of the warm-up are in none of the numbers but `all` and `cpu_ns`.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) in_time: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) foreign: u64,
    pub(super) checked: u64,
    pub(super) corrupt: u64,
    pub(super) octets: u64,
    /// Datagrams that the sink's own socket had no room for.
    pub(super) overflow: u32,
    pub(super) latency_ns: Histogram<u64>,
    pub(super) cpu_ns: u64,
    pub(super) all: u64,
}

impl Sink {
    pub(super) fn open(config: &LoadConfig, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let address = config.sink.address;
        let socket = UdpSocket::bind(address).with_context(|| format!("sink on {address}"))?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            // Without the privilege the system's limit has to do.
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        socket.set_read_timeout(Some(WAKE))?;
        let crypt = match config.receive_keys.as_slice() {
            [] => Vec::new(),
            keys => (0..config.streams)
                .map(|stream| {
                    let ssrc = config.first_ssrc.wrapping_add(stream as u32);
                    let key = &keys[stream % keys.len()];
                    Crypt::new(ssrc, ActionSpec::Unprotect(key.session()))
                })
                .collect::<anyhow::Result<_>>()?,
        };
        Ok(Self {
            socket,
            seen: vec![false; shared.packets.total()],
            shared,
            counted: config.first_counted(),
            late_ns: config.late.as_nanos() as u64,
            streams: config.streams,
            crypt,
            scratch: Box::new(Scratch::new()),
            received: Received {
                in_time: 0,
                late: 0,
                duplicates: 0,
                foreign: 0,
                checked: 0,
                corrupt: 0,
                octets: 0,
                overflow: 0,
                latency_ns: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?,
                cpu_ns: 0,
                all: 0,
            },
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<Received> {
        let cpu = clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let space = nix::cmsg_space!(TimeSpec, u32);
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(space));
        let mut buffers = vec![[0; DATAGRAM_BYTES]; BATCH];
        let mut arrived = Vec::with_capacity(BATCH);
        loop {
            // Read first: what came before the end was declared is then in the socket.
            let done = self.shared.done.load(Ordering::Acquire);
            arrived.clear();
            let overflow = self.receive(&mut headers, &mut buffers, &mut arrived);
            self.received.overflow = overflow.unwrap_or(self.received.overflow);
            if arrived.is_empty() && done {
                break;
            }
            for (place, (length, at_ns)) in arrived.iter().enumerate() {
                self.count(&buffers[place][..*length], *at_ns);
            }
        }
        self.received.cpu_ns = clock(ClockId::CLOCK_THREAD_CPUTIME_ID)? - cpu;
        Ok(self.received)
    }

    /// Lengths and arrival times of a batch; the socket's newest overflow count.
    fn receive(
        &self,
        headers: &mut MultiHeaders<SockaddrStorage>,
        buffers: &mut [[u8; DATAGRAM_BYTES]],
        arrived: &mut Vec<(usize, u64)>,
    ) -> Option<u32> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let socket = self.socket.as_raw_fd();
        let mut overflow = None;
        // Errors are time-outs here, and answers to nobody's packets.
        let Ok(messages) = recvmmsg(socket, headers, &mut slices, flags, None) else {
            return None;
        };
        for message in messages {
            let mut at_ns = 0;
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmTimestampns(time) => at_ns = nanoseconds(time),
                    ControlMessageOwned::RxqOvfl(count) => overflow = Some(count),
                    _ => {}
                }
            }
            arrived.push((message.bytes, at_ns));
        }
        overflow
    }

    fn count(&mut self, packet: &[u8], at_ns: u64) {
        let received = &mut self.received;
        received.all += 1;
        let Some(index) = self.shared.packets.index_of(packet) else {
            received.foreign += 1;
            return;
        };
        let new = !std::mem::replace(&mut self.seen[index], true);
        let corrupt = new && index % SAMPLE == 0 && !self.check(index, packet);
        let received = &mut self.received;
        received.checked += u64::from(new && index % SAMPLE == 0);
        received.corrupt += u64::from(corrupt);
        if index < self.counted {
            return;
        }
        if !new {
            received.duplicates += 1;
            return;
        }
        received.octets += packet.len() as u64;
        let sent_at = self.shared.sent_at[index].load(Ordering::Relaxed);
        let latency = at_ns.saturating_sub(sent_at).max(1);
        received.latency_ns.saturating_record(latency);
        if latency > self.late_ns {
            received.late += 1;
        } else {
            received.in_time += 1;
        }
    }

    /// Whether the packet carries what was sent.
    fn check(&mut self, index: usize, packet: &[u8]) -> bool {
        match self.crypt.get_mut(index % self.streams) {
            Some(crypt) => crypt
                .turn(packet, &mut self.scratch)
                .is_ok_and(|plain| self.shared.packets.is_intact(index, plain)),
            None => self.shared.packets.is_intact(index, packet),
        }
    }
}
