//! A browser that loses its network in a call: its link is down, then no packet and no request gets
//! through for a while without a word, and the page comes back to the same call both times.

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
/// A cable that was pulled, a network that was changed.
const UNPLUGGED: Duration = Duration::from_secs(8);
/// Packets of 20 ms that are watched in each direction afterwards: two seconds.
const WATCHED: u64 = 100;
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
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    let id = page.tab().evaluate("window.causeway.call.id");
    for (network, away) in [
        (unplug as fn(&Line, bool), UNPLUGGED),
        (silence as fn(&Line, bool), AWAY),
    ] {
        network(&line, true);
        sleep(away);
        network(&line, false);
        comes_back(&page);
        assert_eq!(page.tab().evaluate("window.causeway.call.id"), id);
        let before = Measured::now(&page, &daemon);
        let after = Measured::after(&before, WATCHED, &page, &daemon);
        let packets = after.packets.since(&before.packets);
        assert_eq!(packets.in_userspace(), 0, "{packets:?}");
    }
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    page.sign_out();
    daemon.stop();
}

/// The link goes down, of which the browser is told.
fn unplug(line: &Line, gone: bool) {
    let state = if gone { "down" } else { "up" };
    line.browser
        .run(&["ip", "link", "set", "dev", Line::BROWSER_DEVICE, state]);
}

/// Nothing gets through, and nothing says so: harder.
fn silence(line: &Line, gone: bool) {
    let change = if gone { "-A" } else { "-D" };
    for [chain, side] in [["OUTPUT", "-o"], ["INPUT", "-i"]] {
        let device = Line::BROWSER_DEVICE;
        line.browser
            .run(&["iptables", change, chain, side, device, "-j", "DROP"]);
    }
}

fn comes_back(page: &DemoPage<'_>) {
    let received = page.statistics().received;
    wait::until("media is back", BACK, || {
        (page.statistics().received >= received + 10).then_some(())
    });
    wait::until("the page hears of the gateway again", BACK, || {
        let view = "window.causeway.call.view().then(({ state }) => state, () => null)";
        (page.tab().evaluate(view) == "connected").then_some(())
    });
}
