//! Two gateways behind one balancer, and pages of another origin: the balancer's cookie keeps each page at the node where it signed in. In
//! userspace, because two gateways cannot have XDP on one device.

use std::net::SocketAddr;
use std::time::Duration;
use testbed::balancer::Balancer;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::sipp::Sipp;
use testbed::wait;

const LIMIT: Duration = Duration::from_secs(30);
/// Where pages of the operator's own come from; the gateways list this one.
const DESK: &str = "http://desk.example.test:8000";
/// The same server under a name that no gateway lists.
const OTHER: &str = "http://other.example.test:8000";
/// The balancer.
const CALLS: &str = "http://calls.example.test:8080";

/// What a page of another origin does: it signs in with its cookies or without, and asks until it is not known.
const PAGE: &str = "(async () => {
    const { Causeway } = await import('/causeway.js');
    window.signIn = async (credentials) => {
        window.session = await Causeway.signIn({ user: 'desk', gateway: window.calls, credentials });
        window.session.addEventListener('ended', () => { window.over = true; });
    };
    window.ask = async (times) => {
        for (let time = 0; time < times; time += 1) {
            const { api, path } = window.session;
            try {
                await window.session.view();
                await api.json('GET', `${path}/events?after=0&wait=0`);
            } catch (problem) {
                return problem.status;
            }
        }
        return 200;
    };
    window.dial = async (to) => {
        window.call = await window.session.call(to);
    };
    window.heard = async () => (await window.call.statistics()).received;
})()";

/// A gateway of the two: `number` is 1 or 2.
fn node<'a>(line: &'a Line, number: u16) -> Daemon<'a> {
    let mut config = Datapath::Userspace.config(line, None);
    for (from, to) in [
        (
            ":8080\"",
            format!(":{}\"\ncors_origins = [\"{DESK}\"]", address(number).port()),
        ),
        (":9090", format!(":909{number}")),
        (":40000", format!(":4000{number}")),
        (":5062", format!(":516{number}")),
        (
            "[rtp]\n",
            format!("[rtp]\nports = \"2{number}000-2{number}999\"\n"),
        ),
        ("/causeway\"", format!("/causeway-{number}\"")),
    ] {
        assert!(config.contains(from), "{from}: {config}");
        config = config.replace(from, &to);
    }
    Daemon::start(Some(&line.gateway), &config)
}

fn address(number: u16) -> SocketAddr {
    (Line::GATEWAY_WEB, 8080 + number).into()
}

/// Requests of pages that reached a node, but for preflights, which have no cookies.
fn asked(node: &Daemon<'_>) -> u64 {
    let of_pages = ["/api/", "/sign_in", "/wait", "/message", "/sign_out"];
    let requests = node.metrics().into_iter().filter(|sample| {
        let route = sample.label("route");
        sample.name == "causeway_http_requests_total"
            && sample.label("method") != "OPTIONS"
            && of_pages.iter().any(|start| route.starts_with(start))
    });
    requests.map(|sample| sample.value as u64).sum()
}

/// Works a page and gives the node that it was at: all that it asked reached that one, and none the other.
fn at_one_of<'a>(nodes: &'a [Daemon<'a>; 2], work: impl FnOnce()) -> &'a Daemon<'a> {
    let before = nodes.each_ref().map(asked);
    work();
    let after = nodes.each_ref().map(asked);
    let asked = [after[0] - before[0], after[1] - before[1]];
    match asked {
        [0, some] if some > 0 => &nodes[1],
        [some, 0] if some > 0 => &nodes[0],
        _ => panic!("requests at each node: {asked:?}"),
    }
}

fn open<'a>(browser: &'a Browser, origin: &str) -> Tab<'a> {
    let tab = browser.open(origin);
    tab.evaluate(&format!("window.calls = '{CALLS}'"));
    tab.evaluate(PAGE);
    tab
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn pages_of_another_origin_stay_at_the_node_of_a_balancer_where_they_signed_in() {
    let line = Line::new();
    let mut sipp = Sipp::answer(&line.sip, 2);
    let mut nodes = [node(&line, 1), node(&line, 2)];
    let web = Line::GATEWAY_WEB;
    let addresses = [1, 2].map(address);
    let _balancer = Balancer::start(
        &line.gateway,
        (web, 8080).into(),
        &addresses,
        (web, 8000).into(),
    );
    let names = [
        "desk.example.test",
        "other.example.test",
        "calls.example.test",
    ];
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![DESK.to_owned()],
        hosts: names.map(|name| (name, web)).to_vec(),
        ..Options::default()
    });
    not_listed(&open(&browser, OTHER));
    astray(&open(&browser, DESK));
    let to = sipp.address().to_owned();
    let desk = open(&browser, DESK);
    let at = at_one_of(&nodes, || calls_by_api(&desk, &to));
    assert!(at.flows().is_empty());
    let roap = browser.open(DESK);
    let again = at_one_of(&nodes, || calls_by_roap(&roap, &to));
    assert_eq!(at.url(), again.url(), "the browser still has its cookie");
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    for node in &mut nodes {
        node.stop();
    }
}

/// Chromium keeps the answers from a page whose origin is not listed.
fn not_listed(page: &Tab<'_>) {
    for credentials in ["include", "omit"] {
        let refused = page.evaluate(&format!(
            "signIn('{credentials}').then(() => 'signed in', ({{ name }}) => name)"
        ));
        assert_eq!(refused, "TypeError", "{credentials}");
    }
}

/// Without cookies the next request goes to the node that does not know the page.
fn astray(page: &Tab<'_>) {
    page.evaluate("signIn('omit')");
    assert_eq!(page.evaluate("ask(10)"), 401);
    // Its event stream may have found the right one, and would stay.
    page.evaluate("session.finish('astray')");
    assert_eq!(page.evaluate("window.over"), true);
}

/// API v1 with server-sent events and polls: signs in, calls, hears, hangs up, signs out.
fn calls_by_api(page: &Tab<'_>, to: &str) {
    page.evaluate("signIn('include')");
    assert_eq!(page.evaluate("ask(5)"), 200);
    page.evaluate(&format!("dial('{to}')"));
    page.wait_for("call.state === 'connected'", LIMIT);
    hears(page, "heard()");
    assert_eq!(page.evaluate("ask(5)"), 200);
    page.evaluate("call.hangUp()");
    page.evaluate("session.signOut()");
    assert_eq!(page.evaluate("window.over"), true);
}

/// The other protocol, with its polls.
fn calls_by_roap(page: &Tab<'_>, to: &str) {
    page.evaluate(include_str!("../roap/page.js"));
    page.evaluate(&format!(
        "Object.assign(roap, {{ base: '{CALLS}', credentials: 'include' }})"
    ));
    assert_eq!(page.evaluate("roap.signIn('7001')"), 200);
    assert_eq!(page.evaluate(&format!("roap.offer('{to}')")), 200);
    page.wait_for("roap.answered === 1", LIMIT);
    hears(page, "roap.media().then(({ received }) => received)");
    assert_eq!(page.evaluate(&format!("roap.send('{to}', 'BYE')")), 200);
    page.wait_for("roap.has('BYE')", LIMIT);
    assert_eq!(page.evaluate("roap.signOut()"), 200);
    page.wait_for("roap.over === 403", LIMIT);
}

/// Waits until a second of voice has come; `packets` is what the page counts.
fn hears(page: &Tab<'_>, packets: &str) {
    wait::until("the page hears", LIMIT, || {
        let count = page.evaluate(packets).as_u64();
        count.filter(|count| *count > 50)
    });
}
