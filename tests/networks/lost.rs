//! A browser that loses its network in a call: no packet and no request gets through for a while, and the page comes back to the same call.

use super::WATCHED;
use std::thread::sleep;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

/// Longer than Chromium takes to give a connection up.
const AWAY: Duration = Duration::from_secs(20);
/// How long after the network is back media and requests have to be.
const BACK: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_that_lost_its_network_comes_back_to_the_same_call() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        loopback: false,
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    let id = page.tab().evaluate("window.causeway.call.id");
    // Nothing gets through, and nothing says so: harder than a link that is down, of which the browser is told.
    let silence = |change| {
        for direction in [["OUTPUT", "-o"], ["INPUT", "-i"]] {
            let [chain, side] = direction;
            line.browser.run(&[
                "iptables",
                change,
                chain,
                side,
                Line::BROWSER_DEVICE,
                "-j",
                "DROP",
            ]);
        }
    };
    silence("-A");
    sleep(AWAY);
    silence("-D");
    let received = page.statistics().received;
    wait::until("media is back", BACK, || {
        (page.statistics().received >= received + 10).then_some(())
    });
    wait::until("the page hears of the gateway again", BACK, || {
        let view = "window.causeway.call.view().then(({ state }) => state, () => null)";
        (page.tab().evaluate(view) == "connected").then_some(())
    });
    assert_eq!(page.tab().evaluate("window.causeway.call.id"), id);
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    let packets = after.packets.since(&before.packets);
    assert_eq!(packets.in_userspace(), 0, "{packets:?}");
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    page.sign_out();
    daemon.stop();
}
