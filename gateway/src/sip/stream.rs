//! TCP and TLS connections for SIP: accepted and opened, each with a task that reads and writes and a bounded queue of messages to send.
//!
//! One slow or silent peer costs its own connection only: a full queue, a write that stalls, or silence closes it.

use super::tls::{Names, Secured};
use super::{Event, READ_BYTES};
use gateway_core::sip::{ConnectionId, Peer, Transport};
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Messages that may wait for one connection.
const QUEUE: usize = 128;
/// A connect, or a TLS handshake, that takes longer has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A message that the peer does not take in this time closes the connection.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// An accepted connection on which nothing ever came is closed.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(30);
/// A connection without a byte in either direction is closed; dialogs open another when they need one.
const IDLE_LIMIT: Duration = Duration::from_secs(1800);

/// The sending side of a connection.
pub(crate) struct Connection {
    transport: Transport,
    id: ConnectionId,
    remote: SocketAddr,
    queue: mpsc::Sender<Vec<u8>>,
}

/// The listener of one transport and all its connections.
pub(super) struct Connections {
    transport: Transport,
    local: SocketAddr,
    /// TLS, where the transport is.
    secured: Option<Secured>,
    names: Names,
    open: HashMap<ConnectionId, Connection>,
    by_remote: HashMap<SocketAddr, ConnectionId>,
    numbers: Arc<AtomicU64>,
    outgoing: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
}

/// What a connection's task knows of it.
struct Line {
    peer: Peer,
    id: ConnectionId,
    queue: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<Event>,
    /// Held while the connection counts against its limit.
    permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) async fn bind(
        addr: SocketAddr,
        limit: usize,
        secured: Option<Secured>,
        numbers: Arc<AtomicU64>,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local = listener.local_addr()?;
        let transport = match secured {
            None => Transport::Tcp,
            Some(_) => Transport::Tls,
        };
        let accepting = Accepting {
            listener,
            transport,
            local,
            secured: secured.clone(),
            numbers: Arc::clone(&numbers),
            events: events.clone(),
        };
        tokio::spawn(accepting.run(limit));
        Ok(Self {
            transport,
            local,
            secured,
            names: Names::default(),
            open: HashMap::new(),
            by_remote: HashMap::new(),
            numbers,
            outgoing: Arc::new(Semaphore::new(limit)),
            events,
        })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn send(&mut self, peer: &Peer, bytes: Vec<u8>) {
        let id = peer
            .connection
            .or_else(|| self.by_remote.get(&peer.remote).copied());
        let id = id.or_else(|| self.connect(peer.remote));
        let Some((id, connection)) = id.and_then(|id| Some((id, self.open.get(&id)?))) else {
            // Closed in the meantime, or too many are open.
            return self.report_unreachable(peer.remote);
        };
        if connection.queue.try_send(bytes).is_err() {
            tracing::debug!(
                connection = id.0,
                "SIP peer does not read: connection closed"
            );
            self.close(id);
            self.report_unreachable(peer.remote);
        }
    }

    /// See [`super::Transports::resolved`].
    pub(super) fn resolved(&mut self, name: &str, targets: &[(Transport, SocketAddr)]) {
        for (_, addr) in targets.iter().filter(|target| target.0 == self.transport) {
            self.names.note(*addr, name);
        }
    }

    /// Drops the queue: the task sends what is left in it and closes.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.remove(&id)
            && self.by_remote.get(&connection.remote) == Some(&id)
        {
            self.by_remote.remove(&connection.remote);
        }
    }

    pub(super) fn note(&mut self, event: &mut Event) {
        match event {
            Event::Accepted(connection) if connection.transport == self.transport => {
                // The queue moves into the table; what stays in the event is closed and of no more use.
                let (closed, _) = mpsc::channel(1);
                let queue = std::mem::replace(&mut connection.queue, closed);
                self.insert(Connection {
                    transport: connection.transport,
                    id: connection.id,
                    remote: connection.remote,
                    queue,
                });
            }
            Event::Closed(id) => self.close(*id),
            Event::Unreachable(transport, remote) if *transport == self.transport => {
                if let Some(id) = self.by_remote.get(remote).copied()
                    && self
                        .open
                        .get(&id)
                        .is_some_and(|connection| connection.queue.is_closed())
                {
                    self.close(id);
                }
            }
            Event::Accepted(_)
            | Event::Datagram(..)
            | Event::Stream(..)
            | Event::Unreachable(..) => {}
        }
    }

    fn insert(&mut self, connection: Connection) {
        self.by_remote.insert(connection.remote, connection.id);
        self.open.insert(connection.id, connection);
    }

    fn connect(&mut self, remote: SocketAddr) -> Option<ConnectionId> {
        let permit = Arc::clone(&self.outgoing).try_acquire_owned().ok()?;
        let id = ConnectionId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let (queue, receiver) = mpsc::channel(QUEUE);
        let peer = Peer {
            transport: self.transport,
            local: self.local,
            remote,
            connection: Some(id),
        };
        let line = Line {
            peer,
            id,
            queue: receiver,
            events: self.events.clone(),
            permit,
        };
        let secured = self.secured.clone();
        let name = self.names.of(remote);
        tokio::spawn(line.open(secured, name));
        self.insert(Connection {
            transport: self.transport,
            id,
            remote,
            queue,
        });
        Some(id)
    }

    fn report_unreachable(&self, remote: SocketAddr) {
        let (events, transport) = (self.events.clone(), self.transport);
        // Not from here: the channel may be full, and its reader is the caller.
        tokio::spawn(async move {
            let _ = events.send(Event::Unreachable(transport, remote)).await;
        });
    }
}

/// What the task that accepts needs.
struct Accepting {
    listener: TcpListener,
    transport: Transport,
    local: SocketAddr,
    secured: Option<Secured>,
    numbers: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
}

impl Accepting {
    async fn run(self, limit: usize) {
        let places = Arc::new(Semaphore::new(limit));
        loop {
            // At the limit further connections wait in the listener's backlog.
            let Ok(permit) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the peer was faster: either passes.
                    tracing::debug!(%error, "SIP connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if self.events.is_closed() {
                return;
            }
            let id = ConnectionId(self.numbers.fetch_add(1, Ordering::Relaxed));
            let (queue, receiver) = mpsc::channel(QUEUE);
            let line = Line {
                peer: Peer {
                    transport: self.transport,
                    local: self.local,
                    remote,
                    connection: Some(id),
                },
                id,
                queue: receiver,
                events: self.events.clone(),
                permit,
            };
            let connection = Connection {
                transport: self.transport,
                id,
                remote,
                queue,
            };
            tokio::spawn(line.serve_accepted(stream, self.secured.clone(), connection));
        }
    }
}

impl Line {
    /// Connects, then serves; a connection that never said anything was not there.
    async fn open(self, secured: Option<Secured>, name: String) {
        let (events, peer, id) = (self.events.clone(), self.peer, self.id);
        let connected = timeout(CONNECT_LIMIT, async {
            let stream = connect(peer.local, peer.remote).await?;
            match &secured {
                None => Ok((Some(stream), None)),
                Some(secured) => Ok((None, Some(secured.connect(&name, stream).await?))),
            }
        });
        let heard = match connected.await {
            Ok(Ok((Some(stream), _))) => self.serve(stream, IDLE_LIMIT).await,
            Ok(Ok((_, Some(stream)))) => self.serve(stream, IDLE_LIMIT).await,
            Ok(Err(error)) => {
                let error: io::Error = error;
                if secured.is_some() {
                    // A certificate that is not accepted has to be found by whoever runs the gateway.
                    tracing::warn!(remote = %peer.remote, name, %error, "SIP over TLS: not connected");
                }
                drop(self);
                false
            }
            Ok(Ok((None, None))) | Err(_) => {
                drop(self);
                false
            }
        };
        if !heard {
            let _ = events
                .send(Event::Unreachable(peer.transport, peer.remote))
                .await;
        }
        let _ = events.send(Event::Closed(id)).await;
    }

    /// The connection is announced once it is one: after the handshake, where there is TLS.
    async fn serve_accepted(
        self,
        stream: TcpStream,
        secured: Option<Secured>,
        connection: Connection,
    ) {
        let (events, id) = (self.events.clone(), self.id);
        let announced = Event::Accepted(connection);
        match secured {
            None => {
                if events.send(announced).await.is_err() {
                    return;
                }
                self.serve(stream, FIRST_BYTE_LIMIT).await;
            }
            Some(secured) => {
                // A handshake that fails is the peer's business; a scanner would fill the log.
                let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, secured.accept(stream)).await else {
                    return;
                };
                if events.send(announced).await.is_err() {
                    return;
                }
                self.serve(stream, FIRST_BYTE_LIMIT).await;
            }
        }
        let _ = events.send(Event::Closed(id)).await;
    }

    /// Reads and writes until either side closes; whether anything was read.
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite, first_limit: Duration) -> bool {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut buffer = vec![0; READ_BYTES];
        let mut heard = false;
        let mut open = true;
        let mut silence = first_limit;
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => {
                        (heard, silence) = (true, IDLE_LIMIT);
                        let event = Event::Stream(self.peer, buffer[..length].to_vec());
                        if self.events.send(event).await.is_err() {
                            break;
                        }
                    }
                    Ok(_) | Err(_) => break,
                },
                message = next(&mut self.queue, open) => match message {
                    Some(bytes) => match timeout(WRITE_LIMIT, writer.write_all(&bytes)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) | Err(_) => break,
                    },
                    None => {
                        // Closed by us; the peer gets what it was sent, and a moment to close, too.
                        let _ = writer.shutdown().await;
                        (open, silence) = (false, Duration::from_secs(1));
                    }
                },
                () = tokio::time::sleep(silence) => break,
            }
        }
        drop(self.permit);
        heard
    }
}

/// The next message, or `None` once when the queue was dropped.
async fn next(queue: &mut mpsc::Receiver<Vec<u8>>, open: bool) -> Option<Vec<u8>> {
    if open {
        queue.recv().await
    } else {
        pending().await
    }
}

/// From the address that SIP listens on, so that the peer sees where we are; the port is any.
async fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if local.is_ipv4() == remote.is_ipv4() {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
