//! What all calls and sessions share: the SIP stack, randomness, the routing tables and the queue of outputs.
//!
//! [`super::Gateway`] keeps it beside the tables of calls and sessions, so that a call can be changed while it uses the hub.

use super::isolation::Debts;
use super::{Config, FlowId, MediaPorts, Output, RequestId};
use crate::Random;
use crate::api::{CallId, Event, Problem, Reply, SessionId};
use crate::bridge::Pair;
use crate::sdp::HostCandidate;
use crate::sdp::{Fingerprint, IceParameters};
use crate::sip;
use crate::trunk::{Trunk, Trunks};
use crate::webrtc::{Certificate, DtlsRole, DtlsSettings, HANDSHAKE_TIMEOUT, Leg, LegConfig};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds between the NTP epoch (1900) and the Unix epoch (RFC 5905 section 6).
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

/// See the module.
pub(crate) struct Hub {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) certificate: Arc<Certificate>,
    /// The certificate's, for `a=fingerprint`.
    pub(crate) fingerprint: Fingerprint,
    dtls: DtlsSettings,
    pub(crate) stack: sip::Stack,
    pub(crate) trunks: Trunks,
    pub(crate) routes: Routes,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) owed: Debts,
    next_flow: u64,
    epoch: (Instant, Duration),
}

/// To which call an input belongs.
#[derive(Default)]
pub(crate) struct Routes {
    /// Our ICE user name fragment.
    pub(crate) ufrag: HashMap<String, CallId>,
    /// 4-tuples from which a STUN request with our fragment came.
    pub(crate) pair: HashMap<Pair, CallId>,
    /// 4-tuples that carry a call's media: no other call may take them over, whatever checks come from there.
    media: HashMap<Pair, CallId>,
    /// RTP and RTCP sockets of the SIP side.
    pub(crate) port: HashMap<SocketAddr, CallId>,
    /// SIP dialogs.
    pub(crate) sip: HashMap<sip::CallHandle, CallId>,
    /// Flows.
    pub(crate) flow: HashMap<FlowId, CallId>,
}

impl Routes {
    /// A call gives a 4-tuple up, unless another call has taken it over meanwhile.
    /// Gives the 4-tuple's media to the call; false if another call has it.
    pub(crate) fn claim(&mut self, pair: Pair, call: &CallId) -> bool {
        self.media.entry(pair).or_insert_with(|| call.clone()) == call
    }

    /// Takes it back from the call.
    pub(crate) fn release(&mut self, pair: &Pair, call: &CallId) {
        if self.media.get(pair) == Some(call) {
            self.media.remove(pair);
        }
    }

    /// Whether another call's media has this 4-tuple.
    pub(crate) fn is_foreign(&self, pair: &Pair, call: &CallId) -> bool {
        self.media.get(pair).is_some_and(|owner| owner != call)
    }

    pub(crate) fn leave_pair(&mut self, pair: &Pair, call: &CallId) {
        if self.pair.get(pair) == Some(call) {
            self.pair.remove(pair);
        }
    }

    /// Takes out everything of calls that are gone.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&CallId) -> bool) {
        self.ufrag.retain(|_, call| is_there(call));
        self.pair.retain(|_, call| is_there(call));
        self.media.retain(|_, call| is_there(call));
        self.port.retain(|_, call| is_there(call));
        self.sip.retain(|_, call| is_there(call));
        self.flow.retain(|_, call| is_there(call));
    }

    /// Entries of all tables.
    pub(crate) fn len(&self) -> usize {
        self.ufrag.len()
            + self.pair.len()
            + self.media.len()
            + self.port.len()
            + self.sip.len()
            + self.flow.len()
    }
}

impl Hub {
    pub(crate) fn new(
        mut config: Config,
        mut stack: sip::Stack,
        random: Random,
        certificate: Arc<Certificate>,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        let trunks = std::mem::take(&mut config.trunks);
        let trunks = Trunks::new(now, trunks, &config.domain, &mut stack);
        let dtls = DtlsSettings::new(HANDSHAKE_TIMEOUT, &config.web.srtp_suites);
        let unix = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            config,
            random,
            fingerprint: certificate.fingerprint(),
            certificate,
            dtls,
            stack,
            trunks,
            routes: Routes::default(),
            outputs: VecDeque::new(),
            owed: Debts::default(),
            next_flow: 1,
            epoch: (now, unix + Duration::from_secs(NTP_UNIX_OFFSET_S)),
        }
    }

    /// Wall clock as a 64 bit NTP time stamp (RFC 3550 section 4).
    pub(crate) fn ntp(&self, now: Instant) -> u64 {
        let (start, at_start) = self.epoch;
        let time = at_start + now.saturating_duration_since(start);
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        (time.as_secs() << 32) | fraction
    }

    /// Wall clock in milliseconds since 1970.
    pub(crate) fn unix_ms(&self, now: Instant) -> u64 {
        let (start, at_start) = self.epoch;
        let ntp = at_start + now.saturating_duration_since(start);
        let unix = ntp.saturating_sub(Duration::from_secs(NTP_UNIX_OFFSET_S));
        u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
    }

    /// A flow number that was never used.
    pub(crate) fn new_flow(&mut self, call: &CallId) -> FlowId {
        let flow = FlowId(self.next_flow);
        self.next_flow += 1;
        self.routes.flow.insert(flow, call.clone());
        flow
    }

    pub(crate) fn remove_flow(&mut self, flow: FlowId) {
        self.routes.flow.remove(&flow);
        self.outputs.push_back(Output::RemoveFlow(flow));
    }

    pub(crate) fn open_ports(&mut self, call: CallId, media: u8) {
        let ipv6 = self.config.sip_media_ipv6;
        self.outputs
            .push_back(Output::OpenPorts { call, media, ipv6 });
    }

    pub(crate) fn close_ports(&mut self, ports: impl IntoIterator<Item = MediaPorts>) {
        for pair in ports {
            self.routes.port.remove(&pair.rtp);
            self.routes.port.remove(&pair.rtcp);
            self.outputs.push_back(Output::ClosePorts(pair));
        }
    }

    pub(crate) fn event(&mut self, session: &SessionId, event: Event) {
        self.outputs
            .push_back(Output::Event(session.clone(), event));
    }

    pub(crate) fn reply(&mut self, request: RequestId, reply: Result<Reply, Problem>) {
        self.owed.remove(request);
        self.outputs.push_back(Output::Reply(request, reply));
    }

    pub(crate) fn transmit(&mut self, local: SocketAddr, remote: SocketAddr, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Transmit {
            local,
            remote,
            bytes,
        });
    }
}

/// What calls make out of the configuration.
impl Hub {
    /// The trunk over which an address is called.
    pub(crate) fn trunk_to(&self, address: &str) -> Arc<Trunk> {
        self.trunks.to(address, &self.config.domain)
    }

    /// The addresses that pages are told.
    pub(crate) fn candidates(&self) -> Vec<HostCandidate> {
        let web = &self.config.web;
        let udp = if web.advertised.is_empty() {
            &web.listen
        } else {
            &web.advertised
        };
        let udp = udp.iter().copied().map(HostCandidate::Udp);
        let tcp = web.tcp.iter().copied().map(HostCandidate::Tcp);
        udp.chain(tcp).collect()
    }

    /// A browser leg that answers checks from now on.
    pub(crate) fn new_leg(&self, now: Instant, ice: &IceParameters, role: DtlsRole) -> Leg {
        let config = self.leg_config(self.config.web.listen[0], ice, role);
        Leg::new(config, now)
    }

    /// A leg to the SIP side over a port of a call's audio.
    pub(crate) fn new_sip_leg(
        &self,
        now: Instant,
        local: SocketAddr,
        ice: &IceParameters,
        role: DtlsRole,
        controlling: bool,
    ) -> Leg {
        let mut config = self.leg_config(local, ice, role);
        config.controlling = controlling;
        Leg::new(config, now)
    }

    fn leg_config(&self, local: SocketAddr, ice: &IceParameters, role: DtlsRole) -> LegConfig {
        let mut config = LegConfig::new(
            local,
            ice.clone(),
            Arc::clone(&self.certificate),
            self.dtls.clone(),
            role,
        );
        config.connectivity_timeout = self.config.web.connect_timeout;
        config
    }
}
