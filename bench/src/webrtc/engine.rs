//! Many peers over real UDP sockets on one thread.
//!
//! One epoll instance, a heap of deadlines, and a lock per peer. Control threads lock a peer to exchange descriptions
//! or to read its report ([`Connection::with`]); the engine's thread locks it to move datagrams and time. Both flush
//! what the peer wants to send before they unlock, so nothing waits for the other thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::peer::{Peer, PeerConfig};

/// Socket events that one turn takes.
const EVENTS: usize = 1024;
/// Largest datagram that is read.
const DATAGRAM_BYTES: usize = 2048;
/// Kernel buffer per socket: half a second of a call fits many times.
const SOCKET_BUFFER_BYTES: usize = 256 * 1024;
/// Token of the waker.
const WAKE: Token = Token(usize::MAX);

/// The thread and what it shares with the connections.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    registry: Registry,
    waker: Waker,
    next_token: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<usize, Arc<Slot>>,
    touched: Vec<usize>,
    stopped: bool,
}

struct Slot {
    socket: UdpSocket,
    peer: Mutex<Driven>,
}

struct Driven {
    peer: Peer,
    /// The deadline that stands in the heap for this peer; older entries are void.
    armed: Option<Instant>,
}

/// One peer in an engine; its socket closes when this is dropped.
pub struct Connection {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    token: usize,
}

impl Engine {
    /// Starts the thread.
    pub fn start() -> Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let shared = Arc::new(Shared {
            registry: poll.registry().try_clone().context("epoll")?,
            waker: Waker::new(poll.registry(), WAKE).context("eventfd")?,
            next_token: AtomicUsize::new(0),
            state: Mutex::default(),
        });
        let run = Run {
            shared: Arc::clone(&shared),
            timers: BinaryHeap::new(),
            buffer: vec![0; DATAGRAM_BYTES],
        };
        let thread = std::thread::Builder::new()
            .name("webrtc-peers".to_string())
            .spawn(move || run.run(poll))
            .context("thread")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Makes a peer with a socket of its own on `local`; `config` turns the socket's address into the rest.
    pub fn connect(
        &self,
        local: IpAddr,
        owner: u32,
        config: impl FnOnce(SocketAddr) -> PeerConfig,
    ) -> Result<Connection> {
        let socket =
            UdpSocket::bind((local, 0)).with_context(|| format!("UDP socket on {local}"))?;
        socket.set_nonblocking(true)?;
        // Best effort: the kernel caps it at net.core.rmem_max.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let peer = Peer::new(config(socket.local_addr()?), owner, Instant::now())?;
        let token = self.shared.next_token.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot {
            socket,
            peer: Mutex::new(Driven { peer, armed: None }),
        });
        lock(&self.shared.state)
            .slots
            .insert(token, Arc::clone(&slot));
        let fd = slot.socket.as_raw_fd();
        self.shared
            .registry
            .register(&mut SourceFd(&fd), Token(token), Interest::READABLE)?;
        Ok(Connection {
            shared: Arc::clone(&self.shared),
            slot,
            token,
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        if self.shared.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl Connection {
    /// Does something with the peer; what it wants to send afterwards goes out at once.
    pub fn with<T>(&self, act: impl FnOnce(&mut Peer, Instant) -> T) -> T {
        let result = {
            let mut driven = lock(&self.slot.peer);
            let result = act(&mut driven.peer, Instant::now());
            self.slot.flush(&mut driven.peer);
            result
        };
        lock(&self.shared.state).touched.push(self.token);
        // Fails only when the engine is gone, and then there is nobody to wake.
        let _ = self.shared.waker.wake();
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.shared.state).slots.remove(&self.token);
        let fd = self.slot.socket.as_raw_fd();
        // The descriptor leaves epoll anyway when it is closed.
        let _ = self.shared.registry.deregister(&mut SourceFd(&fd));
    }
}

impl Slot {
    fn flush(&self, peer: &mut Peer) {
        while let Some(transmit) = peer.poll_transmit() {
            // A full buffer or an unreachable peer loses the datagram, as any network does.
            let _ = self.socket.send_to(&transmit.bytes, transmit.to);
        }
    }
}

/// The thread's own state.
struct Run {
    shared: Arc<Shared>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    buffer: Vec<u8>,
}

impl Run {
    fn run(mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self
                .timers
                .peek()
                .map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
            match poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("epoll failed: {error}"),
            }
            let touched = {
                let mut state = lock(&self.shared.state);
                if state.stopped {
                    return;
                }
                std::mem::take(&mut state.touched)
            };
            for token in touched {
                self.serve(token, false);
            }
            for event in &events {
                if event.token() != WAKE {
                    self.serve(event.token().0, true);
                }
            }
            self.run_timers();
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, token))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(slot) = self.slot(token) else {
                continue;
            };
            let mut driven = lock(&slot.peer);
            if driven.armed == Some(at) {
                driven.peer.handle_timeout(Instant::now());
                self.finish(&slot, driven, token);
            }
        }
    }

    /// Takes what has arrived and renews the deadline.
    fn serve(&mut self, token: usize, readable: bool) {
        let Some(slot) = self.slot(token) else { return };
        let mut driven = lock(&slot.peer);
        if readable {
            self.read(&slot, &mut driven.peer);
        }
        self.finish(&slot, driven, token);
    }

    /// Reads until the socket is empty: epoll is edge-triggered here.
    fn read(&mut self, slot: &Slot, peer: &mut Peer) {
        loop {
            match slot.socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    peer.handle_datagram(Instant::now(), from, &self.buffer[..length]);
                }
                // ICMP errors of earlier datagrams come back here and clear themselves.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn finish(&mut self, slot: &Slot, mut driven: MutexGuard<'_, Driven>, token: usize) {
        slot.flush(&mut driven.peer);
        let next = driven
            .peer
            .poll_timeout()
            .map(|at| at.max(Instant::now() + Duration::from_micros(200)));
        let same = driven.armed.is_some_and(|armed| Some(armed) == next);
        driven.armed = next;
        if let Some(at) = next.filter(|_| !same) {
            self.timers.push(Reverse((at, token)));
        }
    }

    fn slot(&self, token: usize) -> Option<Arc<Slot>> {
        lock(&self.shared.state).slots.get(&token).cloned()
    }
}

/// A poisoned lock belongs to a peer whose thread panicked; its neighbours go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use str0m::config::DtlsVersion;

    use super::*;
    use crate::webrtc::{Codec, Sound};

    #[test]
    fn pairs_of_peers_talk_over_real_sockets() {
        let engine = Engine::start().unwrap();
        let connect = |sound, owner| {
            engine
                .connect(Ipv4Addr::LOCALHOST.into(), owner, |local| PeerConfig {
                    local,
                    codec: Codec::Pcmu,
                    sound,
                    dtls: DtlsVersion::Auto,
                })
                .unwrap()
        };
        let pairs: Vec<_> = (0..5)
            .map(|n| (connect(Sound::Marked, n), connect(Sound::Echo, n + 100)))
            .collect();
        for (speaker, echo) in &pairs {
            let offer = speaker.with(|peer, _| peer.offer(false)).unwrap();
            let answer = echo.with(|peer, now| peer.answer(&offer, now)).unwrap();
            speaker
                .with(|peer, now| peer.accept_answer(&answer, now))
                .unwrap();
        }
        let until = Instant::now() + Duration::from_secs(20);
        let heard = |connection: &Connection| connection.with(|peer, _| peer.report().received);
        while pairs.iter().any(|(speaker, _)| heard(speaker) < 25) {
            assert!(Instant::now() < until, "media is missing");
            std::thread::sleep(Duration::from_millis(50));
        }
        for (speaker, _) in &pairs {
            let report = speaker.with(|peer, _| peer.report());
            assert_eq!(report.lost, 0, "{report:?}");
            assert!(report.round_trip.is_some());
        }
    }
}
