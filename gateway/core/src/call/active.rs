//! Both descriptions are agreed: the browser leg runs ICE and DTLS, and the flows go in at the moment it is secured.
//!
//! The output order matters: a flow is installed before the DTLS flight that lets the browser send, so that the first RTP
//! packet already finds it.

mod adding;
mod anew;
mod asking;
mod forks;
mod media;
mod moving;
mod remote;
mod renegotiation;
mod replaced;
mod sip_leg;
mod view;

use super::data::Sent;
use super::digits::Digits;
use super::reports::{Destinations, Reports};
use super::{By, Call, Local, State, new_ice, settle_offer};
use crate::api::{Answered, CallId, CallState, Event, PathView, Problem, Reply};
use crate::bridge::{Bridge, BridgedMedium, Pair};
use crate::gateway::{FlowId, Hub, MediaPorts, Output, PortsError, RequestId};
use crate::sdp::{self, Negotiated, SdpError, Setup, SipSession, WebSession};
use crate::sip;
use crate::webrtc::{DtlsRole, Leg, LegEvent, LegOutput, Secured};
use adding::Adding;
use asking::Asking;
use flow::{FlowEvent, FlowSnapshot, Protocol, classify};
use forks::Forks;
use moving::Moving;
pub(crate) use moving::Referral;
use remote::Remote;
pub(crate) use replaced::Newcomer;
use sip_leg::SipLeg;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

/// What both sides agreed to, handed over by the state that waited for it.
pub(super) struct Agreed {
    pub(super) sip: sip::CallHandle,
    /// By medium, as many as are negotiated.
    pub(super) ports: Vec<MediaPorts>,
    /// The page's last description.
    pub(super) web: WebSession,
    /// The SIP side's last description.
    pub(super) peer: SipSession,
    pub(super) local: Local,
    pub(super) negotiated: Negotiated,
    /// Early media: when the call ends if the callee has not picked up by then. `None` once it has.
    pub(super) ringing_until: Option<Instant>,
}

/// See the module.
pub(crate) struct Active {
    pub(super) agreed: Agreed,
    pub(super) leg: Leg,
    /// Our role in the leg's DTLS association.
    role: DtlsRole,
    pub(super) pairs: Vec<Pair>,
    /// By medium.
    remotes: Vec<Remote>,
    /// The browser has withdrawn its consent: nothing is sent there any more, no farewell either (RFC 7675 section 5.1), until it
    /// nominates a pair again. At this time the call ends.
    away: Option<Instant>,
    media: Media,
    /// Where the SIP side runs ICE and DTLS itself.
    sip_leg: Option<Box<SipLeg>>,
    /// Video that the page added and the SIP side is being asked for.
    adding: Option<Adding>,
    /// Video that the SIP side adds and the page is being asked for.
    asking: Option<Asking>,
    /// Of a call without an offer of ours, until the callee picks up.
    forks: Option<Box<Forks>>,
    /// Requests of ours inside the call that the SIP side has not answered yet, in order.
    pub(super) sent: VecDeque<Sent>,
    pub(super) digits: Digits,
    /// Where the SIP side wants the call to go.
    moving: Option<Moving>,
}

/// How far the media path is.
enum Media {
    /// ICE or DTLS run, on either side.
    Connecting {
        pair: Option<Pair>,
        /// The browser leg has its keys, and the SIP leg has not.
        secured: Option<Box<Secured>>,
    },
    /// Flows are installed.
    Bridged(Box<Bridged>),
}

impl Media {
    const CONNECTING: Self = Self::Connecting {
        pair: None,
        secured: None,
    };
}

pub(super) struct Bridged {
    secured: Secured,
    pair: Pair,
    pub(super) to_sip: FlowSide,
    /// By medium.
    pub(super) to_browser: Vec<FlowSide>,
    /// Whether the page was told that it is connected.
    told: bool,
    since: Instant,
    pub(super) reports: Reports,
}

/// One flow as the call knows it.
pub(super) struct FlowSide {
    pub(super) flow: FlowId,
    pub(super) path: Option<PathView>,
    pub(super) snapshot: FlowSnapshot,
}

impl FlowSide {
    fn new(flow: FlowId) -> Self {
        Self {
            flow,
            path: None,
            snapshot: FlowSnapshot::default(),
        }
    }
}

impl Active {
    /// An outgoing call: the page's offer is answered with the returned description.
    pub(super) fn outgoing(
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        mut agreed: Agreed,
    ) -> Result<(Self, String), SdpError> {
        let remotes = agreed.remotes()?;
        if agreed.ringing_until.is_none() {
            agreed.settle();
        }
        let role = role_towards(agreed.web.setup);
        let mut leg = hub.new_leg(now, &agreed.local.ice, role);
        leg.set_remote(now, &agreed.web.ice, &agreed.web.fingerprints);
        hub.routes
            .ufrag
            .insert(agreed.local.ice.ufrag.clone(), call.clone());
        let mut active = Self::new(agreed, (leg, role), Vec::new(), remotes);
        active.begin_sip_leg(hub, now, true)?;
        let answer = active.answer_page(hub);
        Ok((active, answer))
    }

    /// An incoming call: the page's answer is here, its leg has been answering checks since the offer.
    pub(super) fn incoming(
        hub: &mut Hub,
        now: Instant,
        mut agreed: Agreed,
        mut leg: Leg,
        pairs: Vec<Pair>,
    ) -> Result<Self, SdpError> {
        let remotes = agreed.remotes()?;
        agreed.settle();
        let role = role_towards(agreed.web.setup);
        leg.set_role(role);
        leg.set_remote(now, &agreed.web.ice, &agreed.web.fingerprints);
        let mut active = Self::new(agreed, (leg, role), pairs, remotes);
        active.begin_sip_leg(hub, now, false)?;
        Ok(active)
    }

    fn new(
        agreed: Agreed,
        (leg, role): (Leg, DtlsRole),
        pairs: Vec<Pair>,
        remotes: Vec<Remote>,
    ) -> Self {
        Self {
            agreed,
            leg,
            role,
            pairs,
            remotes,
            away: None,
            media: Media::CONNECTING,
            sip_leg: None,
            adding: None,
            asking: None,
            forks: None,
            sent: VecDeque::new(),
            digits: Digits::default(),
            moving: None,
        }
    }

    /// The callee picked up after early media; its final description may differ from the early one.
    pub(super) fn answered(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        sdp: Option<&str>,
    ) -> Result<(), SdpError> {
        self.agreed.ringing_until = None;
        let Some(sdp) = sdp else {
            self.agreed.settle();
            return Ok(());
        };
        let mut peer = SipSession::parse(sdp)?;
        self.agreed.local.settle_answer(&mut peer);
        let negotiated = self.agreed.negotiated.answered_by_sip(&peer.described()?)?;
        self.check_sip_leg(&peer)?;
        self.adopt(hub, call, negotiated, peer);
        self.agreed.settle();
        self.follow_sip_leg(hub, now, true)
    }

    /// Our description for a re-INVITE; without one in it, our offer of the session as it stands.
    fn reanswer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        sdp: Option<&str>,
    ) -> Result<String, SdpError> {
        let agreed = &mut self.agreed;
        if sdp.is_none() {
            agreed.local.renew_crypto(hub);
        }
        let Some(sdp) = sdp else {
            let local = agreed.local.sip(&agreed.ports, Some(&agreed.web));
            return sdp::sip_reoffer(&agreed.peer, &agreed.negotiated, None, &local);
        };
        let mut offer = SipSession::parse(sdp)?;
        let before = self.remotes[0].srtp.as_ref();
        settle_offer(hub, &agreed.local.trunk.srtp, &mut offer, before);
        self.check_sip_leg(&offer)?;
        let dtls = self.sip_dtls_for(hub, &offer);
        let agreed = &mut self.agreed;
        let mut local = agreed.local.sip(&agreed.ports, Some(&agreed.web));
        local.dtls.clone_from(&dtls);
        let answer = sdp::reanswer(&mut local, &offer, &agreed.negotiated)?;
        agreed.local.sip_dtls = dtls;
        self.adopt(hub, call, answer.negotiated, offer);
        self.agreed.settle();
        self.follow_sip_leg(hub, now, false)?;
        Ok(answer.sdp)
    }

    /// Goes on with what a new description of the SIP side left of the session.
    fn adopt(&mut self, hub: &mut Hub, call: &CallId, negotiated: Negotiated, peer: SipSession) {
        for (index, medium) in negotiated.media.iter().enumerate() {
            let Some(media) = peer.medium(medium.kind) else {
                continue;
            };
            match self.remotes.get_mut(index) {
                Some(remote) => remote.update(media),
                None => self.remotes.push(Remote::new(media)),
            }
        }
        (self.agreed.negotiated, self.agreed.peer) = (negotiated, peer);
        self.fit(hub, call);
        self.install(hub);
    }

    /// Makes flows, ports and reports as many as there are media: flows first, then what they lead to.
    fn fit(&mut self, hub: &mut Hub, call: &CallId) {
        let media = &self.agreed.negotiated.media;
        if let Media::Bridged(bridged) = &mut self.media {
            let count = media.len().min(bridged.to_browser.len());
            for side in bridged.to_browser.drain(count..) {
                hub.remove_flow(side.flow);
            }
            while bridged.to_browser.len() < media.len() {
                bridged.to_browser.push(FlowSide::new(hub.new_flow(call)));
            }
            let srtp: Vec<_> = self
                .remotes
                .iter()
                .map(|remote| remote.srtp.clone())
                .collect();
            bridged.reports.fit(&self.agreed.local, media, &srtp);
        }
        self.remotes.truncate(media.len());
        let count = media.len().min(self.agreed.ports.len());
        hub.close_ports(self.agreed.ports.drain(count..));
    }

    pub(super) fn state(&self) -> CallState {
        match &self.media {
            _ if self.agreed.ringing_until.is_some() => CallState::Ringing,
            Media::Connecting { .. } => CallState::Connecting,
            Media::Bridged(_) => CallState::Connected,
        }
    }

    pub(super) fn flows(&self) -> Vec<FlowId> {
        match &self.media {
            Media::Connecting { .. } => Vec::new(),
            Media::Bridged(bridged) => bridged.flows().collect(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let reports = match &self.media {
            Media::Connecting { .. } => None,
            Media::Bridged(bridged) => Some(bridged.reports.due()),
        };
        let (leg, digits) = (self.leg.poll_timeout(), self.digits.due());
        let sip_leg = self.sip_leg.as_ref().and_then(|leg| leg.deadline());
        let asked = self.moving.as_ref().and_then(Moving::due);
        let video = self.asking.as_ref().and_then(Asking::due);
        let timers = [leg, sip_leg, reports, digits, asked, video, self.away];
        timers
            .into_iter()
            .chain([self.agreed.ringing_until])
            .flatten()
            .min()
    }

    /// Takes the call apart: flows first, then what routes to it.
    pub(super) fn close(
        mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
    ) -> (sip::CallHandle, Vec<MediaPorts>) {
        self.unbridge(hub, call);
        self.stop_moving(hub, now);
        if let Some(adding) = self.adding.take() {
            hub.reply(
                adding.request,
                Err(super::outgoing::ended_problem("the call is over")),
            );
            hub.close_ports(adding.ports);
        }
        if let Some(asking) = self.asking.take() {
            asking.close(hub);
        }
        if let Some(leg) = self.sip_leg.take() {
            leg.close(hub, now);
        }
        self.leg.close(now);
        let silent = self.away.is_some();
        while let Some(output) = self.leg.poll_output() {
            if let LegOutput::Transmit {
                local,
                remote,
                bytes,
            } = output
                && !silent
            {
                hub.transmit(local, remote, bytes);
            }
        }
        (self.agreed.sip, self.agreed.ports)
    }

    /// Ends the media path: flows first, then the farewell, then what routes to the leg.
    fn unbridge(&mut self, hub: &mut Hub, call: &CallId) {
        let flows = self.flows();
        for flow in flows {
            hub.remove_flow(flow);
        }
        if let Some((bridged, to)) = self.reporting() {
            bridged.reports.goodbye(hub, &to);
        }
        hub.routes.ufrag.remove(&self.agreed.local.ice.ufrag);
        if let Some(pair) = self.pair() {
            hub.routes.release(&pair, call);
        }
        for pair in self.pairs.drain(..) {
            hub.routes.leave_pair(&pair, call);
        }
        self.media = Media::CONNECTING;
    }

    /// Puts the flows in, or replaces them after an address changed.
    fn install(&mut self, hub: &mut Hub) {
        let Media::Bridged(bridged) = &self.media else {
            return;
        };
        let agreed = &self.agreed;
        let media = agreed.negotiated.media.iter().enumerate();
        let media = media.map(|(index, medium)| BridgedMedium {
            medium,
            browser_ssrcs: agreed
                .web
                .medium(medium.kind)
                .map_or(&[], |media| media.ssrcs.as_slice()),
            ssrcs: agreed.local.ssrcs[index],
            ports: agreed.ports[index],
            sip_remote: self.remotes[index].rtp,
            sip_srtp: self.remotes[index].srtp.as_ref(),
        });
        let bridge = Bridge {
            pair: bridged.pair,
            secured: &bridged.secured,
            negotiated: &agreed.negotiated,
            media: media.collect(),
            browser_away: self.away.is_some(),
        };
        let to_sip = bridge.to_sip(&hub.config);
        hub.outputs
            .push_back(Output::InstallFlow(bridged.to_sip.flow, Box::new(to_sip)));
        for (index, side) in bridged.to_browser.iter().enumerate() {
            let to_browser = bridge.to_browser(index, &hub.config);
            hub.outputs
                .push_back(Output::InstallFlow(side.flow, Box::new(to_browser)));
        }
    }

    /// False if the nominated pair carries another call's media: a page may not take it over by checks in its name.
    fn selected(&mut self, hub: &mut Hub, call: &CallId, nominated: Pair) -> bool {
        if !hub.routes.claim(nominated, call) {
            return false;
        }
        let before = match &mut self.media {
            Media::Connecting { pair, .. } => pair.replace(nominated),
            Media::Bridged(bridged) => Some(std::mem::replace(&mut bridged.pair, nominated)),
        };
        let moved = before.filter(|before| *before != nominated);
        if let Some(before) = moved {
            hub.routes.release(&before, call);
        }
        if self.away.take().is_some() || moved.is_some() {
            self.install(hub);
        }
        true
    }

    fn pair(&self) -> Option<Pair> {
        match &self.media {
            Media::Connecting { pair, .. } => *pair,
            Media::Bridged(bridged) => Some(bridged.pair),
        }
    }

    fn secured(&mut self, hub: &mut Hub, now: Instant, call: &CallId, new: Secured) {
        if let Media::Connecting { secured, .. } = &mut self.media {
            *secured = Some(Box::new(new));
            self.bridge(hub, now, call);
        }
    }

    /// Puts the flows in when both sides are ready for them.
    fn bridge(&mut self, hub: &mut Hub, now: Instant, call: &CallId) {
        let ready = self.sip_ready();
        let Media::Connecting {
            pair: Some(pair),
            secured,
        } = &mut self.media
        else {
            return;
        };
        let pair = *pair;
        let Some(secured) = secured.take_if(|_| ready) else {
            return;
        };
        let mut reports = Reports::new(hub, now, &secured);
        let srtp: Vec<_> = self
            .remotes
            .iter()
            .map(|remote| remote.srtp.clone())
            .collect();
        reports.fit(&self.agreed.local, &self.agreed.negotiated.media, &srtp);
        let to_sip = FlowSide::new(hub.new_flow(call));
        let media = self.agreed.negotiated.media.iter();
        let to_browser = media.map(|_| FlowSide::new(hub.new_flow(call))).collect();
        self.media = Media::Bridged(Box::new(Bridged {
            secured: *secured,
            pair,
            to_sip,
            to_browser,
            told: false,
            since: now,
            reports,
        }));
        self.install(hub);
    }

    fn bridged_mut(&mut self) -> Option<&mut Bridged> {
        match &mut self.media {
            Media::Connecting { .. } => None,
            Media::Bridged(bridged) => Some(bridged),
        }
    }

    /// Where RTCP goes, and who makes it.
    fn reporting(&mut self) -> Option<(&mut Bridged, Destinations)> {
        let Media::Bridged(bridged) = &mut self.media else {
            return None;
        };
        let pair = Some(bridged.pair).filter(|_| self.away.is_none());
        let sip = self.agreed.ports.iter().zip(&self.remotes);
        let to = Destinations {
            pair,
            sip: sip.map(|(ports, remote)| remote.rtcp(ports)).collect(),
        };
        Some((bridged, to))
    }
}

impl Agreed {
    /// Our offers go on with the protection that the SIP side's description has.
    fn settle(&mut self) {
        if let Ok(audio) = self.peer.audio() {
            self.local.settled(audio);
        }
    }

    fn remotes(&self) -> Result<Vec<Remote>, SdpError> {
        let media = &self.negotiated.media;
        let mut remotes = Vec::with_capacity(media.len());
        for medium in media {
            let remote = self.peer.medium(medium.kind).map(Remote::new);
            let none = || SdpError::not_acceptable("a medium without an address");
            remotes.push(remote.ok_or_else(none)?);
        }
        Ok(remotes)
    }
}

impl Bridged {
    /// In the order in which they are read.
    fn flows(&self) -> impl Iterator<Item = FlowId> + use<> {
        let sides = std::iter::once(&self.to_sip).chain(&self.to_browser);
        let flows: Vec<FlowId> = sides.map(|side| side.flow).collect();
        flows.into_iter()
    }

    fn side_mut(&mut self, flow: FlowId) -> Option<&mut FlowSide> {
        std::iter::once(&mut self.to_sip)
            .chain(&mut self.to_browser)
            .find(|side| side.flow == flow)
    }
}

/// RFC 5763 section 5: the answerer takes the active role, unless the page insists on it.
fn role_towards(setup: Setup) -> DtlsRole {
    match setup {
        Setup::Active => DtlsRole::Passive,
        Setup::Passive | Setup::Actpass | Setup::HoldConn => DtlsRole::Active,
    }
}
