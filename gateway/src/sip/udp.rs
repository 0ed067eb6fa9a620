//! One UDP socket for SIP, with the ICMP errors of what it sent.

use super::{Event, READ_BYTES};
use gateway_core::sip::{Peer, Transport};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// The socket; its reader runs in a task of its own.
pub(super) struct UdpSide {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
}

impl UdpSide {
    pub(super) async fn bind(addr: SocketAddr, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(addr).await?);
        let local = socket.local_addr()?;
        // Without it an unconnected socket does not learn of "port unreachable", and each dead peer costs 32 s.
        if local.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
        tokio::spawn(read(Arc::clone(&socket), local, events));
        Ok(Self { socket, local })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn send(&self, remote: SocketAddr, bytes: &[u8]) {
        // The first attempt may report the ICMP error of an earlier datagram instead of sending this one.
        let sent = self
            .socket
            .try_send_to(bytes, remote)
            .or_else(|_| self.socket.try_send_to(bytes, remote));
        if let Err(error) = sent {
            tracing::debug!(%error, "SIP datagram not sent");
        }
    }
}

async fn read(socket: Arc<UdpSocket>, local: SocketAddr, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, remote)) => {
                let peer = Peer {
                    transport: Transport::Udp,
                    local,
                    remote,
                    connection: None,
                };
                let full = events
                    .try_send(Event::Datagram(peer, buffer[..length].to_vec()))
                    .is_err();
                if full && events.is_closed() {
                    return;
                }
            }
            Err(_) => {
                while let Some(remote) = unreachable_peer(&socket) {
                    if events
                        .send(Event::Unreachable(Transport::Udp, remote))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
    }
}

/// Takes one ICMP error off the socket's error queue: the destination of the datagram that it answers.
fn unreachable_peer(socket: &UdpSocket) -> Option<SocketAddr> {
    // The message itself comes back, too; nobody needs it.
    let mut bytes = [0; 64];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
            .ok()?;
    let is_icmp = message.cmsgs().ok()?.any(|control| {
        matches!(
            control,
            ControlMessageOwned::Ipv4RecvErr(..) | ControlMessageOwned::Ipv6RecvErr(..)
        )
    });
    let address = message.address?;
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    let v6 = || {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
    };
    if is_icmp { v4.or_else(v6) } else { None }
}
