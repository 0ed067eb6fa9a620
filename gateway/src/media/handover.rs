//! What media threads do for each other: a flow goes from one to another when its browser takes another port, with its state, and what
//! the browser sent before it knew of that follows for two seconds; a call whose ports one has not gets them of the next.

use super::thread::MediaThread;
use super::{Command, Given};
use crate::datapath::{self, FORMER_PAIR, Outcome};
use flow::FlowSpec;
use gateway_core::api::CallId;
use gateway_core::gateway::FlowId;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

/// A way to a media thread.
pub(super) struct Peer {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) waker: mio::Waker,
}

impl Peer {
    pub(super) fn send(&self, command: Command) {
        // Fails only after the thread is gone, when nothing can be done for media any more; the event loop is told then.
        if self.commands.send(command).is_ok() {
            // A full eventfd counter means that a wake-up is already pending.
            let _ = self.waker.wake();
        }
    }
}

/// A 4-tuple whose flow has gone to another thread.
pub(super) struct Gone {
    local: SocketAddr,
    remote: SocketAddr,
    to: usize,
    until: Instant,
}

impl Gone {
    fn of(spec: &FlowSpec, to: usize) -> Self {
        Self {
            local: spec.key.local.into(),
            remote: spec.key.remote.into(),
            to,
            until: Instant::now() + FORMER_PAIR,
        }
    }
}

impl MediaThread {
    /// Gives a flow away.
    pub(super) fn give(
        &mut self,
        flow: FlowId,
        to: usize,
        back: &mpsc::SyncSender<Option<Box<Given>>>,
    ) {
        let given = self.flows.give(flow);
        self.gone
            .extend(given.as_ref().map(|given| Gone::of(given.spec(), to)));
        // The event loop waits for it; it has gone on if that took too long, and then the flow is lost to it.
        let _ = back.send(given.map(Box::new));
    }

    /// Whether a datagram belongs to a flow that has gone; then it follows.
    pub(super) fn follows(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) -> bool {
        if self.gone.is_empty() {
            return false;
        }
        let now = Instant::now();
        self.gone.retain(|gone| gone.until > now);
        let gone = self.gone.iter();
        let mut of_it = gone.filter(|gone| (gone.local, gone.remote) == (local, remote));
        let Some(gone) = of_it.next_back() else {
            return false;
        };
        self.peers[gone.to].send(Command::Late {
            local,
            remote,
            bytes: bytes.to_vec(),
        });
        true
    }

    /// A datagram that followed its flow here.
    pub(super) fn late(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        let now_ns = datapath::monotonic_ns();
        // STUN and DTLS come up where they arrive.
        if let Outcome::Send {
            from,
            remote,
            bytes,
        } = self.flows.forward(local, remote, bytes, now_ns)
        {
            let socket = self.sockets.find(from).and_then(|id| self.sockets.at(id));
            // As everywhere: what a socket refuses is lost.
            let _ = socket.map(|socket| socket.udp().send_to(bytes, remote));
        }
    }

    /// Has the next thread open the ports of a call that this one has none for; false if all were asked.
    pub(super) fn pass_on(&self, call: &CallId, media: u8, ipv6: bool, asked: usize) -> bool {
        let others = asked + 1 < self.peers.len();
        if others {
            self.peers[(self.index + 1) % self.peers.len()].send(Command::OpenPorts {
                call: call.clone(),
                media,
                ipv6,
                asked: asked + 1,
            });
        }
        others
    }
}
