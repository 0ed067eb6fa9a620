//! The media sockets: one for each browser address, an RTP and an RTCP socket for each call.

use super::shards::SocketTable;
use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Receive buffer that is asked for on a browser socket, bytes: 50 packets a second of 1000 calls for 100 ms, and headroom.
const WEB_RECEIVE_BUFFER: usize = 8 << 20;

/// Index of a socket; reused after it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SocketId(usize);

impl SocketId {
    /// Its place in tables beside this one.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

impl From<SocketId> for Token {
    fn from(id: SocketId) -> Self {
        Self(id.0)
    }
}

impl From<Token> for SocketId {
    fn from(token: Token) -> Self {
        Self(token.0)
    }
}

/// One bound socket.
pub(crate) struct MediaSocket {
    /// What it is bound to.
    pub(crate) local: SocketAddr,
    udp: Arc<UdpSocket>,
    /// Lent by another thread: only sent by here.
    lent: bool,
    /// DSCP of what is sent, as set last.
    dscp: u8,
}

impl MediaSocket {
    /// The socket itself.
    pub(crate) fn udp(&self) -> &UdpSocket {
        &self.udp
    }

    fn mark(&mut self, dscp: u8) {
        if self.dscp == dscp {
            return;
        }
        let socket = socket2::SockRef::from(&*self.udp);
        let traffic_class = u32::from(dscp) << 2;
        let marked = if self.local.is_ipv4() {
            socket.set_tos_v4(traffic_class)
        } else {
            socket.set_tclass_v6(traffic_class)
        };
        if let Err(error) = marked {
            tracing::debug!(local = %self.local, dscp, %error, "DSCP not set");
        }
        self.dscp = dscp;
    }
}

/// Whether threads share a browser address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// One has it.
    Alone,
    /// Several will; this is the first to bind it.
    First,
    /// It is bound already.
    Further,
}

/// All that a thread has.
pub(crate) struct Sockets {
    places: Vec<Option<MediaSocket>>,
    vacant: Vec<usize>,
    by_local: HashMap<SocketAddr, SocketId>,
    registry: Registry,
    /// Of all threads.
    table: SocketTable,
}

impl Sockets {
    pub(crate) fn new(registry: Registry, table: SocketTable) -> Self {
        Self {
            places: Vec::new(),
            vacant: Vec::new(),
            by_local: HashMap::new(),
            registry,
            table,
        }
    }

    /// Binds the socket that all browsers of one address family share.
    ///
    /// # Errors
    /// The address cannot be bound or names no interface: a flow needs to know the address that its packets leave from.
    pub(crate) fn open_web(
        &mut self,
        local: SocketAddr,
        sharing: Sharing,
    ) -> anyhow::Result<SocketAddr> {
        if local.ip().is_unspecified() {
            anyhow::bail!("[web] listen has {local}: name a specific address of this host");
        }
        if sharing == Sharing::First {
            // With SO_REUSEPORT another daemon's socket would be no error.
            UdpSocket::bind(local)
                .with_context(|| format!("cannot bind {local} (UDP) of [web] listen"))?;
        }
        let id = self
            .bind(local, sharing != Sharing::Alone)
            .with_context(|| format!("cannot bind {local} (UDP) of [web] listen"))?;
        let socket = self.at(id).expect("the socket was opened just now");
        let options = socket2::SockRef::from(&*socket.udp);
        // More than net.core.rmem_max takes CAP_NET_ADMIN; the kernel caps the plain request silently.
        if nix::sys::socket::setsockopt(
            &*socket.udp,
            nix::sys::socket::sockopt::RcvBufForce,
            &WEB_RECEIVE_BUFFER,
        )
        .is_err()
        {
            options.set_recv_buffer_size(WEB_RECEIVE_BUFFER)?;
        }
        Ok(socket.local)
    }

    /// Binds a socket and watches it.
    ///
    /// # Errors
    /// What `socket`, `bind` or `epoll_ctl` say.
    pub(crate) fn open(&mut self, local: SocketAddr) -> io::Result<SocketId> {
        let id = self.bind(local, false)?;
        if let Some(socket) = self.at(id) {
            self.table.insert(socket.local, &socket.udp);
        }
        Ok(id)
    }

    fn bind(&mut self, local: SocketAddr, shared: bool) -> io::Result<SocketId> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        let udp = Arc::new(UdpSocket::from(socket));
        let local = udp.local_addr()?;
        let id = SocketId(self.vacant.last().copied().unwrap_or(self.places.len()));
        self.registry.register(
            &mut SourceFd(&udp.as_raw_fd()),
            id.into(),
            Interest::READABLE,
        )?;
        Ok(self.place(local, udp, false))
    }

    fn place(&mut self, local: SocketAddr, udp: Arc<UdpSocket>, lent: bool) -> SocketId {
        let socket = Some(MediaSocket {
            local,
            udp,
            lent,
            dscp: 0,
        });
        let id = match self.vacant.pop() {
            Some(vacant) => {
                self.places[vacant] = socket;
                SocketId(vacant)
            }
            None => {
                self.places.push(socket);
                SocketId(self.places.len() - 1)
            }
        };
        self.by_local.insert(local, id);
        id
    }

    /// Makes the socket bound to `local` one to send by, whichever thread has it.
    pub(crate) fn borrow(&mut self, local: SocketAddr) {
        if self.find(local).is_none()
            && let Some(udp) = self.table.find(&local)
        {
            self.place(local, udp, true);
        }
    }

    /// Binds an RTP and an RTCP socket, both or none.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(crate) fn open_pair(&mut self, rtp: SocketAddr, rtcp: SocketAddr) -> io::Result<()> {
        self.open(rtp)?;
        self.open(rtcp).map(drop).inspect_err(|_| {
            self.close(rtp);
        })
    }

    /// Closes the socket that is bound to `local`, if there is one, or gives it back; whether it was our own.
    pub(crate) fn close(&mut self, local: SocketAddr) -> bool {
        let Some(id) = self.by_local.remove(&local) else {
            return false;
        };
        let socket = self.places[id.0].take();
        self.vacant.push(id.0);
        let Some(socket) = socket.filter(|socket| !socket.lent) else {
            return false;
        };
        self.table.remove(&local);
        // Another thread may still have it: it must not wake this one.
        let _ = self
            .registry
            .deregister(&mut SourceFd(&socket.udp.as_raw_fd()));
        true
    }

    /// The socket bound to `local`.
    pub(crate) fn find(&self, local: SocketAddr) -> Option<SocketId> {
        self.by_local.get(&local).copied()
    }

    /// A socket, unless it was closed.
    pub(crate) fn at(&self, id: SocketId) -> Option<&MediaSocket> {
        self.places.get(id.0)?.as_ref()
    }

    /// Marks everything that the socket bound to `local` sends from now on (RFC 2474).
    pub(crate) fn mark(&mut self, local: SocketAddr, dscp: u8) {
        if let Some(id) = self.find(local)
            && let Some(Some(socket)) = self.places.get_mut(id.0)
        {
            socket.mark(dscp);
        }
    }
}
