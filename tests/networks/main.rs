//! A browser calls a SIP phone over networks that are not the usual one: IPv6, a gateway behind 1:1 NAT, a firewall that lets no UDP
//! through (TURN, ICE over TCP), a network that is lost, a WebSocket that is cut, in native XDP; a balancer before two gateways.

mod aiortc;
mod balanced;
mod firefox;
mod lost;
mod relay;
mod socket;
mod tcp;

use serde_json::Value;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::netns::{Line, Namespace};
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

/// Packets of 20 ms that are watched in each direction: two seconds.
const WATCHED: u64 = 100;
/// The gateway's public address, which none of its interfaces has.
const PUBLIC: &str = "203.0.113.5";

/// The pair of candidates that carries the call, as the browser's statistics have it; nothing while they have none.
const CANDIDATES: &str = "(async () => {
    const report = await window.causeway.call.peer.getStats();
    const transport = [...report.values()].find(({ type }) => type === 'transport');
    const pair = report.get(transport?.selectedCandidatePairId);
    return pair ? [report.get(pair.localCandidateId), report.get(pair.remoteCandidateId)] : null;
})()";

/// The browser's candidate and ours.
fn candidates(page: &DemoPage<'_>) -> [Value; 2] {
    wait::until("a pair of candidates", Duration::from_secs(5), || {
        serde_json::from_value(page.tab().evaluate(CANDIDATES)).ok()
    })
}

/// Calls SIPp in native XDP with this configuration from a browser in that namespace; `check` gets the candidates that carry the call: the
/// browser's and ours.
fn call(line: &Line, inside: &Namespace, config: &str, check: impl FnOnce(&Value, &Value)) {
    let mut sipp = Sipp::answer(&line.sip, 1);
    let to = sipp.address().to_owned();
    call_to(line, inside, config, &to, |page, _| {
        let [theirs, ours] = candidates(page);
        check(&theirs, &ours);
    });
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
}

/// Calls somebody, who sends back what he hears.
fn call_to(
    line: &Line,
    inside: &Namespace,
    config: &str,
    to: &str,
    check: impl FnOnce(&DemoPage<'_>, &Daemon<'_>),
) {
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(line);
    let mut daemon = Daemon::start(Some(&line.gateway), config);
    let browser = Browser::start(&Options {
        namespace: Some(inside),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.dial(to);
    page.wait_connected();
    for (path, reason) in page.paths() {
        assert_eq!(path, datapath.name(), "{reason}");
    }
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    let packets = after.packets.since(&before.packets);
    assert_eq!(packets.in_userspace(), 0, "{packets:?}");
    assert!(
        packets.forwarded_in_xdp() + 10 >= 2 * WATCHED,
        "{packets:?}"
    );
    let energy = after.page.audio_energy - before.page.audio_energy;
    assert!(energy > 1e-4, "the page heard next to nothing: {energy}");
    check(&page, &daemon);
    page.hang_up();
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_on_ipv6_calls_a_phone_on_ipv4() {
    let line = Line::new();
    ipv6(&line.browser, Line::BROWSER_DEVICE, "fd77:1::1/64");
    ipv6(&line.gateway, Line::WEB_DEVICE, "fd77:1::2/64");
    let config = Datapath::XdpNative.config(&line, None);
    let both = format!("listen = [\"{}:40000\"]", Line::GATEWAY_WEB);
    assert!(config.contains(&both));
    let config = config.replace(&both, "listen = [\"[fd77:1::2]:40000\"]");
    call(&line, &line.browser, &config, |own, gateways| {
        // Empty or absent where Chromium hides it.
        let own = own["address"].as_str().unwrap_or_default();
        assert!(own.contains(':') || own.is_empty(), "{own}");
        assert_eq!(gateways["address"], "fd77:1::2");
    });
}

fn ipv6(namespace: &Namespace, device: &str, address: &str) {
    namespace.run(&[
        "sysctl",
        "-qw",
        &format!("net.ipv6.conf.{device}.disable_ipv6=0"),
    ]);
    namespace.run(&["ip", "addr", "add", address, "dev", device, "nodad"]);
}

/// The browser knows the public address alone; what it sends there arrives at the gateway's own, and the other way round.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_calls_a_gateway_behind_one_to_one_nat() {
    let line = Line::new();
    let own = Line::GATEWAY_WEB.to_string();
    let browser = &line.browser;
    browser.run(&["ip", "route", "add", PUBLIC, "via", &own]);
    browser.run(&[
        "iptables",
        "-t",
        "nat",
        "-A",
        "OUTPUT",
        "-d",
        PUBLIC,
        "-j",
        "DNAT",
        "--to-destination",
        &own,
    ]);
    let config = Datapath::XdpNative.config(&line, None);
    let listen = format!("listen = [\"{own}:40000\"]\n");
    assert!(config.contains(&listen));
    let config = config.replace(
        &listen,
        &format!("{listen}advertised = [\"{PUBLIC}:40000\"]\n"),
    );
    call(&line, &line.browser, &config, |_, gateways| {
        assert_eq!(gateways["address"], PUBLIC);
    });
}
