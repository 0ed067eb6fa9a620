//! A WHIP client that nobody here wrote (`@eyevinn/whip-web-client`, as it is published) places calls: with trickle and without.

use super::{SOON, WATCHED, text_of};
use std::time::Duration;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::sipp::Sipp;
use testbed::wait;

/// Starts the client with the microphone; `noTrickle` has it gather its candidates before it offers.
const PAGE: &str = "window.publish = async (endpoint, noTrickle) => {
    window.failed = null;
    window.patched = [];
    window.client = new WHIPClient({ endpoint, opts: { iceServers: [], noTrickleIce: noTrickle } });
    const protocol = window.client.whipProtocol;
    const updateIce = protocol.updateIce.bind(protocol);
    protocol.updateIce = async (...words) => {
        const response = await updateIce(...words);
        window.patched.push(response.status);
        return response;
    };
    try {
        await window.client.ingest(await navigator.mediaDevices.getUserMedia({ audio: true }));
    } catch (error) {
        window.failed = String(error);
    }
}; true";

const SENT: &str = "(async () => {
    const report = [...(await window.client.peer.getStats()).values()];
    return report.find(({ type }) => type === 'outbound-rtp')?.packetsSent ?? 0;
})()";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_whip_client_of_others_calls_with_trickle_and_without() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 2);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let tab = browser.open(daemon.url());
    tab.evaluate(&format!("{}; {PAGE}", text_of("whip.js")));
    let address = sipp.address().replace(':', "%3A");
    let endpoint = format!("{}/whip/{address}", daemon.url());
    for no_trickle in [false, true] {
        tab.evaluate(&format!("void window.publish('{endpoint}', {no_trickle})"));
        publishes(&tab, &daemon);
        let patched = tab.evaluate("window.patched.length > 0");
        assert_eq!(patched, !no_trickle, "whether candidates came one by one");
        tab.evaluate("void window.client.destroy()");
        wait::until("no flow is left", SOON, || {
            daemon.flows().is_empty().then_some(())
        });
    }
    assert!(sipp.went_well(), "both calls were hung up by the client");
    daemon.stop();
}

/// The client is connected, and what it sends goes to the SIP side in XDP.
fn publishes(tab: &Tab<'_>, daemon: &Daemon<'_>) {
    wait::until("the client is connected", SOON, || {
        let failed = tab.evaluate("window.failed");
        assert!(failed.is_null(), "{failed}");
        let connected = tab.evaluate("window.client.peer?.connectionState === 'connected'");
        (connected == true).then_some(())
    });
    let sent = || tab.evaluate(SENT).as_u64().unwrap_or_default();
    let before = (sent(), daemon.packets());
    wait::until("the client sends", SOON, || {
        (sent() >= before.0 + WATCHED).then_some(())
    });
    let packets = daemon.packets().since(&before.1);
    assert_eq!(packets.in_userspace(), 0, "{packets:?}");
    assert!(packets.forwarded_in_xdp() + 10 >= WATCHED, "{packets:?}");
    wait::until("the flow has counted it", Duration::from_secs(5), || {
        let flows = daemon.flows();
        let to_sip = flows.iter().find(|flow| flow["direction"] == "to_sip")?;
        let counted = to_sip["statistics"]["packets"].as_u64()?;
        (to_sip["path"] == "xdp-native" && counted >= WATCHED).then_some(())
    });
}
