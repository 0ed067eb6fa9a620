//! Both descriptions are agreed: the browser leg runs ICE and DTLS, and the flows go in at the moment it is secured.
//!
//! The output order matters: a flow is installed before the DTLS flight that lets the browser send, so that the first RTP
//! packet already finds it.

mod media;
mod renegotiation;

use super::reports::{Destinations, Reports};
use super::{By, Call, Local, State, new_ice};
use crate::api::{CallId, CallState, CallView, Event, FlowView, PathView, Problem};
use crate::bridge::{Bridge, Pair};
use crate::gateway::{FlowId, Hub, MediaPorts, Output};
use crate::sdp::{self, Direction, Negotiated, SdpError, Setup, SipMedia, SipSession, WebSession};
use crate::sip;
use crate::webrtc::{DtlsRole, Leg, LegEvent, LegOutput, Secured};
use flow::{FlowSnapshot, Protocol, classify};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The SIP side's source port may change at most once in this time (RTP latching within the signalled host).
const LATCH_INTERVAL: Duration = Duration::from_secs(2);

/// What both sides agreed to, handed over by the state that waited for it.
pub(super) struct Agreed {
    pub(super) sip: sip::CallHandle,
    pub(super) ports: MediaPorts,
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
    remote: Remote,
    media: Media,
}

/// The SIP side's addresses as signalled, and as latched within the signalled host.
struct Remote {
    rtp: SocketAddr,
    rtcp: SocketAddr,
    direction: Direction,
    latched: Option<Instant>,
}

/// How far the media path is.
enum Media {
    /// ICE or DTLS run.
    Connecting { pair: Option<Pair> },
    /// Flows are installed.
    Bridged(Box<Bridged>),
}

pub(super) struct Bridged {
    secured: Secured,
    pair: Pair,
    pub(super) to_sip: FlowSide,
    pub(super) to_browser: FlowSide,
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
        let remote = Remote::new(agreed.peer.audio()?);
        // RFC 5763 section 5: the answerer takes the active role, unless the page insists on it.
        let (setup, role) = match agreed.web.setup {
            Setup::Active => (Setup::Passive, DtlsRole::Passive),
            Setup::Passive | Setup::Actpass | Setup::HoldConn => (Setup::Active, DtlsRole::Active),
        };
        let mut leg = hub.new_leg(now, &agreed.local.ice, role);
        leg.set_remote(now, &agreed.web.ice, &agreed.web.fingerprints);
        hub.routes
            .ufrag
            .insert(agreed.local.ice.ufrag.clone(), call.clone());
        let candidates = hub.candidates();
        let local = agreed.local.web(hub, &candidates, setup);
        let answer = sdp::web_answer(&agreed.web, &agreed.negotiated, &local);
        Ok((
            Self {
                agreed,
                leg,
                role,
                pairs: Vec::new(),
                remote,
                media: Media::Connecting { pair: None },
            },
            answer,
        ))
    }

    /// An incoming call: the page's answer is here, its leg has been answering checks since the offer.
    pub(super) fn incoming(
        now: Instant,
        agreed: Agreed,
        mut leg: Leg,
        pairs: Vec<Pair>,
    ) -> Result<Self, SdpError> {
        let remote = Remote::new(agreed.peer.audio()?);
        let role = match agreed.web.setup {
            Setup::Active => DtlsRole::Passive,
            Setup::Passive | Setup::Actpass | Setup::HoldConn => DtlsRole::Active,
        };
        leg.set_role(role);
        leg.set_remote(now, &agreed.web.ice, &agreed.web.fingerprints);
        Ok(Self {
            agreed,
            leg,
            role,
            pairs,
            remote,
            media: Media::Connecting { pair: None },
        })
    }

    /// The callee picked up after early media; its final description may differ from the early one.
    pub(super) fn answered(&mut self, hub: &mut Hub, sdp: Option<&str>) -> Result<(), SdpError> {
        self.agreed.ringing_until = None;
        let Some(sdp) = sdp else {
            return Ok(());
        };
        let peer = SipSession::parse(sdp)?;
        let audio = peer.audio()?;
        self.agreed.negotiated = self
            .agreed
            .negotiated
            .answered_by_sip(&audio.codecs, audio.times)?;
        self.remote.update(audio);
        self.agreed.peer = peer;
        self.install(hub);
        Ok(())
    }

    /// Our description for a re-INVITE; without one in it, our offer of the session as it stands.
    fn reanswer(&mut self, sdp: Option<&str>) -> Result<String, SdpError> {
        let agreed = &mut self.agreed;
        let mut local = agreed.local.sip(agreed.ports, Direction::SendRecv);
        let Some(sdp) = sdp else {
            return sdp::sip_reoffer(&agreed.peer, &agreed.negotiated, &local);
        };
        let offer = SipSession::parse(sdp)?;
        let answer = sdp::reanswer(&mut local, &offer, &agreed.negotiated)?;
        agreed.negotiated = answer.negotiated;
        self.remote.update(offer.audio()?);
        agreed.peer = offer;
        Ok(answer.sdp)
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
            Media::Bridged(bridged) => vec![bridged.to_sip.flow, bridged.to_browser.flow],
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let reports = match &self.media {
            Media::Connecting { .. } => None,
            Media::Bridged(bridged) => Some(bridged.reports.due()),
        };
        [self.leg.poll_timeout(), reports, self.agreed.ringing_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the call apart: flows first, then what routes to it.
    pub(super) fn close(
        mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
    ) -> (sip::CallHandle, MediaPorts) {
        if let Media::Bridged(bridged) = &mut self.media {
            hub.remove_flow(bridged.to_sip.flow);
            hub.remove_flow(bridged.to_browser.flow);
            let to = Destinations {
                pair: bridged.pair,
                ports: self.agreed.ports,
                sip_rtcp: self.remote.rtcp,
            };
            bridged.reports.goodbye(hub, to);
        }
        hub.routes.ufrag.remove(&self.agreed.local.ice.ufrag);
        if let Some(pair) = self.pair() {
            hub.routes.release(&pair, call);
        }
        for pair in &self.pairs {
            hub.routes.leave_pair(pair, call);
        }
        self.leg.close(now);
        while let Some(output) = self.leg.poll_output() {
            if let LegOutput::Transmit {
                local,
                remote,
                bytes,
            } = output
            {
                hub.transmit(local, remote, bytes);
            }
        }
        (self.agreed.sip, self.agreed.ports)
    }

    /// Puts the flows in, or replaces them after an address changed.
    fn install(&mut self, hub: &mut Hub) {
        let Media::Bridged(bridged) = &self.media else {
            return;
        };
        let bridge = Bridge {
            pair: bridged.pair,
            secured: &bridged.secured,
            browser_ssrcs: &self.agreed.web.audio().ssrcs,
            ssrc_to_browser: self.agreed.local.ssrc_to_browser,
            ports: self.agreed.ports,
            sip_remote: self.remote.rtp,
            ssrc_to_sip: self.agreed.local.ssrc_to_sip,
            negotiated: &self.agreed.negotiated,
        };
        let (to_sip, to_browser) = (bridge.to_sip(&hub.config), bridge.to_browser(&hub.config));
        hub.outputs
            .push_back(Output::InstallFlow(bridged.to_sip.flow, Box::new(to_sip)));
        hub.outputs.push_back(Output::InstallFlow(
            bridged.to_browser.flow,
            Box::new(to_browser),
        ));
    }

    /// False if the nominated pair carries another call's media: a page may not take it over by checks in its name.
    fn selected(&mut self, hub: &mut Hub, call: &CallId, nominated: Pair) -> bool {
        if !hub.routes.claim(nominated, call) {
            return false;
        }
        let before = match &mut self.media {
            Media::Connecting { pair } => pair.replace(nominated),
            Media::Bridged(bridged) => Some(std::mem::replace(&mut bridged.pair, nominated)),
        };
        if let Some(before) = before.filter(|before| *before != nominated) {
            hub.routes.release(&before, call);
            self.install(hub);
        }
        true
    }

    fn pair(&self) -> Option<Pair> {
        match &self.media {
            Media::Connecting { pair } => *pair,
            Media::Bridged(bridged) => Some(bridged.pair),
        }
    }

    fn secured(&mut self, hub: &mut Hub, now: Instant, call: &CallId, secured: Secured) {
        let Media::Connecting { pair: Some(pair) } = self.media else {
            return;
        };
        let reports = Reports::new(
            hub,
            now,
            &secured,
            &self.agreed.local,
            self.agreed.negotiated.clock_hz,
        );
        self.media = Media::Bridged(Box::new(Bridged {
            secured,
            pair,
            to_sip: FlowSide::new(hub.new_flow(call)),
            to_browser: FlowSide::new(hub.new_flow(call)),
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

    /// The call's flows for the admin side.
    pub(super) fn flow_views(&self, call: &CallId, monotonic_ns: u64) -> Vec<FlowView> {
        let Media::Bridged(bridged) = &self.media else {
            return Vec::new();
        };
        let statistics = bridged
            .reports
            .statistics(&bridged.to_sip, &bridged.to_browser);
        let view = |side: &FlowSide,
                    direction: &str,
                    action: &str,
                    from: (SocketAddr, SocketAddr),
                    to: SocketAddr,
                    statistics| {
            let path = side.path.clone()?;
            let seen = side.snapshot.last_seen_ns;
            Some(FlowView {
                call: call.clone(),
                direction: direction.to_owned(),
                local: from.0.to_string(),
                remote: from.1.to_string(),
                egress: to.to_string(),
                action: action.to_owned(),
                path,
                statistics,
                idle_ms: (seen > 0).then(|| monotonic_ns.saturating_sub(seen) / 1_000_000),
            })
        };
        let (pair, sip) = (bridged.pair, (self.agreed.ports.rtp, self.remote.rtp));
        let to_sip = view(
            &bridged.to_sip,
            "to_sip",
            "unprotect",
            (pair.local, pair.remote),
            sip.1,
            statistics.to_sip,
        );
        let to_browser = view(
            &bridged.to_browser,
            "to_browser",
            "protect",
            sip,
            pair.remote,
            statistics.to_browser,
        );
        to_sip.into_iter().chain(to_browser).collect()
    }

    /// Completes a view of the call.
    pub(super) fn fill(&self, now: Instant, mut view: CallView) -> CallView {
        view.codec = Some(format!(
            "{}/{}",
            self.agreed.negotiated.codec.name, self.agreed.negotiated.codec.clock_hz
        ));
        if let Media::Bridged(bridged) = &self.media {
            view.suite = Some(bridged.secured.suite.name().into());
            view.dtls = Some(
                bridged
                    .secured
                    .tls_version
                    .trim_start_matches("DTLS ")
                    .into(),
            );
            view.to_sip = bridged.to_sip.path.clone();
            view.to_browser = bridged.to_browser.path.clone();
            view.duration_s = now.saturating_duration_since(bridged.since).as_secs_f64();
            view.statistics = bridged
                .reports
                .statistics(&bridged.to_sip, &bridged.to_browser);
        }
        view
    }
}

impl Remote {
    fn new(media: &SipMedia) -> Self {
        Self {
            rtp: media.rtp,
            rtcp: media.rtcp,
            direction: media.direction,
            latched: None,
        }
    }

    /// A new description: a held peer that gives no address keeps the one it had (RFC 3264 section 8.4).
    fn update(&mut self, media: &SipMedia) {
        self.direction = media.direction;
        if !media.rtp.ip().is_unspecified() && (media.rtp, media.rtcp) != (self.rtp, self.rtcp) {
            (self.rtp, self.rtcp, self.latched) = (media.rtp, media.rtcp, None);
        }
    }

    /// A packet from the signalled host but another port moves the flow there; any other source is ignored.
    fn latch(&mut self, now: Instant, source: SocketAddr) -> bool {
        let recent = self.latched.is_some_and(|at| now < at + LATCH_INTERVAL);
        if source.ip() != self.rtp.ip() || source == self.rtp || recent {
            return false;
        }
        (self.rtp, self.latched) = (source, Some(now));
        true
    }

    fn held(&self) -> bool {
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
    }
}
