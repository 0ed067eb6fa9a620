//! Connections behind which users are registered stay open: CRLF CRLF, to be answered by CRLF (RFC 5626 sections 3.5.1 and 4.4.1).
//!
//! 1. `keep_open`: a binding was made over a connection, a ping is due in 80 to 100 percent of the interval.
//! 2. The ping goes out; whatever comes from there within 10 s is a sign of life.
//! 3. Silence: the connection is closed, its server is tried last, and the bindings are made anew.

use std::time::{Duration, Instant};

use super::config::{ConnectionId, Peer};
use super::event::Output;
use super::outgoing::Hop;
use super::stack::Stack;
use super::timers::{Deadline, TimerId};

/// How long a pong may take.
const PONG: Duration = Duration::from_secs(10);
/// How long a server whose connection is dead is tried last.
const AVOID: Duration = Duration::from_secs(60);

/// A connection that is kept open.
pub(super) struct Ping {
    /// Whether a ping is out.
    awaited: bool,
    timer: Option<TimerId>,
}

impl Stack {
    /// A binding was made at a server.
    pub(super) fn keep_open(&mut self, now: Instant, hop: Hop) {
        if !hop.transport.is_reliable() || self.pings.contains_key(&hop) {
            return;
        }
        let ping = Ping {
            awaited: false,
            timer: None,
        };
        self.pings.insert(hop, ping);
        self.ping_later(now, hop);
    }

    fn ping_later(&mut self, now: Instant, hop: Hop) {
        let Some(ping) = self.pings.get_mut(&hop) else {
            return;
        };
        ping.awaited = false;
        self.io.timers.cancel(&mut ping.timer);
        let wait = self.io.config.ping * (800 + self.io.random.u32() % 200) / 1000;
        ping.timer = Some(self.io.timers.set(now + wait, Deadline::Ping(hop)));
    }

    /// A ping is due, or its pong did not come.
    pub(super) fn ping(&mut self, now: Instant, hop: Hop) {
        let used = self.is_registered_at(hop);
        let Some(ping) = self.pings.get_mut(&hop).filter(|_| used) else {
            self.pings.remove(&hop);
            return;
        };
        if ping.awaited {
            return self.no_pong(now, hop);
        }
        let Some(local) = self.listen_for(hop).map(|listen| listen.addr) else {
            return;
        };
        let peer = Peer {
            transport: hop.transport,
            local,
            remote: hop.addr,
            connection: None,
        };
        self.io.transmit(peer, b"\r\n\r\n".to_vec());
        if let Some(ping) = self.pings.get_mut(&hop) {
            ping.awaited = true;
            ping.timer = Some(self.io.timers.set(now + PONG, Deadline::Ping(hop)));
        }
    }

    /// Something came from there; whether it may be a pong.
    pub(super) fn sign_of_life(&mut self, now: Instant, hop: Hop) -> bool {
        let awaited = self.pings.get(&hop).is_some_and(|ping| ping.awaited);
        if awaited {
            self.ping_later(now, hop);
        }
        awaited
    }

    fn no_pong(&mut self, now: Instant, hop: Hop) {
        self.pings.remove(&hop);
        let streams = self.streams.iter();
        let dead: Vec<ConnectionId> = streams
            .filter(|(_, stream)| stream.hop == hop)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in dead {
            tracing::debug!(remote = %hop.addr, "SIP connection closed: no pong");
            self.io.outputs.push_back(Output::Close(connection));
            self.handle_closed(now, connection);
        }
        self.avoid(now, hop, AVOID);
    }
}
