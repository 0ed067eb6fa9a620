//! Packets on their way out: what one turn forwards leaves by one system call for each run of packets of one socket.
//!
//! Towards browsers all calls leave by one socket, so a turn over many calls' sockets ends in one call; towards SIP each call has a socket
//! of its own, and a run is what one call sent at once. Memory is allocated once.

use super::batch::DATAGRAM;
use super::sockets::{SocketId, Sockets};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// Packets that are kept before they are sent.
const ROOM: usize = 64;

/// Packets that were forwarded and not sent yet.
pub(super) struct Outgoing {
    buffers: Box<[[u8; DATAGRAM]; ROOM]>,
    lengths: [usize; ROOM],
    sockets: [Option<SocketId>; ROOM],
    remotes: [Option<SockaddrStorage>; ROOM],
    waiting: usize,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            buffers: Box::new([[0; DATAGRAM]; ROOM]),
            lengths: [0; ROOM],
            sockets: [None; ROOM],
            remotes: [None; ROOM],
            waiting: 0,
            headers: MultiHeaders::preallocate(ROOM, None),
        }
    }

    /// Keeps a packet; `false` if there is no room until [`Self::send`], or never would be.
    pub(super) fn push(&mut self, socket: SocketId, remote: SocketAddr, packet: &[u8]) -> bool {
        let Some(buffer) = self.buffers.get_mut(self.waiting) else {
            return false;
        };
        let Some(buffer) = buffer.get_mut(..packet.len()) else {
            return false;
        };
        buffer.copy_from_slice(packet);
        self.lengths[self.waiting] = packet.len();
        self.sockets[self.waiting] = Some(socket);
        self.remotes[self.waiting] = Some(remote.into());
        self.waiting += 1;
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting == ROOM
    }

    /// Sends everything; how many packets a socket refused.
    pub(super) fn send(&mut self, sockets: &Sockets) -> u64 {
        let (mut refused, mut first) = (0, 0);
        while first < self.waiting {
            let same = |place: &&Option<SocketId>| **place == self.sockets[first];
            let run = self.sockets[first..self.waiting].iter().take_while(same);
            let end = first + run.count();
            match self.send_run(sockets, first, end) {
                Some(sent) if sent > 0 => first += sent,
                // The first of the rest is what the socket refused.
                _ => {
                    refused += 1;
                    first += 1;
                }
            }
        }
        self.waiting = 0;
        refused
    }

    /// Sends packets of one socket; how many, from the first on, it took.
    fn send_run(&mut self, sockets: &Sockets, first: usize, end: usize) -> Option<usize> {
        let socket = sockets.at(self.sockets[first]?)?.udp();
        let (buffers, lengths) = (&self.buffers, &self.lengths);
        let slices: [_; ROOM] = std::array::from_fn(|place| {
            // The places after the run are not read.
            let place = (first + place).min(ROOM - 1);
            [IoSlice::new(&buffers[place][..lengths[place]])]
        });
        let none: [ControlMessage<'_>; 0] = [];
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &slices[..end - first],
            &self.remotes[first..end],
            none,
            MsgFlags::MSG_DONTWAIT,
        );
        Some(sent.ok()?.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn runs_of_two_sockets_arrive_in_order_and_a_refused_packet_stops_nothing() {
        let poll = mio::Poll::new().unwrap();
        let mut sockets = Sockets::new(poll.registry().try_clone().unwrap(), Default::default());
        let ours = [(); 2].map(|()| sockets.open("127.0.0.1:0".parse().unwrap()).unwrap());
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to = peer.local_addr().unwrap();
        let mut outgoing = Outgoing::new();
        // IPv6 by an IPv4 socket.
        let impossible = "[2001:db8::1]:9".parse().unwrap();
        for (socket, remote, packet) in [
            (ours[0], to, &b"1"[..]),
            (ours[0], impossible, b"2"),
            (ours[0], to, b"33"),
            (ours[1], to, b""),
            (ours[1], to, b"5"),
            (ours[0], to, b"6"),
        ] {
            assert!(outgoing.push(socket, remote, packet));
        }
        assert_eq!(outgoing.send(&sockets), 1);
        let mut arrived = Vec::new();
        for _ in 0..5 {
            let mut buffer = [0; 16];
            let (length, from) = peer.recv_from(&mut buffer).unwrap();
            let from = ours
                .iter()
                .position(|id| sockets.at(*id).unwrap().local == from)
                .unwrap();
            arrived.push((from, buffer[..length].to_vec()));
        }
        let expected: [(usize, &[u8]); 5] = [(0, b"1"), (0, b"33"), (1, b""), (1, b"5"), (0, b"6")];
        assert_eq!(
            arrived,
            expected.map(|(from, bytes)| (from, bytes.to_vec()))
        );
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let poll = mio::Poll::new().unwrap();
        let mut sockets = Sockets::new(poll.registry().try_clone().unwrap(), Default::default());
        let socket = sockets.open("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = sockets.at(socket).unwrap().local;
        let mut outgoing = Outgoing::new();
        assert!(!outgoing.push(socket, to, &[0; DATAGRAM + 1]));
        for _ in 0..ROOM {
            assert!(outgoing.push(socket, to, b"x"));
        }
        assert!(outgoing.is_full() && !outgoing.push(socket, to, b"x"));
        assert_eq!(outgoing.send(&sockets), 0);
        assert!(!outgoing.is_full());
    }
}
