//! Several media threads, where sockets carry the media: how packets, ports and flows are spread over them.
//!
//! Each thread owns its sockets, its flows and their SRTP state alone, so that no packet takes a lock. Which thread a packet belongs to
//! follows from its addresses:
//! - All browsers share one address. Every thread has a socket of its own there (`SO_REUSEPORT`), and a steering program in the kernel
//!   chooses by the browser's port ([`steer`]), as [`Shards::of`] does.
//! - On the SIP side the port tells: the pairs of the port range go round the threads.
//!
//! A flow lives where its packets arrive; the two directions of a call share no state and may live apart. What a flow sends leaves by a
//! socket that another thread may own: [`SocketTable`] lends it, asked when the flow is installed. Packets of one source always come to
//! one thread, so the budgets of `[flood]` are counted there.

use nix::sys::socket::{setsockopt, sockopt};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// How many threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shards(usize);

impl Shards {
    /// Most that can be configured.
    pub(crate) const MOST: usize = 64;

    pub(crate) fn new(count: usize) -> Self {
        Self(count.clamp(1, Self::MOST))
    }

    pub(crate) fn count(self) -> usize {
        self.0
    }

    /// The thread of packets that arrive on `local`, one of `web` or a port of the SIP side, from `remote`.
    pub(crate) fn of(self, web: &[SocketAddr], local: SocketAddr, remote: SocketAddr) -> usize {
        if web.contains(&local) {
            usize::from(remote.port()) % self.0
        } else {
            self.of_pair(local.port())
        }
    }

    /// The thread of a pair of ports, by either.
    pub(crate) fn of_pair(self, port: u16) -> usize {
        usize::from(port / 2) % self.0
    }
}

/// Sockets of the SIP side that every thread may send by.
#[derive(Clone, Default)]
pub(crate) struct SocketTable(Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>);

impl SocketTable {
    pub(crate) fn insert(&self, local: SocketAddr, socket: &Arc<UdpSocket>) {
        self.with(|table| table.insert(local, Arc::clone(socket)));
    }

    pub(crate) fn remove(&self, local: &SocketAddr) {
        self.with(|table| table.remove(local));
    }

    pub(crate) fn find(&self, local: &SocketAddr) -> Option<Arc<UdpSocket>> {
        self.with(|table| table.get(local).cloned())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<SocketAddr, Arc<UdpSocket>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the kernel choose among the sockets of one address, in the order in which they were bound, by the sender's port: a program of
/// classic BPF, which takes no privileges. Behind IPv6 extension headers it finds no port; such packets are lost.
pub(crate) fn steer(socket: &UdpSocket, shards: Shards) -> nix::Result<()> {
    let code = |class: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: class as u16,
        jt,
        jf,
        k,
    };
    // The program sees the UDP payload; offsets from here lead to the IP header.
    let ip = libc::SKF_NET_OFF as u32;
    let load = |size: u32, mode: u32, k: u32| code(libc::BPF_LD | size | mode, k, 0, 0);
    let mut program = [
        load(libc::BPF_B, libc::BPF_ABS, ip),
        code(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4, 0, 0),
        code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 4, 0, 3),
        // IPv4: behind its header, whose length it tells.
        code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, ip, 0, 0),
        load(libc::BPF_H, libc::BPF_IND, ip),
        code(libc::BPF_JMP | libc::BPF_JA, 1, 0, 0),
        // IPv6.
        load(libc::BPF_H, libc::BPF_ABS, ip.wrapping_add(40)),
        code(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            shards.count() as u32,
            0,
            0,
        ),
        code(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    setsockopt(socket, sockopt::AttachReusePortCbpf, &program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::time::Duration;

    fn bound(local: SocketAddr) -> UdpSocket {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&local.into()).unwrap();
        let socket = UdpSocket::from(socket);
        let limit = Some(Duration::from_millis(200));
        socket.set_read_timeout(limit).unwrap();
        socket
    }

    #[test]
    fn the_kernel_steers_as_we_compute() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let any: SocketAddr = any.parse().unwrap();
            let first = bound(any);
            let address = first.local_addr().unwrap();
            let sockets = [first, bound(address), bound(address)];
            let shards = Shards::new(3);
            steer(&sockets[0], shards).unwrap();
            for _ in 0..24 {
                let sender = UdpSocket::bind(any).unwrap();
                let from = sender.local_addr().unwrap();
                sender.send_to(b"x", address).unwrap();
                let place = shards.of(&[address], address, from);
                let (_, came_from) = sockets[place].recv_from(&mut [0; 8]).unwrap();
                assert_eq!(came_from, from);
            }
        }
    }

    #[test]
    fn both_ports_of_a_pair_belong_to_one_thread_and_pairs_go_round() {
        let shards = Shards::new(4);
        let pairs = (20_000..20_016).step_by(2);
        let places: Vec<usize> = pairs
            .inspect(|port| assert_eq!(shards.of_pair(*port), shards.of_pair(port + 1)))
            .map(|port| shards.of_pair(port))
            .collect();
        assert_eq!(places, [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(Shards::new(0).count(), 1);
    }
}
