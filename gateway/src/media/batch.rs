//! Up to [`BATCH`] datagrams of one socket by one system call, into memory that is allocated once.

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams received by one call.
pub(super) const BATCH: usize = 32;
/// Bytes of the largest datagram that is taken; larger ones are counted and dropped. Beyond any path MTU of voice, DTLS or ICE.
pub(super) const DATAGRAM: usize = 2048;

/// Received datagrams.
pub(super) struct Batch {
    buffers: Box<[[u8; DATAGRAM]; BATCH]>,
    headers: MultiHeaders<SockaddrStorage>,
    received: [Option<Received>; BATCH],
}

/// One place of the batch.
#[derive(Clone, Copy)]
struct Received {
    remote: SocketAddr,
    bytes: usize,
    truncated: bool,
}

/// One datagram.
pub(super) struct Datagram<'a> {
    /// Sender.
    pub(super) remote: SocketAddr,
    /// UDP payload.
    pub(super) bytes: &'a mut [u8],
    /// Whether the datagram was longer than [`DATAGRAM`], so that `bytes` are not all of it.
    pub(super) truncated: bool,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            buffers: Box::new([[0; DATAGRAM]; BATCH]),
            headers: MultiHeaders::preallocate(BATCH, None),
            received: [None; BATCH],
        }
    }

    /// Receives what waits; 0 when nothing does. ICMP errors of earlier packets are taken off the socket and skipped.
    ///
    /// # Errors
    /// The socket is unusable.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // The batch is only as long as one budget, so a peer that provokes ICMP errors cannot hold the thread here.
        for _ in 0..BATCH {
            match self.receive_once(socket) {
                Ok(n) => return Ok(n),
                Err(nix::Error::EAGAIN) => return Ok(0),
                Err(
                    nix::Error::EINTR
                    | nix::Error::ECONNREFUSED
                    | nix::Error::EHOSTUNREACH
                    | nix::Error::ENETUNREACH
                    | nix::Error::EHOSTDOWN
                    | nix::Error::ENETDOWN
                    | nix::Error::EMSGSIZE,
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    fn receive_once(&mut self, socket: &UdpSocket) -> nix::Result<usize> {
        let mut slices = self.buffers.each_mut().map(|b| [IoSliceMut::new(b)]);
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut n = 0;
        for message in results {
            self.received[n] = message
                .address
                .as_ref()
                .and_then(to_std)
                .map(|remote| Received {
                    remote,
                    bytes: message.bytes.min(DATAGRAM),
                    truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
                });
            n += 1;
        }
        Ok(n)
    }

    /// The datagram at `place`, below the number that [`Self::receive`] returned.
    pub(super) fn datagram(&mut self, place: usize) -> Option<Datagram<'_>> {
        let received = self.received[place]?;
        Some(Datagram {
            remote: received.remote,
            bytes: &mut self.buffers[place][..received.bytes],
            truncated: received.truncated,
        })
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    let v6 = address.as_sockaddr_in6()?;
    // The scope of a link-local sender is left out: flow keys have no room for it, and media never comes from there.
    Some(SocketAddrV6::new(v6.ip(), v6.port(), 0, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_takes_what_waits_with_senders_and_lengths() {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.set_nonblocking(true).unwrap();
        let (a, b) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let to = ours.local_addr().unwrap();
        let mut batch = Batch::new();
        assert_eq!(batch.receive(&ours).unwrap(), 0);
        a.send_to(b"one", to).unwrap();
        b.send_to(&[7; DATAGRAM + 1], to).unwrap();
        a.send_to(b"", to).unwrap();
        assert_eq!(batch.receive(&ours).unwrap(), 3);
        let first = batch.datagram(0).unwrap();
        assert_eq!(
            (first.remote, &*first.bytes),
            (a.local_addr().unwrap(), &b"one"[..])
        );
        let long = batch.datagram(1).unwrap();
        assert!(long.truncated && long.remote == b.local_addr().unwrap());
        assert!(batch.datagram(2).unwrap().bytes.is_empty());
        assert_eq!(batch.receive(&ours).unwrap(), 0);
    }
}
