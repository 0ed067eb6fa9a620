//! SIP transports: UDP sockets, TCP and TLS connections. Bytes in, bytes out; framing and everything else is the core's.
//!
//! Owned by the event loop, which sends through [`Transports`] without ever waiting and reads [`Event`]s from a bounded channel.
//! When that is full UDP datagrams are dropped (SIP repeats them) and TCP connections are simply not read.

mod stream;
mod tls;
mod udp;

use anyhow::{Context as _, Result};
use gateway_core::sip::{ConnectionId, Peer, Transmit, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use stream::Connections;
pub(crate) use tls::TlsSettings;
use tokio::sync::mpsc;
use udp::UdpSide;

/// Events that may wait for the event loop.
const EVENTS: usize = 1024;
/// Bytes of one read: no UDP datagram is longer.
const READ_BYTES: usize = 65_535;

/// What happened on a transport.
pub(crate) enum Event {
    /// A UDP datagram.
    Datagram(Peer, Vec<u8>),
    /// Bytes of a connection.
    Stream(Peer, Vec<u8>),
    /// A connection was accepted; comes before its bytes.
    Accepted(stream::Connection),
    /// A connection is over.
    Closed(ConnectionId),
    /// Nothing listens there (ICMP, refused, no answer to the connect).
    Unreachable(Transport, SocketAddr),
}

/// Where SIP is spoken.
pub(crate) struct Settings {
    pub(crate) udp: Option<SocketAddr>,
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) tls: Option<TlsSettings>,
    /// Connections that may be open at once, counted apart for TCP and TLS, and for those from and to us.
    pub(crate) connections: usize,
}

/// All transports.
pub(crate) struct Transports {
    udp: Option<UdpSide>,
    tcp: Option<Connections>,
    tls: Option<Connections>,
}

impl Transports {
    /// Binds everything and starts to read.
    pub(crate) async fn bind(settings: &Settings) -> Result<(Self, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let udp = match settings.udp {
            Some(addr) => Some(
                UdpSide::bind(addr, events.clone())
                    .await
                    .with_context(|| format!("SIP over UDP on {addr}"))?,
            ),
            None => None,
        };
        let numbers = Arc::new(AtomicU64::new(1));
        let limit = settings.connections;
        let tcp = match settings.tcp {
            Some(addr) => {
                let bound =
                    Connections::bind(addr, limit, None, Arc::clone(&numbers), events.clone())
                        .await;
                Some(bound.with_context(|| format!("SIP over TCP on {addr}"))?)
            }
            None => None,
        };
        let tls = match &settings.tls {
            Some(tls) => {
                let addr = tls.listen;
                let secured = Some(tls::Secured::new(tls).context("SIP over TLS")?);
                let bound = Connections::bind(addr, limit, secured, numbers, events).await;
                Some(bound.with_context(|| format!("SIP over TLS on {addr}"))?)
            }
            None => None,
        };
        Ok((Self { udp, tcp, tls }, receiver))
    }

    /// What was really bound, in the order of preference.
    pub(crate) fn bound(&self) -> Vec<(Transport, SocketAddr)> {
        let udp = self.udp.iter().map(|udp| (Transport::Udp, udp.local()));
        let tcp = self.tcp.iter().map(|tcp| (Transport::Tcp, tcp.local()));
        let tls = self.tls.iter().map(|tls| (Transport::Tls, tls.local()));
        udp.chain(tcp).chain(tls).collect()
    }

    /// Sends, or gives up: a datagram that the socket does not take is lost, a connection that does not read is closed.
    pub(crate) fn transmit(&mut self, transmit: Transmit) {
        let peer = transmit.peer;
        match (peer.transport, &self.udp, &mut self.tcp, &mut self.tls) {
            (Transport::Udp, Some(udp), ..) => udp.send(peer.remote, &transmit.bytes),
            (Transport::Tcp, _, Some(tcp), _) => tcp.send(&peer, transmit.bytes),
            (Transport::Tls, .., Some(tls)) => tls.send(&peer, transmit.bytes),
            // The resolver offers only transports that are bound, and peers reach us only by those.
            (transport, ..) => tracing::debug!(
                transport = transport.as_str(),
                "not configured: message dropped"
            ),
        }
    }

    /// A name was looked up and found at these places: a TLS peer there has to prove that it is this name.
    pub(crate) fn resolved(&mut self, name: &str, targets: &[(Transport, SocketAddr)]) {
        if let Some(tls) = &mut self.tls {
            tls.resolved(name, targets);
        }
    }

    /// Closes a connection after what was sent before has gone out.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        for connections in self.connected() {
            connections.close(connection);
        }
    }

    /// Keeps the tables of connections; to be called with every event before the core gets it.
    pub(crate) fn note(&mut self, event: &mut Event) {
        for connections in self.connected() {
            connections.note(event);
        }
    }

    fn connected(&mut self) -> impl Iterator<Item = &mut Connections> {
        self.tcp.iter_mut().chain(&mut self.tls)
    }
}

#[cfg(test)]
mod tests;
