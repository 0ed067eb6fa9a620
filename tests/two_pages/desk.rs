//! The agent desk by keyboard alone: a call to another page and one to a telephone at once, hold and resume between them, tones, the log.

use serde_json::json;
use std::time::Duration;
use testbed::baresip::Baresip;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::page::DemoPage;

const SOON: Duration = Duration::from_secs(20);

/// The agent's page, which nothing but its keyboard touches.
struct Agent<'a>(&'a Tab<'a>);

impl Agent<'_> {
    fn key(&self, key: &str) {
        self.0.press(key, false);
    }

    /// A new call from wherever the focus is.
    fn dial(&self, to: &str) {
        self.key("n");
        self.sees("document.activeElement.id === 'to'");
        self.0.type_text(to);
        self.key("Enter");
        // Out of the text field, or the letters would be text.
        self.key("Tab");
    }

    fn sees(&self, expression: &str) {
        self.0.wait_for(expression, SOON);
    }

    /// Which lines are on hold by us, in their order.
    fn holds(&self, lines: &[bool]) {
        let expected = json!(lines);
        self.sees(&format!(
            "JSON.stringify(causeway.lines.map(({{ onHold }}) => onHold)) === '{expected}'"
        ));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_works_two_lines_by_keyboard() {
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
        loopback: false,
    });
    let [agent, carol] = ["alice", "carol"].map(|user| {
        let page = DemoPage::open(&browser, daemon.url());
        page.sign_in(user, &Kamailio::password(user));
        page
    });
    let desk = Agent(agent.tab());
    desk.key("Tab");
    desk.dial("carol");
    carol.answer();
    desk.sees("causeway.lines[0]?.connectedAt");

    // The second call puts the first one on hold.
    desk.dial("bob");
    desk.sees("causeway.lines[1]?.connectedAt && causeway.call === causeway.lines[1]");
    desk.holds(&[true, false]);
    carol
        .tab()
        .wait_for("window.causeway.call.held === true", SOON);

    // Back to the first: that one is resumed, the second one held.
    agent.tab().press("1", true);
    desk.sees("causeway.call === causeway.lines[0]");
    desk.key("h");
    desk.holds(&[false, true]);
    carol
        .tab()
        .wait_for("window.causeway.call.held === false", SOON);

    // Tones are keys, and the other page hears of each once.
    carol.tab().evaluate(
        "window.tones = ''; window.causeway.call.addEventListener('dtmf', ({ digit }) => { window.tones += digit; })",
    );
    desk.key("5");
    carol.tab().wait_for("window.tones === '5'", SOON);
    desk.key("m");
    desk.sees(
        "causeway.call.muted && document.getElementById('said').textContent === 'Microphone off'",
    );

    // Whoever hangs up one line is on the other.
    desk.key("e");
    assert_eq!(carol.wait_ended()["by"], "sip");
    desk.sees("causeway.lines.length === 1 && causeway.call === causeway.lines[0]");
    desk.key("h");
    desk.holds(&[false]);
    desk.key("e");
    desk.sees("causeway.lines.length === 0 && causeway.call === null");
    let logged = agent.tab().evaluate(
        "[...document.querySelectorAll('#log li button')].map(({ textContent }) => textContent)",
    );
    assert_eq!(logged.as_array().map(Vec::len), Some(2), "{logged}");
    for page in [&agent, &carol] {
        page.sign_out();
    }
    daemon.stop();
}
