//! The three datapaths as the call tests run them, and what is measured of a call on each.

use crate::daemon::Daemon;
use crate::netns::Line;
use crate::page::{DemoPage, Statistics};
use crate::wait;
use crate::xdp_pass::XdpPass;
use std::collections::BTreeMap;
use std::time::Duration;

/// A call that has not carried enough by then never will.
const ENOUGH_LIMIT: Duration = Duration::from_secs(40);

/// Which datapath a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datapath {
    /// XDP in the driver.
    XdpNative,
    /// XDP on socket buffers.
    XdpGeneric,
    /// Sockets of the daemon.
    Userspace,
}

impl Datapath {
    /// As it stands in the configuration and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Userspace => "userspace",
        }
    }

    /// What the far ends of the line need for it.
    pub fn far_ends(self, line: &Line) -> Vec<XdpPass> {
        if self != Self::XdpNative {
            return Vec::new();
        }
        vec![
            XdpPass::attach(&line.browser, Line::BROWSER_DEVICE),
            XdpPass::attach(&line.sip, Line::SIP_DEVICE),
        ]
    }

    /// Configuration of a daemon on the line. `proxy` is its outbound proxy and `domain` its domain, if it has any.
    pub fn config(self, line: &Line, proxy: Option<(&str, &str)>) -> String {
        let (proxy, domain) = proxy.unwrap_or(("", "localhost"));
        format!(
            r#"[http]
listen = "{web}:8080"
admin_listen = "127.0.0.1:9090"

[web]
listen = ["{web}:40000"]

[sip]
listen_udp = "{sip}:5062"
listen_tcp = "{sip}:5062"
domain = "{domain}"
outbound_proxy = "{proxy}"

[rtp]
address = "{sip}"

[media]
codecs = ["PCMU", "PCMA"]

[datapath]
mode = "{mode}"
pin_dir = "{pins}/causeway"
"#,
            web = Line::GATEWAY_WEB,
            sip = Line::GATEWAY_SIP,
            mode = self.name(),
            pins = line.bpffs.path().display(),
        )
    }
}

/// Packets by the reason of their exit, since the daemon started.
#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// In the XDP program.
    pub xdp: BTreeMap<String, u64>,
    /// At the sockets of the userspace datapath.
    pub userspace: BTreeMap<String, u64>,
}

impl Packets {
    /// What was forwarded in XDP.
    pub fn forwarded_in_xdp(&self) -> u64 {
        ["forwarded", "redirected"]
            .iter()
            .filter_map(|why| self.xdp.get(*why))
            .sum()
    }

    /// All RTP that reached a socket.
    pub fn in_userspace(&self) -> u64 {
        const NO_RTP: [&str; 4] = ["stun", "dtls", "rtcp", "unknown_protocol"];
        let rtp = self
            .userspace
            .iter()
            .filter(|(why, _)| !NO_RTP.contains(&why.as_str()));
        rtp.map(|(_, count)| count).sum()
    }

    /// What the limits for floods refused, of which a browser and its calls are never to meet one.
    pub fn limited(&self) -> u64 {
        const LIMITS: [&str; 4] = [
            "stun_over_budget",
            "hello_over_budget",
            "other_over_budget",
            "over_rate",
        ];
        let all = [&self.xdp, &self.userspace];
        let counts = LIMITS
            .iter()
            .flat_map(|why| all.map(|counts| counts.get(*why)));
        counts.flatten().sum()
    }

    /// What came to pass since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let subtract = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let difference = |(why, count): (&String, &u64)| {
                (why.clone(), count - before.get(why).unwrap_or(&0))
            };
            now.iter()
                .map(difference)
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        Self {
            xdp: subtract(&self.xdp, &before.xdp),
            userspace: subtract(&self.userspace, &before.userspace),
        }
    }
}

/// Everything that counts packets, read at one moment.
pub struct Measured {
    /// Chromium's word.
    pub page: Statistics,
    /// The daemon's word, over all calls.
    pub packets: Packets,
    /// The kernel's word: datagrams that reached sockets in the daemon's namespace.
    pub datagrams: u64,
}

impl Measured {
    /// Waits until the page has sent and received that many more packets, which on a busy machine takes phones longer than it
    /// should, and reads all three.
    pub fn after(before: &Self, packets: u64, page: &DemoPage<'_>, daemon: &Daemon<'_>) -> Self {
        let what = format!("{packets} packets each way");
        wait::until(&what, ENOUGH_LIMIT, || {
            let now = page.statistics();
            let enough = |now: u64, before: u64| now - before >= packets;
            let both =
                enough(now.sent, before.page.sent) && enough(now.received, before.page.received);
            both.then_some(())
        });
        Self::now(page, daemon)
    }

    /// Reads all three.
    pub fn now(page: &DemoPage<'_>, daemon: &Daemon<'_>) -> Self {
        Self {
            page: page.statistics(),
            packets: daemon.packets(),
            datagrams: daemon.datagrams_received(),
        }
    }
}
