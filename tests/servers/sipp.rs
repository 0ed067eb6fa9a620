//! What SIPp, as a PBX, does to the calls of a page: the scenarios beside this file.

use super::*;
use bench::webrtc::CallReport;
use testbed::datapath::Datapath;
use testbed::sipp::Sipp;

/// A call of a page through a daemon with these lines more in its `[sip]`, to SIPp with that scenario.
fn call(scenario: &str, calls: u32, more: &str, talk: Duration) -> CallReport {
    let line = Line::new();
    let file = format!("{}/servers/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
    let mut sipp = Sipp::play(&line.sip, &file, calls);
    let config = Datapath::Userspace.config(&line, None);
    let config = config.replace("[sip]\n", &format!("[sip]\n{more}\n"));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let wanted = CallConfig {
        gateway: daemon.url().to_owned(),
        to: sipp.address().to_owned(),
        ..CallConfig::default()
    };
    let report = line.browser.enter(|| {
        let engine = Engine::start().expect("an engine");
        let mut page = Page::sign_in(&wanted).expect("a guest");
        let mut call = page.call(&engine, &wanted).expect("a call");
        page.wait_connected(&mut call, Duration::from_secs(20))
            .expect("connected");
        page.talk(&mut call, talk).expect("a talk");
        let report = page.hang_up(call).expect("a report");
        page.sign_out().expect("signed out");
        report
    });
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    daemon.stop();
    report
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_redirected_call_reaches_where_it_was_sent() {
    let report = call("redirect", 1, "", Duration::from_secs(2));
    assert!(report.media.received > 50, "{:?}", report.media);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_is_transferred_by_refer_and_goes_on_with_the_third_party() {
    let talk = Duration::from_secs(4);
    let report = call("refer", 2, "refer = \"follow\"", talk);
    assert_eq!(report.ended, None, "the page hung up itself");
    // The echo comes from the same port of SIPp before and after.
    let media = &report.media;
    assert!(media.received * 10 > media.sent * 8, "{media:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_that_its_peer_does_not_refresh_ends_in_time() {
    let report = call("timer", 1, "", Duration::from_secs(75));
    let ended = report.ended.expect("the gateway ended it");
    assert!(ended.contains("not refreshed"), "{ended}");
}
