//! The media plane of the daemon: the threads that own every media socket and the active datapath. One where XDP carries the calls,
//! several where sockets do ([`shards`]).
//!
//! Why threads of their own: the packets of calls that XDP does not carry must not wait behind HTTP or SIP work, and each socket, each
//! flow and its SRTP state then has one owner and needs no lock. The daemon's event loop talks to them through [`Media`]
//! (commands in, not blocking but for a flow that changes its thread) and a bounded channel of [`MediaEvent`]s (out).

mod batch;
mod events;
mod handover;
#[cfg(test)]
mod netns;
mod outgoing;
mod ports;
#[cfg(test)]
mod shard_tests;
mod shards;
mod sockets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(test)]
mod xdp_tests;

use crate::datapath::{self, DatapathReport, Given};
use flow::{FlowEvent, FlowSnapshot, FlowSpec};
use gateway_core::api::{CallId, PathView};
use gateway_core::gateway::{FlowId, MediaPorts, PortsError};
use handover::Peer;
pub(crate) use shards::Shards;
use shards::SocketTable;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use thread::{MediaThread, Seat};

/// Datagrams that may wait for the media thread to send them; more are dropped and counted.
const TRANSMITS_WAITING: usize = 8192;
/// How long the event loop waits for a flow that goes from one thread to another: many turns of a thread.
const HANDOVER: Duration = Duration::from_secs(1);

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
    /// A media thread has ended by itself.
    Gone,
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

/// What the event loop asks of a media thread.
enum Command {
    OpenPorts {
        call: CallId,
        media: u8,
        ipv6: bool,
        /// How many threads had none.
        asked: usize,
    },
    /// Of their own thread; another one forgets them.
    ClosePorts(MediaPorts),
    Transmit {
        local: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Takes a flow out and answers with it; it goes to another thread.
    Give {
        flow: FlowId,
        to: usize,
        back: mpsc::SyncSender<Option<Box<Given>>>,
    },
    /// A datagram of a flow that another thread gave away.
    Late {
        local: SocketAddr,
        remote: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Goes on with it.
    Adopt(FlowId, Box<Given>),
    Install(FlowId, Box<FlowSpec>),
    Remove(FlowId),
    Read(FlowId),
    Stop,
}

/// The event loop's hold on the media threads; dropping it ends them and detaches XDP.
pub struct Media {
    peers: Arc<[Peer]>,
    shared: Vec<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
    shards: Shards,
    /// Thread of each flow.
    homes: Mutex<HashMap<FlowId, usize>>,
    web_addresses: Vec<SocketAddr>,
}

/// What the handle and its thread both see.
#[derive(Default)]
struct Shared {
    /// Datagrams in the command queue.
    transmits_waiting: AtomicUsize,
    /// Pairs of ports that no call has.
    free_pairs: AtomicUsize,
    report: Arc<datapath::Shared>,
}

impl Media {
    /// Binds the browser sockets, prepares the datapath and starts the threads.
    ///
    /// # Errors
    /// An address that cannot be bound, or an explicit datapath mode that cannot be had: one sentence that says what is missing.
    pub fn start(
        mut config: MediaConfig,
    ) -> anyhow::Result<(Self, tokio::sync::mpsc::Receiver<MediaEvent>)> {
        let (events, receiver) = events::channel();
        let mut seat = Seat {
            index: 0,
            shards: config.datapath.shards(),
            table: SocketTable::default(),
            reason: None,
        };
        let (first, queue) = mpsc::channel();
        let prepared = MediaThread::prepare(&config, seat.clone(), queue, events.another())?;
        // Which may be fewer than configured, and ports that were to be found are.
        seat.shards = prepared.shards;
        config.web_listen.clone_from(&prepared.web_addresses);
        seat.reason = Some(prepared.thread.flows.reason().to_owned());
        let mut all = vec![(first, prepared)];
        for index in 1..seat.shards.count() {
            let (commands, queue) = mpsc::channel();
            seat.index = index;
            let prepared = MediaThread::prepare(&config, seat.clone(), queue, events.another())?;
            all.push((commands, prepared));
        }
        if seat.shards.count() > 1 {
            all[0].1.thread.steer(&config.web_listen, seat.shards)?;
        }
        let (mut peers, mut rest) = (Vec::new(), Vec::new());
        for (commands, prepared) in all {
            let waker = prepared.waker;
            peers.push(Peer { commands, waker });
            rest.push((prepared.shared, prepared.thread));
        }
        let mut media = Self {
            peers: peers.into(),
            shared: Vec::new(),
            threads: Vec::new(),
            shards: seat.shards,
            homes: Mutex::default(),
            web_addresses: config.web_listen,
        };
        for (shared, mut thread) in rest {
            thread.peers = Arc::clone(&media.peers);
            media.shared.push(shared);
            media.threads.push(thread.spawn()?);
        }
        Ok((media, receiver))
    }

    /// The browser sockets' addresses, in the order of `web_listen`, with the port that was really bound.
    pub fn web_addresses(&self) -> &[SocketAddr] {
        &self.web_addresses
    }

    /// Binds an RTP and an RTCP socket for each of a call's media; answered by [`MediaEvent::PortsOpened`].
    pub fn open_ports(&self, call: CallId, media: u8, ipv6: bool) {
        let free = |index: &usize| self.shared[*index].free_pairs.load(Ordering::Relaxed);
        // Of equals the first; each opening changes the count.
        if let Some(index) = (0..self.peers.len()).rev().max_by_key(free) {
            self.peers[index].send(Command::OpenPorts {
                call,
                media,
                ipv6,
                asked: 0,
            });
        }
    }

    /// Closes one pair of them; it rests before another call gets it.
    pub fn close_ports(&self, ports: MediaPorts) {
        for peer in &*self.peers {
            peer.send(Command::ClosePorts(ports));
        }
    }

    /// Sends a datagram from one of our sockets; dropped and counted when too many wait or no socket has that address.
    pub fn transmit(&self, local: SocketAddr, remote: SocketAddr, bytes: Vec<u8>) {
        let home = self.shards.of(&self.web_addresses, local, remote);
        let waiting = &self.shared[home].transmits_waiting;
        if waiting.fetch_add(1, Ordering::Relaxed) >= TRANSMITS_WAITING {
            waiting.fetch_sub(1, Ordering::Relaxed);
            self.shared[home].report.transmit_lost();
            return;
        }
        self.peers[home].send(Command::Transmit {
            local,
            remote,
            bytes,
        });
    }

    /// Installs a flow, or replaces the one of this id (its counters and SRTP state go on); answered by [`MediaEvent::FlowPath`].
    pub fn install(&self, flow: FlowId, spec: Box<FlowSpec>) {
        let key = spec.key;
        let home = self
            .shards
            .of(&self.web_addresses, key.local.into(), key.remote.into());
        let before = self.homes().insert(flow, home);
        if let Some(before) = before.filter(|before| *before != home) {
            match self.take(before, flow, home) {
                Ok(Some(given)) => self.peers[home].send(Command::Adopt(flow, given)),
                // It was never installed.
                Ok(None) => {}
                Err(()) => {
                    // Without its state indices could be used twice: it stays out of service.
                    tracing::error!(flow = flow.0, "a media thread did not give a flow away");
                    return;
                }
            }
        }
        self.peers[home].send(Command::Install(flow, spec));
    }

    /// Takes a flow, with its state, out of a thread.
    fn take(&self, home: usize, flow: FlowId, to: usize) -> Result<Option<Box<Given>>, ()> {
        let (back, answer) = mpsc::sync_channel(1);
        self.peers[home].send(Command::Give { flow, to, back });
        answer.recv_timeout(HANDOVER).map_err(|_| ())
    }

    /// Removes a flow and zeroes its keys.
    pub fn remove(&self, flow: FlowId) {
        if let Some(home) = self.homes().remove(&flow) {
            self.peers[home].send(Command::Remove(flow));
        }
    }

    /// Reads a flow's counters; answered by [`MediaEvent::FlowCounters`].
    pub fn read(&self, flow: FlowId) {
        // A flow that nobody knows is answered, too.
        let home = self.homes().get(&flow).copied().unwrap_or_default();
        self.peers[home].send(Command::Read(flow));
    }

    fn homes(&self) -> std::sync::MutexGuard<'_, HashMap<FlowId, usize>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mode, counters and memory of the datapath, for metrics and the admin API.
    pub fn report(&self) -> DatapathReport {
        let mut reports = self.shared.iter().map(|shared| shared.report.report());
        let first = reports.next().expect("there is a media thread");
        reports.fold(first, DatapathReport::with)
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        for peer in &*self.peers {
            peer.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
