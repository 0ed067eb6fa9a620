//! aiortc as a WHIP client and as the media of a SIP phone: another ICE agent (full), another DTLS (OpenSSL) and another SRTP (libsrtp)
//! than the browsers'.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::time::Duration;
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::process::{Process, Program};
use testbed::sipp::Sipp;
use testbed::wait;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/networks/aiortc_whip.py");
const PHONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/networks/aiortc_sip.py");
/// Where the phone listens.
const PHONE_PORT: &str = "5080";
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/aiortc/bin/python3");

/// The running script.
struct Client {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(line: &Line, endpoint: &str) -> Self {
        assert!(Path::new(PYTHON).exists(), "{PYTHON}: cargo xtask test");
        let (process, input, output) = Program::new(PYTHON)
            .inside(Some(&line.browser))
            .args([SCRIPT, endpoint, "audio/PCMU", "2"])
            .start_with_pipes();
        Self {
            _process: process,
            input,
            output: BufReader::new(output),
        }
    }

    /// What it says next.
    fn says(&mut self) -> serde_json::Value {
        let mut text = String::new();
        self.output.read_line(&mut text).expect("it runs");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn aiortc_calls_a_phone_by_whip() {
    let line = Line::new();
    let datapath = Datapath::XdpNative;
    let _far_ends = datapath.far_ends(&line);
    let mut sipp = Sipp::answer(&line.sip, 1);
    let mut daemon = Daemon::start(Some(&line.gateway), &datapath.config(&line, None));
    let address = sipp.address().replace(':', "%3A");
    let mut client = Client::start(&line, &format!("{}/whip/{address}", daemon.url()));
    let talked = client.says();
    assert_eq!(talked["created"], 201);
    assert_eq!(talked["state"], "connected");
    let flows = daemon.flows();
    assert_eq!(flows.len(), 2, "{flows:?}");
    for flow in &flows {
        assert_eq!(flow["path"], datapath.name(), "{flow}");
    }
    writeln!(client.input, "hang up").expect("it waits for that");
    assert_eq!(client.says()["deleted"], 200);
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    wait::until("no flow is left", Duration::from_secs(5), || {
        daemon.flows().is_empty().then_some(())
    });
    daemon.stop();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn chromium_calls_a_sip_phone_that_is_a_full_ice_agent_with_dtls() {
    let line = Line::new();
    let mut phone = Program::new(PYTHON)
        .inside(Some(&line.sip))
        .args([PHONE, &Line::SIP.to_string(), PHONE_PORT])
        .start();
    phone.wait_for_line("ready", Duration::from_secs(20));
    let config = Datapath::XdpNative.config(&line, None);
    let dtls = config.replace("[rtp]", "srtp = \"dtls\"\n\n[rtp]");
    assert_ne!(dtls, config);
    let to = format!("sip:phone@{}:{PHONE_PORT}", Line::SIP);
    super::call_to(&line, &line.browser, &dtls, &to, |_, daemon| {
        for flow in daemon.flows() {
            assert_eq!(flow["action"], "transcrypt", "{flow}");
        }
    });
    phone.wait_for_line("connected", Duration::from_secs(1));
    phone.wait_for_line("closed", Duration::from_secs(5));
}
