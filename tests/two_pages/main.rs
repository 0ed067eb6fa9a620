//! Two Chromium pages call each other: two registrations and two SIP dialogs at Kamailio, on each datapath.

use std::thread::sleep;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::capture::Capture;
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::wait;

const WATCHED: Duration = Duration::from_secs(6);
const EXPECTED: u64 = 270;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_pages_talk_through_native_xdp() {
    two_pages(Datapath::XdpNative);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_pages_talk_through_generic_xdp() {
    two_pages(Datapath::XdpGeneric);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_pages_talk_through_userspace() {
    two_pages(Datapath::Userspace);
}

fn two_pages(datapath: Datapath) {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let _kamailio = Kamailio::start(&line.sip);
    let proxy = format!("{}:5060", Line::SIP);
    let config = datapath.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        loopback: false,
    });
    let alice = DemoPage::open(&browser, daemon.url());
    let bob = DemoPage::open(&browser, daemon.url());
    alice.sign_in("alice", &Kamailio::password("alice"));
    bob.sign_in("bob", &Kamailio::password("bob"));
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    alice.dial("bob");
    bob.answer();
    alice.wait_connected();
    bob.wait_connected();
    let pages = [&alice, &bob];
    for (path, reason) in pages.iter().flat_map(|page| page.paths()) {
        assert_eq!(path, datapath.name(), "{reason}");
    }
    let before = pages.map(|page| Measured::now(page, &daemon));
    sleep(WATCHED);
    let after = pages.map(|page| Measured::now(page, &daemon));
    for (before, after) in before.iter().zip(&after) {
        let (sent, received) = (
            after.page.sent - before.page.sent,
            after.page.received - before.page.received,
        );
        assert!(
            sent >= EXPECTED && received >= EXPECTED,
            "{sent} sent, {received} received"
        );
        assert_eq!(after.page.suite, "SRTP_AES128_CM_HMAC_SHA1_80");
        assert!(
            after.page.audio_energy - before.page.audio_energy > 1e-4,
            "a page heard next to nothing"
        );
    }
    let packets = after[1].packets.since(&before[0].packets);
    if datapath == Datapath::Userspace {
        assert_eq!(packets.forwarded_in_xdp(), 0, "{packets:?}");
        assert!(packets.in_userspace() >= 2 * EXPECTED, "{packets:?}");
    } else {
        assert_eq!(
            packets.in_userspace(),
            0,
            "RTP reached a socket: {packets:?}"
        );
        assert!(packets.forwarded_in_xdp() >= 2 * EXPECTED, "{packets:?}");
    }
    // Two dialogs at Kamailio: the gateway is a caller there, and a callee.
    let gateway = Line::GATEWAY_SIP.to_string();
    let invites = capture.finish_signalling();
    let invites: Vec<_> = invites
        .iter()
        .filter(|message| message.method == "INVITE")
        .collect();
    assert!(
        invites.iter().any(|invite| invite.from == gateway),
        "{invites:?}"
    );
    assert!(
        invites.iter().any(|invite| invite.to == gateway),
        "{invites:?}"
    );
    alice.hang_up();
    bob.wait_ended();
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    daemon.stop();
    assert!(
        line.bpffs.pins().is_empty(),
        "pins outlived the daemon: {:?}",
        line.bpffs.pins()
    );
}
