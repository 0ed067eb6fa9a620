//! Firefox ESR calls a telephone: another ICE agent, another DTLS, another SDP than Chromium's.

use super::WATCHED;
use std::time::Duration;
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::firefox::Firefox;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn firefox_calls_a_phone() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let firefox = Firefox::start(&line.browser);
    let page = DemoPage::within(firefox.open(daemon.url()));
    page.sign_in("guest", "");
    page.dial(sipp.address());
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
    assert_eq!(after.page.codec, "audio/PCMU");
    let energy = after.page.audio_energy - before.page.audio_energy;
    assert!(energy > 1e-4, "Firefox hears its own tone: {energy}");
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
}
