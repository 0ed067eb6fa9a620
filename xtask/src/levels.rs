//! The test levels, from cheap to dear: what each runs and what it needs.
//!
//! A level is one or more `cargo test` runs. Tests that need privileges or peers are marked `#[ignore]` in the code,
//! so that a plain `cargo test` stays green anywhere; their level runs them with `--ignored`.

use crate::needs::Need;
use crate::packages;

/// A level.
pub(crate) struct Level {
    pub(crate) name: &'static str,
    /// One line for `--list`.
    pub(crate) about: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) runs: &'static [Run],
    /// Whether it waits more than it works, in namespaces and on ports of its own, so that it may run beside other such levels.
    pub(crate) beside: bool,
    /// Seconds after which a run is killed and counted as failed.
    pub(crate) limit_s: u64,
}

impl Level {
    /// Whether it runs only when it is named.
    pub(crate) fn is_long(&self) -> bool {
        self.needs.contains(&Need::Patience)
    }
}

/// One `cargo test`.
pub(crate) struct Run {
    /// What cargo is told: targets. Always of the whole workspace: another choice of packages gives dependencies other features, and
    /// they would be built again for it.
    pub(crate) cargo: &'static [&'static str],
    /// What the test binaries are told: filters, `--ignored`.
    pub(crate) tests: &'static [&'static str],
}

const SERIAL: &str = "--test-threads=1";
/// Tests that wait more than they work, in namespaces of their own.
const SIDE_BY_SIDE: &str = "--test-threads=4";

/// Everything that a call through namespaces starts.
const CALL: &[Need] = &[
    Need::Root,
    Need::Tool("ip"),
    Need::Tool("chromium"),
    Need::Tool("sipp"),
    Need::Tool("kamailio"),
    Need::Tool("baresip"),
    Need::Tool("tshark"),
];
const CALL_XDP: &[Need] = &[
    Need::Root,
    Need::Object,
    Need::Tool("ip"),
    Need::Tool("chromium"),
    Need::Tool("sipp"),
    Need::Tool("kamailio"),
    Need::Tool("baresip"),
    Need::Tool("tshark"),
    Need::Tool("rtpengine"),
];

/// All levels in the order in which they run.
pub(crate) const LEVELS: &[Level] = &[
    Level {
        name: "unit",
        about: "every crate's own tests: RFC vectors, parsers, state machines under virtual time",
        needs: &[],
        runs: &[Run {
            cargo: &[
                "--workspace",
                "--lib",
                "--bins",
                "--test=scenario",
                "--test=sip",
            ],
            tests: &[],
        }],
        beside: false,
        limit_s: 1500,
    },
    Level {
        name: "host",
        about: "packet table through flow::forward and the userspace engine, and what else of tests/ needs nothing",
        needs: &[],
        runs: &[Run {
            cargo: &["--workspace", "--test=packet_table", "--test=srtp_peers"],
            tests: &[],
        }],
        beside: false,
        limit_s: 900,
    },
    Level {
        name: "srtp",
        about: "the packet path's SRTP against Debian's libsrtp2, both ways (rtc-srtp is in level host)",
        needs: &[Need::Tool("cc"), Need::Tool(packages::SRTP_HEADER)],
        runs: &[Run {
            cargo: &["--workspace", "--test=srtp_peers"],
            tests: &["--ignored"],
        }],
        beside: false,
        limit_s: 300,
    },
    Level {
        name: "kernel",
        about: "the same packet table through BPF_PROG_TEST_RUN; verifier cap; the bench in seconds",
        needs: &[Need::Root, Need::Object],
        runs: &[Run {
            cargo: &["--workspace", "--test=xdp_table"],
            tests: &["--ignored", SERIAL],
        }],
        beside: false,
        limit_s: 600,
    },
    Level {
        name: "datapath",
        about: "the daemon's flows in the kernel, over veth: pins, attach modes, two interfaces, floods, neighbours and routes that change",
        needs: &[Need::Root, Need::Object],
        runs: &[Run {
            cargo: &["--workspace", "--bin=causeway"],
            tests: &["--ignored", SERIAL],
        }],
        beside: false,
        limit_s: 600,
    },
    Level {
        name: "bed",
        about: "the test bed itself: namespaces, XDP on veth, Chromium, Kamailio and a registered phone",
        needs: CALL,
        runs: &[Run {
            cargo: &["--workspace", "--test=bed"],
            tests: &["--ignored", SERIAL],
        }],
        beside: true,
        limit_s: 300,
    },
    Level {
        name: "bad-input",
        about: "malformed HTTP, JSON, SDP and SIP, wrong fingerprint, ports used up: the answers of the real daemon",
        needs: &[],
        runs: &[Run {
            cargo: &["--workspace", "--test=bad_input"],
            tests: &["--ignored", SERIAL],
        }],
        beside: false,
        limit_s: 300,
    },
    Level {
        name: "demo",
        about: "`cargo xtask demo` without root: headless Chromium calls echo and hears itself, Ctrl-C leaves nothing",
        needs: &[Need::Tool("chromium")],
        runs: &[Run {
            cargo: &["--workspace", "--test=demo"],
            tests: &["--ignored", SERIAL],
        }],
        beside: false,
        limit_s: 300,
    },
    Level {
        name: "types",
        about: "causeway.js and its TypeScript declarations by the compiler",
        needs: &[Need::Clients],
        runs: &[Run {
            cargo: &["--workspace", "--test=types"],
            tests: &["--ignored"],
        }],
        beside: false,
        limit_s: 120,
    },
    Level {
        name: "browser-xdp",
        about: "browser | gateway | SIP namespaces, native XDP: Chromium calls SIPp, baresip, rtpengine and a user of Kamailio",
        needs: CALL_XDP,
        runs: &[Run {
            cargo: &["--workspace", "--test=call"],
            tests: &["--ignored", SERIAL, "xdp_native::"],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "browser-generic",
        about: "calls with generic XDP: to SIPp, with SRTP on both sides, with video",
        needs: CALL_XDP,
        runs: &[Run {
            cargo: &["--workspace", "--test=call"],
            tests: &["--ignored", SERIAL, "xdp_generic::"],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "browser-userspace",
        about: "calls with the userspace datapath: to SIPp and a PBX, with SRTP on both sides, with video, with digits",
        needs: CALL,
        runs: &[Run {
            cargo: &["--workspace", "--test=call"],
            tests: &["--ignored", SERIAL, "userspace::"],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "servers",
        about: "two Kamailios behind one name (NAPTR, SRV) over TLS: certificates, failover; SIPp redirects, transfers, picks up, forgets",
        needs: &[
            Need::Root,
            Need::Tool("ip"),
            Need::Tool("kamailio"),
            Need::Tool(packages::KAMAILIO_TLS),
            Need::Tool("dnsmasq"),
            Need::Tool("baresip"),
            Need::Tool("sipp"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=servers"],
            tests: &["--ignored", SIDE_BY_SIDE],
        }],
        beside: true,
        limit_s: 300,
    },
    Level {
        name: "sip-pages",
        about: "pages with libraries of others, unchanged: JsSIP and SIP.js register at Kamailio and call (SIP over WebSocket), a WHIP client calls",
        needs: &[
            Need::Root,
            Need::Object,
            Need::Clients,
            Need::Tool("ip"),
            Need::Tool("chromium"),
            Need::Tool("kamailio"),
            Need::Tool("baresip"),
            Need::Tool("sipp"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=sip_pages"],
            tests: &["--ignored", SERIAL],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "roap",
        about: "pages of the Genesys library's protocol in Chromium: calls to SIPp and through Kamailio, another connection in a call",
        needs: CALL,
        runs: &[Run {
            cargo: &["--workspace", "--test=roap"],
            tests: &["--ignored", SERIAL],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "networks",
        about: "IPv6, 1:1 NAT, TURN over TCP alone, a network or a WebSocket that is lost, in native XDP; two gateways behind HAProxy",
        needs: &[
            Need::Root,
            Need::Object,
            Need::Tool("ip"),
            Need::Tool("iptables"),
            Need::Tool("chromium"),
            Need::Tool("sipp"),
            Need::Tool("turnserver"),
            Need::Tool("haproxy"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=networks"],
            tests: &["--ignored", SERIAL, "--skip=firefox::", "--skip=aiortc::"],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "aiortc",
        about: "aiortc, a WebRTC stack in Python, in native XDP: calls a telephone by WHIP, is a SIP phone with ICE and DTLS for Chromium",
        needs: &[
            Need::Root,
            Need::Object,
            Need::Aiortc,
            Need::Tool("ip"),
            Need::Tool("chromium"),
            Need::Tool("sipp"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=networks"],
            tests: &["--ignored", SERIAL, "aiortc::"],
        }],
        beside: true,
        limit_s: 300,
    },
    Level {
        name: "firefox",
        about: "Firefox ESR calls a telephone, in native XDP",
        needs: &[
            Need::Root,
            Need::Object,
            Need::Tool("ip"),
            Need::Tool("firefox-esr"),
            Need::Tool("sipp"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=networks"],
            tests: &["--ignored", SERIAL, "firefox::"],
        }],
        beside: true,
        limit_s: 300,
    },
    Level {
        name: "two-pages",
        about: "two Chromium pages call each other through Kamailio, on each datapath; the agent desk by keyboard",
        needs: CALL_XDP,
        runs: &[Run {
            cargo: &["--workspace", "--test=two_pages"],
            tests: &["--ignored", SERIAL, "--skip=eleven_minutes"],
        }],
        beside: true,
        limit_s: 600,
    },
    Level {
        name: "hold",
        about: "two pages hear each other again after a hold of eleven minutes by each of them: 23 minutes, only when named",
        needs: &[
            Need::Patience,
            Need::Root,
            Need::Object,
            Need::Tool("ip"),
            Need::Tool("chromium"),
            Need::Tool("kamailio"),
        ],
        runs: &[Run {
            cargo: &["--workspace", "--test=two_pages"],
            tests: &["--ignored", SERIAL, "eleven_minutes"],
        }],
        beside: false,
        limit_s: 1800,
    },
];

/// The level of that name.
pub(crate) fn find(name: &str) -> Option<&'static Level> {
    LEVELS.iter().find(|level| level.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;
    use serde_json::Value;

    #[test]
    fn every_test_target_belongs_to_a_level() {
        let mut metadata = host::cargo();
        metadata.args(["metadata", "--no-deps", "--format-version=1"]);
        let metadata: Value = serde_json::from_str(&host::output(&mut metadata).unwrap()).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let targets = packages
            .iter()
            .flat_map(|package| package["targets"].as_array().unwrap());
        let tests: Vec<_> = targets
            .filter(|target| target["kind"] == serde_json::json!(["test"]))
            .map(|target| format!("--test={}", target["name"].as_str().unwrap()))
            .collect();
        assert!(!tests.is_empty());
        let named = |test: &&String| {
            let mut runs = LEVELS.iter().flat_map(|level| level.runs);
            runs.any(|run| run.cargo.contains(&test.as_str()))
        };
        let forgotten: Vec<_> = tests.iter().filter(|test| !named(test)).collect();
        assert!(forgotten.is_empty(), "in no level: {forgotten:?}");
    }
}
