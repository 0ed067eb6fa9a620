//! ICE of a leg: answers or makes connectivity checks, selects the path, watches consent (RFC 8445, RFC 7675, RFC
//! 8838).
//!
//! The agent of the crate `is` authenticates, answers and (in full mode) checks; what it leaves open is decided here:
//!
//! - As ice-lite agent (the default) the path is the one that the browser nominates. `is` keeps the first of two
//!   equal priorities until it has been silent for 15 s, which is too late after a NAT rebinding, so lite nomination
//!   is done here: see [`Path::nominate`].
//! - Consent: RFC 7675 section 5.1 ends it after 30 s without a valid check. A lite agent sends no checks of its own;
//!   it takes the browser's authenticated ones on the selected path as the sign of life. A full agent counts the
//!   answers to its own.
//! - Everything is bounded: addresses that may check, requests that wait for the remote credentials, remote
//!   candidates.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};

use super::leg::LegConfig;
use crate::sdp::IceParameters;

/// Addresses per ICE generation from which authenticated checks are taken. Browsers have a handful; an ICE restart
/// resets.
const REMOTE_ADDRESSES: usize = 32;
/// Local addresses per leg: IPv4 and IPv6 on a few interfaces.
const LOCAL_ADDRESSES: usize = 8;
/// Signalled candidates per ICE generation (full mode).
const CANDIDATES: usize = 32;
/// Checks that wait until the remote credentials are known.
const WAITING_CHECKS: usize = 8;
/// A nominated path that was silent for so long gives way to any newly nominated one. Browsers check every 2.5 to 6 s.
const NOMINATION_STALE: Duration = Duration::from_secs(7);

/// A pair of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// What ICE wants from outside.
pub(super) enum IceOutput {
    Transmit { pair: Pair, bytes: Vec<u8> },
    Selected(Pair),
    ConsentLost,
}

/// Why a datagram was not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// No STUN message, or one that an ICE agent does not take.
    Malformed,
    /// Wrong credentials, unknown transaction, or too many addresses.
    Unauthenticated,
}

/// An address pair on which an authenticated request arrived.
struct Checked {
    pair: Pair,
    priority: u32,
    /// Whether the latest check carried USE-CANDIDATE.
    nominated: bool,
    at: Instant,
}

struct Waiting {
    pair: Pair,
    bytes: Vec<u8>,
}

/// The ICE session of one leg.
pub(super) struct Path {
    agent: IceAgent,
    lite: bool,
    remote_known: bool,
    locals: Vec<SocketAddr>,
    candidates: usize,
    checked: Vec<Checked>,
    waiting: VecDeque<Waiting>,
    selected: Option<Pair>,
    /// Since a restart the selected path is a left-over: any nomination replaces it.
    restarted: bool,
    consent_timeout: Duration,
    /// When consent ends; `None` before the first selection and after a loss.
    consent_until: Option<Instant>,
    outputs: VecDeque<IceOutput>,
}

impl Path {
    /// An agent with our credentials; `ice.lite` says which kind. A full agent controls a peer that is lite in any case.
    pub(super) fn new(config: &LegConfig, now: Instant) -> Self {
        let ours = &config.ice;
        let mut agent = IceAgent::new(credentials(ours));
        agent.set_ice_lite(ours.lite);
        agent.set_controlling(config.controlling);
        if ours.lite {
            // RFC 8445 section 6.1.1: a full peer of a lite agent controls; with the highest tie-breaker we never
            // yield.
            agent.set_control_tie_breaker(u64::MAX);
        }
        let mut path = Self {
            agent,
            lite: ours.lite,
            remote_known: false,
            locals: Vec::new(),
            candidates: 0,
            checked: Vec::new(),
            waiting: VecDeque::new(),
            selected: None,
            restarted: false,
            consent_timeout: config.consent_timeout,
            consent_until: None,
            outputs: VecDeque::new(),
        };
        path.add_local(config.local);
        path.agent.handle_timeout(now);
        path
    }

    /// The peer's credentials; checks that came before them are answered now.
    pub(super) fn set_remote(&mut self, now: Instant, theirs: &IceParameters) {
        if theirs.lite {
            // A lite peer makes no checks, so we have to, and we control (RFC 8445 section 6.1.1).
            self.lite = false;
            self.agent.set_ice_lite(false);
            self.agent.set_controlling(true);
        }
        self.agent.set_remote_credentials(credentials(theirs));
        self.remote_known = true;
        for waiting in std::mem::take(&mut self.waiting) {
            // A refusal here is one of a foreign user name; the peer's next check is counted.
            let _ = self.handle_datagram(now, waiting.pair, &waiting.bytes);
        }
        self.agent.handle_timeout(now);
        self.drain(now);
    }

    /// A signalled candidate. Ice-lite has no use for it; bad ones, `.local` names and TCP are skipped (RFC 8838
    /// section 11).
    pub(super) fn add_candidate(&mut self, now: Instant, candidate: &str) {
        if self.lite || self.candidates >= CANDIDATES {
            return;
        }
        let candidate = candidate.trim();
        let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
        if let Ok(candidate) = Candidate::from_sdp_string(candidate)
            && candidate.proto() == Protocol::Udp
        {
            self.candidates += 1;
            self.agent.add_remote_candidate(candidate);
            self.agent.handle_timeout(now);
            self.drain(now);
        }
    }

    /// RFC 8445 section 9: new credentials on both sides; the selected path is used until the new session selects.
    pub(super) fn restart(&mut self, now: Instant, ours: &IceParameters, theirs: &IceParameters) {
        self.agent.ice_restart(credentials(ours), true);
        self.lite = ours.lite;
        self.agent.set_ice_lite(ours.lite);
        self.remote_known = false;
        self.candidates = 0;
        self.checked.clear();
        self.waiting.clear();
        self.restarted = true;
        if self.consent_until.is_some() {
            self.consent_until = Some(now + self.consent_timeout);
        }
        self.set_remote(now, theirs);
    }

    /// Takes a STUN message.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        pair: Pair,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let message = StunMessage::parse(bytes).map_err(|_| Refused::Malformed)?;
        if !self.remote_known {
            // Our own user fragment and password are all that can be checked yet.
            if !message.is_binding_request() || !self.agent.accepts_message(&message) {
                return Err(Refused::Unauthenticated);
            }
            self.wait(pair, bytes);
            return Ok(());
        }
        if !self.add_local(pair.local) || !self.room_for(pair) {
            return Err(Refused::Unauthenticated);
        }
        let request = message.is_binding_request();
        let response = message.is_successful_binding_response();
        let priority = message.prio().unwrap_or_default();
        let nominates = message.use_candidate();
        let packet = StunPacket {
            proto: Protocol::Udp,
            source: pair.remote,
            destination: pair.local,
            message,
        };
        if !self.agent.handle_packet(now, packet) {
            return Err(Refused::Unauthenticated);
        }
        if request {
            self.nominate(
                now,
                Checked {
                    pair,
                    priority,
                    nominated: nominates,
                    at: now,
                },
            );
        }
        if (if self.lite { request } else { response }) && self.selected == Some(pair) {
            self.renew_consent(now);
        }
        self.drain(now);
        Ok(())
    }

    /// Runs what is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.lite {
            self.agent.handle_timeout(now);
            self.drain(now);
        }
        if self.consent_until.is_some_and(|until| now >= until) {
            self.consent_until = None;
            self.outputs.push_back(IceOutput::ConsentLost);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called. A lite agent has no timers but consent.
    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        let agent = if self.lite || !self.remote_known {
            None
        } else {
            self.agent.poll_timeout()
        };
        agent.into_iter().chain(self.consent_until).min()
    }

    /// The next output.
    pub(super) fn poll_output(&mut self) -> Option<IceOutput> {
        self.outputs.pop_front()
    }

    /// The path that the peer or we have selected; stays through a restart.
    pub(super) fn selected(&self) -> Option<Pair> {
        self.selected
    }

    /// Whether ICE has proven that the peer owns this address: only from there is DTLS taken.
    pub(super) fn is_checked(&self, pair: Pair) -> bool {
        self.selected == Some(pair)
            || self.checked.iter().any(|checked| checked.pair == pair)
            || (!self.lite && self.agent.has_viable_remote_candidate(pair.remote))
    }

    /// The same, and pairs whose checks wait for the remote credentials: they knew our password.
    pub(super) fn is_authenticated(&self, pair: Pair) -> bool {
        self.is_checked(pair) || self.waiting.iter().any(|waiting| waiting.pair == pair)
    }

    /// Lite nomination (RFC 8445 section 8.1.1 as browsers practise it): the latest USE-CANDIDATE wins, unless it is
    /// for a path of lower priority while the selected one is still being nominated. So peers that nominate several
    /// pairs do not make the media flap, and a peer that moves, or whose NAT rebinds, takes it along at once.
    fn nominate(&mut self, now: Instant, check: Checked) {
        let (pair, priority, nominated) = (check.pair, check.priority, check.nominated);
        match self.checked.iter_mut().find(|known| known.pair == pair) {
            Some(known) => *known = check,
            None => self.checked.push(check),
        }
        if !self.lite || !nominated {
            return;
        }
        let current = self
            .selected
            .and_then(|pair| self.checked.iter().find(|known| known.pair == pair));
        let take = match current {
            None => true,
            Some(_) if self.restarted => true,
            Some(current) if current.pair == pair => self.consent_until.is_none(),
            Some(current) => {
                priority >= current.priority
                    || !current.nominated
                    || now >= current.at + NOMINATION_STALE
            }
        };
        if take {
            self.select(now, pair);
        }
    }

    /// The peer finished DTLS on a checked pair before it nominated one: media goes there until it does.
    pub(super) fn adopt(&mut self, now: Instant, pair: Pair) {
        if self.selected.is_none() {
            self.select(now, pair);
        }
    }

    fn select(&mut self, now: Instant, pair: Pair) {
        self.selected = Some(pair);
        self.restarted = false;
        self.consent_until = Some(now + self.consent_timeout);
        self.outputs.push_back(IceOutput::Selected(pair));
    }

    /// A check on the selected path after a loss tells the leg that the path is back.
    fn renew_consent(&mut self, now: Instant) {
        match (self.consent_until, self.selected) {
            (None, Some(pair)) => self.select(now, pair),
            _ => self.consent_until = Some(now + self.consent_timeout),
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.agent.poll_transmit() {
            let pair = Pair {
                local: transmit.source,
                remote: transmit.destination,
            };
            self.outputs.push_back(IceOutput::Transmit {
                pair,
                bytes: transmit.contents.into(),
            });
        }
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend {
                source,
                destination,
                ..
            } = event
                && !self.lite
            {
                self.select(
                    now,
                    Pair {
                        local: source,
                        remote: destination,
                    },
                );
            }
        }
    }

    /// Every address that packets for this leg arrive on is one of ours; `false` when there are too many.
    fn add_local(&mut self, local: SocketAddr) -> bool {
        if self.locals.contains(&local) {
            return true;
        }
        let Ok(candidate) = Candidate::host(local, Protocol::Udp) else {
            return false;
        };
        if self.locals.len() >= LOCAL_ADDRESSES {
            return false;
        }
        self.locals.push(local);
        self.agent.add_local_candidate(candidate);
        true
    }

    fn room_for(&self, pair: Pair) -> bool {
        self.checked.len() < REMOTE_ADDRESSES || self.checked.iter().any(|known| known.pair == pair)
    }

    /// Keeps the latest check of each address until the remote credentials are known.
    fn wait(&mut self, pair: Pair, bytes: &[u8]) {
        self.waiting.retain(|waiting| waiting.pair != pair);
        if self.waiting.len() >= WAITING_CHECKS {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting {
            pair,
            bytes: bytes.to_vec(),
        });
    }
}

/// The user fragment of the receiver in a binding request, that is ours: finds the leg of a first packet.
pub fn stun_username_local(bytes: &[u8]) -> Option<String> {
    if bytes.first().is_none_or(|&first| first > 3) {
        return None;
    }
    let message = StunMessage::parse(bytes).ok()?;
    if !message.is_binding_request() {
        return None;
    }
    message.split_username().map(|(local, _)| local.to_string())
}

fn credentials(parameters: &IceParameters) -> IceCreds {
    IceCreds {
        ufrag: parameters.ufrag.clone(),
        pass: parameters.password.clone(),
    }
}
