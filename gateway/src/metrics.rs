//! Prometheus metrics, all of them here. Counted where things happen, encoded when `/metrics` is read; never per packet.

use crate::datapath::DatapathReport;
use axum::http::{Method, StatusCode};
use gateway_core::api::{CallState, Event, Path, PathView, Problem, TrunkView};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
/// Reads the datapath's counters, from any thread.
pub(crate) type ReadDatapath = Box<dyn Fn() -> Option<DatapathReport> + Send + Sync>;

/// Reasons of paths that are told apart as labels; they are sentences of our own, of which there are few.
const PATH_REASONS: usize = 32;

/// See the module.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Gauges<1>,
    sessions: Gauge,
    panics: Gauge,
    trunk_calls: Gauges<1>,
    trunk_targets: Gauges<2>,
    calls_ended: Counters<2>,
    leg_failures: Counters<1>,
    registrations: Counters<1>,
    sip_messages: Counters<3>,
    sip_refused: Counters<1>,
    http_requests: Counters<3>,
    ice_tcp: Counters<1>,
    flows: Gauges<2>,
    loop_lag: Histogram,
    datapath: std::sync::Arc<OnceLock<ReadDatapath>>,
}

/// Which way a SIP message goes.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    In,
    Out,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let datapath = std::sync::Arc::new(OnceLock::new());
        let mut metrics = Self {
            registry: Registry::with_prefix("causeway"),
            calls: Family::default(),
            sessions: Gauge::default(),
            panics: Gauge::default(),
            trunk_calls: Family::default(),
            trunk_targets: Family::default(),
            calls_ended: Family::default(),
            leg_failures: Family::default(),
            registrations: Family::default(),
            sip_messages: Family::default(),
            sip_refused: Family::default(),
            http_requests: Family::default(),
            ice_tcp: Family::default(),
            flows: Family::default(),
            loop_lag: Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
            datapath,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = ("version", env!("CARGO_PKG_VERSION"));
        let abi = ("flow_abi", flow::ABI.to_string());
        registry.register(
            "build",
            "Version of the daemon and of the layouts it shares with XDP",
            Info::new((vec![version], vec![abi])),
        );
        registry.register(
            "calls",
            "Calls that are not over, by state",
            self.calls.clone(),
        );
        registry.register("sessions", "Sessions", self.sessions.clone());
        registry.register(
            "panics",
            "Panics so far, each a bug: calls or inputs that were given up",
            self.panics.clone(),
        );
        registry.register(
            "trunk_calls",
            "Calls of a trunk that are not over",
            self.trunk_calls.clone(),
        );
        registry.register(
            "trunk_targets",
            "Addresses of a trunk that answer OPTIONS, and that do not",
            self.trunk_targets.clone(),
        );
        registry.register(
            "calls_ended",
            "Calls that are over, by who ended them and class of the SIP status",
            self.calls_ended.clone(),
        );
        registry.register(
            "browser_leg_failures",
            "Calls lost to ICE or DTLS, by reason",
            self.leg_failures.clone(),
        );
        registry.register(
            "registrations",
            "Registrations and refreshes, by outcome",
            self.registrations.clone(),
        );
        registry.register(
            "sip_messages",
            "SIP messages by direction, transport, and method or status class; what comes by TCP is counted by the read",
            self.sip_messages.clone(),
        );
        registry.register(
            "sip_refused",
            "SIP requests that were refused before anybody was asked, by reason",
            self.sip_refused.clone(),
        );
        registry.register(
            "http_requests",
            "HTTP requests by method, route and status",
            self.http_requests.clone(),
        );
        registry.register(
            "ice_tcp_connections",
            "Connections of browsers by TCP, and why they did not stay",
            self.ice_tcp.clone(),
        );
        registry.register(
            "flows",
            "Installed flows by path and reason",
            self.flows.clone(),
        );
        registry.register(
            "event_loop_lag_seconds",
            "How late the event loop's one-second tick comes",
            self.loop_lag.clone(),
        );
        registry.register_collector(Box::new(Datapath(self.datapath.clone())));
    }

    /// Where the datapath's counters come from.
    pub(crate) fn set_datapath(&self, read: ReadDatapath) {
        // Set once, at start.
        let _ = self.datapath.set(read);
    }

    /// The datapath as of now.
    pub(crate) fn datapath(&self) -> Option<DatapathReport> {
        self.datapath.get().and_then(|read| read())
    }

    /// The text of `/metrics`.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => unreachable!("a String takes every write"),
        }
    }

    /// Calls and sessions as of now.
    pub(crate) fn population(&self, calls: impl Iterator<Item = CallState>, sessions: usize) {
        let states = [
            CallState::Calling,
            CallState::Ringing,
            CallState::Incoming,
            CallState::Connecting,
            CallState::Connected,
        ];
        let mut counts = states.map(|state| (state, 0));
        for call in calls {
            if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == call) {
                *count += 1;
            }
        }
        for (state, count) in counts {
            self.calls
                .get_or_create(&[("state", word(&state))])
                .set(count);
        }
        self.sessions
            .set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// Refusals of the SIP stack so far.
    pub(crate) fn sip_refused(&self, refused: impl Iterator<Item = (&'static str, u64)>) {
        for (why, count) in refused {
            let counter = self
                .sip_refused
                .get_or_create(&[("reason", why.to_owned())]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// What became of a connection by TCP.
    pub(crate) fn ice_tcp(&self, event: &'static str) {
        self.ice_tcp
            .get_or_create(&[("event", event.to_owned())])
            .inc();
    }

    /// Panics of the core so far.
    pub(crate) fn panics(&self, panics: u64) {
        self.panics.set(i64::try_from(panics).unwrap_or(i64::MAX));
    }

    /// Trunks as of now.
    pub(crate) fn trunks(&self, trunks: &[TrunkView]) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        for trunk in trunks {
            let name = ("trunk", trunk.name.clone());
            self.trunk_calls
                .get_or_create(std::array::from_ref(&name))
                .set(count(trunk.calls));
            for (alive, word) in [(true, "alive"), (false, "silent")] {
                let targets = trunk.targets.iter();
                let targets = targets.filter(|target| target.alive == alive).count();
                self.trunk_targets
                    .get_or_create(&[name.clone(), ("state", word.to_owned())])
                    .set(count(targets));
            }
        }
    }

    /// What pages are told is what happened.
    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Ended {
                by, status, reason, ..
            } => {
                let class = status
                    .map_or_else(|| "none".to_owned(), |status| format!("{}xx", status / 100));
                self.calls_ended
                    .get_or_create(&[("by", by.clone()), ("status", class)])
                    .inc();
                if let Some(reason) = leg_failure(reason) {
                    self.leg_failures
                        .get_or_create(&[("reason", reason.to_owned())])
                        .inc();
                }
            }
            Event::Registered { .. } => self.registration("ok"),
            Event::RegistrationFailed { .. } => self.registration("failed"),
            Event::SessionEnded { .. }
            | Event::Incoming { .. }
            | Event::Ringing { .. }
            | Event::Challenged { .. }
            | Event::Answer { .. }
            | Event::Answered { .. }
            | Event::Connected { .. }
            | Event::PathChanged { .. }
            | Event::Held { .. }
            | Event::Offer { .. }
            | Event::Dtmf { .. }
            | Event::Info { .. }
            | Event::InfoSent { .. }
            | Event::DtmfSent { .. }
            | Event::Muted { .. }
            | Event::Control { .. }
            | Event::Transfer { .. }
            | Event::Refer { .. }
            | Event::Party { .. }
            | Event::Message { .. }
            | Event::MessagesWaiting { .. } => {}
        }
    }

    /// A request that the core refused; the first registration of a session fails this way.
    pub(crate) fn refused(&self, problem: &Problem) {
        if [
            "not-registered",
            "registrar-unreachable",
            "registration-failed",
        ]
        .contains(&problem.kind.as_str())
        {
            self.registration("failed");
        }
    }

    fn registration(&self, outcome: &str) {
        self.registrations
            .get_or_create(&[("outcome", outcome.to_owned())])
            .inc();
    }

    /// A SIP message, or what starts like one.
    pub(crate) fn sip_message(&self, way: Way, transport: &'static str, bytes: &[u8]) {
        let Some(what) = message_class(bytes) else {
            return;
        };
        let way = match way {
            Way::In => "in",
            Way::Out => "out",
        };
        let labels = [
            ("direction", way.to_owned()),
            ("transport", transport.to_owned()),
            ("message", what.to_owned()),
        ];
        self.sip_messages.get_or_create(&labels).inc();
    }

    /// A request on either listener.
    pub(crate) fn http_request(&self, method: &Method, route: &str, status: StatusCode) {
        // Methods are the peer's text: only those that some route has are told apart.
        let method = match *method {
            Method::GET | Method::POST | Method::DELETE | Method::OPTIONS | Method::HEAD => {
                method.as_str()
            }
            _ => "other",
        };
        let status = status.as_u16().to_string();
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status),
        ];
        self.http_requests.get_or_create(&labels).inc();
    }

    /// Flows as of now.
    pub(crate) fn paths<'a>(&self, paths: impl Iterator<Item = &'a PathView>) {
        let mut counts: BTreeMap<(String, &str), i64> = BTreeMap::new();
        for view in paths {
            let reason = if counts.len() < PATH_REASONS {
                view.reason.as_str()
            } else {
                "other"
            };
            *counts.entry((word(&view.path), reason)).or_default() += 1;
        }
        self.flows.clear();
        for ((path, reason), count) in counts {
            self.flows
                .get_or_create(&[("path", path), ("reason", reason.to_owned())])
                .set(count);
        }
    }

    /// How late a tick came.
    pub(crate) fn lag(&self, late: Duration) {
        self.loop_lag.observe(late.as_secs_f64());
    }
}

/// A field-less enum as its word on the wire.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The label of a call's end that ICE or DTLS is to blame for: the words of `webrtc::LegError`.
fn leg_failure(reason: &str) -> Option<&'static str> {
    const FAILURES: [(&str, &str); 8] = [
        ("no connectivity", "no_connectivity"),
        ("the DTLS handshake took too long", "handshake_timeout"),
        (
            "the DTLS certificate does not match",
            "fingerprint_mismatch",
        ),
        ("no DTLS certificate was sent", "no_certificate"),
        ("the peer did not negotiate SRTP", "no_srtp"),
        ("the negotiated SRTP profile", "unsupported_profile"),
        ("the peer ended the DTLS handshake", "alert"),
        ("the DTLS handshake failed", "dtls"),
    ];
    if reason.ends_with("ICE consent lost") {
        return Some("consent_lost");
    }
    let (_, error) = reason.split_once(" leg: ")?;
    let known = FAILURES.iter().find(|(words, _)| error.starts_with(words));
    Some(known.map_or("other", |(_, label)| label))
}

/// Method or status class of a message by its first line; `None` for keep-alives and the middle of a stream.
fn message_class(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&str; 14] = [
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "OPTIONS",
        "REGISTER",
        "PRACK",
        "UPDATE",
        "INFO",
        "REFER",
        "NOTIFY",
        "SUBSCRIBE",
        "MESSAGE",
        "PUBLISH",
    ];
    if let Some(rest) = bytes.strip_prefix(b"SIP/2.0 ") {
        return Some(match rest.first()? {
            b'1' => "1xx",
            b'2' => "2xx",
            b'3' => "3xx",
            b'4' => "4xx",
            b'5' => "5xx",
            b'6' => "6xx",
            _ => "other",
        });
    }
    let method = bytes.split(|byte| *byte == b' ').next()?;
    if let Some(known) = METHODS.iter().find(|known| known.as_bytes() == method) {
        return Some(known);
    }
    let is_method = method.len() < bytes.len()
        && method.len() <= 32
        && method.iter().all(u8::is_ascii_uppercase);
    (is_method && !method.is_empty()).then_some("other")
}

/// The datapath's counters, read when they are asked for.
struct Datapath(std::sync::Arc<OnceLock<ReadDatapath>>);

impl std::fmt::Debug for Datapath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Datapath")
    }
}

impl Collector for Datapath {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(report) = self.0.get().and_then(|read| read()) else {
            return Ok(());
        };
        let help = "Packets by datapath and by the reason of their exit";
        let mut packets = encoder.encode_descriptor("packets", help, None, MetricType::Counter)?;
        for (datapath, counts) in [("xdp", &report.xdp), ("userspace", &report.userspace)] {
            for (why, count) in counts {
                let labels = [("datapath", datapath), ("reason", why.label())];
                ConstCounter::new(*count).encode(packets.encode_family(&labels)?)?;
            }
        }
        let help = "Packets lost in the daemon, by where";
        let mut lost =
            encoder.encode_descriptor("packets_lost", help, None, MetricType::Counter)?;
        for (place, count) in [
            ("kernel_owned", report.kernel_owned),
            ("event_loop_behind", report.datagrams_lost),
            ("media_thread_behind", report.transmits_lost),
            ("send_error", report.send_errors),
        ] {
            ConstCounter::new(count).encode(lost.encode_family(&[("where", place)])?)?;
        }
        if let Some((hits, misses)) = report.keystream {
            let help = "Packets of protected flows in XDP by whether their keystream was made ahead of time";
            let mut keystream =
                encoder.encode_descriptor("keystream_packets", help, None, MetricType::Counter)?;
            for (found, count) in [("hit", hits), ("miss", misses)] {
                ConstCounter::new(count).encode(keystream.encode_family(&[("found", found)])?)?;
            }
        }
        spread(&mut encoder, &report)?;
        let help = "Flows by datapath";
        let mut flows =
            encoder.encode_descriptor("datapath_flows", help, None, MetricType::Gauge)?;
        for (datapath, count) in [
            ("xdp", report.flows_xdp),
            ("userspace", report.flows_userspace),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(flows.encode_family(&[("datapath", datapath)])?)?;
        }
        let help = "Bytes of the flow tables";
        let memory =
            encoder.encode_descriptor("datapath_memory_bytes", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(report.memory_bytes).unwrap_or(i64::MAX)).encode(memory)?;
        let help = "The best path that a flow can get here, and why";
        let mut mode = encoder.encode_descriptor("datapath_mode", help, None, MetricType::Gauge)?;
        let labels = [
            ("mode", path_word(report.mode)),
            ("reason", report.reason.as_str()),
        ];
        ConstGauge::new(1_i64).encode(mode.encode_family(&labels)?)
    }
}

/// Whether flows in XDP are spread over CPUs, and what comes of it.
fn spread(
    encoder: &mut DescriptorEncoder<'_>,
    report: &DatapathReport,
) -> Result<(), std::fmt::Error> {
    let spread = &report.spread;
    if report.xdp.is_empty() {
        return Ok(());
    }
    let help = "CPUs that flows in XDP are spread over, 0 where they are not, and why";
    let mut cpus = encoder.encode_descriptor("spread_cpus", help, None, MetricType::Gauge)?;
    let number = i64::try_from(spread.cpus.len()).unwrap_or(i64::MAX);
    let labels = [("reason", spread.reason.as_str())];
    ConstGauge::new(number).encode(cpus.encode_family(&labels)?)?;
    if spread.cpus.is_empty() {
        return Ok(());
    }
    let help = "Packets that CPUs took over from the receiving one; what packets{reason=\"spread\"} has more is lost or on its way";
    let mut taken = encoder.encode_descriptor("spread_taken", help, None, MetricType::Counter)?;
    for (cpu, count) in spread.cpus.iter().zip(&spread.taken) {
        let labels = [("cpu", cpu.to_string())];
        ConstCounter::new(*count).encode(taken.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A path as it stands in the API.
pub(crate) fn path_word(path: Path) -> &'static str {
    match path {
        Path::XdpNative => "xdp-native",
        Path::XdpGeneric => "xdp-generic",
        Path::Userspace => "userspace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::SpreadReport;
    use flow::Why;
    use gateway_core::api::CallId;
    use gateway_core::webrtc::LegError;

    fn ended(reason: String) -> Event {
        Event::Ended {
            call: CallId("c".into()),
            by: "gateway".into(),
            status: Some(488),
            reason,
            causes: Vec::new(),
        }
    }

    #[test]
    fn every_leg_error_has_a_label_of_its_own() {
        let errors = [
            LegError::NoConnectivity,
            LegError::HandshakeTimeout,
            LegError::FingerprintMismatch,
            LegError::NoCertificate,
            LegError::NoSrtp,
            LegError::UnsupportedProfile("x".into()),
            LegError::Alert(40),
            LegError::Dtls("x".into()),
        ];
        let mut labels: Vec<_> = errors
            .iter()
            .filter_map(|error| leg_failure(&format!("browser leg: {error}")))
            .collect();
        assert!(!labels.contains(&"other"));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), errors.len());
        assert_eq!(leg_failure("hung up by the page"), None);
    }

    #[test]
    fn first_lines_become_bounded_labels() {
        let table: [(&[u8], Option<&str>); 7] = [
            (b"INVITE sip:a@b SIP/2.0\r\n", Some("INVITE")),
            (b"SIP/2.0 180 Ringing\r\n", Some("1xx")),
            (b"FROBNICATE sip:a@b SIP/2.0\r\n", Some("other")),
            (b"\r\n\r\n", None),
            (b"v=0\r\no=- 1", None),
            (b"", None),
            (b"SIP/2.0 ", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                message_class(bytes),
                expected,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new();
        metrics.population([CallState::Connected, CallState::Connected].into_iter(), 3);
        metrics.event(&ended(format!("browser leg: {}", LegError::NoSrtp)));
        metrics.sip_message(Way::Out, "UDP", b"BYE sip:a@b SIP/2.0\r\n");
        let view = PathView {
            path: Path::Userspace,
            reason: "configured".into(),
        };
        metrics.paths([&view, &view].into_iter());
        metrics.set_datapath(Box::new(|| {
            Some(DatapathReport {
                mode: Path::XdpNative,
                reason: "the driver has it".into(),
                xdp: vec![(Why::AuthFailed, 7)],
                userspace: vec![],
                flows_xdp: 2,
                flows_userspace: 0,
                kernel_owned: 0,
                datagrams_lost: 0,
                transmits_lost: 0,
                send_errors: 0,
                keystream: Some((5, 6)),
                spread: SpreadReport {
                    cpus: vec![0, 1],
                    reason: "by configuration".into(),
                    taken: vec![9, 0],
                },
                memory_bytes: 4096,
            })
        }));
        let text = metrics.encode();
        for line in [
            "causeway_calls{state=\"connected\"} 2",
            "causeway_calls{state=\"ringing\"} 0",
            "causeway_sessions 3",
            "causeway_calls_ended_total{by=\"gateway\",status=\"4xx\"} 1",
            "causeway_browser_leg_failures_total{reason=\"no_srtp\"} 1",
            "causeway_sip_messages_total{direction=\"out\",transport=\"UDP\",message=\"BYE\"} 1",
            "causeway_flows{path=\"userspace\",reason=\"configured\"} 2",
            "causeway_packets_total{datapath=\"xdp\",reason=\"auth_failed\"} 7",
            "causeway_keystream_packets_total{found=\"hit\"} 5",
            "causeway_spread_cpus{reason=\"by configuration\"} 2",
            "causeway_spread_taken_total{cpu=\"0\"} 9",
            "causeway_datapath_memory_bytes 4096",
            "causeway_datapath_mode{mode=\"xdp-native\",reason=\"the driver has it\"} 1",
            "# EOF",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
