//! ICE over TCP towards browsers (RFC 6544, passive candidates): for pages whose network lets no UDP through and that have no TURN server.
//!
//! A connection's packets go on to the browsers' UDP socket as datagrams, from a loopback address of the connection's own, and what is sent
//! there comes back to it. To the media threads such a browser is one more remote address, so ICE, DTLS, SRTP, consent and their
//! bounds are the same as everywhere, and the path of UDP has nothing new in it. It costs one hop over loopback a packet, in userspace.
//! Why an address for each: the budgets of `[flood]` are counted by address.
//!
//! Started by `daemon`; `datapath::xdp` asks [`is_relayed`].

mod places;
mod relay;
#[cfg(test)]
mod tests;

use crate::metrics::Metrics;
use anyhow::{Context as _, Result};
use places::{Place, Places};
use socket2::SockRef;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The addresses of connections: this and the 2^22 - 1 after it.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(30);
/// Connections of one address at once that have not shown yet that they belong to a call.
const UNPROVEN_OF_ONE: usize = 64;

/// Whether packets to this address go on by a TCP connection.
pub(crate) fn is_relayed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.to_bits() >> 22 == FIRST.to_bits() >> 22,
        IpAddr::V6(_) => false,
    }
}

/// A listener for browsers.
pub(crate) struct Listener {
    socket: TcpListener,
    /// The browsers' UDP socket.
    web: SocketAddr,
    places: Arc<Places>,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds; connections go to the UDP socket `web`, an IPv4 one. So many at once at most.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) async fn bind(
        address: SocketAddr,
        web: SocketAddr,
        connections: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("ICE over TCP on {address}"))?;
        let places = Arc::new(Places::new(connections, UNPROVEN_OF_ONE));
        Ok(Self {
            socket,
            web,
            places,
            metrics,
        })
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Serves until `stop` changes; then connections end, too.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, remote)) => self.admit(stream, remote, stop.clone()),
                Err(error) => {
                    // Out of file descriptors, or the peer was faster: either passes.
                    tracing::debug!(%error, "ICE connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr, mut stop: watch::Receiver<bool>) {
        let Some(place) = Places::take(&self.places, remote.ip()) else {
            self.metrics.ice_tcp("refused");
            return;
        };
        self.metrics.ice_tcp("accepted");
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT));
        let (web, metrics) = (self.web, Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let end = tokio::select! {
                end = relay::run(stream, place, web) => end,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            metrics.ice_tcp(end.name());
        });
    }
}

impl Place {
    /// The address that its packets come from.
    fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST.to_bits() + self.number())
    }
}
