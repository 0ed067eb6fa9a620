//! One ICE and DTLS connection, from the first connectivity check to the SRTP keys: a browser's, or that of a SIP endpoint
//! that keys its media so. What is said of the browser here holds for that, too.
//!
//! 1. `Checking`: the leg exists and answers checks as soon as the remote credentials are known
//!    ([`Leg::set_remote`]).
//! 2. `Handshaking`: begins when the browser nominates a path (we are active: our ClientHello goes out), or with the
//!    first DTLS packet from a checked address (we are passive).
//! 3. `Secured`: the certificate matched the fingerprint, and the keys have left in [`LegEvent::Secured`], once.
//! 4. `Failed` or `Closed`: final. Connectivity checks are no longer answered.
//!
//! The path is independent of the phase: [`LegEvent::Selected`] comes before `Secured`, and again at any time
//! (nomination of another pair, NAT rebinding, ICE restart). [`LegEvent::ConsentLost`] means that nothing may be sent
//! any more (RFC 7675 section 5.1); the leg itself goes on, so a later `Selected` (the browser is back, or restarted
//! ICE) revives it: whether to wait for that is the caller's decision.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dtls::{Association, DtlsEvent};
use super::ice::{IceOutput, Pair, Path, Refused};
use super::{Certificate, DtlsRole, DtlsSettings, Secured};
use crate::sdp::{Fingerprint, IceParameters};

/// RFC 7675 section 5.1.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// From the remote parameters to a selected path.
const CONNECTIVITY_TIMEOUT: Duration = Duration::from_secs(15);
/// From a selected path to the keys.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a leg is set up.
pub struct LegConfig {
    /// Our bound address that packets arrive on. Packets may arrive on others too (dual stack).
    pub local: SocketAddr,
    /// Our ICE credentials, from a cryptographic generator; `lite` chooses the kind of agent.
    pub ice: IceParameters,
    /// The gateway's certificate.
    pub certificate: Arc<Certificate>,
    /// Protocol settings, shared by all legs.
    pub dtls: DtlsSettings,
    /// Whether a full agent of ours controls a full peer (RFC 8445 section 6.1.1: who offered does).
    pub controlling: bool,
    /// Who starts the handshake, as far as it is known; [`Leg::set_role`] corrects it.
    pub role: DtlsRole,
    /// How long the peer may take to a selected path once its parameters are known.
    pub connectivity_timeout: Duration,
    /// How long the DTLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the selected path may be without a valid check.
    pub consent_timeout: Duration,
}

impl LegConfig {
    /// A configuration with the default times: 15 s for connectivity, 10 s for the handshake, 30 s of consent.
    pub fn new(
        local: SocketAddr,
        ice: IceParameters,
        certificate: Arc<Certificate>,
        dtls: DtlsSettings,
        role: DtlsRole,
    ) -> Self {
        Self {
            local,
            ice,
            certificate,
            dtls,
            controlling: false,
            role,
            connectivity_timeout: CONNECTIVITY_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            consent_timeout: CONSENT_TIMEOUT,
        }
    }
}

/// What a leg wants from outside.
pub enum LegOutput {
    /// Send these bytes.
    Transmit {
        /// Our address to send from.
        local: SocketAddr,
        /// The browser's address.
        remote: SocketAddr,
        /// A STUN or DTLS datagram.
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(LegEvent),
}

/// What happened to a leg.
pub enum LegEvent {
    /// Media goes over this path from now on. May come again: move the flow.
    Selected {
        /// Our address.
        local: SocketAddr,
        /// The browser's address.
        remote: SocketAddr,
    },
    /// The handshake is done and the peer is the announced one.
    Secured(Secured),
    /// No valid check on the selected path for the consent time: sending must stop.
    ConsentLost,
    /// The leg is dead.
    Failed(LegError),
    /// The peer closed the association (`close_notify`).
    Closed,
}

/// Why a leg failed. The text is fit for an error event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LegError {
    /// No path was selected in time.
    #[error("no connectivity in time")]
    NoConnectivity,
    /// No keys in time.
    #[error("the DTLS handshake took too long")]
    HandshakeTimeout,
    /// Another certificate than announced: somebody else answers.
    #[error("the DTLS certificate does not match the signalled fingerprint")]
    FingerprintMismatch,
    /// The peer showed no certificate.
    #[error("no DTLS certificate was sent")]
    NoCertificate,
    /// `use_srtp` was not negotiated.
    #[error("the peer did not negotiate SRTP (use_srtp) in DTLS")]
    NoSrtp,
    /// A profile that the packet path cannot do.
    #[error("the negotiated SRTP profile {0} is not supported")]
    UnsupportedProfile(String),
    /// A fatal alert of the peer (RFC 8446 section 6), by its number.
    #[error("the peer ended the DTLS handshake with alert {0}")]
    Alert(u8),
    /// The handshake broke.
    #[error("the DTLS handshake failed: {0}")]
    Dtls(String),
}

/// The phase of a leg, for views and logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LegState {
    /// Waiting for parameters, checks, a path.
    Checking,
    /// DTLS is running.
    Handshaking,
    /// Keys are out.
    Secured,
    /// Dead after an error.
    Failed,
    /// Ended by one of the sides.
    Closed,
}

/// Datagrams that a leg did not use, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// STUN that could not be parsed.
    pub malformed: u64,
    /// STUN with wrong credentials, of unknown transactions, or beyond the limits.
    pub unauthenticated: u64,
    /// DTLS from an address that ICE has not checked.
    pub unchecked: u64,
    /// Neither STUN nor DTLS, or after the end.
    pub other: u64,
}

/// One browser connection.
pub struct Leg {
    path: Path,
    phase: Phase,
    certificate: Arc<Certificate>,
    dtls: DtlsSettings,
    role: DtlsRole,
    connectivity_timeout: Duration,
    handshake_timeout: Duration,
    outputs: VecDeque<LegOutput>,
    ice_timeout: Option<Instant>,
    dropped: Dropped,
}

enum Phase {
    Checking(Option<Announced>),
    Handshaking(Box<Handshaking>),
    Secured(Box<Association>),
    Failed,
    Closed,
}

/// What signalling said about the peer, and until when it has to show up.
struct Announced {
    fingerprints: Vec<Fingerprint>,
    deadline: Instant,
}

struct Handshaking {
    association: Association,
    /// Where the peer's DTLS came from, for answers before a path is selected.
    heard_on: Pair,
    deadline: Instant,
}

impl Leg {
    /// A leg that waits for the remote parameters.
    pub fn new(config: LegConfig, now: Instant) -> Self {
        let path = Path::new(&config, now);
        Self {
            path,
            phase: Phase::Checking(None),
            certificate: config.certificate,
            dtls: config.dtls,
            role: config.role,
            connectivity_timeout: config.connectivity_timeout,
            handshake_timeout: config.handshake_timeout,
            outputs: VecDeque::new(),
            ice_timeout: None,
            dropped: Dropped::default(),
        }
    }

    /// The peer's parameters from its offer or answer; later than [`Self::new`] on incoming calls. Only the first
    /// call counts; new credentials come with [`Self::restart_ice`].
    pub fn set_remote(&mut self, now: Instant, ice: &IceParameters, fingerprints: &[Fingerprint]) {
        if let Phase::Checking(announced @ None) = &mut self.phase {
            let deadline = now + self.connectivity_timeout;
            *announced = Some(Announced {
                fingerprints: fingerprints.to_vec(),
                deadline,
            });
            self.path.set_remote(now, ice);
            self.drain(now);
        }
    }

    /// Corrects the DTLS role when the peer's `a=setup` is known; without effect once DTLS has started.
    pub fn set_role(&mut self, role: DtlsRole) {
        self.role = role;
    }

    /// A trickled candidate; those that cannot be used are ignored.
    pub fn add_candidate(&mut self, now: Instant, candidate: &str) {
        if self.is_alive() {
            self.path.add_candidate(now, candidate);
            self.drain(now);
        }
    }

    /// Restarts ICE with new credentials on both sides. DTLS and the SRTP keys stay, and so does the path until
    /// another is selected.
    pub fn restart_ice(&mut self, now: Instant, ours: &IceParameters, theirs: &IceParameters) {
        if self.is_alive() {
            self.path.restart(now, ours, theirs);
            self.drain(now);
        }
    }

    /// Ends the leg; an established association gets a `close_notify`.
    pub fn close(&mut self, now: Instant) {
        if let Phase::Secured(association) = &mut self.phase {
            association.close();
            self.drain(now);
        }
        if !matches!(self.phase, Phase::Failed) {
            self.phase = Phase::Closed;
        }
    }

    /// Takes a datagram that arrived on `local` from `remote`: STUN or DTLS by its first byte (RFC 7983); others are
    /// counted and dropped.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let pair = Pair { local, remote };
        match bytes.first() {
            Some(0..=3) if self.is_alive() => self.handle_stun(now, pair, bytes),
            Some(20..=63) if self.is_alive() => self.handle_dtls(now, pair, bytes),
            _ => self.dropped.other += 1,
        }
    }

    /// Runs what is due at `now`; too early calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_alive() {
            return;
        }
        self.path.handle_timeout(now);
        let result = match &mut self.phase {
            Phase::Checking(Some(announced)) if now >= announced.deadline => {
                Err(LegError::NoConnectivity)
            }
            Phase::Handshaking(handshaking) if now >= handshaking.deadline => {
                Err(LegError::HandshakeTimeout)
            }
            Phase::Handshaking(handshaking) => handshaking.association.handle_timeout(now),
            Phase::Secured(association) => association.handle_timeout(now),
            Phase::Checking(_) | Phase::Failed | Phase::Closed => Ok(()),
        };
        self.finish(now, result);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (deadline, engine) = match &self.phase {
            Phase::Checking(announced) => {
                (announced.as_ref().map(|announced| announced.deadline), None)
            }
            Phase::Handshaking(handshaking) => (
                Some(handshaking.deadline),
                handshaking.association.poll_timeout(),
            ),
            Phase::Secured(association) => (None, association.poll_timeout()),
            Phase::Failed | Phase::Closed => return None,
        };
        [deadline, engine, self.ice_timeout]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next output; to be drained after every input.
    pub fn poll_output(&mut self) -> Option<LegOutput> {
        self.outputs.pop_front()
    }

    /// The phase.
    pub fn state(&self) -> LegState {
        match self.phase {
            Phase::Checking(_) => LegState::Checking,
            Phase::Handshaking(_) => LegState::Handshaking,
            Phase::Secured(_) => LegState::Secured,
            Phase::Failed => LegState::Failed,
            Phase::Closed => LegState::Closed,
        }
    }

    /// The selected path, `(local, remote)`.
    pub fn selected(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.path.selected().map(|pair| (pair.local, pair.remote))
    }

    /// Whether a check with the right credentials came over this pair in the present ICE generation.
    pub fn is_authenticated(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.path.is_authenticated(Pair { local, remote })
    }

    /// Counts of datagrams that were not used.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Failed | Phase::Closed)
    }

    fn handle_stun(&mut self, now: Instant, pair: Pair, bytes: &[u8]) {
        match self.path.handle_datagram(now, pair, bytes) {
            Ok(()) => self.drain(now),
            Err(Refused::Malformed) => self.dropped.malformed += 1,
            Err(Refused::Unauthenticated) => self.dropped.unauthenticated += 1,
        }
    }

    fn handle_dtls(&mut self, now: Instant, pair: Pair, bytes: &[u8]) {
        if !self.path.is_checked(pair) {
            self.dropped.unchecked += 1;
            return;
        }
        if self.role == DtlsRole::Passive {
            self.start_dtls(now, pair);
        }
        let result = match &mut self.phase {
            Phase::Handshaking(handshaking) => {
                handshaking.heard_on = pair;
                handshaking.association.handle_datagram(now, bytes)
            }
            Phase::Secured(association) => association.handle_datagram(now, bytes),
            Phase::Checking(_) | Phase::Failed | Phase::Closed => {
                self.dropped.other += 1;
                Ok(())
            }
        };
        self.finish(now, result);
    }

    /// Checking -> Handshaking; without effect in the other phases.
    fn start_dtls(&mut self, now: Instant, pair: Pair) {
        let Phase::Checking(announced) = &mut self.phase else {
            return;
        };
        let Some(announced) = announced.take() else {
            return;
        };
        match Association::new(
            &self.dtls,
            &self.certificate,
            self.role,
            announced.fingerprints,
            now,
        ) {
            Ok(association) => {
                let deadline = now + self.handshake_timeout;
                self.phase = Phase::Handshaking(Box::new(Handshaking {
                    association,
                    heard_on: pair,
                    deadline,
                }));
            }
            Err(error) => self.fail(error),
        }
    }

    fn finish(&mut self, now: Instant, result: Result<(), LegError>) {
        // What the engine had to say before it failed (an alert) still goes out.
        self.drain(now);
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: LegError) {
        self.phase = Phase::Failed;
        self.outputs
            .push_back(LegOutput::Event(LegEvent::Failed(error)));
    }

    /// Moves the outputs of ICE and DTLS to ours; a selection may start DTLS, which then has outputs of its own.
    fn drain(&mut self, now: Instant) {
        self.drain_path(now);
        self.drain_dtls(now);
        self.ice_timeout = self.path.poll_timeout();
    }

    fn drain_path(&mut self, now: Instant) {
        while let Some(output) = self.path.poll_output() {
            match output {
                IceOutput::Transmit { pair, bytes } => self.transmit(pair, bytes),
                IceOutput::ConsentLost => self.event(LegEvent::ConsentLost),
                IceOutput::Selected(pair) => {
                    self.event(LegEvent::Selected {
                        local: pair.local,
                        remote: pair.remote,
                    });
                    self.start_dtls(now, pair);
                }
            }
        }
    }

    fn drain_dtls(&mut self, now: Instant) {
        loop {
            let (association, heard_on) = match &mut self.phase {
                Phase::Handshaking(handshaking) => {
                    (&mut handshaking.association, Some(handshaking.heard_on))
                }
                Phase::Secured(association) => (&mut **association, None),
                Phase::Checking(_) | Phase::Failed | Phase::Closed => return,
            };
            let Some(pair) = self.path.selected().or(heard_on) else {
                return;
            };
            if let Some(bytes) = association.poll_datagram() {
                self.transmit(pair, bytes);
                continue;
            }
            match association.poll_event() {
                None => return,
                Some(DtlsEvent::Secured(secured)) => {
                    self.path.adopt(now, pair);
                    self.drain_path(now);
                    self.secure();
                    self.event(LegEvent::Secured(secured));
                }
                Some(DtlsEvent::Closed) => {
                    self.phase = Phase::Closed;
                    self.event(LegEvent::Closed);
                }
            }
        }
    }

    /// Handshaking -> Secured.
    fn secure(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Handshaking(handshaking) => {
                let mut association = Box::new(handshaking.association);
                association.settle();
                Phase::Secured(association)
            }
            other => other,
        };
    }

    fn transmit(&mut self, pair: Pair, bytes: Vec<u8>) {
        self.outputs.push_back(LegOutput::Transmit {
            local: pair.local,
            remote: pair.remote,
            bytes,
        });
    }

    fn event(&mut self, event: LegEvent) {
        self.outputs.push_back(LegOutput::Event(event));
    }
}
