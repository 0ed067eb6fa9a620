//! A browser whose network lets no UDP through and that has no TURN server: it reaches the gateway by TCP (RFC 6544), and by UDP as soon
//! as it can.

use super::{WATCHED, candidates};
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::netns::{Line, Namespace};
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

/// Chromium takes 443 of public addresses only.
const PORT: u16 = 4443;
const NO_UDP: [&str; 5] = ["OUTPUT", "-p", "udp", "-j", "DROP"];

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_without_udp_calls_by_tcp_and_goes_over_to_udp_when_it_can() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 1);
    let web = "[web]\n";
    let config = datapath.config(&line, None);
    assert!(config.contains(web));
    let config = config.replace(
        web,
        &format!("{web}listen_tcp = [\"{}:{PORT}\"]\n", Line::GATEWAY_WEB),
    );
    firewall(&line.browser, "-A");
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    assert_eq!(candidates(&page)[1]["protocol"], "tcp");
    for (path, reason) in page.paths() {
        assert_eq!(
            (&*path, &*reason),
            ("userspace", "the browser comes by TCP")
        );
    }
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    let packets = after.packets.since(&before.packets);
    assert_eq!(packets.forwarded_in_xdp(), 0, "{packets:?}");
    assert!(packets.in_userspace() + 10 >= 2 * WATCHED, "{packets:?}");
    assert_eq!(packets.limited(), 0, "{packets:?}");
    let energy = after.page.audio_energy - before.page.audio_energy;
    assert!(energy > 1e-4, "the page heard next to nothing: {energy}");

    firewall(&line.browser, "-D");
    page.tab()
        .evaluate("window.restarted = false; window.causeway.call.restart().then(() => { window.restarted = true; })");
    page.tab()
        .wait_for("window.restarted", Duration::from_secs(10));
    wait::until("both flows are in XDP", Duration::from_secs(20), || {
        let paths = page.paths();
        let moved = paths.iter().all(|(path, _)| path == datapath.name());
        moved.then_some(())
    });
    wait::until("the browser goes by UDP", Duration::from_secs(5), || {
        (candidates(&page)[1]["protocol"] == "udp").then_some(())
    });
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    let packets = after.packets.since(&before.packets);
    assert_eq!(packets.in_userspace(), 0, "{packets:?}");
    page.hang_up();
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
}

/// Takes the rule in, or out.
fn firewall(namespace: &Namespace, how: &str) {
    let mut rule = vec!["iptables", how];
    rule.extend(NO_UDP);
    namespace.run(&rule);
}
