//! What SIPp, as a PBX, does to the calls of a page: the scenarios beside this file.

use super::*;
use bench::webrtc::CallReport;
use std::fs;
use testbed::datapath::Datapath;
use testbed::files::Directory;
use testbed::sipp::Sipp;

/// The scenario of that name.
fn scenario(name: &str) -> String {
    format!("{}/servers/{name}.xml", env!("CARGO_MANIFEST_DIR"))
}

/// A call of a page through a daemon with these lines more in its `[sip]`, to SIPp with that scenario, a file.
fn call(file: &str, calls: u32, more: &str, talk: Duration) -> CallReport {
    let line = Line::new();
    let mut sipp = Sipp::play(&line.sip, file, calls);
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
    let report = call(&scenario("redirect"), 1, "", Duration::from_secs(2));
    assert!(report.media.received > 50, "{:?}", report.media);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_is_transferred_by_refer_and_goes_on_with_the_third_party() {
    let talk = Duration::from_secs(4);
    let report = call(&scenario("refer"), 2, "refer = \"follow\"", talk);
    assert_eq!(report.ended, None, "the page hung up itself");
    // The echo comes from the same port of SIPp before and after.
    let media = &report.media;
    assert!(media.received * 10 > media.sent * 8, "{media:?}");
}

/// The same, with Refer-To naming a dialog that the new party has: its INVITE says so.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_is_transferred_attended_and_takes_the_place_of_the_consultation() {
    let mut attended = fs::read_to_string(scenario("refer")).expect("it is beside this file");
    for (before, after) in [
        (
            "sip:third@[local_ip]:[local_port]>",
            "sip:third@[local_ip]:[local_port]?Replaces=asked%40pbx%3Bto-tag%3Dthird%3Bfrom-tag%3Dpbx>",
        ),
        (
            r#"assign_to="by"/>"#,
            r#"assign_to="by"/>
      <ereg regexp=".+" search_in="hdr" header="Replaces:" assign_to="replaces"/>"#,
        ),
        (
            r#"<recv request="BYE" next="gone"/>"#,
            r#"<recv request="BYE" next="gone">
    <action>
      <ereg regexp="asked@pbx;to-tag=third;from-tag=pbx" search_in="var" variable="replaces" check_it="true" assign_to="named"/>
    </action>
  </recv>
  <Reference variables="named"/>"#,
        ),
    ] {
        assert!(attended.contains(before), "{before}");
        attended = attended.replace(before, after);
    }
    let directory = Directory::new("attended");
    let file = directory.write("attended.xml", attended);
    let talk = Duration::from_secs(4);
    let report = call(&file.to_string_lossy(), 2, "refer = \"follow\"", talk);
    assert_eq!(report.ended, None, "the page hung up itself");
    let media = &report.media;
    assert!(media.received * 10 > media.sent * 8, "{media:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_call_that_rings_at_one_phone_is_picked_up_at_another() {
    let report = call(&scenario("pickup"), 1, "", Duration::from_secs(2));
    assert_eq!(report.ended, None, "the page hung up itself");
    assert!(report.media.received > 50, "{:?}", report.media);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_session_that_its_peer_does_not_refresh_ends_in_time() {
    let report = call(&scenario("timer"), 1, "", Duration::from_secs(75));
    let ended = report.ended.expect("the gateway ended it");
    assert!(ended.contains("not refreshed"), "{ended}");
}
