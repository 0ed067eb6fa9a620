//! What happens to an active call's media: checks and handshakes of the legs, paths and counters of the flows, RTCP.

use super::*;
use crate::call::data::Sent;
use crate::call::feedback::{Exchange, fast_update};

/// Why a call ends whose browser does not come back.
const GONE: &str = "the browser is gone: ICE consent lost";
/// Most 4-tuples of one call that are routed before one is nominated.
const PAIRS: usize = 16;

impl State {
    /// The browser leg, where there is one, and the 4-tuples that it was heard from.
    pub(in crate::call) fn leg(&mut self) -> Option<(&mut Leg, &mut Vec<Pair>)> {
        match self {
            Self::Incoming(incoming) => Some((&mut incoming.leg, &mut incoming.pairs)),
            Self::Offerless(calling) => {
                let asked = calling.asked.as_mut()?;
                Some((&mut asked.leg, &mut asked.pairs))
            }
            Self::Active(active) => Some((&mut active.leg, &mut active.pairs)),
            Self::Opening(_) | Self::Calling(_) | Self::Ended => None,
        }
    }
}

impl Call {
    /// STUN or DTLS for the browser leg, already routed here.
    pub(crate) fn handle_leg_datagram(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        pair: Pair,
        bytes: &[u8],
    ) {
        let Some((leg, pairs)) = self.state.leg() else {
            return;
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
        if active.away.is_some_and(|until| until <= now) {
            self.end(hub, now, By::Gateway, Some(500), GONE);
            return;
        }
        active.leg.handle_timeout(now);
        active.sip_leg_timeout(now);
        active.moving_timeout(hub, now);
        if let Some(bridged) = active.bridged_mut()
            && bridged.reports.due() <= now
        {
            bridged.reports.begin(hub, now);
            for flow in bridged.flows() {
                hub.outputs.push_back(Output::ReadFlow(flow));
            }
        }
        self.send_due_digits(hub, now);
        self.asking_timeout(hub, now);
        self.pump(hub, now);
    }

    /// Drains the legs. Events before datagrams: flows are in before the flight that lets the browser send.
    pub(crate) fn pump(&mut self, hub: &mut Hub, now: Instant) {
        let mut transmits = Vec::new();
        let mut verdict = None;
        while let Some((leg, _)) = self.state.leg() {
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
        if let State::Active(active) = &mut self.state {
            verdict = active.pump_sip_leg(hub, now, &self.id).or(verdict);
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
                let patience = hub.config.limits.reconnect;
                active.away = Some(now + patience);
                if patience.is_zero() || !matches!(active.media, Media::Bridged(_)) {
                    return Some(GONE.to_owned());
                }
                tracing::debug!(call = self.id.0, "the browser is silent: waiting for it");
                active.install(hub);
            }
            LegEvent::Failed(error) => return Some(format!("browser leg: {error}")),
            LegEvent::Closed => return Some("the browser closed its connection".to_owned()),
        }
        None
    }

    /// A key that the SIP side pressed; those of the page it knows itself.
    pub(crate) fn handle_flow_event(&mut self, hub: &mut Hub, flow: FlowId, event: &FlowEvent) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let from_sip = active
            .bridged_mut()
            .is_some_and(|bridged| bridged.to_browser.iter().any(|side| side.flow == flow));
        if let (true, Some(digit)) = (from_sip, event.digit()) {
            let duration_ms = event.duration_ms;
            self.tell(hub, |call| Event::Dtmf {
                call,
                digit,
                duration_ms,
            });
        }
    }

    /// The datapath says which path a flow has; the page is told when both are known, and whenever one changes.
    pub(crate) fn handle_path(&mut self, hub: &mut Hub, flow: FlowId, path: PathView) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let (codec, video) = (active.codec(), active.video_codec());
        let Some(bridged) = active.bridged_mut() else {
            return;
        };
        let Some(side) = bridged.side_mut(flow) else {
            return;
        };
        if side.path.replace(path.clone()) == Some(path) {
            return;
        }
        let all = bridged.to_browser.iter().all(|side| side.path.is_some());
        let (Some(to_sip), Some(to_browser), true) = (
            bridged.to_sip.path.clone(),
            bridged.to_browser[0].path.clone(),
            all,
        ) else {
            return;
        };
        let suite = bridged.secured.suite.name().to_owned();
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
                video,
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
        let Some((bridged, to)) = active.reporting() else {
            return;
        };
        let Some(side) = bridged.side_mut(flow) else {
            return;
        };
        side.snapshot = snapshot;
        let of_medium = bridged.to_browser.iter().position(|side| side.flow == flow);
        let Bridged {
            to_sip,
            to_browser,
            reports,
            ..
        } = bridged;
        reports.forward_waiting(hub, flow, &snapshot, &to);
        // Read in this order, so the last answer completes the picture.
        if to_browser.last().is_some_and(|side| side.flow == flow) {
            let snapshots = (
                &to_sip.snapshot,
                to_browser.iter().map(|side| &side.snapshot),
            );
            reports.send_due(hub, now, monotonic_ns, snapshots, &to);
        }
        if let Some(index) = of_medium
            && active.remotes[index].latch(now, &snapshot)
        {
            active.install(hub);
        }
    }

    /// RTCP of the browser (encrypted) that XDP or the sockets passed up.
    pub(crate) fn handle_browser_rtcp(&mut self, hub: &mut Hub, now: Instant, bytes: &[u8]) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        if let Some(bridged) = active.bridged_mut() {
            let flows: Vec<FlowId> = bridged.to_browser.iter().map(|side| side.flow).collect();
            bridged.reports.heard_browser(hub, now, bytes, &flows);
            active.ask_picture_by_info(hub, now);
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
        let ports = &active.agreed.ports;
        let Some(index) = ports
            .iter()
            .position(|ports| ports.rtp == local || ports.rtcp == local)
        else {
            return;
        };
        let rtp = ports[index].rtp;
        let latching = hub.config.latching;
        let [first, second, ..] = *bytes else {
            return;
        };
        let protocol = classify(first, second);
        if matches!(protocol, Protocol::Stun | Protocol::Dtls) {
            active.handle_sip_leg_datagram(now, local, remote, bytes);
            return self.pump(hub, now);
        }
        if !active.remotes[index].admits(latching, remote) {
            return;
        }
        match protocol {
            Protocol::Rtcp => {
                if let Some(bridged) = active.bridged_mut() {
                    let flow = bridged.to_sip.flow;
                    bridged.reports.heard_sip(hub, now, index, bytes, flow);
                }
            }
            // Nothing but RTP moves the flow: a keep-alive or a stray datagram of another port must not.
            Protocol::Rtp => {
                if local == rtp && active.remotes[index].consider(now, latching, remote, bytes) {
                    active.ask_or_latch(hub, now, index);
                }
            }
            Protocol::Stun | Protocol::Dtls | Protocol::Other => {}
        }
    }
}

impl Active {
    /// The browser wants a picture of a SIP side that RTCP cannot ask for it.
    fn ask_picture_by_info(&mut self, hub: &mut Hub, now: Instant) {
        let sip = self.agreed.sip;
        let pictures = self
            .bridged_mut()
            .and_then(|bridged| bridged.reports.pictures_of_sip());
        if pictures.is_some_and(Exchange::take_info)
            && hub.stack.info(now, sip, fast_update()).is_ok()
        {
            self.sent.push_back(Sent::Picture);
        }
    }

    /// The SIP side has no use for that.
    pub(in crate::call) fn stop_asking_by_info(&mut self) {
        let bridged = self.bridged_mut();
        if let Some(pictures) = bridged.and_then(|bridged| bridged.reports.pictures_of_sip()) {
            pictures.refuse_info();
        }
    }

    /// The SIP side wants a picture of the browser that needs none before it.
    pub(in crate::call) fn show_picture(&mut self, hub: &mut Hub, now: Instant) {
        if let Some(bridged) = self.bridged_mut() {
            let flow = bridged.to_sip.flow;
            bridged.reports.picture_by_info(hub, now, flow);
        }
    }

    /// A packet came from another source than the flow's: what the flow has bound decides, if there is a flow.
    fn ask_or_latch(&mut self, hub: &mut Hub, now: Instant, index: usize) {
        match &self.media {
            Media::Bridged(bridged) => {
                let flow = bridged.to_browser[index].flow;
                hub.outputs.push_back(Output::ReadFlow(flow));
            }
            Media::Connecting { .. } => {
                self.remotes[index].latch(now, &FlowSnapshot::default());
            }
        }
    }
}
