//! aiortc as a WHIP client: another ICE agent (full), another DTLS (OpenSSL) and another SRTP (libsrtp) than the browsers'.

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
