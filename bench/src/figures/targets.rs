//! What the fast path is to reach, beside what it reached.

use super::Figures;
use crate::veth::{Comparison, Forwarder, Work};

/// G.711 at 20 ms.
const BYTES: usize = 160;
const CM_80: &str = "AES_CM_128_HMAC_SHA1_80";
const GCM_128: &str = "AEAD_AES_128_GCM";

/// What bounds our CPU time.
const LIMIT_CPU: &str = "waking the veth's receive thread for every burst, and with SRTP SHA-1 without the SHA instructions that \
                         rtpengine's OpenSSL has here";

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Of what.
    pub about: String,
    /// The bound.
    pub wanted: String,
    /// The figure.
    pub measured: String,
    /// Whether the figure is within the bound; `None` where it was not measured.
    pub met: Option<bool>,
    /// What bounds the figure where it is not.
    pub limit: Option<&'static str>,
}

impl Target {
    /// One word.
    pub fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not measured",
        }
    }

    fn at_most(about: String, bound: f64, value: Option<f64>, unit: Unit) -> Self {
        Self {
            about,
            wanted: format!("<= {}", unit.show(bound)),
            measured: value.map_or_else(|| "-".into(), |value| unit.show(value)),
            met: value.map(|value| value <= bound),
            limit: None,
        }
    }

    fn at_least(about: String, bound: f64, value: Option<f64>, unit: Unit) -> Self {
        Self {
            wanted: format!(">= {}", unit.show(bound)),
            met: value.map(|value| value >= bound),
            ..Self::at_most(about, bound, value, unit)
        }
    }

    fn limited_by(self, limit: &'static str) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    Nanoseconds,
    Times,
    Percent,
    KiB,
    Number,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Times => format!("{value:.2} x"),
            Self::Percent => format!("{:.1} %", 100.0 * value),
            Self::KiB => format!("{value:.1} KiB"),
            Self::Number => format!("{value:.0}"),
        }
    }
}

pub(super) fn of(figures: &Figures) -> Vec<Target> {
    let mut targets = program(figures);
    targets.extend(cpu(&figures.veth));
    targets.extend(rates(&figures.veth));
    targets.extend(delays(&figures.veth));
    targets.extend(growth(&figures.veth));
    targets.extend(calls(figures));
    targets
}

/// The XDP program alone.
fn program(figures: &Figures) -> Vec<Target> {
    let bounds = [
        ("none", "relay", 250.0),
        (CM_80, "protect", 2300.0),
        (CM_80, "unprotect", 2300.0),
        (CM_80, "protect+", 1300.0),
        (CM_80, "unprotect+", 1300.0),
        (GCM_128, "protect", 3000.0),
        (GCM_128, "unprotect", 3000.0),
        (GCM_128, "protect+", 1600.0),
        (GCM_128, "unprotect+", 1600.0),
    ];
    let targets = bounds.map(|(suite, direction, bound)| {
        let about = match (suite, direction.strip_suffix('+')) {
            ("none", _) => "TestRun, G.711: relay".to_owned(),
            (suite, Some(direction)) => {
                format!("TestRun, G.711: {suite} {direction}, keystream ahead")
            }
            (suite, None) => format!("TestRun, G.711: {suite} {direction}"),
        };
        let value = figures.testrun.median_ns(suite, direction, BYTES);
        Target::at_most(about, bound, value.map(|ns| ns as f64), Unit::Nanoseconds)
            .limited_by(if suite == "none" {
                "helpers and tail calls, dear where returns go through thunks (mitigations of SRSO and Retbleed)"
            } else {
                "no AES, SHA or carry-less multiplication in BPF"
            })
    });
    let processed = f64::from(figures.testrun.verified_instructions);
    let cap = f64::from(crate::testrun::INSTRUCTION_CAP);
    let verifier = Target::at_most(
        "instructions that the verifier processes".into(),
        cap,
        Some(processed),
        Unit::Number,
    );
    std::iter::once(verifier).chain(targets).collect()
}

/// CPU per packet as a share of rtpengine's.
fn cpu(veth: &Comparison) -> Vec<Target> {
    let mut targets = Vec::new();
    for pps in [20_000.0, 50_000.0] {
        for work in Work::ALL {
            let bound = if work == Work::Plain {
                1.0 / 8.0
            } else {
                1.0 / 5.0
            };
            let about = format!(
                "CPU/packet of rtpengine's, {}, {:.0} kpps",
                work.name(),
                pps / 1e3
            );
            let value = ratio(
                cpu_ns(veth, work, Forwarder::XdpNative, pps),
                cpu_ns(veth, work, Forwarder::Rtpengine, pps),
            );
            targets.push(
                Target::at_most(format!("XDP: {about}"), bound, value, Unit::Percent)
                    .limited_by(LIMIT_CPU),
            );
            let value = ratio(
                cpu_ns(veth, work, Forwarder::Userspace, pps),
                cpu_ns(veth, work, Forwarder::Rtpengine, pps),
            );
            targets.push(
                Target::at_most(format!("userspace: {about}"), 0.6, value, Unit::Percent)
                    .limited_by("the kernel's UDP path, the same for both"),
            );
        }
    }
    targets
}

fn cpu_ns(veth: &Comparison, work: Work, forwarder: Forwarder, pps: f64) -> Option<f64> {
    Some(veth.at(work, forwarder, BYTES, pps)?.cpu_ns)
}

/// Highest loss-free rates.
fn rates(veth: &Comparison) -> Vec<Target> {
    let targets = Work::ALL.map(|work| {
        let bound = if work == Work::Plain { 15.0 } else { 6.0 };
        let pps = |forwarder| veth.highest(work, forwarder)?.pps;
        let value = ratio(pps(Forwarder::XdpNative), pps(Forwarder::Rtpengine));
        let about = format!("XDP: loss-free rate of rtpengine's, {}", work.name());
        let limit = if work == Work::Plain {
            "veth's redirect, and feed and sink on one core"
        } else {
            "the SRTP of each packet on one core (the TestRun figures)"
        };
        Target::at_least(about, bound, value, Unit::Times).limited_by(limit)
    });
    targets.into()
}

/// Delay that is added to that of the bed.
fn delays(veth: &Comparison) -> Vec<Target> {
    let mut targets = Vec::new();
    let delay = |work, forwarder, pps| Some(veth.at(work, forwarder, BYTES, pps)?.latency);
    let floor = delay(Work::Plain, Forwarder::Kernel, 1_000.0).map(|latency| latency.p50_us);
    for work in Work::ALL.into_iter().filter(|work| !work.is_short()) {
        let added = |forwarder| Some((delay(work, forwarder, 1_000.0)?.p50_us - floor?).max(0.0));
        let value = ratio(added(Forwarder::XdpNative), added(Forwarder::Rtpengine));
        let about = format!("XDP: added p50 of rtpengine's, {}, 1 kpps", work.name());
        targets.push(Target::at_most(about, 0.5, value, Unit::Percent));
        let tail = |forwarder| Some(delay(work, forwarder, 10_000.0)?.p999_us);
        let value = ratio(tail(Forwarder::XdpNative), tail(Forwarder::Rtpengine));
        let about = format!("XDP: p99.9 of rtpengine's, {}, 10 kpps", work.name());
        targets.push(
            Target::at_most(about, 0.5, value, Unit::Percent)
                .limited_by("moments in which the host takes the CPU away, the same for both"),
        );
    }
    targets
}

/// What more calls cost.
fn growth(veth: &Comparison) -> Vec<Target> {
    let mut targets = Vec::new();
    for work in [Work::Plain, Work::Unprotect] {
        let rows = veth
            .grown
            .iter()
            .filter(|row| (row.work, row.forwarder) == (work, Forwarder::XdpNative));
        let most = rows.clone().map(|row| row.pps).fold(0.0, f64::max);
        let at = |calls| {
            let mut rows = rows.clone();
            rows.find(|row| row.calls == calls && (row.pps - most).abs() < 1.0)
                .map(|row| row.cpu_ns)
        };
        let about = format!(
            "XDP: CPU/packet with 10 000 calls of that with 100, {}",
            work.name()
        );
        targets.push(
            Target::at_most(about, 1.3, ratio(at(10_000), at(100)), Unit::Times)
                .limited_by("10 000 flows and their packets in turn leave the caches"),
        );
    }
    let bytes = veth.memory_per_call(Work::Unprotect, Forwarder::XdpNative);
    targets.push(Target::at_most(
        "XDP: memory for each further call".into(),
        40.0,
        bytes.map(|bytes| bytes / 1024.0),
        Unit::KiB,
    ));
    targets
}

/// Set-up and teardown of calls.
fn calls(figures: &Figures) -> Vec<Target> {
    let setup = figures.setup.as_ref();
    let cpus = figures.veth.machine.cpus;
    let alone = setup.and_then(|setup| setup.daemon_alone(cpus));
    let signalling = setup.and_then(|setup| setup.signalling.as_ref());
    let signalling = signalling.map(|signalling| signalling.daemon_alone(cpus));
    let memory = setup.map(|setup| setup.memory_per_call / 1024.0);
    vec![
        Target::at_least(
            "calls/s by the daemon's CPU time, sign-in, DTLS and teardown included".into(),
            500.0,
            alone,
            Unit::Number,
        ),
        Target::at_least(
            "calls/s by the daemon's CPU time, INVITE to BYE without media".into(),
            1000.0,
            signalling,
            Unit::Number,
        ),
        Target::at_most(
            "daemon: memory for each standing call".into(),
            64.0,
            memory,
            Unit::KiB,
        )
        .limited_by("the DTLS engine keeps its handshake, and hyper two buffers of 8 KiB for a page that polls"),
    ]
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    let other = other.filter(|other| *other > 0.0)?;
    Some(one? / other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_their_bounds() {
        let targets = of(&crate::figures::example());
        let verdict = |about: &str| {
            let mut found = targets.iter().filter(|target| target.about.contains(about));
            let target = found.next().unwrap_or_else(|| panic!("no target {about}"));
            (target.measured.as_str(), target.met)
        };
        assert_eq!(verdict("G.711: relay"), ("134 ns", Some(true)));
        assert_eq!(
            verdict("AES_CM_128_HMAC_SHA1_80 protect"),
            ("2400 ns", Some(false))
        );
        assert_eq!(verdict("AEAD_AES_128_GCM protect"), ("-", None));
        assert_eq!(
            verdict("XDP: CPU/packet of rtpengine's, RTP -> RTP, 20"),
            ("10.0 %", Some(true))
        );
        assert_eq!(
            verdict("userspace: CPU/packet of rtpengine's, RTP -> RTP, 20"),
            ("70.0 %", Some(false))
        );
        assert_eq!(
            verdict("XDP: loss-free rate of rtpengine's, RTP -> RTP"),
            ("16.00 x", Some(true))
        );
        assert_eq!(
            verdict("XDP: added p50 of rtpengine's, RTP -> RTP"),
            ("25.0 %", Some(true))
        );
        assert_eq!(
            verdict("with 10 000 calls of that with 100, RTP -> RTP"),
            ("1.50 x", Some(false))
        );
        assert_eq!(verdict("for each further call"), ("10.0 KiB", Some(true)));
    }
}
