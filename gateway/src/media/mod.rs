//! The media plane of the daemon: one thread that owns every media socket and the active datapath.
//!
//! Why a thread of its own: the packets of calls that XDP does not carry must not wait behind HTTP or SIP work, and the sockets,
//! the flows and their SRTP state then have one owner and need no lock. The daemon's event loop talks to it through [`Media`]
//! (commands in, never blocking) and a bounded channel of [`MediaEvent`]s (out).

mod batch;
mod events;
#[cfg(test)]
mod netns;
mod outgoing;
mod ports;
mod sockets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(test)]
mod xdp_tests;

use crate::datapath::{self, DatapathReport};
use flow::{FlowEvent, FlowSnapshot, FlowSpec};
use gateway_core::api::{CallId, PathView};
use gateway_core::gateway::{FlowId, MediaPorts, PortsError};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Datagrams that may wait for the media thread to send them; more are dropped and counted.
const TRANSMITS_WAITING: usize = 8192;

/// What the media plane needs of the configuration.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// `[web] listen`: one socket for each, all browsers share them. Port 0 takes any free one.
    pub web_listen: Vec<SocketAddr>,
    /// `[rtp] address`: at most one of each family.
    pub rtp_addresses: Vec<IpAddr>,
    /// `[rtp] ports`: each call takes an even one and the next.
    pub rtp_ports: RangeInclusive<u16>,
    /// How long the ports of a closed call are kept back, so that a late packet of it cannot reach the next one.
    pub port_rest: Duration,
    /// `[limits] calls`.
    pub calls: usize,
    /// `[datapath]`.
    pub datapath: datapath::Config,
}

/// What happened on the media plane.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "counters are read every few seconds, and a box for each costs more than the channel's memory"
)]
pub enum MediaEvent {
    /// A datagram that no flow took: STUN, DTLS, RTCP, RTP without a flow.
    Datagram {
        /// Our socket's address.
        local: SocketAddr,
        /// Sender.
        remote: SocketAddr,
        /// UDP payload.
        bytes: Vec<u8>,
    },
    /// Answer to [`Media::open_ports`].
    PortsOpened(CallId, Result<Vec<MediaPorts>, PortsError>),
    /// Answer to [`Media::install`], and again whenever the path changes.
    FlowPath(FlowId, PathView),
    /// What the datapath tells of a flow once.
    FlowEvent(FlowId, FlowEvent),
    /// Answer to [`Media::read`].
    FlowCounters {
        /// The flow.
        flow: FlowId,
        /// Its counters; `None` when there is no such flow.
        snapshot: Option<FlowSnapshot>,
        /// CLOCK_MONOTONIC nanoseconds at the time of reading.
        monotonic_ns: u64,
    },
}

/// What the event loop asks of the media thread.
enum Command {
    OpenPorts {
        call: CallId,
        media: u8,
        ipv6: bool,
    },
    ClosePorts(MediaPorts),
    Transmit {
        local: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    Install(FlowId, Box<FlowSpec>),
    Remove(FlowId),
    Read(FlowId),
    Stop,
}

/// The event loop's hold on the media thread; dropping it ends the thread and detaches XDP.
pub struct Media {
    commands: mpsc::Sender<Command>,
    waker: mio::Waker,
    shared: Arc<Shared>,
    web_addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

/// What the handle and the thread both see.
#[derive(Default)]
struct Shared {
    /// Datagrams in the command queue.
    transmits_waiting: AtomicUsize,
    report: Arc<datapath::Shared>,
}

impl Media {
    /// Binds the browser sockets, prepares the datapath and starts the thread.
    ///
    /// # Errors
    /// An address that cannot be bound, or an explicit datapath mode that cannot be had: one sentence that says what is missing.
    pub fn start(
        config: MediaConfig,
    ) -> anyhow::Result<(Self, tokio::sync::mpsc::Receiver<MediaEvent>)> {
        let (commands, queue) = mpsc::channel();
        let (events, receiver) = events::channel();
        let started = thread::MediaThread::prepare(&config, queue, events)?;
        let media = Self {
            commands,
            waker: started.waker,
            shared: started.shared,
            web_addresses: started.web_addresses,
            thread: Some(started.thread.spawn()?),
        };
        Ok((media, receiver))
    }

    /// The browser sockets' addresses, in the order of `web_listen`, with the port that was really bound.
    pub fn web_addresses(&self) -> &[SocketAddr] {
        &self.web_addresses
    }

    /// Binds an RTP and an RTCP socket for each of a call's media; answered by [`MediaEvent::PortsOpened`].
    pub fn open_ports(&self, call: CallId, media: u8, ipv6: bool) {
        self.send(Command::OpenPorts { call, media, ipv6 });
    }

    /// Closes one pair of them; it rests before another call gets it.
    pub fn close_ports(&self, ports: MediaPorts) {
        self.send(Command::ClosePorts(ports));
    }

    /// Sends a datagram from one of our sockets; dropped and counted when too many wait or no socket has that address.
    pub fn transmit(&self, local: SocketAddr, remote: SocketAddr, bytes: Vec<u8>) {
        let waiting = &self.shared.transmits_waiting;
        if waiting.fetch_add(1, Ordering::Relaxed) >= TRANSMITS_WAITING {
            waiting.fetch_sub(1, Ordering::Relaxed);
            self.shared.report.transmit_lost();
            return;
        }
        self.send(Command::Transmit {
            local,
            remote,
            bytes,
        });
    }

    /// Installs a flow, or replaces the one of this id (its counters and SRTP state go on); answered by [`MediaEvent::FlowPath`].
    pub fn install(&self, flow: FlowId, spec: Box<FlowSpec>) {
        self.send(Command::Install(flow, spec));
    }

    /// Removes a flow and zeroes its keys.
    pub fn remove(&self, flow: FlowId) {
        self.send(Command::Remove(flow));
    }

    /// Reads a flow's counters; answered by [`MediaEvent::FlowCounters`].
    pub fn read(&self, flow: FlowId) {
        self.send(Command::Read(flow));
    }

    /// Mode, counters and memory of the datapath, for metrics and the admin API.
    pub fn report(&self) -> DatapathReport {
        self.shared.report.report()
    }

    fn send(&self, command: Command) {
        // Fails only after the thread is gone, when nothing can be done for media any more; the event channel then ends too.
        if self.commands.send(command).is_ok() {
            // A full eventfd counter means that a wake-up is already pending.
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
