//! Two Chromium pages call each other: two registrations and two SIP dialogs at Kamailio, on each datapath.

mod desk;

use serde_json::json;
use std::thread::sleep;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::capture::Capture;
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::page::{API_REQUESTS, DemoPage};
use testbed::wait;

/// Packets of 20 ms that are watched in each direction: four seconds.
const WATCHED: u64 = 200;
/// By each side.
const HOLD: Duration = Duration::from_secs(11 * 60 + 5);

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

/// Acceptance row S-14: one side holds, the other is held, for longer than a NAT or a rollover counter forgives by itself.
#[test]
#[ignore = "takes 23 minutes: cargo xtask test hold"]
fn held_for_eleven_minutes_by_either_side_two_pages_hear_each_other_again() {
    call(Datapath::XdpNative, |pages, daemon| {
        talk(Datapath::XdpNative, pages, daemon);
        let [alice, bob] = pages;
        for holds in [alice, bob] {
            turn(holds, "inactive");
            // What is on its way yet.
            sleep(Duration::from_secs(2));
            let before = holds.statistics().sent;
            sleep(HOLD);
            assert_eq!(holds.statistics().sent, before, "who holds is silent");
            turn(holds, "sendrecv");
            talk(Datapath::XdpNative, pages, daemon);
        }
    });
}

/// A re-offer of the page with this direction, to its end.
fn turn(page: &DemoPage<'_>, direction: &str) {
    let done = page.tab().evaluate(&format!(
        "(async () => {{
            const {{ call }} = window.causeway;
            for (const transceiver of call.peer.getTransceivers()) transceiver.direction = '{direction}';
            await call.renegotiate();
            return call.peer.signalingState;
        }})()"
    ));
    assert_eq!(done, "stable");
}

fn two_pages(datapath: Datapath) {
    call(datapath, |pages, daemon| talk(datapath, pages, daemon));
}

/// Alice calls Bob, both by Kamailio.
fn call(datapath: Datapath, talk: impl FnOnce(&[DemoPage<'_>; 2], &Daemon<'_>)) {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let _kamailio = Kamailio::start(&line.sip);
    let proxy = format!("{}:5060", Line::SIP);
    let config = datapath.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    // Who is called has everything over one WebSocket, who calls has requests and an event stream.
    let pages = [("alice", "/"), ("bob", "/?transport=websocket")].map(|(user, path)| {
        let page = DemoPage::open(&browser, &format!("{}{path}", daemon.url()));
        page.sign_in(user, &Kamailio::password(user));
        page
    });
    let [alice, bob] = &pages;
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    alice.dial("bob");
    bob.answer();
    for page in &pages {
        page.wait_connected();
    }
    for (path, reason) in pages.iter().flat_map(DemoPage::paths) {
        assert_eq!(path, datapath.name(), "{reason}");
    }
    talk(&pages, &daemon);
    two_dialogs(capture);
    alice.hang_up();
    bob.wait_ended();
    assert_eq!(bob.tab().evaluate(API_REQUESTS), json!([]));
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    daemon.stop();
    let pins = line.bpffs.pins();
    assert!(pins.is_empty(), "pins outlived the daemon: {pins:?}");
}

/// Both pages send and hear, and the RTP goes the wanted way.
fn talk(datapath: Datapath, pages: &[DemoPage<'_>; 2], daemon: &Daemon<'_>) {
    let before = pages.each_ref().map(|page| Measured::now(page, daemon));
    let after = [0, 1].map(|page| Measured::after(&before[page], WATCHED, &pages[page], daemon));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.page.suite, "SRTP_AES128_CM_HMAC_SHA1_80");
        let energy = after.page.audio_energy - before.page.audio_energy;
        assert!(
            energy > 1e-4,
            "a page heard next to nothing: energy {energy}"
        );
    }
    let packets = after[1].packets.since(&before[0].packets);
    if datapath == Datapath::Userspace {
        assert_eq!(packets.forwarded_in_xdp(), 0, "{packets:?}");
        assert!(packets.in_userspace() + 10 >= 2 * WATCHED, "{packets:?}");
    } else {
        assert_eq!(
            packets.in_userspace(),
            0,
            "RTP reached a socket: {packets:?}"
        );
        assert!(
            packets.forwarded_in_xdp() + 10 >= 2 * WATCHED,
            "{packets:?}"
        );
        let datagrams = after[1].datagrams - before[0].datagrams;
        assert!(
            datagrams * 10 < packets.forwarded_in_xdp(),
            "{datagrams} datagrams reached sockets: {packets:?}"
        );
    }
}

/// Two dialogs at Kamailio: the gateway is a caller there, and a callee.
fn two_dialogs(capture: Capture) {
    let gateway = Line::GATEWAY_SIP.to_string();
    let requests = capture.finish_signalling();
    let invites: Vec<_> = requests
        .iter()
        .filter(|request| request.method == "INVITE")
        .collect();
    assert!(
        invites.iter().any(|invite| invite.from == gateway),
        "{invites:?}"
    );
    assert!(
        invites.iter().any(|invite| invite.to == gateway),
        "{invites:?}"
    );
}
