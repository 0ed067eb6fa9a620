//! The flood defence: its limits, and the budgets of what comes to a socket.
//!
//! With XDP most of a flood ends there; what comes by an interface without the program, ends here.
//! Bounded: the sources heard lately and those heard before them; when the newer half is full, the older one is forgotten.

use flow::{Addr, Budgets, Charge, FlowKey, Guard, Limit, SOURCES, Source, Why};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// `[flood]` of the configuration: what one source may send to our media ports without a flow, and a call's media with one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Flood {
    /// STUN.
    pub stun: Rate,
    /// DTLS ClientHellos.
    pub hello: Rate,
    /// RTP, RTCP and everything else.
    pub other: Rate,
    /// How many times the packet rate that was negotiated a medium of a call may have; 0 = any.
    pub media_margin: u32,
}

/// Packets on average and at once.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Rate {
    /// A second; 0 = no limit.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Default for Flood {
    /// An office of a hundred browsers behind one address that all connect in the same second, at 20 checks a second each
    /// (RFC 8445 section 14.2), and a SIP server with the RTCP of some thousand calls, stay below.
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            stun: rate(2000, 4000),
            hello: rate(500, 1000),
            other: rate(10_000, 20_000),
            // 400 packets of a voice a second: five times what the shortest usual packet time makes.
            media_margin: 8,
        }
    }
}

impl Flood {
    /// The limits for these ports.
    pub(crate) fn guard(
        &self,
        web: &[SocketAddr],
        rtp: &[IpAddr],
        rtp_ports: &RangeInclusive<u16>,
    ) -> Guard {
        let limit = |rate: Rate| Limit::new(rate.per_second, rate.burst);
        let mut guard = Guard::new(limit(self.stun), limit(self.hello), limit(self.other));
        let web = web.iter().map(|addr| (addr.ip(), addr.port(), addr.port()));
        let rtp = rtp
            .iter()
            .map(|addr| (*addr, *rtp_ports.start(), *rtp_ports.end()));
        for (addr, first, last) in web.chain(rtp) {
            if !guard.add(Addr::from(addr), first, last) {
                tracing::error!(%addr, "more media addresses than the flood defence has places");
            }
        }
        guard
    }
}

/// The budgets of packets that come by sockets.
pub(crate) struct Budgeted {
    guard: Guard,
    newer: HashMap<Source, Budgets>,
    older: HashMap<Source, Budgets>,
    /// Sources in each half.
    room: usize,
}

impl Budgeted {
    pub(crate) fn new(guard: Guard) -> Self {
        Self::with_room(guard, SOURCES / 2)
    }

    fn with_room(guard: Guard, room: usize) -> Self {
        Self {
            guard,
            newer: HashMap::new(),
            older: HashMap::new(),
            room,
        }
    }

    /// Charges a datagram that has no flow to its source.
    ///
    /// # Errors
    /// The reason to drop it.
    pub(crate) fn charge(&mut self, key: &FlowKey, bytes: &[u8], now_ns: u64) -> Result<(), Why> {
        if !self.guard.covers(key) {
            return Ok(());
        }
        let source = Source::of(&key.remote.addr);
        if !self.newer.contains_key(&source) {
            if self.newer.len() >= self.room {
                std::mem::swap(&mut self.newer, &mut self.older);
                self.newer.clear();
            }
            let known = self.older.get(&source).copied();
            self.newer.insert(source, known.unwrap_or(Budgets::FULL));
        }
        let Some(budgets) = self.newer.get_mut(&source) else {
            return Ok(());
        };
        budgets.charge(Charge::of_datagram(bytes), &self.guard, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: [u8; 4]) -> FlowKey {
        FlowKey {
            local: SocketAddr::from(([192, 0, 2, 1], 40_000)).into(),
            remote: SocketAddr::from((remote, 5000)).into(),
        }
    }

    fn budgeted(room: usize) -> Budgeted {
        let flood = Flood {
            stun: Rate {
                per_second: 1,
                burst: 1,
            },
            ..Flood::default()
        };
        let web = [SocketAddr::from(([192, 0, 2, 1], 40_000))];
        let rtp = [IpAddr::from([192, 0, 2, 1])];
        Budgeted::with_room(flood.guard(&web, &rtp, &(20_000..=20_099)), room)
    }

    #[test]
    fn memory_of_sources_is_bounded_and_keeps_those_heard_lately() {
        let mut budgeted = budgeted(4);
        let stun = [0, 1, 0, 0];
        let loud = [10, 0, 0, 1];
        assert_eq!(budgeted.charge(&key(loud), &stun, 1), Ok(()));
        for other in 2..=100 {
            assert_eq!(budgeted.charge(&key([10, 0, 0, other]), &stun, 1), Ok(()));
            let again = budgeted.charge(&key(loud), &stun, 1);
            assert_eq!(again, Err(Why::StunBudget), "after {other} sources");
            assert!(budgeted.newer.len() <= 4 && budgeted.older.len() <= 4);
        }
    }

    #[test]
    fn ports_that_are_not_ours_are_not_charged() {
        let mut budgeted = budgeted(4);
        let mut key = key([10, 0, 0, 1]);
        key.local.port = 40_001.into();
        for _ in 0..100 {
            assert_eq!(budgeted.charge(&key, &[0, 1], 1), Ok(()));
        }
        assert!(budgeted.newer.is_empty());
    }
}
