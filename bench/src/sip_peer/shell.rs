//! Sockets and timers for the core: UDP and TCP on one address, one task, plus one per TCP connection and media endpoint.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway_core::sip::Transport;
use gateway_core::sip::message::{Frame, Framing, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, error::TrySendError};

use super::core::{Core, Hop, MediaEnd, Output};
use super::{Config, Event, Question};
use crate::media::Endpoint;
use crate::os_random;

/// Open connections; more are closed at once.
const MAX_CONNECTIONS: usize = 1000;
/// Messages waiting for one connection; a peer that does not read loses its connection.
const MAX_WAITING: usize = 256;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Where both kinds of socket shall have one port, it is looked for so often.
const PORT_TRIES: usize = 32;

/// What a connection's task reports.
enum News {
    Message(SocketAddr, Vec<u8>),
    /// With what it could not send.
    Closed(SocketAddr, Vec<Vec<u8>>),
}

/// The peer with its sockets.
pub(super) struct Shell {
    core: Core,
    udp: UdpSocket,
    /// The same socket, not known to the reactor, which takes a new socket for a full one until it has looked.
    send_udp: std::net::UdpSocket,
    tcp: TcpListener,
    connections: HashMap<SocketAddr, Sender<Vec<u8>>>,
    news: (Sender<News>, Receiver<News>),
    events: Box<dyn FnMut(&Event)>,
}

impl Shell {
    pub(super) async fn bind(
        config: Config,
        events: Box<dyn FnMut(&Event) + Send>,
    ) -> anyhow::Result<Self> {
        let (udp, tcp) = bind_both(config.listen)
            .await
            .with_context(|| format!("SIP peer on {}", config.listen))?;
        let udp = udp.into_std()?;
        let send_udp = udp.try_clone()?;
        let udp = UdpSocket::from_std(udp)?;
        let local = udp.local_addr()?;
        let media_ip = config.media_ip;
        let open_media = Box::new(move || {
            let endpoint = Endpoint::open(media_ip, os_random())?;
            Ok(Box::new(endpoint) as Box<dyn MediaEnd>)
        });
        Ok(Self {
            core: Core::new(config, local, os_random(), open_media),
            udp,
            send_udp,
            tcp,
            connections: HashMap::new(),
            news: channel(1024),
            events,
        })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.core.local
    }

    /// Runs until nobody can ask any more.
    pub(super) async fn run(mut self, mut questions: UnboundedReceiver<Question>) {
        let mut buffer = vec![0; 65_536];
        loop {
            self.drain();
            // Without a deadline the timer rests for an hour.
            let deadline = self.core.poll_timeout();
            let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                received = self.udp.recv_from(&mut buffer) => {
                    // An error is the answer to a datagram of ours: nobody listens there.
                    if let Ok((length, remote)) = received {
                        let hop = Hop { transport: Transport::Udp, remote };
                        self.core.handle_message(Instant::now(), hop, &buffer[..length]);
                    }
                }
                Some(news) = self.news.1.recv() => self.handle_news(news),
                accepted = self.tcp.accept() => {
                    if let Ok((stream, remote)) = accepted {
                        self.adopt(remote, Some(stream));
                    }
                }
                question = questions.recv() => match question {
                    Some(question) => question(&mut self.core, Instant::now()),
                    None => return,
                },
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.core.handle_timeout(Instant::now());
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Event(event) => (self.events)(&event),
                Output::Send(hop, bytes) => self.send(hop, bytes),
            }
        }
    }

    fn send(&mut self, hop: Hop, bytes: Vec<u8>) {
        if hop.transport == Transport::Udp {
            // A full socket buffer loses the datagram; SIP sends it again.
            let _ = self.send_udp.send_to(&bytes, hop.remote);
            return;
        }
        if !self.connections.contains_key(&hop.remote) {
            self.adopt(hop.remote, None);
        }
        let Some(connection) = self.connections.get(&hop.remote) else {
            self.core.handle_unreachable(Instant::now(), &bytes);
            return;
        };
        if let Err(error) = connection.try_send(bytes) {
            let (TrySendError::Full(bytes) | TrySendError::Closed(bytes)) = error;
            self.connections.remove(&hop.remote);
            self.core.handle_closed(hop.remote);
            self.core.handle_unreachable(Instant::now(), &bytes);
        }
    }

    /// Serves a connection that was accepted, or that is still to be opened.
    fn adopt(&mut self, remote: SocketAddr, stream: Option<TcpStream>) {
        if self.connections.len() >= MAX_CONNECTIONS {
            return;
        }
        let (sender, outgoing) = channel(MAX_WAITING);
        self.connections.insert(remote, sender);
        if stream.is_some() {
            self.core.handle_connected(remote);
        }
        let news = self.news.0.clone();
        tokio::spawn(async move {
            let unsent = serve(remote, stream, outgoing, &news).await;
            // The shell is gone only when the whole peer is.
            let _ = news.send(News::Closed(remote, unsent)).await;
        });
    }

    fn handle_news(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Message(remote, bytes) => {
                let hop = Hop {
                    transport: Transport::Tcp,
                    remote,
                };
                self.core.handle_connected(remote);
                self.core.handle_message(now, hop, &bytes);
            }
            News::Closed(remote, unsent) => {
                // A newer connection with the same peer may have taken the place.
                if self.connections.get(&remote).is_some_and(Sender::is_closed) {
                    self.connections.remove(&remote);
                    self.core.handle_closed(remote);
                }
                for bytes in unsent {
                    self.core.handle_unreachable(now, &bytes);
                }
            }
        }
    }
}

async fn bind_both(listen: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = UdpSocket::bind(listen).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// Moves messages until either side closes; returns what was not sent.
async fn serve(
    remote: SocketAddr,
    stream: Option<TcpStream>,
    mut outgoing: Receiver<Vec<u8>>,
    news: &Sender<News>,
) -> Vec<Vec<u8>> {
    let stream = match stream {
        Some(stream) => Ok(stream),
        None => tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(remote))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    };
    let Ok(mut stream) = stream else {
        return unsent(outgoing);
    };
    let mut framing = Framing::default();
    let limits = Limits::default();
    let mut buffer = vec![0; 16_384];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { break };
                framing.push(&buffer[..length]);
                loop {
                    match framing.next_frame(&limits) {
                        Ok(Some(Frame::Message(bytes))) => {
                            if news.send(News::Message(remote, bytes)).await.is_err() {
                                return Vec::new();
                            }
                        }
                        Ok(Some(Frame::Ping)) => {
                            if stream.write_all(b"\r\n").await.is_err() {
                                return unsent(outgoing);
                            }
                        }
                        Ok(None) => break,
                        // Where the next message begins cannot be known any more.
                        Err(_) => return unsent(outgoing),
                    }
                }
            }
            bytes = outgoing.recv() => {
                let Some(bytes) = bytes else { break };
                if stream.write_all(&bytes).await.is_err() {
                    let mut rest = unsent(outgoing);
                    rest.insert(0, bytes);
                    return rest;
                }
            }
        }
    }
    unsent(outgoing)
}

fn unsent(mut outgoing: Receiver<Vec<u8>>) -> Vec<Vec<u8>> {
    outgoing.close();
    std::iter::from_fn(|| outgoing.try_recv().ok()).collect()
}
