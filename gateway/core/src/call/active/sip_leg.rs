//! A SIP side that runs ICE and DTLS-SRTP itself: the audio has a leg there, as it has one to the browser.
//!
//! 1. `begin_sip_leg`: both descriptions are there. We check the peer's candidates (it may be ice-lite), and the association is opened.
//! 2. `sip_leg_event`: the selected path is where the flows lead; the keys are theirs. Flows go in when both legs are secured.
//! 3. `follow_sip_leg`: a later description restarts ICE by new credentials, or begins another leg by another certificate; until that
//!    is secured the flows stay as they are, and what they send can be read by the old party alone.
//!
//! The path is ICE's: nothing is latched, and RTCP is heard from there only.

use super::*;
use crate::sdp::{IceDtls, SipDtls, Srtp};

/// See the module.
pub(super) struct SipLeg {
    leg: Leg,
    /// As the peer described itself.
    peer: IceDtls,
    /// Where media go once there are keys.
    path: Option<SocketAddr>,
    secured: bool,
}

impl SipLeg {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leg.poll_timeout()
    }

    /// Ends the association and says so.
    pub(super) fn close(mut self, hub: &mut Hub, now: Instant) {
        self.leg.close(now);
        while let Some(output) = self.leg.poll_output() {
            send(hub, output);
        }
    }
}

/// Sends what is to be sent; gives events back.
fn send(hub: &mut Hub, output: LegOutput) -> Option<LegEvent> {
    match output {
        LegOutput::Event(event) => Some(event),
        LegOutput::Transmit {
            local,
            remote,
            bytes,
        } => {
            hub.transmit(local, remote, bytes);
            None
        }
    }
}

impl Agreed {
    fn peer_dtls(&self) -> Option<&IceDtls> {
        self.peer.audio().ok()?.dtls.as_ref()
    }
}

impl Active {
    /// The leg that the descriptions ask for, if they do. `offered`: the offer was ours.
    pub(super) fn begin_sip_leg(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        offered: bool,
    ) -> Result<(), SdpError> {
        let Some(peer) = self.agreed.peer_dtls().cloned() else {
            return Ok(());
        };
        let local = self.agreed.ports[0].rtp;
        let Some(ours) = &mut self.agreed.local.sip_dtls else {
            return Err(SdpError::not_acceptable("DTLS-SRTP was not offered"));
        };
        let role = role_towards(peer.setup);
        ours.role = Some(setup_of(role));
        let mut leg = hub.new_sip_leg(now, local, &ours.ice, role, offered);
        leg.set_remote(now, &peer.ice, &peer.fingerprints);
        self.remotes[0].awaits_ice();
        add_candidates(&mut leg, now, &peer, self.remotes[0].rtp);
        if let Some(before) = self.sip_leg.replace(Box::new(SipLeg {
            leg,
            peer,
            path: None,
            secured: false,
        })) {
            before.close(hub, now);
        }
        self.pump_sip_leg_datagrams(hub);
        Ok(())
    }

    /// Whether a new description can take the place of the last one: a call has DTLS-SRTP from its beginning or never.
    pub(super) fn check_sip_leg(&self, peer: &SipSession) -> Result<(), SdpError> {
        let dtls = peer.audio()?.dtls.is_some();
        if dtls == self.sip_leg.is_some() {
            Ok(())
        } else {
            Err(SdpError::not_acceptable(
                "a call does not change between DTLS-SRTP and other media",
            ))
        }
    }

    /// Our side for the answer to an offer that restarts ICE or has another certificate; as it was for any other.
    pub(super) fn sip_dtls_for(&self, hub: &mut Hub, offer: &SipSession) -> Option<SipDtls> {
        let ours = self.agreed.local.sip_dtls.clone();
        let (Some(leg), Ok(audio)) = (&self.sip_leg, offer.audio()) else {
            return ours;
        };
        match &audio.dtls {
            Some(dtls) if dtls.fingerprints != leg.peer.fingerprints => {
                Some(self.agreed.local.new_sip_dtls(hub))
            }
            Some(dtls) if dtls.ice != leg.peer.ice => ours.map(|ours| SipDtls {
                ice: self.agreed.local.new_sip_dtls(hub).ice,
                ..ours
            }),
            _ => ours,
        }
    }

    /// A new description has been taken in: see the module.
    pub(super) fn follow_sip_leg(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        offered: bool,
    ) -> Result<(), SdpError> {
        let (Some(new), Some(leg)) = (self.agreed.peer_dtls().cloned(), &mut self.sip_leg) else {
            return Ok(());
        };
        if new.fingerprints != leg.peer.fingerprints {
            return self.begin_sip_leg(hub, now, offered);
        }
        if let (true, Some(ours)) = (new.ice != leg.peer.ice, &self.agreed.local.sip_dtls) {
            leg.leg.restart_ice(now, &ours.ice, &new.ice);
            add_candidates(&mut leg.leg, now, &new, self.remotes[0].rtp);
        }
        leg.peer = new;
        self.pump_sip_leg_datagrams(hub);
        Ok(())
    }

    /// Whether media can flow to the SIP side.
    pub(super) fn sip_ready(&self) -> bool {
        self.sip_leg.as_ref().is_none_or(|leg| leg.secured)
    }

    /// A datagram on the audio's port that is STUN or DTLS.
    pub(super) fn handle_sip_leg_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some(leg) = &mut self.sip_leg
            && self.agreed.ports[0].rtp == local
        {
            leg.leg.handle_datagram(now, local, remote, bytes);
        }
    }

    pub(super) fn sip_leg_timeout(&mut self, now: Instant) {
        if let Some(leg) = &mut self.sip_leg {
            leg.leg.handle_timeout(now);
        }
    }

    /// Drains the leg. Events before datagrams, as with the browser's. The reason for which the call has to end, if it has to.
    pub(super) fn pump_sip_leg(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
    ) -> Option<String> {
        let mut transmits = Vec::new();
        let mut verdict = None;
        while let Some(output) = self.sip_leg.as_mut().and_then(|leg| leg.leg.poll_output()) {
            match output {
                LegOutput::Event(event) => {
                    verdict = self.sip_leg_event(hub, now, call, event).or(verdict);
                }
                transmit @ LegOutput::Transmit { .. } => transmits.push(transmit),
            }
        }
        for transmit in transmits {
            send(hub, transmit);
        }
        verdict
    }

    /// First checks, before there can be any event.
    fn pump_sip_leg_datagrams(&mut self, hub: &mut Hub) {
        while let Some(output) = self.sip_leg.as_mut().and_then(|leg| leg.leg.poll_output()) {
            let none = send(hub, output);
            debug_assert!(none.is_none(), "nothing was received yet");
        }
    }

    fn sip_leg_event(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        event: LegEvent,
    ) -> Option<String> {
        let leg = self.sip_leg.as_mut()?;
        match event {
            LegEvent::Selected { remote, .. } => {
                leg.path = Some(remote);
                if leg.secured {
                    self.remotes[0].selected(remote, None);
                    self.install(hub);
                }
            }
            LegEvent::Secured(secured) => {
                let Some(path) = leg.path else {
                    return Some("SIP leg: keys without a path".to_owned());
                };
                leg.secured = true;
                let srtp = Srtp::by_dtls(secured.local, secured.remote);
                self.remotes[0].selected(path, Some(srtp));
                self.fit(hub, call);
                self.install(hub);
                self.bridge(hub, now, call);
            }
            LegEvent::ConsentLost => {
                return Some("the SIP side is gone: ICE consent lost".to_owned());
            }
            LegEvent::Failed(error) => return Some(format!("SIP leg: {error}")),
            LegEvent::Closed => return Some("the SIP side closed its connection".to_owned()),
        }
        None
    }
}

/// The peer's candidates; one that names none is where its m-line says.
fn add_candidates(leg: &mut Leg, now: Instant, peer: &IceDtls, rtp: SocketAddr) {
    for candidate in &peer.candidates {
        leg.add_candidate(now, candidate);
    }
    if peer.candidates.is_empty() {
        let (ip, port) = (rtp.ip(), rtp.port());
        leg.add_candidate(now, &format!("candidate:1 1 udp 1 {ip} {port} typ host"));
    }
}

fn setup_of(role: DtlsRole) -> Setup {
    match role {
        DtlsRole::Active => Setup::Active,
        DtlsRole::Passive => Setup::Passive,
    }
}
