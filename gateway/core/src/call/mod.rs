//! A call: one browser leg, one SIP leg, and the bridge between them.
//!
//! Protocol flow, outgoing (the page calls):
//! 1. `Opening`: the offer is parsed, ports are asked for.
//! 2. `Calling`: INVITE with our offer is out; 18x without SDP = ringing.
//! 3. `Active`: 18x or 200 brought SDP, the page has its answer; ICE and DTLS run; when they are done the flows go in.
//!
//! Outgoing without an offer of the page's (`offerless`): `Offerless` in the place of `Calling`, until the page has answered the callee's.
//!
//! Incoming (the SIP side calls):
//! 1. `Opening`: ports are asked for, 180 is sent.
//! 2. `Incoming`: the page has our offer.
//! 3. `Active`: the page answered, 200 is sent; as above.
//!
//! Every state ends in `Ended`, in which the call holds nothing: flows are removed before the BYE goes out.

mod active;
mod attached;
mod data;
mod delayed;
mod digits;
mod feedback;
mod incoming;
mod offerless;
mod outgoing;
mod reports;
mod signalling;

pub(crate) use active::{Newcomer, Referral};
pub(crate) use attached::{headers as data_headers, read as data_of};
pub(crate) use data::refused;
pub(crate) use incoming::Offered;
pub(crate) use outgoing::Wish;

use active::Active;

use crate::Random;
use crate::api::{
    CallId, CallState, CallView, Cause, Data, Direction, Event, FlowView, Hold, Mute, Problem,
    SessionId, Statistics,
};
use crate::bridge::MEDIA;
use crate::gateway::{FlowId, Hub, MediaPorts, PortsError};
use crate::sdp::HostCandidate;
use crate::sdp::{
    Crypto, Direction as MediaDirection, IceParameters, Kind, SipDtls, SipLocal, SipMedia,
    SipSession, SipTransport, Srtp, SrtpPolicy, SrtpUse, WebLocal, WebSession, WebStream,
};
use crate::sip;
use crate::trunk::Trunk;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the media of a call are, by place: all lists of media in a call have this order, and one place where there is no video.
const KINDS: [Kind; MEDIA] = [Kind::Audio, Kind::Video];
/// Place of the video.
const VIDEO: usize = 1;

/// See the module.
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) session: SessionId,
    pub(crate) direction: Direction,
    /// The other party's SIP address.
    pub(crate) peer: String,
    /// The way to the other party.
    pub(crate) trunk: Arc<Trunk>,
    /// Why the SIP side ended it, as it says.
    pub(crate) causes: Vec<Cause>,
    /// Data that came or go with the INVITE.
    pub(crate) data: Data,
    /// Unanswered, it ends after this long.
    pub(crate) no_answer: Duration,
    /// Whether the page takes offers within the call.
    pub(crate) takes_offers: bool,
    /// Whether the page's microphone is off, by its own word.
    pub(crate) muted: bool,
    pub(crate) state: State,
}

/// Where the call stands, with what it has there and nowhere else.
pub(crate) enum State {
    Opening(Box<Opening>),
    Calling(Box<outgoing::Calling>),
    Offerless(Box<offerless::Offerless>),
    Incoming(Box<incoming::Incoming>),
    Active(Box<Active>),
    Ended,
}

/// Waiting for ports.
pub(crate) enum Opening {
    Outgoing(Wish),
    Incoming(Offered),
}

/// Who ends a call, as the page is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    Browser,
    Sip,
    Gateway,
}

impl By {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Sip => "sip",
            Self::Gateway => "gateway",
        }
    }
}

/// Our own side of both descriptions: identities that stay for the whole call, versions that rise (RFC 3264 section 8).
pub(crate) struct Local {
    pub(crate) ice: IceParameters,
    web_version: u64,
    sip_version: u64,
    session_id: u64,
    /// By medium.
    pub(crate) ssrcs: [Ssrcs; MEDIA],
    web_streams: [WebStream; MEDIA],
    pub(crate) cname: String,
    /// SRTP keys that our offers to the SIP side show: all suites in the first one, then what was agreed on.
    sip_crypto: Vec<Crypto>,
    /// ICE and DTLS with the SIP side, where it has them.
    sip_dtls: Option<SipDtls>,
    /// Transport profile of these offers.
    sip_profile: String,
    /// What is agreed with the SIP side beforehand.
    pub(crate) trunk: Arc<Trunk>,
}

/// SSRCs of what the gateway sends of one medium. Those of all media differ: under one SRTP key no SSRC may be used twice
/// (RFC 3711 section 9.1).
#[derive(Clone, Copy)]
pub(crate) struct Ssrcs {
    pub(crate) to_browser: u32,
    pub(crate) to_sip: u32,
}

impl Local {
    pub(crate) fn new(hub: &mut Hub, trunk: &Arc<Trunk>) -> Self {
        let ssrcs = distinct_ssrcs(&mut hub.random);
        let stream = |ssrcs: Ssrcs| WebStream {
            ssrc: ssrcs.to_browser,
            direction: MediaDirection::SendRecv,
        };
        Self {
            ice: new_ice(hub),
            web_version: 0,
            sip_version: 0,
            // RFC 8829 section 5.2.1: 63 random bits at most, so that signed readers agree.
            session_id: hub.random.u64() >> 2,
            web_streams: ssrcs.map(stream),
            ssrcs,
            cname: hub.random.token(16),
            sip_crypto: if trunk.srtp.offers() {
                trunk.srtp.keys(&mut hub.random)
            } else {
                Vec::new()
            },
            sip_dtls: None,
            sip_profile: trunk.srtp.profile().to_owned(),
            trunk: Arc::clone(trunk),
        }
        .ready(hub)
    }

    /// With ICE and DTLS where the trunk asks for them.
    fn ready(mut self, hub: &mut Hub) -> Self {
        if self.trunk.srtp.usage == SrtpUse::Dtls {
            self.sip_dtls = Some(self.new_sip_dtls(hub));
        }
        self
    }

    /// Identities for a new association with the SIP side. A full agent, because peers there may be lite.
    pub(crate) fn new_sip_dtls(&self, hub: &mut Hub) -> SipDtls {
        SipDtls {
            ice: IceParameters {
                lite: false,
                ..new_ice(hub)
            },
            fingerprint: hub.fingerprint.clone(),
            role: None,
            ssrc: self.ssrcs[0].to_sip,
            cname: self.cname.clone(),
        }
    }

    /// The SIP side's first offer is here: what our answer needs for it.
    pub(crate) fn meet(&mut self, hub: &mut Hub, offer: &SipSession) {
        if offer.audio().is_ok_and(|audio| audio.dtls.is_some()) && self.sip_dtls.is_none() {
            self.sip_dtls = Some(self.new_sip_dtls(hub));
        }
    }

    /// Identities for another connection of the page: none of the SSRCs was used before.
    pub(crate) fn renew(&mut self, hub: &mut Hub) {
        self.ice = new_ice(hub);
        let before: Vec<u32> = ssrcs_of(&self.ssrcs).collect();
        self.ssrcs = loop {
            let ssrcs = distinct_ssrcs(&mut hub.random);
            if ssrcs_of(&ssrcs).all(|ssrc| !before.contains(&ssrc)) {
                break ssrcs;
            }
        };
        for (stream, ssrcs) in self.web_streams.iter_mut().zip(&self.ssrcs) {
            stream.ssrc = ssrcs.to_browser;
        }
        if let Some(dtls) = &mut self.sip_dtls {
            dtls.ssrc = self.ssrcs[0].to_sip;
        }
    }

    /// Fresh keys for an offer that was asked for: another party may answer it, which expects packets counted from zero (RFC
    /// 3711 section 3.3.1).
    pub(crate) fn renew_crypto(&mut self, hub: &mut Hub) {
        let policy = &self.trunk.srtp;
        if policy.offers() || !self.sip_crypto.is_empty() {
            self.sip_crypto = policy.keys(&mut hub.random);
        }
    }

    /// Settles the protection of the SIP side's answer to our last offer.
    pub(crate) fn settle_answer(&self, answer: &mut SipSession) {
        answer.settle(&self.trunk.srtp, &self.sip_crypto, false);
        if self.sip_dtls.is_none() {
            answer.refuse_dtls();
        }
    }

    /// The final answer is there: offers go on with what its audio has.
    pub(crate) fn settled(&mut self, audio: &SipMedia) {
        let line = audio.srtp.as_ref().map(Srtp::line);
        self.sip_crypto = line.into_iter().collect();
        self.sip_profile.clone_from(&audio.protocol);
    }

    /// Our side of the next description for the page; `peer` is the SIP side's last one. A hold of the audio is told by an
    /// event only, so that the page need not be asked again when it is over.
    pub(crate) fn web<'a>(
        &'a mut self,
        hub: &'a Hub,
        candidates: &'a [HostCandidate],
        setup: crate::sdp::Setup,
        peer: Option<&SipSession>,
    ) -> WebLocal<'a> {
        self.web_version += 1;
        let video = peer.and_then(SipSession::video);
        self.web_streams[VIDEO].direction =
            video.map_or(MediaDirection::SendRecv, |video| video.direction);
        WebLocal {
            session_id: self.session_id,
            version: self.web_version,
            ice: &self.ice,
            candidates,
            fingerprint: &hub.fingerprint,
            setup,
            cname: &self.cname,
            streams: &self.web_streams,
        }
    }

    /// Our side of the next description for the SIP side: what the page's last description says of its directions is what we
    /// would like to say there.
    pub(crate) fn sip(&mut self, ports: &[MediaPorts], web: Option<&WebSession>) -> SipLocal {
        self.sip_version += 1;
        let transport = |(ports, kind): (&MediaPorts, Kind)| SipTransport {
            rtp: ports.rtp,
            rtcp: ports.rtcp,
            direction: web
                .and_then(|web| web.medium(kind))
                .map_or(MediaDirection::SendRecv, |medium| medium.direction),
        };
        SipLocal {
            session_id: self.session_id,
            version: self.sip_version,
            profile: self.sip_profile.clone(),
            crypto: self.sip_crypto.clone(),
            dtls: self.sip_dtls.clone(),
            media: ports.iter().zip(KINDS).map(transport).collect(),
        }
    }
}

/// Settles the protection of an offer of the SIP side. Who goes on with the key `before` gets our packets under the old key, too;
/// a new key gets a new one, as it may be another party's, which expects packets counted from zero (RFC 3711 section 3.3.1).
pub(crate) fn settle_offer(
    hub: &mut Hub,
    policy: &SrtpPolicy,
    offer: &mut SipSession,
    before: Option<&Srtp>,
) {
    let keys = policy.keys(&mut hub.random);
    let mut settled = offer.clone();
    settled.settle(policy, &keys, true);
    let audio = settled.audio().ok().and_then(|audio| audio.srtp.as_ref());
    match (audio, before) {
        (Some(now), Some(before)) if now.remote.is_same(&before.remote) => {
            offer.settle(policy, &[before.line()], true);
        }
        _ => *offer = settled,
    }
}

fn ssrcs_of(ssrcs: &[Ssrcs]) -> impl Iterator<Item = u32> {
    ssrcs
        .iter()
        .flat_map(|ssrcs| [ssrcs.to_browser, ssrcs.to_sip])
}

fn distinct_ssrcs(random: &mut Random) -> [Ssrcs; MEDIA] {
    let mut used = Vec::with_capacity(2 * MEDIA);
    let mut next = || loop {
        let ssrc = random.u32();
        if !used.contains(&ssrc) {
            used.push(ssrc);
            return ssrc;
        }
    };
    std::array::from_fn(|_| Ssrcs {
        to_browser: next(),
        to_sip: next(),
    })
}

/// ICE credentials of 8 and 32 characters: 48 and 192 bits (RFC 8445 section 5.3 asks for 24 and 128).
pub(crate) fn new_ice(hub: &mut Hub) -> IceParameters {
    IceParameters {
        ufrag: hub.random.ice_chars(8),
        password: hub.random.ice_chars(32),
        lite: true,
    }
}

impl Call {
    /// The daemon opened the ports, or could not.
    pub(crate) fn handle_ports(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        ports: Result<Vec<MediaPorts>, PortsError>,
    ) {
        match (std::mem::replace(&mut self.state, State::Ended), ports) {
            (State::Opening(opening), Ok(ports)) => {
                self.route_ports(hub, &ports);
                match *opening {
                    Opening::Outgoing(wish) => self.place(hub, now, wish, ports),
                    Opening::Incoming(offered) => self.offer_to_page(hub, now, offered, ports),
                }
            }
            (State::Opening(opening), Err(error)) => self.no_ports(hub, now, *opening, error),
            (State::Active(active), ports) => {
                self.state = State::Active(active);
                self.ports_for_video(hub, now, ports);
            }
            // The call ended while its ports were being opened.
            (State::Ended, Ok(ports)) => hub.close_ports(ports),
            (state, _) => self.state = state,
        }
    }

    fn route_ports(&self, hub: &mut Hub, ports: &[MediaPorts]) {
        for address in ports.iter().flat_map(|ports| [ports.rtp, ports.rtcp]) {
            hub.routes.port.insert(address, self.id.clone());
        }
    }

    /// Whether the page may still answer or refuse it.
    pub(crate) fn rings_at_page(&self) -> bool {
        matches!(&self.state, State::Incoming(incoming) if incoming.promised.is_none())
    }

    /// The earliest time at which the call wants [`Self::handle_timeout`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opening(_) | State::Ended => None,
            State::Calling(calling) => Some(calling.give_up),
            State::Offerless(calling) => calling.deadline(),
            State::Incoming(incoming) => incoming.deadline(),
            State::Active(active) => active.deadline(),
        }
    }

    pub(crate) fn handle_timeout(&mut self, hub: &mut Hub, now: Instant) {
        match &mut self.state {
            State::Opening(_) | State::Ended => {}
            State::Calling(calling) => {
                if calling.give_up <= now {
                    self.end(hub, now, By::Gateway, Some(408), "no answer");
                }
            }
            State::Offerless(_) => self.offerless_timeout(hub, now),
            State::Incoming(_) => self.incoming_timeout(hub, now),
            State::Active(_) => self.active_timeout(hub, now),
        }
    }

    /// Ends the call from whatever state: flows out first, then the SIP side, then the ports, then the page is told.
    pub(crate) fn end(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        by: By,
        status: Option<u16>,
        reason: &str,
    ) {
        self.finish(hub, now, by, by != By::Sip, status, reason);
    }

    /// `signal`: whether the SIP side still has to be told.
    fn finish(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        by: By,
        signal: bool,
        status: Option<u16>,
        reason: &str,
    ) {
        // What the page wants needs no explanation.
        let cause = status.filter(|_| by == By::Gateway);
        let cause = cause.map(|status| sip::Cause::sip(status, reason));
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return,
            State::Opening(opening) => self.end_opening(hub, now, *opening, signal, status, reason),
            State::Calling(calling) => {
                self.hang_up_sip(hub, now, calling.sip, signal.then_some(cause));
                hub.close_ports(calling.ports);
            }
            State::Offerless(calling) => {
                self.hang_up_sip(hub, now, calling.sip, signal.then_some(cause));
                if let Some(asked) = &calling.asked {
                    self.unroute(hub, &calling.local, &asked.pairs);
                }
                hub.close_ports(calling.ports);
            }
            State::Incoming(incoming) => {
                match (signal, status) {
                    (false, _) => {}
                    (true, Some(status)) if incoming.promised.is_none() => {
                        hub.stack.reject(now, incoming.sip, status, reason)
                    }
                    (true, _) => hub.stack.hang_up(now, incoming.sip),
                }
                self.unroute(hub, &incoming.local, &incoming.pairs);
                hub.routes.sip.remove(&incoming.sip);
                hub.close_ports(incoming.ports);
            }
            State::Active(active) => {
                let (sip, ports) = active.close(hub, now, &self.id);
                self.hang_up_sip(hub, now, sip, signal.then_some(cause));
                hub.close_ports(ports);
            }
        }
        let (call, reason) = (self.id.clone(), reason.to_owned());
        let causes = std::mem::take(&mut self.causes);
        hub.event(
            &self.session,
            Event::Ended {
                call,
                by: by.name().into(),
                status,
                reason,
                causes,
            },
        );
    }

    fn end_opening(
        &self,
        hub: &mut Hub,
        now: Instant,
        opening: Opening,
        signal: bool,
        status: Option<u16>,
        reason: &str,
    ) {
        match opening {
            Opening::Outgoing(wish) => {
                hub.reply(wish.request, Err(outgoing::ended_problem(reason)))
            }
            Opening::Incoming(offered) => {
                if signal {
                    hub.stack
                        .reject(now, offered.sip, status.unwrap_or(480), reason);
                }
                hub.routes.sip.remove(&offered.sip);
            }
        }
    }

    /// `signal`: why, if it is to be told at all.
    fn hang_up_sip(
        &self,
        hub: &mut Hub,
        now: Instant,
        sip: sip::CallHandle,
        signal: Option<Option<sip::Cause>>,
    ) {
        match signal {
            Some(Some(cause)) => hub.stack.hang_up_for(now, sip, cause),
            Some(None) => hub.stack.hang_up(now, sip),
            None => {}
        }
        hub.routes.sip.remove(&sip);
    }

    pub(crate) fn unroute(&self, hub: &mut Hub, local: &Local, pairs: &[crate::bridge::Pair]) {
        hub.routes.ufrag.remove(&local.ice.ufrag);
        for pair in pairs {
            hub.routes.leave_pair(pair, &self.id);
        }
    }

    fn no_ports(&mut self, hub: &mut Hub, now: Instant, opening: Opening, error: PortsError) {
        let detail = match error {
            PortsError::Exhausted => "every RTP port pair of the configured range is in use",
            PortsError::Refused => "the system refused to open RTP ports",
        };
        match opening {
            Opening::Outgoing(wish) => hub.reply(wish.request, Err(outgoing::busy_problem(detail))),
            Opening::Incoming(offered) => {
                hub.stack.reject(now, offered.sip, 503, "No media ports");
                hub.routes.sip.remove(&offered.sip);
            }
        }
    }

    /// The call's flows, in the order in which they are read.
    pub(crate) fn flows(&self) -> Vec<FlowId> {
        match &self.state {
            State::Active(active) => active.flows(),
            State::Opening(_)
            | State::Calling(_)
            | State::Offerless(_)
            | State::Incoming(_)
            | State::Ended => Vec::new(),
        }
    }

    /// The same for the admin side.
    pub(crate) fn flow_views(&self, monotonic_ns: u64) -> Vec<FlowView> {
        match &self.state {
            State::Active(active) => active.flow_views(&self.id, monotonic_ns),
            State::Opening(_)
            | State::Calling(_)
            | State::Offerless(_)
            | State::Incoming(_)
            | State::Ended => Vec::new(),
        }
    }

    /// The dialog is over: BYE of the peer, or it died.
    pub(crate) fn end_dialog(&mut self, hub: &mut Hub, now: Instant, by: By, reason: &str) {
        let sip = match &self.state {
            State::Calling(calling) => Some(calling.sip),
            State::Offerless(calling) => Some(calling.sip),
            State::Incoming(incoming) => Some(incoming.sip),
            State::Active(active) => Some(active.agreed.sip),
            State::Opening(_) | State::Ended => None,
        };
        if let Some(sip) = sip {
            hub.routes.sip.remove(&sip);
        }
        // The stack has no dialog any more, whoever ended it: nothing is sent.
        self.finish(hub, now, by, false, None, reason);
    }

    /// Where the call stands, in the API's terms.
    pub(crate) fn state(&self) -> CallState {
        match &self.state {
            State::Opening(_) if self.direction == Direction::Incoming => CallState::Incoming,
            State::Opening(_) => CallState::Calling,
            State::Calling(calling) if calling.ringing => CallState::Ringing,
            State::Calling(_) => CallState::Calling,
            State::Offerless(calling) if calling.is_picked_up() => CallState::Connecting,
            State::Offerless(calling) if calling.ringing => CallState::Ringing,
            State::Offerless(_) => CallState::Calling,
            State::Incoming(incoming) if incoming.promised.is_some() => CallState::Connecting,
            State::Incoming(_) => CallState::Incoming,
            State::Active(active) => active.state(),
            State::Ended => CallState::Ended,
        }
    }

    /// Who holds it, if anybody does.
    pub(crate) fn hold(&self) -> Option<Hold> {
        match &self.state {
            State::Active(active) => active.hold(),
            State::Opening(_)
            | State::Calling(_)
            | State::Offerless(_)
            | State::Incoming(_)
            | State::Ended => None,
        }
    }

    /// A request of the page that does not fit where the call stands.
    pub(crate) fn wrong_state(&self, detail: &str) -> Problem {
        Problem::wrong_state(self.state(), self.hold(), detail)
    }

    /// The page says whether its microphone is off.
    pub(crate) fn mute(&mut self, hub: &mut Hub, mute: Mute) {
        let Mute { muted } = mute;
        if std::mem::replace(&mut self.muted, muted) != muted {
            self.tell(hub, |call| Event::Muted { call, muted });
        }
    }

    pub(crate) fn view(&self, hub: &Hub, now: Instant) -> CallView {
        let blank = CallView {
            id: self.id.clone(),
            direction: self.direction,
            state: self.state(),
            hold: self.hold(),
            muted: self.muted,
            peer: self.peer.clone(),
            data: self.data.clone(),
            at_ms: hub.unix_ms(now),
            codec: None,
            video: None,
            suite: None,
            sip_suite: None,
            dtls: None,
            to_sip: None,
            to_browser: None,
            duration_s: 0.0,
            statistics: Statistics::default(),
        };
        match &self.state {
            State::Active(active) => active.fill(now, blank),
            _ => blank,
        }
    }
}

/// Event sender used by the states: the call's id stands in every event.
impl Call {
    pub(crate) fn tell(&self, hub: &mut Hub, event: impl FnOnce(CallId) -> Event) {
        let event = event(self.id.clone());
        hub.event(&self.session, event);
    }
}
