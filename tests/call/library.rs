//! What a page does by `causeway.js` in a call, at a telephone that says what it was asked: hold, resume, digits and data by INFO,
//! transfer.

use serde_json::{Value, json};
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

const PATIENCE: Duration = Duration::from_secs(15);

/// Notes the events that the telephone causes.
const NOTE: &str = "window.told = []; for (const type of ['info', 'infosent', 'dtmfsent', 'transfer', 'ended']) \
    window.causeway.call.addEventListener(type, ({ contentType, body, digit, status, over }) => \
    window.told.push([type, contentType ?? digit ?? null, body ?? status ?? null, over ?? null]))";

pub(super) fn a_page_does_with_a_call_what_it_may(datapath: Datapath) {
    assert_ne!(everything(datapath, "/"), json!([]), "no requests by HTTP");
}

/// The same with requests and events over one WebSocket.
pub(super) fn a_page_does_over_one_websocket_what_it_may(datapath: Datapath) {
    let made = everything(datapath, "/?transport=websocket");
    assert_eq!(made, json!([]), "requests by HTTP");
}

/// Everything that a page does with a call; gives the requests to the API that it made by HTTP.
fn everything(datapath: Datapath, path: &str) -> Value {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/call/library.xml");
    let mut sipp = Sipp::play(&line.sip, scenario, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, &format!("{}{path}", daemon.url()));
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    page.tab().evaluate(NOTE);
    hold_and_resume(&page);
    told_after(
        &page,
        "sendDigits('5', { durationMs: 100 })",
        json!(["dtmfsent", "5", 200, null]),
    );
    told_after(
        &page,
        "sendInfo({ contentType: 'text/plain', body: 'ticket 7' })",
        json!(["infosent", null, 200, null]),
    );
    page.tab().wait_for(
        "window.told.some(([type, kind, body]) => type === 'info' && kind === 'application/octet-stream' && body.startsWith('queue 3'))",
        PATIENCE,
    );
    // A restart of ICE is nothing that the telephone could see.
    let peer = "window.causeway.call.peer";
    let credentials = format!("{peer}.localDescription.sdp.match(/^a=ice-ufrag:.*/m)[0]");
    let before = page.tab().evaluate(&credentials);
    page.tab()
        .evaluate("window.restarted = false; window.causeway.call.restart().then(() => { window.restarted = true; })");
    page.tab().wait_for("window.restarted", PATIENCE);
    assert_ne!(page.tab().evaluate(&credentials), before);
    page.tab()
        .wait_for(&format!("{peer}.connectionState === 'connected'"), PATIENCE);
    let received = page.statistics().received;
    wait::until(
        "media flows over the restarted connection",
        PATIENCE,
        || (page.statistics().received > received + 100).then_some(()),
    );
    told_after(
        &page,
        "transfer('sip:bob@198.51.100.7')",
        json!(["transfer", null, 200, true]),
    );
    // Whoever was sent away needs the page no more: it hangs up by itself.
    page.wait_ended();
    assert!(sipp.went_well(), "the telephone was asked something else");
    page.sign_out();
    let made = page.tab().evaluate(testbed::page::API_REQUESTS);
    daemon.stop();
    made
}

/// Two changes at once: the second waits for the first. The telephone checks what it is told.
fn hold_and_resume(page: &DemoPage<'_>) {
    let call = "window.causeway.call";
    page.tab()
        .evaluate(&format!("window.held = null; {call}.hold().then(() => {{ window.held = [{call}.onHold, {call}.stream.getTracks()[0].enabled]; }})"));
    page.tab().wait_for("window.held", PATIENCE);
    assert_eq!(page.tab().evaluate("window.held"), json!([true, false]));
    // The telephone has answered before the next change, or it would wait behind the first one.
    page.tab().evaluate(&format!(
        "window.view = null; const ask = async () => {{ window.view = await {call}.view(); }}; ask()"
    ));
    page.tab()
        .wait_for("window.view?.hold === 'page'", PATIENCE);
    page.tab()
        .evaluate(&format!("window.taken = null; {call}.resume().then(() => {{ window.taken = [{call}.onHold, {call}.stream.getTracks()[0].enabled]; }})"));
    page.tab().wait_for("window.taken", PATIENCE);
    assert_eq!(page.tab().evaluate("window.taken"), json!([false, true]));
}

/// Calls a method of the call and waits for the event that tells of its outcome.
fn told_after(page: &DemoPage<'_>, method: &str, event: Value) {
    page.tab().evaluate(&format!(
        "window.causeway.call.{method}.catch((error) => window.told.push(['refused', error.message]))"
    ));
    let found =
        format!("window.told.some((event) => JSON.stringify(event) === JSON.stringify({event}))");
    page.tab().wait_for(&found, PATIENCE);
    let refused = page
        .tab()
        .evaluate("window.told.filter(([type]) => type === 'refused')");
    assert_eq!(refused, json!([]), "{method}");
}
