//! The page calls without an offer, by `causeway.js`: the telephone makes it, in its 200 or before, and the page answers.

use super::{WATCHED, check_browser, check_capture, check_flows, check_path};
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::capture::Capture;
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

/// The desk has no switch for it: its calls are made so by the library. `told` are the page's own words, in their order.
const WITHOUT_OFFER: &str = "{ const { session } = window.causeway; const dial = session.call.bind(session); \
    window.told = []; \
    session.call = async (to, options) => { \
        const call = await dial(to, { ...options, withoutOffer: true }); \
        for (const type of ['early', 'answered', 'connected']) \
            call.addEventListener(type, () => window.told.push(type)); \
        return call; \
    }; }";

/// In the 200, with a codec in front that nobody here has.
pub(super) fn chromium_calls_a_telephone_that_makes_the_offer(datapath: Datapath) {
    call(
        datapath,
        concat!(env!("CARGO_MANIFEST_DIR"), "/call/offers.xml"),
    );
}

/// In a reliable 183: the page hears early media, then it picks up.
pub(super) fn chromium_calls_a_telephone_that_makes_the_offer_early(datapath: Datapath) {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/call/offers_early.xml");
    let told = call(datapath, scenario);
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let order = told.iter().filter(|event| **event != "connected");
    assert!(
        order.eq(&["early", "answered"]),
        "media before the call is picked up: {told:?}"
    );
}

/// The whole call; gives what the page was told.
fn call(datapath: Datapath, scenario: &str) -> Vec<String> {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::play(&line.sip, scenario, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    page.tab().evaluate(WITHOUT_OFFER);
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    page.dial(sipp.address());
    page.wait_connected();
    let before = Measured::now(&page, &daemon);
    let after = Measured::after(&before, WATCHED, &page, &daemon);
    check_browser(&before, &after);
    check_path(datapath, &before, &after);
    check_flows(datapath, &page, &daemon);
    let told = page.tab().evaluate("window.told");
    page.hang_up();
    check_capture(&capture.finish(), &after);
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    page.sign_out();
    daemon.stop();
    let told = told.as_array().cloned().unwrap_or_default();
    let words = told.iter().filter_map(|event| event.as_str());
    words.map(str::to_owned).collect()
}
