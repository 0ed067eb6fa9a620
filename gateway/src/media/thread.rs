//! A media thread: waits for sockets, commands and netlink, and gives each its bounded turn.
//!
//! A turn: 1. commands of the event loop, 2. routes and neighbours that changed, 3. one batch of every socket that has data, and what
//! is forwarded of it sent, 4. timers, 5. what the datapath tells of flows, as far as there is room, 6. events that had no room. A socket
//! with more than a batch waiting stays ready and gets its next turn after the others had theirs, so one flooded port cannot starve the
//! rest. Per forwarded packet there is no allocation, no lock, no log.

use super::batch::{BATCH, Batch};
use super::events::Events;
use super::handover::{Gone, Peer};
use super::outgoing::Outgoing;
use super::ports::Ports;
use super::shards::{Shards, SocketTable, steer};
use super::sockets::{Sharing, SocketId, Sockets};
use super::{Command, MediaConfig, MediaEvent, Shared};
use crate::datapath::{self, Flows, Outcome};
use anyhow::Context as _;
use flow::Why;
use gateway_core::api::CallId;
use gateway_core::gateway::{MediaPorts, PortsError};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tokens that are no socket's index.
const WAKER: Token = Token(usize::MAX);
const NETLINK: Token = Token(usize::MAX - 1);
const TOLD: Token = Token(usize::MAX - 2);

/// Commands of one turn; sockets get theirs before the rest.
const COMMANDS: usize = 256;
/// Pairs tried for one call when other processes hold ports of our range.
const PAIRS_TRIED: usize = 64;
/// Most batches that are taken off a socket before its flow moves into XDP: more than a socket queue of one call holds.
const BATCHES_BEFORE_MOVE: usize = 8;
/// Most that is told of flows in one turn.
const TOLD_AT_ONCE: usize = 256;
/// How soon events that had no room are tried again.
const EVENTS_RETRY: Duration = Duration::from_millis(5);

/// Everything that the thread owns.
pub(super) struct MediaThread {
    poll: Poll,
    commands: Receiver<Command>,
    events: Events,
    shared: Arc<Shared>,
    pub(super) sockets: Sockets,
    ports: HashMap<IpAddr, Ports>,
    pub(super) flows: Flows,
    /// Its place among all of them.
    pub(super) index: usize,
    pub(super) peers: Arc<[Peer]>,
    /// Flows that went to another one lately.
    pub(super) gone: Vec<Gone>,
    /// Sockets with data, and whether each is in the queue.
    ready: VecDeque<SocketId>,
    queued: Vec<bool>,
    /// Whether commands were left for the next turn.
    behind: bool,
    /// Whether something that the datapath tells of flows was.
    untold: bool,
}

/// A thread that is about to run, and what its handle needs.
pub(super) struct Prepared {
    pub(super) thread: MediaThread,
    pub(super) waker: Waker,
    pub(super) shared: Arc<Shared>,
    pub(super) web_addresses: Vec<SocketAddr>,
    /// How many threads there will be.
    pub(super) shards: Shards,
}

/// Which of several threads one is.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) shards: Shards,
    pub(super) table: SocketTable,
    /// Why the first one is in userspace, for the others.
    pub(super) reason: Option<String>,
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Stop,
}

impl MediaThread {
    /// Binds the browser sockets and sets up the datapath, still on the caller's thread, so that errors reach the caller.
    pub(super) fn prepare(
        config: &MediaConfig,
        seat: Seat,
        commands: Receiver<Command>,
        events: Events,
    ) -> anyhow::Result<Prepared> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let Seat {
            index,
            mut shards,
            table,
            reason,
        } = seat;
        let mut sockets = Sockets::new(poll.registry().try_clone()?, table);
        let sharing = match (shards.count(), index) {
            (1, _) => Sharing::Alone,
            (_, 0) => Sharing::First,
            _ => Sharing::Further,
        };
        let mut web_addresses = Vec::new();
        for listen in &config.web_listen {
            web_addresses.push(sockets.open_web(*listen, sharing)?);
        }
        let shared = Arc::new(Shared::default());
        let media_addresses = datapath::media_addresses(&web_addresses, &config.rtp_addresses);
        let guard =
            config
                .datapath
                .flood
                .guard(&web_addresses, &config.rtp_addresses, &config.rtp_ports);
        let report = &shared.report;
        let flows = match reason {
            Some(reason) => {
                let share = config.calls.div_ceil(shards.count());
                Flows::further(reason, share, guard, report)
            }
            // It may have XDP, and all flows.
            None => Flows::start(
                &config.datapath,
                config.calls,
                &media_addresses,
                guard,
                report,
            )?,
        };
        if flows.in_xdp() {
            // Sockets get what is odd alone: one thread has time for it.
            shards = Shards::new(1);
        }
        let now = Instant::now();
        let ports = config.rtp_addresses.iter().map(|address| {
            let ours = |port| shards.of_pair(port) == index;
            let ports = Ports::new(&config.rtp_ports, ours, config.port_rest, now);
            (*address, ports)
        });
        let ports: HashMap<_, _> = ports.collect();
        if let Some(netlink) = flows.netlink_fd() {
            poll.registry()
                .register(&mut SourceFd(&netlink), NETLINK, Interest::READABLE)?;
        }
        if let Some(told) = flows.events_fd() {
            poll.registry()
                .register(&mut SourceFd(&told), TOLD, Interest::READABLE)?;
        }
        let thread = Self {
            poll,
            commands,
            events,
            shared: shared.clone(),
            sockets,
            ports,
            flows,
            index,
            peers: Arc::default(),
            gone: Vec::new(),
            ready: VecDeque::new(),
            queued: Vec::new(),
            behind: false,
            untold: false,
        };
        thread.count_ports();
        Ok(Prepared {
            thread,
            waker,
            shared,
            web_addresses,
            shards,
        })
    }

    /// Has the kernel spread what browsers send, once every thread has bound its sockets.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub(super) fn steer(&self, web: &[SocketAddr], shards: Shards) -> anyhow::Result<()> {
        for local in web {
            let socket = self.sockets.find(*local).and_then(|id| self.sockets.at(id));
            if let Some(socket) = socket {
                steer(socket.udp(), shards).context("spreading browsers over media threads")?;
            }
        }
        Ok(())
    }

    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("media".into())
            .spawn(move || {
                let alarm = self.events.alarm();
                self.run();
                alarm.disarm();
            })
    }

    fn run(mut self) {
        let mut arrived = mio::Events::with_capacity(1024);
        // Made here because its raw pointers may not cross threads.
        let mut batch = Batch::new();
        let mut outgoing = Outgoing::new();
        loop {
            match self.poll.poll(&mut arrived, self.patience(Instant::now())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the media thread cannot wait for its sockets and ends");
                    self.events.alarm();
                    return;
                }
            }
            let mut netlink = false;
            for event in &arrived {
                match event.token() {
                    // Every turn looks what is told.
                    WAKER | TOLD => {}
                    NETLINK => netlink = true,
                    socket => self.queue(socket.into()),
                }
            }
            if self.take_commands() == Turn::Stop {
                return;
            }
            if netlink {
                self.flows.handle_netlink(Instant::now());
            }
            for _ in 0..self.ready.len() {
                self.serve_next(&mut batch, &mut outgoing);
            }
            self.send(&mut outgoing);
            self.flows.handle_timeout(Instant::now());
            self.promote(&mut batch, &mut outgoing);
            self.tell_paths();
            self.tell_events();
            self.events.flush();
        }
    }

    /// How long the next poll may sleep.
    fn patience(&self, now: Instant) -> Option<Duration> {
        if self.behind || !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let datapath = self
            .flows
            .poll_timeout()
            .map(|at| at.saturating_duration_since(now));
        let waiting = self.untold || self.events.is_waiting();
        let events = waiting.then_some(EVENTS_RETRY);
        datapath.into_iter().chain(events).min()
    }

    /// Marks a socket as having data.
    fn queue(&mut self, id: SocketId) {
        if self.queued.len() <= id.index() {
            self.queued.resize(id.index() + 1, false);
        }
        if !self.queued[id.index()] {
            self.queued[id.index()] = true;
            self.ready.push_back(id);
        }
    }

    fn take_commands(&mut self) -> Turn {
        self.behind = false;
        for _ in 0..COMMANDS {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Turn::Stop,
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return Turn::Again,
            }
        }
        // The waker's event was consumed with commands left: the next poll must not sleep on them.
        self.behind = true;
        Turn::Again
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::OpenPorts {
                call,
                media,
                ipv6,
                asked,
            } => self.open_ports(call, media, ipv6, asked),
            Command::ClosePorts(ports) => self.close_ports(ports),
            Command::Transmit {
                local,
                remote,
                bytes,
            } => self.transmit(local, remote, &bytes),
            Command::Give { flow, to, back } => self.give(flow, to, &back),
            Command::Late {
                local,
                remote,
                bytes,
            } => self.late(local, remote, &bytes),
            Command::Adopt(flow, given) => self.flows.adopt(flow, *given, Instant::now()),
            Command::Install(flow, spec) => {
                for medium in spec.media.iter().flatten() {
                    self.sockets.borrow(medium.egress_local.into());
                    self.sockets.mark(medium.egress_local.into(), medium.dscp);
                }
                self.flows.install(flow, spec, Instant::now());
                self.tell_paths();
            }
            Command::Remove(flow) => self.flows.remove(flow, Instant::now()),
            Command::Read(flow) => {
                let snapshot = self.flows.read(flow);
                self.events.send(MediaEvent::FlowCounters {
                    flow,
                    snapshot,
                    monotonic_ns: datapath::monotonic_ns(),
                });
            }
            Command::Stop => {}
        }
    }

    fn open_ports(&mut self, call: CallId, media: u8, ipv6: bool, asked: usize) {
        let opened = self.all_ports(media, ipv6, Instant::now());
        if opened == Err(PortsError::Exhausted) && self.pass_on(&call, media, ipv6, asked) {
            return;
        }
        if let Err(error) = &opened {
            tracing::warn!(call = call.0, ?error, ipv6, "no RTP ports for the call");
        }
        self.count_ports();
        self.events.send(MediaEvent::PortsOpened(call, opened));
    }

    fn count_ports(&self) {
        let free = self.ports.values().map(Ports::len).sum();
        self.shared.free_pairs.store(free, Ordering::Relaxed);
    }

    /// All pairs of a call, or none.
    fn all_ports(
        &mut self,
        media: u8,
        ipv6: bool,
        now: Instant,
    ) -> Result<Vec<MediaPorts>, PortsError> {
        let mut opened = Vec::new();
        for _ in 0..media {
            match self.try_ports(ipv6, now) {
                Ok(pair) => opened.push(pair),
                Err(error) => {
                    opened.into_iter().for_each(|pair| self.close_ports(pair));
                    return Err(error);
                }
            }
        }
        Ok(opened)
    }

    fn try_ports(&mut self, ipv6: bool, now: Instant) -> Result<MediaPorts, PortsError> {
        let (address, ports) = self
            .ports
            .iter_mut()
            .find(|(address, _)| address.is_ipv6() == ipv6)
            .ok_or(PortsError::Refused)?;
        for _ in 0..PAIRS_TRIED {
            let port = ports.take(now).ok_or(PortsError::Exhausted)?;
            let pair = MediaPorts {
                rtp: SocketAddr::new(*address, port),
                rtcp: SocketAddr::new(*address, port + 1),
            };
            let Err(error) = self.sockets.open_pair(pair.rtp, pair.rtcp) else {
                return Ok(pair);
            };
            ports.give_back(port, now);
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(PortsError::Refused);
            }
        }
        Err(PortsError::Exhausted)
    }

    fn close_ports(&mut self, pair: MediaPorts) {
        self.sockets.close(pair.rtcp);
        if self.sockets.close(pair.rtp)
            && let Some(ports) = self.ports.get_mut(&pair.rtp.ip())
        {
            ports.give_back(pair.rtp.port(), Instant::now());
        }
        self.count_ports();
    }

    fn transmit(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        self.shared
            .transmits_waiting
            .fetch_sub(1, Ordering::Relaxed);
        let socket = self.sockets.find(local).and_then(|id| self.sockets.at(id));
        match socket {
            Some(socket) => {
                if socket.udp().send_to(bytes, remote).is_err() {
                    bump(&self.shared.report.send_errors);
                }
            }
            None => self.shared.report.transmit_lost(),
        }
    }

    /// One batch of the socket that waits longest.
    fn serve_next(&mut self, batch: &mut Batch, outgoing: &mut Outgoing) {
        let Some(id) = self.ready.pop_front() else {
            return;
        };
        self.queued[id.index()] = false;
        if self.serve(batch, outgoing, id) == BATCH {
            self.queue(id);
        }
    }

    /// One batch of one socket; answers how many datagrams it was.
    fn serve(&mut self, batch: &mut Batch, outgoing: &mut Outgoing, id: SocketId) -> usize {
        let Some(socket) = self.sockets.at(id) else {
            return 0;
        };
        let local = socket.local;
        let received = batch.receive(socket.udp()).unwrap_or_else(|error| {
            tracing::error!(%local, %error, "cannot receive");
            0
        });
        let now_ns = datapath::monotonic_ns();
        for place in 0..received {
            let Some(datagram) = batch.datagram(place) else {
                continue;
            };
            let report = &self.shared.report;
            if datagram.truncated {
                report.count(Why::TooLong);
                continue;
            }
            if self.follows(local, datagram.remote, datagram.bytes) {
                continue;
            }
            let report = &self.shared.report;
            match self
                .flows
                .forward(local, datagram.remote, datagram.bytes, now_ns)
            {
                Outcome::Gone => {}
                Outcome::Send {
                    from,
                    remote,
                    bytes,
                } => {
                    let socket = self.sockets.find(from);
                    if !socket.is_some_and(|socket| outgoing.push(socket, remote, bytes)) {
                        bump(&report.send_errors);
                    }
                    if outgoing.is_full() {
                        let refused = outgoing.send(&self.sockets);
                        report.send_errors.fetch_add(refused, Ordering::Relaxed);
                    }
                }
                Outcome::Up if self.events.has_room() => {
                    self.events.send(MediaEvent::Datagram {
                        local,
                        remote: datagram.remote,
                        bytes: datagram.bytes.to_vec(),
                    });
                }
                Outcome::Up => bump(&report.datagrams_lost),
            }
        }
        received
    }

    fn send(&self, outgoing: &mut Outgoing) {
        let refused = outgoing.send(&self.sockets);
        let errors = &self.shared.report.send_errors;
        errors.fetch_add(refused, Ordering::Relaxed);
    }

    /// Moves flows that XDP can take by now, after the socket queue that they leave behind was emptied with the old state.
    fn promote(&mut self, batch: &mut Batch, outgoing: &mut Outgoing) {
        let mut moving = Vec::new();
        while let Some((flow, local)) = self.flows.poll_promotable() {
            moving.push(flow);
            let Some(id) = self.sockets.find(local) else {
                continue;
            };
            for _ in 0..BATCHES_BEFORE_MOVE {
                if self.serve(batch, outgoing, id) < BATCH {
                    break;
                }
            }
        }
        // What the socket held leaves before what XDP will send.
        self.send(outgoing);
        for flow in moving {
            self.flows.promote(flow, Instant::now());
        }
    }

    /// What does not go up in this turn waits in the kernel's ring, which is bounded.
    fn tell_events(&mut self) {
        self.untold = false;
        for _ in 0..TOLD_AT_ONCE {
            if !self.events.has_room() {
                break;
            }
            match self.flows.poll_event() {
                Some((flow, event)) => self.events.send(MediaEvent::FlowEvent(flow, event)),
                None => return,
            }
        }
        self.untold = true;
    }

    fn tell_paths(&mut self) {
        while let Some((flow, path)) = self.flows.poll_path() {
            self.events.send(MediaEvent::FlowPath(flow, path));
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
