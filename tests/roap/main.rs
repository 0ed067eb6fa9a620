//! Pages of the other browser protocol (ROAP) in Chromium: rows S-01 to S-25 of the feature table as far as they need a browser and a SIP
//! peer; `ROAP.md` says which test shows which row.
//!
//! The page speaks the protocol as its library does (`page.js`): one poll that hangs, some given up; candidates all at
//! once; ids and numbers of the offers in the answers. The SIP side is SIPp by scenarios of ours, or Kamailio with digest.

use serde_json::Value;
use std::time::Duration;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::sipp::Sipp;
use testbed::wait;

const LIMIT: Duration = Duration::from_secs(30);

fn scenario(name: &str) -> String {
    format!("{}/roap/{name}.xml", env!("CARGO_MANIFEST_DIR"))
}

fn browser(line: &Line, daemon: &Daemon<'_>) -> Browser {
    Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    })
}

/// A page of the gateway's origin that speaks ROAP.
struct Page<'a> {
    tab: Tab<'a>,
}

impl<'a> Page<'a> {
    fn open(browser: &'a Browser, daemon: &Daemon<'_>) -> Self {
        let tab = browser.open(&format!("{}/style.css", daemon.url()));
        tab.evaluate(include_str!("page.js"));
        Self { tab }
    }

    fn evaluate(&self, expression: &str) -> Value {
        self.tab.evaluate(expression)
    }

    fn status(&self, expression: &str) -> u64 {
        let value = self.evaluate(expression);
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{expression}: {value}"))
    }

    fn wait(&self, expression: &str) {
        self.tab.wait_for(expression, LIMIT);
    }

    /// The texts so far that begin so: sender and body.
    fn texts(&self, start: &str) -> Vec<(String, String)> {
        let value = self.evaluate("roap.texts");
        let texts = value.as_array().expect("a list");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        texts
            .iter()
            .map(|entry| (text(&entry["peer"]), text(&entry["body"])))
            .filter(|(_, body)| body.starts_with(start))
            .collect()
    }

    /// Waits until voice goes both ways from now on; meanwhile polls are given up.
    fn wait_for_voice(&self) {
        for _ in 0..3 {
            let polls = self.evaluate("roap.polls");
            self.evaluate("roap.giveUp()");
            self.wait(&format!("roap.polls > {polls}"));
        }
        let before = self.evaluate("roap.media()");
        let count = |value: &Value, key: &str| value[key].as_f64().unwrap_or_default();
        wait::until("voice both ways", LIMIT, || {
            let now = self.evaluate("roap.media()");
            let more = |key: &str, least: f64| count(&now, key) - count(&before, key) >= least;
            (more("sent", 50.0) && more("received", 50.0) && more("energy", 1e-5)).then_some(())
        });
    }
}

/// Rows S-02, S-03, S-05, S-06, S-08, S-10, S-14, S-17, S-18 (to the SIP side), S-19, S-21 (b=AS), S-22, S-25.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_calls_sipp_holds_takes_another_connection_and_hangs_up() {
    let line = Line::new();
    let mut sipp = Sipp::play(&line.sip, &scenario("callee"), 1);
    let config = Datapath::Userspace.config(&line, None);
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = browser(&line, &daemon);
    let page = Page::open(&browser, &daemon);
    assert_eq!(page.status("roap.signIn('7001')"), 200);
    let peer = sipp.address().to_owned();
    let offer = format!(
        "roap.offer('{peer}', {{ bandwidth: 500, attached: [{{ key: 'order', value: '42' }}] }})"
    );
    assert_eq!(page.status(&offer), 200);
    page.wait("roap.answered === 1");
    page.wait("roap.pc.connectionState === 'connected'");
    page.wait_for_voice();
    let cipher = page.evaluate("roap.media().then(({ cipher }) => cipher)");
    assert_eq!(
        cipher, "SRTP_AES128_CM_HMAC_SHA1_80",
        "DTLS-SRTP without being asked for"
    );
    let answer = page.evaluate("roap.heard[0]");
    assert_eq!(
        (answer["messageType"].as_str(), answer["seq"].as_u64()),
        (Some("ANSWER"), Some(1))
    );
    assert!(
        answer["offererSessionId"]
            .as_str()
            .is_some_and(|id| id.starts_with("page-"))
    );
    assert!(answer["Candidates"][0]["candidate"].is_string(), "{answer}");

    assert_eq!(
        page.status(&format!("roap.send('{peer}', 'INFO-MAP a=1&b=2')")),
        200
    );
    assert_eq!(
        page.status(&format!("roap.send('{peer}', 'INFO-PEER c=3')")),
        200
    );
    assert_eq!(page.status("roap.send('self', 'GET-STATS')"), 200);
    page.wait("roap.has('PUT-STATS')");
    let (_, body) = page.texts("PUT-STATS").remove(0);
    let report: Value = serde_json::from_str(body.trim_start_matches("PUT-STATS ")).expect("JSON");
    for direction in ["rx", "tx"] {
        let packets = report["audio"][direction]["packets"].as_u64();
        assert!(packets.is_some_and(|packets| packets >= 50), "{report}");
        for key in ["bytes", "lost", "jitter"] {
            assert!(
                report["audio"][direction][key].is_number(),
                "{key}: {report}"
            );
        }
    }
    assert!(
        report["duration"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.5)
    );
    assert!(
        report["timestamp"]
            .as_u64()
            .is_some_and(|at| at > 1_700_000_000_000)
    );
    for key in ["rtt", "rtt_max", "rtt_average"] {
        assert!(report["audio"].get(key).is_some(), "{key}: {report}");
    }

    // Hold, as the library does it, and back.
    let hold = format!("roap.offer('{peer}', {{ direction: 'inactive' }})");
    assert_eq!(page.status(&hold), 200);
    page.wait("roap.answered === 2");
    // Another connection in the same call: another certificate, other credentials, and the call goes on.
    let anew = format!("roap.offer('{peer}', {{ anew: true, direction: 'sendrecv' }})");
    assert_eq!(page.status(&anew), 200);
    page.wait("roap.answered === 3");
    page.wait("roap.pc.connectionState === 'connected'");
    page.wait_for_voice();

    assert_eq!(page.status(&format!("roap.send('{peer}', 'BYE')")), 200);
    page.wait("roap.has('BYE')");
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    assert_eq!(page.status("roap.signOut()"), 200);
    page.wait("roap.over === 403");
    assert!(
        page.evaluate("roap.gaveUp")
            .as_u64()
            .is_some_and(|polls| polls >= 6)
    );
    assert!(daemon.flows().is_empty());
    daemon.stop();
}

/// Rows S-04, S-07, S-12, S-13, S-15 (refusal), S-17 (from the SIP side), S-18 (from the SIP side), and S-11 by the call that it refuses.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_is_called_through_kamailio_with_an_offer_and_without() {
    let line = Line::new();
    let _kamailio = Kamailio::start(&line.sip);
    let proxy = format!("{}:5060", Line::SIP);
    let config = Datapath::Userspace.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = browser(&line, &daemon);
    let page = Page::open(&browser, &daemon);
    assert_eq!(page.status("roap.signIn('alice', 'wrong')"), 401);
    let password = Kamailio::password("alice");
    assert_eq!(
        page.status(&format!("roap.signIn('alice', '{password}')")),
        200
    );

    // The page refuses what it is offered.
    let mut refused = Sipp::call(&line.sip, &scenario("refused"), &proxy);
    page.wait("roap.offered");
    assert_eq!(page.evaluate("roap.offered.peer"), "bob");
    assert_eq!(page.status("roap.send('bob', 'BYE')"), 200);
    assert!(refused.went_well(), "the refusal is not what SIPp expects");
    page.wait("roap.has('BYE')");
    page.evaluate("void (roap.texts.length = 0)");
    drop(refused);

    // A caller without an offer: the page is asked for one.
    let mut caller = Sipp::call(&line.sip, &scenario("caller"), &proxy);
    page.wait("roap.has('INVITE')");
    assert_eq!(page.texts("INVITE")[0].0, "bob");
    assert_eq!(page.status("roap.offer('bob')"), 200);
    page.wait("roap.answered === 1");
    let attached = page.evaluate("roap.heard.at(-1).attacheddata");
    assert_eq!(
        attached,
        serde_json::json!([{"key": "order", "value": "42"}])
    );
    page.wait("roap.pc.connectionState === 'connected'");
    page.wait_for_voice();
    for text in ["INFO-PEER d=4", "EVENT-HOLD", "EVENT-TALK"] {
        page.wait(&format!("roap.has('{text}')"));
    }
    page.wait("roap.has('BYE')");
    assert!(caller.went_well(), "SIPp's scenario did not go as it says");

    // Nobody is there any more.
    assert_eq!(page.status("roap.signOut()"), 200);
    daemon.stop();
}

/// Row S-01: two pages call each other, by two SIP dialogs of the server, and hear each other.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_pages_call_each_other_through_kamailio() {
    let line = Line::new();
    let _kamailio = Kamailio::start(&line.sip);
    let proxy = format!("{}:5060", Line::SIP);
    let config = Datapath::Userspace.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = browser(&line, &daemon);
    let pages = ["alice", "bob"].map(|user| {
        let page = Page::open(&browser, &daemon);
        let password = Kamailio::password(user);
        assert_eq!(
            page.status(&format!("roap.signIn('{user}', '{password}')")),
            200
        );
        page
    });
    let [alice, bob] = &pages;
    assert_eq!(alice.status("roap.offer('bob')"), 200);
    bob.wait("roap.offered");
    assert_eq!(bob.evaluate("roap.offered.peer"), "alice");
    assert_eq!(bob.status("roap.answer()"), 200);
    alice.wait("roap.answered === 1");
    for page in &pages {
        page.wait("roap.pc.connectionState === 'connected'");
        page.wait_for_voice();
    }
    // Two calls of the gateway, and no candidate of a page in what the other one got.
    assert_eq!(daemon.flows().len(), 4, "two flows for each of two calls");
    let browser_address = Line::BROWSER.to_string();
    for sdp in [
        alice.evaluate("roap.pc.remoteDescription.sdp"),
        bob.evaluate("roap.pc.remoteDescription.sdp"),
    ] {
        let sdp = sdp.as_str().expect("a description");
        assert!(!sdp.contains(&browser_address), "{sdp}");
    }
    assert_eq!(bob.status("roap.send('alice', 'BYE')"), 200);
    alice.wait("roap.has('BYE')");
    for page in &pages {
        assert_eq!(page.status("roap.signOut()"), 200);
    }
    daemon.stop();
}
