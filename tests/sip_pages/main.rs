//! Pages whose library is a SIP user agent, JsSIP and SIP.js as they are published, behind the gateway's WebSocket: they register at
//! Kamailio with digest, though the gateway has no password of theirs, call a telephone, hold, and call each other.

mod whip;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use testbed::baresip::Baresip;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::sipp::Sipp;
use testbed::wait;

const SOON: Duration = Duration::from_secs(20);
/// Packets of 20 ms that are watched in each direction: three seconds.
const WATCHED: u64 = 150;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pages_with_jssip_register_and_call() {
    register_and_call("jssip.js", include_str!("jssip_page.js"));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pages_with_sip_js_register_and_call() {
    register_and_call("sip.js", include_str!("sipjs_page.js"));
}

/// The telephone offers in its 200, which the page's ACK answers; or in a reliable 183 before, which its PRACK answers. A page that takes
/// no such responses gets the offer in the 200 only: its telephone is not told that it might offer before.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_with_sip_js_calls_without_an_offer() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    for (scenario, reliable) in [("offers", false), ("offers", true), ("offers_early", true)] {
        let scenario = format!("{}/call/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
        let mut sipp = Sipp::play(&line.sip, &scenario, 1);
        let page = Page::guest(&browser, daemon.url(), reliable);
        page.act(&format!("callWithoutOffer('{}')", sipp.address()));
        page.state("up");
        page.talks();
        page.act("hangUp()");
        page.state("ended");
        assert!(sipp.went_well(), "{scenario} did not go as it says");
        wait::until("the call is over", Duration::from_secs(5), || {
            daemon.flows().is_empty().then_some(())
        });
    }
    daemon.stop();
}

/// The library connects and registers anew by itself; the call that it had goes on, and is held, resumed and ended over the new connection.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_with_jssip_keeps_its_call_when_its_websocket_breaks() {
    with_telephone(
        "jssip.js",
        include_str!("jssip_page.js"),
        |open, daemon, line| {
            let page = open("alice");
            page.act(&format!("call('sip:bob@{}')", Kamailio::DOMAIN));
            page.state("up");
            page.talks();
            // The next thing that the page sends, the answer to a ping at the latest, is answered by a reset.
            let reset = |change| {
                let rule = ["iptables", change, "OUTPUT", "-o", Line::BROWSER_DEVICE];
                let socket = ["-p", "tcp", "--dport", "8080", "-j", "REJECT"];
                let by = ["--reject-with", "tcp-reset"];
                line.browser
                    .run(&[&rule[..], &socket[..], &by[..]].concat());
            };
            reset("-A");
            page.wait("window.phone.disconnections === 1");
            page.talks();
            reset("-D");
            page.wait("window.phone.registrations === 2");
            assert_eq!(page.tab.evaluate("window.phone.state"), "up");
            page.talks();
            // Not heard of after a hold: baresip sends nothing any more then.
            page.act("hold()");
            page.wait("window.phone.held === true");
            page.act("resume()");
            page.wait("window.phone.held === false");
            page.act("hangUp()");
            page.state("ended");
            wait::until("the call is over", Duration::from_secs(5), || {
                daemon.flows().is_empty().then_some(())
            });
            page.act("leave()");
            page.wait("!window.phone.registered");
        },
    );
}

/// A page with one of the libraries, signed in as a user of Kamailio.
struct Page<'a> {
    tab: Tab<'a>,
}

/// A library as the set-up fetched it.
fn text_of(library: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/clients")
        .join(library);
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}: cargo xtask setup", path.display()))
}

/// What Chromium counts of a call.
struct Counted {
    sent: u64,
    received: u64,
    energy: f64,
}

impl<'a> Page<'a> {
    fn open(browser: &'a Browser, url: &str, (library, script): (&str, &str), user: &str) -> Self {
        let tab = browser.open(url);
        tab.evaluate(&format!("{}; {script}; true", text_of(library)));
        let socket = format!("{}/sip", url.replacen("http", "ws", 1));
        let address = format!("sip:{user}@{}", Kamailio::DOMAIN);
        let password = Kamailio::password(user);
        tab.evaluate(&format!(
            "startPhone('{socket}', '{address}', '{password}')"
        ));
        let page = Self { tab };
        page.wait("window.phone.registered");
        page
    }

    /// One with SIP.js that does not register.
    fn guest(browser: &'a Browser, url: &str, reliable: bool) -> Self {
        let tab = browser.open(url);
        let script = include_str!("sipjs_page.js");
        tab.evaluate(&format!("{}; {script}; true", text_of("sip.js")));
        let socket = format!("{}/sip", url.replacen("http", "ws", 1));
        let options = format!("{{ guest: true, reliable: {reliable} }}");
        tab.evaluate(&format!(
            "startPhone('{socket}', 'sip:guest@example.org', '', {options})"
        ));
        let page = Self { tab };
        page.wait("window.phone.connected");
        page
    }

    fn wait(&self, expression: &str) {
        wait::until(expression, SOON, || {
            let error = self.tab.evaluate("window.phone.error");
            assert!(error.is_null(), "{expression}: {error}");
            (self.tab.evaluate(&format!("Boolean({expression})")) == Value::Bool(true))
                .then_some(())
        });
    }

    fn state(&self, state: &str) {
        self.wait(&format!("window.phone.state === '{state}'"));
    }

    fn act(&self, what: &str) {
        self.tab.evaluate(&format!("window.phone.{what}; true"));
    }

    fn counted(&self) -> Counted {
        let value = self.tab.evaluate(
            "(async () => {
                const report = [...(await window.phone.peer().getStats()).values()];
                const find = (type) => report.find((entry) => entry.type === type) || {};
                return [find('outbound-rtp').packetsSent ?? 0, find('inbound-rtp').packetsReceived ?? 0,
                    find('inbound-rtp').totalAudioEnergy ?? 0];
            })()",
        );
        Counted {
            sent: value[0].as_u64().unwrap_or_default(),
            received: value[1].as_u64().unwrap_or_default(),
            energy: value[2].as_f64().unwrap_or_default(),
        }
    }

    /// Media flows both ways, and something is heard.
    fn talks(&self) {
        let before = self.counted();
        wait::until("media flows both ways", SOON, || {
            let now = self.counted();
            let enough =
                now.sent >= before.sent + WATCHED && now.received >= before.received + WATCHED;
            (enough && now.energy - before.energy > 1e-4).then_some(())
        });
    }
}

fn register_and_call(library: &str, script: &str) {
    with_telephone(library, script, |open, daemon, _| {
        let alice = open("alice");
        calls_a_telephone(&alice, daemon);
        let carol = open("carol");
        calls_a_page(&carol, &alice);
        alice.act("leave()");
        alice.wait("!window.phone.registered");
        wait::until("no flow is left", Duration::from_secs(5), || {
            daemon.flows().is_empty().then_some(())
        });
    });
}

/// Does something with pages of a library and with Bob's telephone, all registered at Kamailio; `act` gets what opens a user's page.
fn with_telephone(
    library: &str,
    script: &str,
    act: impl for<'a> FnOnce(&dyn Fn(&str) -> Page<'a>, &Daemon<'_>, &Line),
) {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let _kamailio = Kamailio::start(&line.sip);
    let password = Kamailio::password("bob");
    let _bob = Baresip::registered(&line.sip, "bob", Kamailio::DOMAIN, &password);
    let proxy = format!("{}:5060", Line::SIP);
    let config = datapath.config(&line, Some((&proxy, Kamailio::DOMAIN)));
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let url = daemon.url().to_owned();
    let open = |user: &str| Page::open(&browser, &url, (library, script), user);
    act(&open, &daemon, &line);
    daemon.stop();
    let pins = line.bpffs.pins();
    assert!(pins.is_empty(), "pins outlived the daemon: {pins:?}");
}

/// Kamailio challenges REGISTER and INVITE; the page answers, not the gateway. Then the page hangs up.
fn calls_a_telephone(page: &Page<'_>, daemon: &Daemon<'_>) {
    page.act(&format!("call('sip:bob@{}')", Kamailio::DOMAIN));
    page.state("up");
    page.talks();
    for flow in daemon.flows() {
        assert_eq!(flow["path"], Datapath::XdpNative.name(), "{flow}");
    }
    page.act("hangUp()");
    page.state("ended");
    wait::until("the call is over", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
}

/// By way of Kamailio: the callee answers, both hear; the caller holds the call and takes it back, the callee hangs up.
fn calls_a_page(caller: &Page<'_>, callee: &Page<'_>) {
    caller.act(&format!("call('sip:alice@{}')", Kamailio::DOMAIN));
    callee.state("incoming");
    callee.act("answer()");
    for page in [caller, callee] {
        page.state("up");
        page.talks();
    }
    caller.act("hold()");
    caller.wait("window.phone.held === true");
    caller.act("resume()");
    caller.wait("window.phone.held === false");
    for page in [caller, callee] {
        page.talks();
    }
    callee.act("hangUp()");
    for page in [caller, callee] {
        page.state("ended");
    }
}
