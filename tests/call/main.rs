//! A browser calls SIP phones through the gateway, on each datapath: Chromium | gateway | SIPp, baresip, Kamailio.
//!
//! Per call: both directions take the wanted path from the first packet on; Chromium names the suite, hears its own
//! tone back and loses nothing; the SIP side's capture is well-formed G.711 in which the tone is found; the daemon's
//! counters, the kernel's count of datagrams to sockets and Chromium's own counts agree; nothing is left behind.

mod digits;
mod library;
mod offerless;
mod srtp;
mod video;

use digits::keys_pressed_beside_opus_at_a_telephone_with_events_at_8_khz;
use library::{a_page_does_over_one_websocket_what_it_may, a_page_does_with_a_call_what_it_may};
use offerless::{
    chromium_calls_a_telephone_that_makes_the_offer,
    chromium_calls_a_telephone_that_makes_the_offer_early,
};
use srtp::{
    chromium_calls_a_phone_with_srtp_of_every_suite_that_it_has,
    chromium_calls_an_ice_lite_server_with_dtls, chromium_calls_rtpengine_with_srtp_of_256_bits,
};
use std::thread::sleep;
use std::time::Duration;
use testbed::baresip::Baresip;
use testbed::browser::{Browser, Options};
use testbed::capture::{self, Capture, Rtp};
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::{tone, wait};
use video::{
    a_telephone_adds_video_and_chromium_shows_its_camera,
    chromium_shows_its_camera_to_sipp_over_opus,
};

/// Packets of 20 ms that are watched in each direction: four seconds.
const WATCHED: u64 = 200;

/// Tests on one datapath.
macro_rules! on {
    ($module:ident, $datapath:expr, [$($name:ident),* $(,)?]) => {
        mod $module {
            use super::*;

            $(
                #[test]
                #[ignore = "needs root: cargo xtask test"]
                fn $name() {
                    super::$name($datapath);
                }
            )*
        }
    };
}

on!(
    xdp_native,
    Datapath::XdpNative,
    [
        chromium_calls_sipp,
        chromium_calls_a_pbx_that_does_what_pbxs_do,
        chromium_calls_a_telephone_that_makes_the_offer,
        chromium_calls_a_telephone_that_makes_the_offer_early,
        chromium_calls_baresip,
        chromium_calls_a_phone_with_srtp_of_every_suite_that_it_has,
        chromium_calls_an_ice_lite_server_with_dtls,
        chromium_calls_rtpengine_with_srtp_of_256_bits,
        chromium_shows_its_camera_to_sipp_over_opus,
        a_telephone_adds_video_and_chromium_shows_its_camera,
        keys_pressed_beside_opus_at_a_telephone_with_events_at_8_khz,
        a_page_does_with_a_call_what_it_may,
        a_page_does_over_one_websocket_what_it_may,
        chromium_signs_in_at_kamailio_and_calls_its_user,
    ]
);
// The same program on socket buffers: what a call can meet is shown above, and packet by packet in level kernel.
on!(
    xdp_generic,
    Datapath::XdpGeneric,
    [
        chromium_calls_sipp,
        chromium_calls_a_phone_with_srtp_of_every_suite_that_it_has,
        chromium_shows_its_camera_to_sipp_over_opus,
    ]
);
on!(
    userspace,
    Datapath::Userspace,
    [
        chromium_calls_sipp,
        chromium_calls_a_pbx_that_does_what_pbxs_do,
        chromium_calls_a_telephone_that_makes_the_offer,
        chromium_calls_a_phone_with_srtp_of_every_suite_that_it_has,
        chromium_shows_its_camera_to_sipp_over_opus,
        keys_pressed_beside_opus_at_a_telephone_with_events_at_8_khz,
    ]
);

fn chromium_calls_sipp(datapath: Datapath) {
    let line = Line::new();
    let mut sipp = Sipp::answer(&line.sip, 1);
    let config = datapath.config(&line, None);
    call(datapath, &line, &config, ("guest", ""), sipp.address());
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
}

/// Reliable early media, UPDATE, a session timer, a re-INVITE without an offer and INFO: the media goes on as if nothing were.
fn chromium_calls_a_pbx_that_does_what_pbxs_do(datapath: Datapath) {
    let line = Line::new();
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/call/pbx.xml");
    let mut sipp = Sipp::play(&line.sip, scenario, 1);
    let config = datapath.config(&line, None);
    call(datapath, &line, &config, ("guest", ""), sipp.address());
    assert!(sipp.went_well(), "the PBX was not answered as it expects");
}

fn chromium_calls_baresip(datapath: Datapath) {
    let line = Line::new();
    let _phone = Baresip::alone(&line.sip);
    let config = datapath.config(&line, None);
    call(datapath, &line, &config, ("guest", ""), &Baresip::address());
}

fn chromium_signs_in_at_kamailio_and_calls_its_user(datapath: Datapath) {
    let line = Line::new();
    let _kamailio = Kamailio::start(&line.sip);
    let _phone = Baresip::registered(
        &line.sip,
        "bob",
        Kamailio::DOMAIN,
        &Kamailio::password("bob"),
    );
    let proxy = format!("{}:5060", Line::SIP);
    let config = datapath.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    call(
        datapath,
        &line,
        &config,
        ("alice", &Kamailio::password("alice")),
        "bob",
    );
}

/// One call from the sign-in to the hang-up, with everything that is to be true of it.
fn call(datapath: Datapath, line: &Line, config: &str, user: (&str, &str), to: &str) {
    let (packets, after) = whole_call(datapath, line, config, user, to, |_| ());
    check_capture(&packets, &after);
}

/// The same but for what is on the wire, which is answered; `connected` is called before the hang-up.
fn whole_call(
    datapath: Datapath,
    line: &Line,
    config: &str,
    (user, password): (&str, &str),
    to: &str,
    connected: impl FnOnce(&Daemon<'_>),
) -> (Vec<Rtp>, Measured) {
    let _far_ends = datapath.far_ends(line);
    let mut daemon = Daemon::start(Some(&line.gateway), config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in(user, password);
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    page.dial(to);
    page.wait_connected();
    for (path, reason) in page.paths() {
        assert_eq!(path, datapath.name(), "{reason}");
        assert!(!reason.is_empty());
    }
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    check_browser(&before, &after);
    check_path(datapath, &before, &after);
    check_flows(datapath, &page, &daemon);
    connected(&daemon);
    page.hang_up();
    let packets = capture.finish();
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
    assert_eq!(
        line.bpffs.pins(),
        Vec::<std::path::PathBuf>::new(),
        "pins outlived the daemon"
    );
    (packets, after)
}

/// Chromium's word: suite, DTLS, codec, and packets and sound both ways.
fn check_browser(before: &Measured, after: &Measured) {
    let page = &after.page;
    assert_eq!(page.connection, "connected");
    assert_eq!(page.suite, "SRTP_AES128_CM_HMAC_SHA1_80");
    assert_eq!(page.dtls, "1.3");
    assert_eq!(page.codec, "audio/PCMU");
    let lost = u64::try_from(page.lost).unwrap_or(0);
    // Two packets of a short call are more than 0.1 %: a stolen slice of a busy machine may cost them, the gateway's own counts may not.
    assert!(
        lost <= 2 || lost * 1000 <= page.received,
        "Chromium lost {lost} of {} packets",
        page.received
    );
    let energy = page.audio_energy - before.page.audio_energy;
    assert!(
        energy > 1e-4,
        "Chromium heard next to nothing: energy {energy}"
    );
}

/// The daemon's and the kernel's word: which way the RTP between the two moments went.
fn check_path(datapath: Datapath, before: &Measured, after: &Measured) {
    assert_eq!(after.packets.limited(), 0, "{:?}", after.packets);
    let packets = after.packets.since(&before.packets);
    let datagrams = after.datagrams - before.datagrams;
    if datapath == Datapath::Userspace {
        assert!(packets.in_userspace() + 10 >= 2 * WATCHED, "{packets:?}");
        assert_eq!(packets.forwarded_in_xdp(), 0, "{packets:?}");
        return;
    }
    let forwarded = packets.forwarded_in_xdp();
    // Chromium's counts and ours are not read at the same instant; `check_flows` compares them as shares.
    assert!(forwarded + 10 >= 2 * WATCHED, "{packets:?}");
    assert_eq!(
        packets.in_userspace(),
        0,
        "RTP reached a socket: {packets:?}"
    );
    let dropped: u64 = [
        "bad_rtp",
        "payload_type",
        "auth_failed",
        "replayed",
        "too_old",
        "index_reused",
        "resize",
    ]
    .iter()
    .filter_map(|why| packets.xdp.get(*why))
    .sum();
    assert!(
        forwarded * 1000 >= (forwarded + dropped) * 999,
        "{packets:?}"
    );
    // STUN, RTCP and SIP come up, a few a second.
    assert!(
        datagrams * 20 < forwarded,
        "{datagrams} datagrams reached sockets: {packets:?}"
    );
}

/// The admin view: per direction at least 99.9 % of what Chromium counts, on the wanted path.
fn check_flows(datapath: Datapath, page: &DemoPage<'_>, daemon: &Daemon<'_>) {
    let counted = page.statistics();
    // The daemon reads the flows' counters about once a second.
    sleep(Duration::from_millis(2500));
    let flows = daemon.flows();
    for (direction, least) in [("to_sip", counted.sent), ("to_browser", counted.received)] {
        let flow = flows.iter().find(|flow| flow["direction"] == direction);
        let flow = flow.unwrap_or_else(|| panic!("no flow {direction}: {flows:?}"));
        assert_eq!(flow["path"], datapath.name(), "{flow}");
        let packets = flow["statistics"]["packets"].as_u64().unwrap_or_default();
        assert!(
            packets * 1000 >= least * 999,
            "{direction}: {packets} of {least} packets"
        );
    }
}

/// The wire's word: one well-formed G.711 stream each way, the tone of the fake microphone in both.
fn check_capture(packets: &[Rtp], after: &Measured) {
    let streams = capture::by_sender(packets);
    let gateway = format!("{}:", Line::GATEWAY_SIP);
    assert_eq!(streams.len(), 2, "senders of RTP: {:?}", streams.keys());
    for (sender, stream) in &streams {
        let samples = capture::g711(stream);
        let share = tone::share(&samples, tone::MICROPHONE_HZ);
        assert!(share > 0.5, "the tone is {share:.2} of what {sender} sends");
        if sender.starts_with(&gateway) {
            let (seen, sent) = (stream.len() as u64, after.page.sent);
            assert!(
                seen * 1000 >= sent * 999,
                "the wire has {seen} of {sent} packets"
            );
        }
    }
}
