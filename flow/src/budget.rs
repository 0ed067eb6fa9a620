//! What one source may send to our media ports without a flow: the flood defence of the packet path.
//!
//! 1. A packet whose 4-tuple has no flow, to an address and port of [`Guard`], is charged to its source (IPv4 address,
//!    IPv6 /64) under its [`Charge`]; to any other address or port nothing is ever charged.
//! 2. A source has one token bucket for each kind of packet, kept as the moment at which it is full again (the virtual
//!    scheduling algorithm of ITU-T I.371): one number and no lock. Where two CPUs charge one source in the same
//!    instant, one charge may be lost, which costs nothing but a packet that is let through.
//! 3. What is over the budget is dropped and counted; the rest goes up to the daemon as before.
//!
//! The same code in XDP, over an LRU map of bounded size, and before the event queue where sockets are the datapath.

use crate::classify::{Protocol, classify};
use crate::packet::Frame;
use crate::scratch::Scratch;
use crate::{Addr, FlowKey, Port, Why};

/// Kinds of packets with budgets of their own.
pub const CHARGES: usize = 3;
/// Ranges of ports that are guarded at most: browser side and SIP side, IPv4 and IPv6.
pub const GUARDED: usize = 4;

/// Sources that are remembered; the one that was quiet longest makes room for the next.
pub const SOURCES: usize = 65_536;

/// DTLS record of content type handshake (RFC 6347 section 4.3.1).
const HANDSHAKE: u8 = 22;
/// Where the type of the first handshake message stands in a record, and the type of a ClientHello.
const MESSAGE_TYPE: usize = 13;
const CLIENT_HELLO: u8 = 1;

/// What a packet without a flow is charged as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charge {
    /// STUN: connectivity checks.
    Stun = 0,
    /// A DTLS record with a ClientHello: each costs the gateway public-key cryptography.
    Hello = 1,
    /// RTP, RTCP, other DTLS records, noise.
    Other = 2,
}

impl Charge {
    /// By the first two bytes of the datagram and the one at offset 13 (0 where it is shorter).
    #[inline(always)]
    const fn of(first: u8, second: u8, message_type: u8) -> Self {
        match classify(first, second) {
            Protocol::Stun => Self::Stun,
            Protocol::Dtls if first == HANDSHAKE && message_type == CLIENT_HELLO => Self::Hello,
            _ => Self::Other,
        }
    }

    /// Of a datagram in memory.
    pub fn of_datagram(bytes: &[u8]) -> Self {
        // As `arrive` reads it: less than two bytes are no protocol that we know.
        let [first, second] = bytes.first_chunk().copied().unwrap_or([0xff; 2]);
        let message_type = bytes.get(MESSAGE_TYPE).copied().unwrap_or(0);
        Self::of(first, second, message_type)
    }

    /// Of the frame that [`crate::arrive`] has read into `scratch`.
    #[inline(always)]
    pub fn of_frame<F: Frame>(frame: &F, scratch: &Scratch) -> Self {
        let mut word = [0];
        let at = scratch.arrival.header_bytes as usize + MESSAGE_TYPE;
        let long = scratch.arrival.payload_bytes as usize > MESSAGE_TYPE;
        let [message_type, ..] = if long && frame.load(at, 1, &mut word) {
            word[0].to_ne_bytes()
        } else {
            [0; 4]
        };
        let (first, second) = (scratch.arrival.first as u8, scratch.arrival.second as u8);
        Self::of(first, second, message_type)
    }

    /// Why a packet over this budget is dropped.
    #[inline(always)]
    pub const fn exceeded(self) -> Why {
        match self {
            Self::Stun => Why::StunBudget,
            Self::Hello => Why::HelloBudget,
            Self::Other => Why::OtherBudget,
        }
    }
}

/// A rate: so many packets a second on average, so many at once.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// Nanoseconds that a packet takes; 0 = no limit.
    interval_ns: u64,
    /// How far ahead of its time a packet may come.
    tolerance_ns: u64,
}

impl Limit {
    /// Everything passes.
    pub const NONE: Self = Self {
        interval_ns: 0,
        tolerance_ns: 0,
    };

    /// `per_second` packets on average (0 = no limit), `burst` of them (at least 1) at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        if per_second == 0 {
            return Self::NONE;
        }
        let interval_ns = 1_000_000_000 / per_second as u64;
        Self {
            interval_ns,
            tolerance_ns: (burst as u64).saturating_sub(1) * interval_ns,
        }
    }

    /// When the bucket that is full again at `full_ns` will be so after a packet at `now_ns`; `None` if it has no token left.
    #[inline(always)]
    pub fn take(&self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let full_ns = if full_ns < now_ns { now_ns } else { full_ns };
        if full_ns - now_ns > self.tolerance_ns {
            return None;
        }
        Some(full_ns + self.interval_ns)
    }
}

/// Whom packets are charged to: an IPv4 address, or the /64 of an IPv6 address, which one host can fill by itself.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source(Addr);

impl Source {
    /// The source of packets from this address.
    #[inline(always)]
    pub fn of(remote: &Addr) -> Self {
        let mut bytes = remote.0;
        if !remote.is_v4() {
            let mut place = 8;
            while place < 16 {
                bytes[place] = 0;
                place += 1;
            }
        }
        Self(Addr(bytes))
    }
}

/// The buckets of one source: when each is full again, CLOCK_MONOTONIC nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budgets {
    full_ns: [u64; CHARGES],
}

impl Budgets {
    /// Of a source that has not sent anything.
    pub const FULL: Self = Self {
        full_ns: [0; CHARGES],
    };

    /// Charges a packet.
    ///
    /// # Errors
    /// The reason to drop it: the bucket is empty.
    #[inline(always)]
    pub fn charge(&mut self, charge: Charge, guard: &Guard, now_ns: u64) -> Result<(), Why> {
        let limit = &guard.limits[charge as usize];
        if limit.interval_ns == 0 {
            return Ok(());
        }
        let full_ns = &mut self.full_ns[charge as usize];
        match limit.take(*full_ns, now_ns) {
            Some(next) => {
                *full_ns = next;
                Ok(())
            }
            None => Err(charge.exceeded()),
        }
    }
}

/// Which ports are guarded, and with what limits. One for all packets; written by the daemon.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    limits: [Limit; CHARGES],
    ranges: [Range; GUARDED],
}

/// Ports of one address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    addr: Addr,
    first: Port,
    last: Port,
}

impl Guard {
    /// Guards nothing.
    pub const OFF: Self = Self {
        limits: [Limit::NONE; CHARGES],
        // First above last: no port is between them.
        ranges: [Range {
            addr: Addr([0; 16]),
            first: Port([0xff; 2]),
            last: Port([0; 2]),
        }; GUARDED],
    };

    /// With the limits of STUN, DTLS hellos and everything else.
    pub const fn new(stun: Limit, hello: Limit, other: Limit) -> Self {
        Self {
            limits: [stun, hello, other],
            ..Self::OFF
        }
    }

    /// Guards ports `first` to `last` of an address; false if there are [`GUARDED`] ranges already.
    pub fn add(&mut self, addr: Addr, first: u16, last: u16) -> bool {
        let unused = self.ranges.iter_mut().find(|range| range.is_unused());
        let Some(range) = unused else { return false };
        *range = Range {
            addr,
            first: first.into(),
            last: last.into(),
        };
        true
    }

    /// Whether packets to the local end of this 4-tuple are charged.
    #[inline(always)]
    pub fn covers(&self, key: &FlowKey) -> bool {
        let mut covered = false;
        for range in &self.ranges {
            covered |= range.covers(key);
        }
        covered
    }
}

impl Range {
    fn is_unused(&self) -> bool {
        u16::from(self.first) > u16::from(self.last)
    }

    #[inline(always)]
    fn covers(&self, key: &FlowKey) -> bool {
        let port = u16::from(key.local.port);
        let mut differs = 0;
        let mut place = 0;
        while place < 16 {
            differs |= self.addr.0[place] ^ key.local.addr.0[place];
            place += 1;
        }
        differs == 0 && u16::from(self.first) <= port && port <= u16::from(self.last)
    }
}

const _: () = assert!(size_of::<Source>() == 16 && align_of::<Source>() == 1);
const _: () = assert!(size_of::<Budgets>() == 8 * CHARGES);
const _: () = assert!(size_of::<Range>() == 20);
const _: () =
    assert!(size_of::<Guard>() == 16 * CHARGES + 20 * GUARDED && align_of::<Guard>() == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;
    use core::net::{IpAddr, SocketAddr};

    const SECOND: u64 = 1_000_000_000;

    fn guard(per_second: u32, burst: u32) -> Guard {
        let limit = Limit::new(per_second, burst);
        Guard::new(limit, limit, limit)
    }

    /// How many of `count` packets, one each `every_ns`, pass from `now_ns` on.
    fn pass(budgets: &mut Budgets, guard: &Guard, now_ns: u64, count: u64, every_ns: u64) -> u64 {
        let charged = |k| budgets.charge(Charge::Stun, guard, now_ns + k * every_ns);
        (0..count).map(charged).filter(Result::is_ok).count() as u64
    }

    #[test]
    fn a_burst_passes_whole_and_the_rate_afterwards() {
        let (guard, mut budgets) = (guard(100, 20), Budgets::FULL);
        let now = 5 * SECOND;
        assert_eq!(pass(&mut budgets, &guard, now, 1000, 0), 20);
        // A second later the bucket is full again; a flood of 10 000 a second for a second gets burst and rate.
        let now = now + SECOND;
        assert_eq!(
            pass(&mut budgets, &guard, now, 10_000, SECOND / 10_000),
            20 + 99
        );
    }

    #[test]
    fn whoever_stays_within_the_rate_never_loses_a_packet() {
        let (guard, mut budgets) = (guard(100, 1), Budgets::FULL);
        assert_eq!(pass(&mut budgets, &guard, 1, 5000, SECOND / 100), 5000);
        // And in bursts as long as the rest, for hours.
        let guard = self::guard(100, 50);
        for k in 0..20_000 {
            assert_eq!(
                pass(&mut budgets, &guard, 60 * SECOND + k * SECOND / 2, 50, 0),
                50
            );
        }
    }

    #[test]
    fn the_kinds_do_not_take_from_each_other_and_zero_is_no_limit() {
        let one = Limit::new(1, 1);
        let guard = Guard::new(one, one, Limit::new(0, 1));
        let mut budgets = Budgets::FULL;
        assert_eq!(budgets.charge(Charge::Stun, &guard, 9), Ok(()));
        assert_eq!(
            budgets.charge(Charge::Stun, &guard, 9),
            Err(Why::StunBudget)
        );
        assert_eq!(budgets.charge(Charge::Hello, &guard, 9), Ok(()));
        assert_eq!(
            budgets.charge(Charge::Hello, &guard, 9),
            Err(Why::HelloBudget)
        );
        for _ in 0..1000 {
            assert_eq!(budgets.charge(Charge::Other, &guard, 9), Ok(()));
        }
    }

    #[test]
    fn packets_are_charged_as_what_they_are() {
        let mut record = [0; 30];
        record[0] = HANDSHAKE;
        record[13] = CLIENT_HELLO;
        assert_eq!(Charge::of_datagram(&record), Charge::Hello);
        assert_eq!(Charge::of_datagram(&record[..13]), Charge::Other);
        // A ServerHello; an alert.
        record[13] = 2;
        assert_eq!(Charge::of_datagram(&record), Charge::Other);
        (record[0], record[13]) = (21, 1);
        assert_eq!(Charge::of_datagram(&record), Charge::Other);
        assert_eq!(Charge::of_datagram(&[0, 1, 0, 0]), Charge::Stun);
        assert_eq!(Charge::of_datagram(&[0x80, 0]), Charge::Other);
        assert_eq!(Charge::of_datagram(&[0]), Charge::Other);
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let source = |text: &str| Source::of(&text.parse::<IpAddr>().unwrap().into());
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1:2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }

    #[test]
    fn only_our_ports_are_guarded() {
        let key = |local: &str| FlowKey {
            local: Endpoint::from(local.parse::<SocketAddr>().unwrap()),
            ..FlowKey::UNSPECIFIED
        };
        let mut guard = guard(1, 1);
        assert!(!guard.covers(&FlowKey::UNSPECIFIED));
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        assert!(guard.add(address("192.0.2.1"), 40_000, 40_000));
        assert!(guard.add(address("2001:db8::1"), 20_000, 20_999));
        for (local, covered) in [
            ("192.0.2.1:40000", true),
            ("192.0.2.1:40001", false),
            ("192.0.2.2:40000", false),
            ("[2001:db8::1]:20000", true),
            ("[2001:db8::1]:20999", true),
            ("[2001:db8::1]:21000", false),
            ("[2001:db8::1]:40000", false),
        ] {
            assert_eq!(guard.covers(&key(local)), covered, "{local}");
        }
        assert!(guard.add(address("192.0.2.3"), 1, 2) && guard.add(address("192.0.2.4"), 1, 2));
        assert!(!guard.add(address("192.0.2.5"), 1, 2), "no place is left");
    }
}
