//! A page with everything over one WebSocket, which is cut in a call: first it is reset, then nothing gets through for longer than either
//! side waits. The call goes on; the page opens another socket and hears what happened meanwhile, each once.

use serde_json::{Value, json};
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::datapath::{Datapath, Measured};
use testbed::netns::Line;
use testbed::page::{API_REQUESTS, DemoPage};
use testbed::sipp::Sipp;

/// Packets of 20 ms that are watched in each direction: two seconds.
const WATCHED: u64 = 100;
/// The page notices after 25 s that the gateway says nothing.
const NOTICED: Duration = Duration::from_secs(40);
/// How long after the cut the page has to be back.
const BACK: Duration = Duration::from_secs(15);

/// Notes what the page is told.
const NOTE: &str = "window.told = []; window.offline = 0; window.online = 0;
    window.causeway.call.addEventListener('muted', ({ muted }) => window.told.push(muted));
    window.causeway.session.addEventListener('offline', () => { window.offline += 1; });
    window.causeway.session.addEventListener('online', () => { window.online += 1; });
    window.causeway.session.addEventListener('ended', ({ reason }) => { window.over = reason; });";

/// What becomes of the socket's packets.
enum Cut {
    /// The first that the page sends is answered by a reset, and so is each try to connect.
    Reset,
    /// They are lost.
    Silence,
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_call_survives_the_cut_of_the_websocket_that_everything_goes_over() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, &format!("{}/?transport=websocket", daemon.url()));
    page.sign_in("guest", "");
    page.dial(sipp.address());
    page.wait_connected();
    let id = page.tab().evaluate("window.causeway.call.id");
    page.tab().evaluate(NOTE);
    for (times, cut) in [(1, Cut::Reset), (2, Cut::Silence)] {
        page.tab().evaluate("window.told = []");
        cut.apply(&line, true);
        // What it asks now is answered after the cut, or not at all; the media has another way.
        page.tab()
            .evaluate("void window.causeway.call.view().catch(() => null)");
        let told = meanwhile(&page, &daemon);
        watched(&page, &daemon);
        page.tab()
            .wait_for(&format!("window.offline === {times}"), NOTICED);
        cut.apply(&line, false);
        page.tab()
            .wait_for(&format!("window.online === {times}"), BACK);
        page.tab()
            .wait_for(&format!("window.told.length >= {}", told.len()), BACK);
        assert_eq!(page.tab().evaluate("window.told"), json!(told));
        assert_eq!(page.tab().evaluate("window.causeway.call.id"), id);
        let view = "window.causeway.call.view().then(({ state }) => state)";
        assert_eq!(page.tab().evaluate(view), "connected");
    }
    watched(&page, &daemon);
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    // The last thing that the gateway does is to say so.
    daemon.stop();
    page.tab()
        .wait_for("window.over === 'the gateway stops'", BACK);
    assert_eq!(page.tab().evaluate(API_REQUESTS), json!([]));
}

impl Cut {
    fn apply(&self, line: &Line, gone: bool) {
        let change = if gone { "-A" } else { "-D" };
        let verdict: &[&str] = match self {
            Self::Reset => &["REJECT", "--reject-with", "tcp-reset"],
            Self::Silence => &["DROP"],
        };
        let rule = ["iptables", change, "OUTPUT", "-o", Line::BROWSER_DEVICE];
        let socket = ["-p", "tcp", "--dport", "8080", "-j"];
        line.browser
            .run(&[&rule[..], &socket[..], verdict].concat());
        if matches!(self, Self::Silence) {
            let rule = ["iptables", change, "INPUT", "-i", Line::BROWSER_DEVICE];
            let socket = ["-p", "tcp", "--sport", "8080", "-j", "DROP"];
            line.browser.run(&[&rule[..], &socket[..]].concat());
        }
    }
}

/// Somebody else who follows the session turns the microphone off and on: events that the page does not get for now.
fn meanwhile(page: &DemoPage<'_>, daemon: &Daemon<'_>) -> Vec<bool> {
    let path = page.tab().evaluate("window.causeway.call.path");
    let path = format!("/api/v1{}/mute", path.as_str().expect("a path"));
    let token = page.tab().evaluate("window.causeway.session.api.token");
    let told = vec![true, false, true, false];
    for muted in &told {
        let body = json!({ "muted": muted }).to_string();
        let answer = daemon.request("POST", &path, token.as_str(), Some(&body));
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_eq!(page.tab().evaluate("window.told"), Value::Array(Vec::new()));
    told
}

/// The media goes on, in the kernel.
fn watched(page: &DemoPage<'_>, daemon: &Daemon<'_>) {
    let before = Measured::now(page, daemon);
    let after = Measured::after(&before, WATCHED, page, daemon);
    let packets = after.packets.since(&before.packets);
    assert_eq!(packets.in_userspace(), 0, "{packets:?}");
}
