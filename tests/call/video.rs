//! A call with video: Opus and VP8 on Chromium's one 4-tuple, to two ports of SIPp, which sends both back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use testbed::browser::{Browser, Options};
use testbed::capture::Capture;
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Packets};
use testbed::netns::Line;
use testbed::page::{DemoPage, VideoStatistics};
use testbed::sipp::Sipp;
use testbed::wait;

/// Payload types of Chromium's own offer, which the gateway passes on.
const OPUS: (u8, &str) = (111, "opus/48000/2");
const VP8: u8 = 96;
/// Pictures that have to come back.
const PICTURES: u64 = 60;
/// A software encoder on a busy machine takes its time.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn chromium_shows_its_camera_to_sipp_over_opus(datapath: Datapath) {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer_video(&line.sip, OPUS, VP8);
    let config = datapath.config(&line, None);
    let config = config.replace(r#"codecs = ["PCMU", "PCMA"]"#, r#"codecs = ["opus"]"#);
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    page.want_video();
    page.dial(sipp.address());
    page.wait_connected();
    for (path, reason) in page.paths() {
        assert_eq!(path, datapath.name(), "{reason}");
    }
    let (before, seen) = (daemon.packets(), pictures(&page, &daemon, 1));
    let after = pictures(&page, &daemon, seen.frames_decoded + PICTURES);
    let all = daemon.packets();
    assert_eq!(all.limited(), 0, "{all:?}");
    let packets = all.since(&before);
    check_page(&page, &after);
    check_path(datapath, &packets, after.sent - seen.sent);
    check_flows(datapath, &daemon, &after);
    // No pictures for longer than Chromium waits, and then some that build on lost ones: it wants a new one, which SIPp cannot make.
    sipp.pause(Duration::from_secs(5));
    sleep(Duration::from_secs(1));
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    check_wire(capture, &after);
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
}

/// The telephone adds video to a voice call; the page takes it, shows its camera and sees it come back.
pub(super) fn a_telephone_adds_video_and_chromium_shows_its_camera(datapath: Datapath) {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/call/video_added.xml");
    let mut sipp = Sipp::play(&line.sip, scenario, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        loopback: false,
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    wait::until("the page has video", Duration::from_secs(10), || {
        let video = page.tab().evaluate("window.causeway.call.video");
        (video == "VP8/90000").then_some(())
    });
    let own = "window.causeway.call.stream.getVideoTracks().length";
    assert_eq!(
        page.tab().evaluate(own),
        0,
        "the camera is the page's to show"
    );
    page.tab().evaluate("window.causeway.call.showVideo(true)");
    let before = pictures(&page, &daemon, 1);
    pictures(&page, &daemon, before.frames_decoded + PICTURES);
    for flow in daemon.flows() {
        assert_eq!(flow["path"], datapath.name(), "{flow}");
    }
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
}

/// Waits until that many pictures came back.
fn pictures(page: &DemoPage<'_>, daemon: &Daemon<'_>, count: u64) -> VideoStatistics {
    let end = Instant::now() + LIMIT;
    loop {
        let video = page.statistics().video;
        match video {
            Some(video) if video.frames_decoded >= count => return video,
            video => assert!(
                Instant::now() < end,
                "{video:?} where {count} pictures were waited for; {:?}",
                daemon.packets()
            ),
        }
        sleep(Duration::from_millis(100));
    }
}

/// Chromium's word.
fn check_page(page: &DemoPage<'_>, video: &VideoStatistics) {
    let audio = page.statistics();
    assert_eq!(audio.codec, "audio/opus");
    assert_eq!(video.codec, "VP8/90000");
    assert!(audio.received > 100, "{} packets of audio", audio.received);
}

/// The daemon's and the kernel's word: both media went the wanted way, and no RTP the other.
fn check_path(datapath: Datapath, packets: &Packets, video_sent: u64) {
    if datapath == Datapath::Userspace {
        assert!(packets.in_userspace() > 2 * video_sent, "{packets:?}");
        return;
    }
    assert_eq!(
        packets.in_userspace(),
        0,
        "RTP reached a socket: {packets:?}"
    );
    // There and back, and the audio beside it.
    let forwarded = packets.forwarded_in_xdp();
    assert!(
        forwarded + 20 > 2 * video_sent,
        "{forwarded} of {video_sent} sent: {packets:?}"
    );
}

/// The admin view: one flow with both media from Chromium, one per medium back.
fn check_flows(datapath: Datapath, daemon: &Daemon<'_>, video: &VideoStatistics) {
    // The daemon reads the flows' counters about once a second.
    sleep(Duration::from_millis(2500));
    let flows = daemon.flows();
    let flow = |direction: &str, media: &str| {
        let found = flows
            .iter()
            .find(|flow| flow["direction"] == direction && flow["media"] == media);
        let found = found.unwrap_or_else(|| panic!("no flow {direction} of {media}: {flows:?}"));
        assert_eq!(found["path"], datapath.name(), "{found}");
        found["statistics"]["packets"].as_u64().unwrap_or_default()
    };
    assert_eq!(flows.len(), 3, "{flows:?}");
    assert!(flow("to_sip", "audio+video") > video.sent);
    assert!(flow("to_browser", "audio") > 100);
    assert!(flow("to_browser", "video") + 5 > video.received);
}

/// The wire's word: each medium between ports of its own, and the wish for a new picture where the SIP side takes RTCP.
fn check_wire(capture: Capture, video: &VideoStatistics) {
    let (streams, requests) = capture.finish_video();
    let sip = Line::SIP.to_string();
    for (port, least) in [(6000, 100), (6002, video.sent)] {
        let end = format!("{sip}:{port}");
        let to: usize = streams
            .iter()
            .filter(|((_, to), _)| *to == end)
            .map(|(_, count)| count)
            .sum();
        assert!(
            to as u64 + 5 > least,
            "{to} of {least} packets to {end}: {streams:?}"
        );
        assert!(
            streams.keys().any(|(from, _)| *from == end),
            "nothing from {end}: {streams:?}"
        );
    }
    let wanted = requests.get(&format!("{sip}:6003")).copied().unwrap_or(0);
    assert!(wanted > 0, "no picture loss indication: {requests:?}");
}
