//! A leg and a browser on a virtual network with virtual time: delay, loss and reordering from a seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flow::Suite;
use str0m::config::DtlsVersion;

use super::browser::{Browser, Offer, description, parameters};
use crate::Random;
use crate::sdp::{Fingerprint, IceParameters};
use crate::webrtc::{
    Certificate, DTLS_SUITES, DtlsRole, DtlsSettings, Leg, LegConfig, LegError, LegEvent,
    LegOutput, Secured, stun_username_local,
};

pub(super) const ONE_WAY: Duration = Duration::from_millis(10);

/// A seeded generator (splitmix64), so that a failing run repeats.
pub(super) fn seeded(seed: u64) -> Random {
    let mut state = seed;
    Random::new(move |bytes| {
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let z = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&z[..chunk.len()]);
        }
    })
}

#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) role: DtlsRole,
    pub(super) version: DtlsVersion,
    pub(super) offer: Offer,
    /// What the leg may agree on.
    pub(super) suites: &'static [Suite],
    pub(super) loss_percent: u32,
    pub(super) jitter: Duration,
    pub(super) seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            role: DtlsRole::Active,
            version: DtlsVersion::Auto,
            offer: Offer::Cm,
            suites: &DTLS_SUITES,
            loss_percent: 0,
            jitter: Duration::ZERO,
            seed: 1,
        }
    }
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

pub(super) struct Bed {
    pub(super) now: Instant,
    pub(super) leg: Leg,
    pub(super) browser: Browser,
    pub(super) gateway_addr: SocketAddr,
    pub(super) browser_addr: SocketAddr,
    /// What a NAT makes of the browser's address.
    pub(super) nat: Option<SocketAddr>,
    /// An address of the browser that has gone.
    pub(super) gone: Option<SocketAddr>,
    pub(super) cut: bool,
    pub(super) setup: Setup,
    pub(super) ice: IceParameters,
    pub(super) fingerprint: Fingerprint,
    pub(super) selected: Vec<SocketAddr>,
    pub(super) secured: Option<Secured>,
    pub(super) failed: Option<LegError>,
    pub(super) closed: bool,
    pub(super) consent_lost: Vec<Instant>,
    /// User fragment that the browser's latest check was for.
    pub(super) addressed_to: Option<String>,
    /// Media that the browser sent: the leg never sees it.
    pub(super) media: Vec<Vec<u8>>,
    /// Applied to datagrams of the browser: one becomes none, one or more.
    pub(super) mangle: fn(Vec<u8>) -> Vec<Vec<u8>>,
    random: Random,
    queue: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
}

impl Bed {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let mut random = seeded(setup.seed);
        let gateway_addr = "192.0.2.1:3478".parse().unwrap();
        let browser_addr = "198.51.100.7:50000".parse().unwrap();
        let certificate = Arc::new(Certificate::generate(&mut random, SystemTime::now()).unwrap());
        let fingerprint = certificate.fingerprint();
        let ice = ice_parameters(&mut random);
        let config = LegConfig::new(
            gateway_addr,
            ice.clone(),
            certificate,
            DtlsSettings::new(Duration::from_secs(10), setup.suites),
            setup.role,
        );
        Self {
            now,
            leg: Leg::new(config, now),
            browser: Browser::new(now, browser_addr, setup.version, setup.offer),
            gateway_addr,
            browser_addr,
            nat: None,
            gone: None,
            cut: false,
            setup,
            ice,
            fingerprint,
            selected: Vec::new(),
            secured: None,
            failed: None,
            closed: false,
            consent_lost: Vec::new(),
            addressed_to: None,
            media: Vec::new(),
            mangle: |bytes| vec![bytes],
            random,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// The browser calls: it offers, we answer with the role of the set-up.
    pub(super) fn browser_calls(&mut self) {
        let offer = self.browser.offer(false);
        let (ice, fingerprints) = parameters(&offer);
        self.leg.set_remote(self.now, &ice, &fingerprints);
        self.answer(&offer);
    }

    /// Gives the browser our answer to `offer`.
    pub(super) fn answer(&mut self, offer: &str) {
        let mid = offer
            .lines()
            .find_map(|line| line.strip_prefix("a=mid:"))
            .unwrap()
            .to_string();
        let setup = match self.setup.role {
            DtlsRole::Active => "active",
            DtlsRole::Passive => "passive",
        };
        let answer = description(
            &self.ice,
            &self.fingerprint,
            self.gateway_addr,
            setup,
            mid.trim(),
        );
        self.browser.accept_answer(&answer);
        self.browser.handle_timeout(self.now);
    }

    /// The browser gets our offer; its answer is returned, and not yet known to the leg.
    pub(super) fn browser_is_called(&mut self, setup: &str) -> String {
        let offer = description(&self.ice, &self.fingerprint, self.gateway_addr, setup, "0");
        let answer = self.browser.answer(&offer);
        self.browser.handle_timeout(self.now);
        answer
    }

    /// Runs until the condition holds; panics after `limit` of virtual time.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(
                self.step(end),
                "not reached in {limit:?}; leg {:?}",
                self.leg.state()
            );
        }
    }

    /// Runs for a time.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// One event; `false` when there is none until `end`, which is then the time.
    fn step(&mut self, end: Instant) -> bool {
        self.collect();
        let arrival = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let browser = Some(self.browser.poll_timeout()).filter(|_| !self.browser.failed);
        let next = [arrival, browser, self.leg.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next.filter(|&next| next < end) else {
            self.now = end;
            return false;
        };
        // Timers that are due already must not stop the clock: engines pace themselves in milliseconds.
        let stuck = next <= self.now && arrival.is_none_or(|arrival| arrival > self.now);
        self.now = if stuck {
            self.now + Duration::from_millis(1)
        } else {
            next.max(self.now)
        };
        if arrival.is_some_and(|arrival| arrival <= self.now)
            && let Some((_, datagram)) = self.queue.pop_first()
        {
            self.deliver(datagram);
        } else {
            self.leg.handle_timeout(self.now);
            self.browser.handle_timeout(self.now);
        }
        self.collect();
        true
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { from, to, bytes } = datagram;
        if to != self.gateway_addr {
            let to = if Some(to) == self.nat {
                self.browser_addr
            } else {
                to
            };
            self.browser.handle_datagram(self.now, from, to, &bytes);
        } else if bytes
            .first()
            .is_some_and(|first| (128..192).contains(first))
        {
            self.media.push(bytes);
        } else {
            self.addressed_to = stun_username_local(&bytes).or_else(|| self.addressed_to.take());
            self.leg.handle_datagram(self.now, to, from, &bytes);
        }
    }

    fn collect(&mut self) {
        while let Some(output) = self.leg.poll_output() {
            match output {
                LegOutput::Transmit {
                    local,
                    remote,
                    bytes,
                } => self.send(local, remote, bytes),
                LegOutput::Event(LegEvent::Selected { remote, .. }) => self.selected.push(remote),
                LegOutput::Event(LegEvent::Secured(secured)) => {
                    assert!(self.secured.replace(secured).is_none(), "keys come once");
                }
                LegOutput::Event(LegEvent::ConsentLost) => self.consent_lost.push(self.now),
                LegOutput::Event(LegEvent::Failed(error)) => self.failed = Some(error),
                LegOutput::Event(LegEvent::Closed) => self.closed = true,
            }
        }
        for (source, bytes) in std::mem::take(&mut self.browser.sent) {
            let from = self.nat.unwrap_or(source);
            for bytes in (self.mangle)(bytes) {
                self.send(from, self.gateway_addr, bytes);
            }
        }
    }

    /// Puts a datagram on the network.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.cut || self.gone == Some(from) || self.random.u32() % 100 < self.setup.loss_percent
        {
            return;
        }
        let jitter = self.setup.jitter.as_micros().max(1) as u32;
        let jitter = Duration::from_micros(u64::from(self.random.u32() % jitter));
        self.sequence += 1;
        self.queue.insert(
            (self.now + ONE_WAY + jitter, self.sequence),
            Datagram { from, to, bytes },
        );
    }

    /// New credentials for a restart.
    pub(super) fn new_ice(&mut self) -> IceParameters {
        ice_parameters(&mut self.random)
    }
}

/// A lite and a full leg on a link without delay: what str0m cannot play is played by ourselves.
pub(super) struct TwoLegs {
    now: Instant,
    legs: [Leg; 2],
    pub(super) cut: bool,
    pub(super) secured: [bool; 2],
    pub(super) consent_lost: [u32; 2],
    pub(super) failed: Option<LegError>,
}

impl TwoLegs {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let mut random = seeded(7);
        let addrs: [SocketAddr; 2] = [
            "192.0.2.1:3478".parse().unwrap(),
            "192.0.2.2:4000".parse().unwrap(),
        ];
        let lite = ice_parameters(&mut random);
        let full = IceParameters {
            lite: false,
            ..ice_parameters(&mut random)
        };
        let mut leg = |index: usize, ice: &IceParameters, role| {
            let certificate =
                Arc::new(Certificate::generate(&mut random, SystemTime::now()).unwrap());
            let fingerprint = certificate.fingerprint();
            (
                Leg::new(
                    LegConfig::new(
                        addrs[index],
                        ice.clone(),
                        certificate,
                        DtlsSettings::default(),
                        role,
                    ),
                    now,
                ),
                fingerprint,
            )
        };
        let (mut one, one_fingerprint) = leg(0, &lite, DtlsRole::Passive);
        let (mut two, two_fingerprint) = leg(1, &full, DtlsRole::Active);
        one.set_remote(now, &full, &[two_fingerprint]);
        two.set_remote(now, &lite, &[one_fingerprint]);
        two.add_candidate(now, "candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host");
        Self {
            now,
            legs: [one, two],
            cut: false,
            secured: [false; 2],
            consent_lost: [0; 2],
            failed: None,
        }
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            for index in 0..2 {
                while let Some(output) = self.legs[index].poll_output() {
                    self.output(index, output);
                }
            }
            self.now += Duration::from_millis(10);
            for leg in &mut self.legs {
                if leg.poll_timeout().is_some_and(|at| at <= self.now) {
                    leg.handle_timeout(self.now);
                }
            }
        }
    }

    fn output(&mut self, index: usize, output: LegOutput) {
        match output {
            LegOutput::Transmit {
                local,
                remote,
                bytes,
            } if !self.cut => {
                self.legs[1 - index].handle_datagram(self.now, remote, local, &bytes);
            }
            LegOutput::Transmit { .. } | LegOutput::Event(LegEvent::Selected { .. }) => {}
            LegOutput::Event(LegEvent::Secured(_)) => self.secured[index] = true,
            LegOutput::Event(LegEvent::ConsentLost) => self.consent_lost[index] += 1,
            LegOutput::Event(LegEvent::Failed(error)) => self.failed = Some(error),
            LegOutput::Event(LegEvent::Closed) => {}
        }
    }
}

fn ice_parameters(random: &mut Random) -> IceParameters {
    IceParameters {
        ufrag: random.ice_chars(8),
        password: random.ice_chars(24),
        lite: true,
    }
}
