//! Both descriptions are agreed: the browser leg runs ICE and DTLS, and the flows go in at the moment it is secured.
//!
//! The output order matters: a flow is installed before the DTLS flight that lets the browser send, so that the first RTP
//! packet already finds it.

use super::reports::{Destinations, Reports};
use super::{By, Call, Local, State, new_ice};
use crate::api::{CallId, CallState, CallView, Event, FlowView, PathView, Problem};
use crate::bridge::{Bridge, Pair};
use crate::gateway::{FlowId, Hub, MediaPorts, Output};
use crate::sdp::{self, Direction, Negotiated, SdpError, Setup, SipMedia, SipSession, WebSession};
use crate::sip;
use crate::webrtc::{DtlsRole, Leg, LegEvent, LegOutput, Secured};
use flow::{FlowSnapshot, Protocol, Suite, classify};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Most 4-tuples of one call that are routed before one is nominated.
const PAIRS: usize = 16;
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
            view.suite = Some(suite_name(bridged.secured.suite).into());
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

/// The suite as RFC 5764 section 4.1.2 names it.
fn suite_name(suite: Suite) -> &'static str {
    match suite {
        Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
    }
}

/// What the gateway hands to an active call.
impl Call {
    /// STUN or DTLS for the browser leg, already routed here.
    pub(crate) fn handle_leg_datagram(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        pair: Pair,
        bytes: &[u8],
    ) {
        let (leg, pairs) = match &mut self.state {
            State::Incoming(incoming) => (&mut incoming.leg, &mut incoming.pairs),
            State::Active(active) => (&mut active.leg, &mut active.pairs),
            State::Opening(_) | State::Calling(_) | State::Ended => return,
        };
        leg.handle_datagram(now, pair.local, pair.remote, bytes);
        // Only an authenticated check opens a way to the call, and only that can take it from another call.
        let foreign = hub.routes.is_foreign(&pair, &self.id);
        if !foreign && leg.is_authenticated(pair.local, pair.remote) {
            if !pairs.contains(&pair) {
                if pairs.len() == PAIRS {
                    let selected = leg.selected();
                    let spare = pairs
                        .iter()
                        .position(|known| Some((known.local, known.remote)) != selected);
                    hub.routes
                        .leave_pair(&pairs.remove(spare.unwrap_or(0)), &self.id);
                }
                pairs.push(pair);
            }
            hub.routes.pair.insert(pair, self.id.clone());
        }
        self.pump(hub, now);
    }

    pub(crate) fn active_timeout(&mut self, hub: &mut Hub, now: Instant) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        if active
            .agreed
            .ringing_until
            .is_some_and(|until| until <= now)
        {
            self.end(hub, now, By::Gateway, Some(408), "no answer");
            return;
        }
        active.leg.handle_timeout(now);
        if let Some(bridged) = active.bridged_mut()
            && bridged.reports.due() <= now
        {
            bridged.reports.begin(hub, now);
            for flow in [bridged.to_sip.flow, bridged.to_browser.flow] {
                hub.outputs.push_back(Output::ReadFlow(flow));
            }
        }
        self.pump(hub, now);
    }

    /// Drains the browser leg. Events before datagrams: flows are in before the flight that lets the browser send.
    pub(crate) fn pump(&mut self, hub: &mut Hub, now: Instant) {
        let mut transmits = Vec::new();
        let mut verdict = None;
        loop {
            let leg = match &mut self.state {
                State::Incoming(incoming) => &mut incoming.leg,
                State::Active(active) => &mut active.leg,
                State::Opening(_) | State::Calling(_) | State::Ended => break,
            };
            match leg.poll_output() {
                None => break,
                Some(LegOutput::Transmit {
                    local,
                    remote,
                    bytes,
                }) => transmits.push((local, remote, bytes)),
                Some(LegOutput::Event(event)) => {
                    verdict = self.leg_event(hub, now, event).or(verdict)
                }
            }
        }
        for (local, remote, bytes) in transmits {
            hub.transmit(local, remote, bytes);
        }
        if let Some(reason) = verdict {
            self.end(hub, now, By::Gateway, Some(500), &reason);
        }
    }

    /// The reason for which the call has to end, if it has to.
    fn leg_event(&mut self, hub: &mut Hub, now: Instant, event: LegEvent) -> Option<String> {
        let State::Active(active) = &mut self.state else {
            return None;
        };
        match event {
            LegEvent::Selected { local, remote } => {
                if !active.selected(hub, &self.id, Pair { local, remote }) {
                    return Some("the browser's address carries another call".to_owned());
                }
            }
            LegEvent::Secured(secured) => active.secured(hub, now, &self.id, secured),
            LegEvent::ConsentLost => {
                return Some("the browser is gone: ICE consent lost".to_owned());
            }
            LegEvent::Failed(error) => return Some(format!("browser leg: {error}")),
            LegEvent::Closed => return Some("the browser closed its connection".to_owned()),
        }
        None
    }

    /// The datapath says which path a flow has; the page is told when both are known, and whenever one changes.
    pub(crate) fn handle_path(&mut self, hub: &mut Hub, flow: FlowId, path: PathView) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let codec = format!(
            "{}/{}",
            active.agreed.negotiated.codec.name, active.agreed.negotiated.codec.clock_hz
        );
        let Some(bridged) = active.bridged_mut() else {
            return;
        };
        let side = if flow == bridged.to_sip.flow {
            &mut bridged.to_sip
        } else {
            &mut bridged.to_browser
        };
        if side.path.replace(path.clone()) == Some(path) {
            return;
        }
        let (Some(to_sip), Some(to_browser)) =
            (bridged.to_sip.path.clone(), bridged.to_browser.path.clone())
        else {
            return;
        };
        let suite = suite_name(bridged.secured.suite).to_owned();
        if std::mem::replace(&mut bridged.told, true) {
            self.tell(hub, |call| Event::PathChanged {
                call,
                to_sip,
                to_browser,
            });
        } else {
            self.tell(hub, |call| Event::Connected {
                call,
                codec,
                suite,
                to_sip,
                to_browser,
            });
        }
    }

    /// Counters came: kept for views, and used for the RTCP reports that are due.
    pub(crate) fn handle_counters(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        flow: FlowId,
        snapshot: FlowSnapshot,
        monotonic_ns: u64,
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let (ports, rtcp) = (active.agreed.ports, active.remote.rtcp);
        let Some(bridged) = active.bridged_mut() else {
            return;
        };
        let side = if flow == bridged.to_sip.flow {
            &mut bridged.to_sip
        } else {
            &mut bridged.to_browser
        };
        side.snapshot = snapshot;
        // Read in this order, so the second answer completes the picture.
        if flow == bridged.to_browser.flow {
            let to = Destinations {
                pair: bridged.pair,
                ports,
                sip_rtcp: rtcp,
            };
            let snapshots = (&bridged.to_sip.snapshot, &bridged.to_browser.snapshot);
            bridged
                .reports
                .send_due(hub, now, monotonic_ns, snapshots, to);
        }
    }

    /// RTCP of the browser (encrypted) that XDP or the sockets passed up.
    pub(crate) fn handle_browser_rtcp(&mut self, hub: &mut Hub, now: Instant, bytes: &[u8]) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let (ports, rtcp) = (active.agreed.ports, active.remote.rtcp);
        if let Some(bridged) = active.bridged_mut() {
            let to = Destinations {
                pair: bridged.pair,
                ports,
                sip_rtcp: rtcp,
            };
            bridged
                .reports
                .heard_browser(hub, now, bytes, &bridged.to_browser.snapshot, to);
        }
    }

    /// A datagram on one of the SIP side's sockets: RTCP, or RTP from a source that has no flow.
    pub(crate) fn handle_sip_media(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let pinned = active.remote.rtp.ip() == remote.ip();
        let [first, second, ..] = *bytes else {
            return;
        };
        if !pinned {
            return;
        }
        match classify(first, second) {
            Protocol::Rtcp => {
                if let Some(bridged) = active.bridged_mut() {
                    let (pair, snapshot) = (bridged.pair, bridged.to_sip.snapshot);
                    bridged.reports.heard_sip(hub, now, bytes, &snapshot, pair);
                }
            }
            // Nothing but RTP moves the flow: a keep-alive or a stray datagram of another port must not.
            Protocol::Rtp => {
                if local == active.agreed.ports.rtp && active.remote.latch(now, remote) {
                    active.install(hub);
                }
            }
            Protocol::Stun | Protocol::Dtls | Protocol::Other => {}
        }
    }

    /// The SIP side changes the session: hold, resume, new address (RFC 3264 section 8).
    pub(crate) fn handle_reinvite(&mut self, hub: &mut Hub, now: Instant, sdp: Option<&str>) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let sip = active.agreed.sip;
        let was_held = active.remote.held();
        match active.reanswer(sdp) {
            Ok(description) => {
                hub.stack.answer_reinvite(now, sip, Ok(description));
                active.install(hub);
                let held = active.remote.held();
                if held != was_held {
                    self.tell(hub, |call| Event::Held { call, held });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "re-INVITE refused");
                hub.stack.answer_reinvite(now, sip, Err(error.status()));
            }
        }
    }

    /// The ACK answers the offer that our 200 to an empty re-INVITE made (RFC 3261 section 14.2).
    pub(crate) fn handle_confirmed(&mut self, hub: &mut Hub, now: Instant, sdp: &str) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let was_held = active.remote.held();
        if let Err(error) = active.answered(hub, Some(sdp)) {
            self.end(hub, now, By::Gateway, Some(488), &error.to_string());
            return;
        }
        let held = active.remote.held();
        if held != was_held {
            self.tell(hub, |call| Event::Held { call, held });
        }
    }

    /// The page renegotiates: an ICE restart when the credentials are new (RFC 8445 section 9), else the same session again.
    pub(crate) fn handle_offer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        offer: &str,
    ) -> Result<String, Problem> {
        let wrong = self.wrong_state("only a call with media can be renegotiated");
        let State::Active(active) = &mut self.state else {
            return Err(wrong);
        };
        let bad = |error: SdpError| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        };
        let web = WebSession::parse(offer).map_err(bad)?;
        let negotiated = active
            .agreed
            .negotiated
            .reoffered_by_web(&web.audio().codecs, web.audio().times)
            .map_err(bad)?;
        if web.fingerprints != active.agreed.web.fingerprints {
            return Err(Problem::new(
                422,
                "new-fingerprint",
                "A new DTLS association needs a new call",
                "the offer's fingerprint is not the one of this call",
            ));
        }
        if web.ice != active.agreed.web.ice {
            hub.routes.ufrag.remove(&active.agreed.local.ice.ufrag);
            active.agreed.local.ice = new_ice(hub);
            hub.routes
                .ufrag
                .insert(active.agreed.local.ice.ufrag.clone(), self.id.clone());
            active
                .leg
                .restart_ice(now, &active.agreed.local.ice, &web.ice);
        }
        // RFC 8842 section 5.5: the association stays, and with it the roles.
        let setup = match active.role {
            DtlsRole::Active => Setup::Active,
            DtlsRole::Passive => Setup::Passive,
        };
        active.agreed.negotiated = negotiated;
        let candidates = hub.candidates();
        let answer = sdp::web_answer(
            &web,
            &active.agreed.negotiated,
            &active.agreed.local.web(hub, &candidates, setup),
        );
        active.agreed.web = web;
        active.install(hub);
        self.pump(hub, now);
        Ok(answer)
    }

    pub(crate) fn handle_candidates(&mut self, hub: &mut Hub, now: Instant, candidates: &[String]) {
        let leg = match &mut self.state {
            State::Incoming(incoming) => &mut incoming.leg,
            State::Active(active) => &mut active.leg,
            // The gateway is ICE-lite: it answers checks and needs no candidates of the page before.
            State::Opening(_) | State::Calling(_) | State::Ended => return,
        };
        for candidate in candidates {
            leg.add_candidate(now, candidate);
        }
        self.pump(hub, now);
    }
}
