//! The agent desk by keyboard alone: calls to another page and to telephones at once, hold and resume between them, tones, calls that
//! come in meanwhile, both kinds of transfer, the log.

use serde_json::json;
use std::time::Duration;
use testbed::baresip::Baresip;
use testbed::browser::{Browser, Options, Tab};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;

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

    /// Brings a line to the screen.
    fn select(&self, number: usize) {
        self.0.press(&number.to_string(), true);
        self.sees(&format!("causeway.call === causeway.lines[{}]", number - 1));
    }

    /// Which lines are on hold by us, in their order.
    fn holds(&self, lines: &[bool]) {
        let expected = json!(lines);
        self.sees(&format!(
            "JSON.stringify(causeway.lines.map(({{ onHold }}) => onHold)) === '{expected}'"
        ));
    }

    /// How many calls the log has.
    fn logged(&self) -> u64 {
        let count = "document.querySelectorAll('#log li button').length";
        self.0.evaluate(count).as_u64().unwrap_or_default()
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
        ..Options::default()
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
    desk.select(1);
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

    // Who calls meanwhile is refused or taken from the same place.
    carol.dial("alice");
    desk.sees("causeway.lines[1]?.state === 'incoming' && document.title.endsWith('calls')");
    desk.key("r");
    assert_eq!(carol.wait_ended()["status"], 486);
    desk.sees("causeway.lines.length === 1");
    a_caller_gives_up_while_the_microphone_opens(&desk, &carol);
    carol.dial("alice");
    desk.sees("causeway.lines[1]?.state === 'incoming'");
    desk.key("a");
    desk.sees("causeway.lines[1].connectedAt && causeway.call === causeway.lines[1]");
    desk.holds(&[true, false]);
    desk.key("e");
    desk.sees("causeway.lines.length === 1");
    desk.key("e");
    desk.sees("causeway.lines.length === 0 && causeway.call === null");
    assert_eq!(desk.logged(), 5);
    for page in [&agent, &carol] {
        page.sign_out();
    }
    daemon.stop();
}

/// The browser may have to ask its user for the microphone; nobody is recorded for a call that is over by then.
fn a_caller_gives_up_while_the_microphone_opens(desk: &Agent<'_>, caller: &DemoPage<'_>) {
    desk.0.evaluate(
        "window.getUserMedia = navigator.mediaDevices.getUserMedia;
         navigator.mediaDevices.getUserMedia = async function (wanted) {
           window.opened = await window.getUserMedia.call(this, wanted);
           await new Promise((allow) => { window.allow = allow; });
           return window.opened;
         }; null",
    );
    caller.dial("alice");
    desk.sees("causeway.lines[1]?.state === 'incoming'");
    desk.key("a");
    desk.sees("window.allow");
    caller.hang_up();
    desk.sees("causeway.lines.length === 1");
    desk.0
        .evaluate("allow(); navigator.mediaDevices.getUserMedia = getUserMedia; null");
    desk.sees("document.getElementById('dial-error').textContent.includes('cannot be answered')");
    desk.sees("opened.getTracks().every(({ readyState }) => readyState === 'ended')");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_transfers_attended_and_blind_by_keyboard() {
    let line = Line::new();
    let datapath = Datapath::Userspace;
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/two_pages/desk.xml");
    let mut sipp = Sipp::play(&line.sip, scenario, 2);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    let desk = Agent(page.tab());
    desk.key("Tab");
    for (index, held) in [&[false][..], &[true, false][..]].into_iter().enumerate() {
        desk.dial(sipp.address());
        desk.sees(&format!("causeway.lines[{index}]?.state === 'connected'"));
        desk.holds(held);
    }
    desk.select(1);
    desk.key("h");
    desk.holds(&[false, true]);

    // Attended: past field and button to the other line. The telephone sends back what it hears, tones too.
    page.tab().evaluate(
        "window.tones = ''; causeway.call.addEventListener('dtmf', ({ digit }) => { window.tones += digit; })",
    );
    desk.key("8");
    desk.sees("window.tones === '8'");
    desk.key("t");
    desk.sees("document.activeElement.id === 'transfer-to'");
    desk.key("Tab");
    desk.key("Tab");
    desk.sees("document.activeElement.textContent.startsWith('Connect with ')");
    desk.key("Enter");
    desk.sees("causeway.lines.length === 1 && causeway.call === causeway.lines[0]");

    // Blind: an address and Enter.
    desk.key("Escape");
    desk.key("h");
    desk.holds(&[false]);
    desk.key("t");
    desk.sees("document.activeElement.id === 'transfer-to'");
    desk.0.type_text("sip:bob@198.51.100.7");
    desk.key("Enter");
    desk.sees("causeway.lines.length === 0");
    assert_eq!(desk.logged(), 2);
    assert!(sipp.went_well(), "the telephone was asked something else");
    page.sign_out();
    daemon.stop();
}
