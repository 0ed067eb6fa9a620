//! Keys in a call with Opus whose telephone has events at 8 kHz alone: Chromium sends them at 48 kHz (`insertDTMF`), SIPp gets them at
//! 8 kHz and sends them back, and the page is told of what the telephone pressed. Both sides have audio levels as a header extension.

use serde_json::Value;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::capture::{Capture, Rtp};
use testbed::daemon::Daemon;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::page::DemoPage;
use testbed::sipp::Sipp;
use testbed::wait;

/// What is pressed, with the codes of the events (RFC 4733 section 3.2).
const KEYS: &str = "5#1155";
const CODES: [u8; 6] = [5, 11, 1, 1, 5, 5];
const PRESSED_MS: u64 = 200;
/// Payload type of the telephone's events.
const EVENT: u8 = 101;
/// Identifier that Chromium offers for audio levels, which the telephone takes; all other extensions it does not.
const LEVEL: u8 = 1;

pub(super) fn keys_pressed_beside_opus_at_a_telephone_with_events_at_8_khz(datapath: Datapath) {
    let line = Line::new();
    let _far_ends = datapath.far_ends(&line);
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/call/digits.xml");
    let mut sipp = Sipp::play(&line.sip, scenario, 1);
    let config = datapath.config(&line, None);
    let config = config.replace(r#"codecs = ["PCMU", "PCMA"]"#, r#"codecs = ["opus"]"#);
    let mut daemon = Daemon::start(Some(&line.gateway), &config);
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![daemon.url().to_owned()],
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("guest", "");
    let capture = Capture::start(&line.sip, Line::SIP_DEVICE);
    page.dial(sipp.address());
    page.wait_connected();
    for (path, reason) in page.paths() {
        assert_eq!(path, datapath.name(), "{reason}");
    }
    let codec = wait::until("the page hears", Duration::from_secs(10), || {
        Some(page.statistics().codec).filter(|codec| !codec.is_empty())
    });
    assert_eq!(codec, "audio/opus");
    page.tab().evaluate(
        "window.told = []; window.causeway.call.addEventListener('dtmf', \
        (event) => window.told.push([event.digit, event.durationMs]))",
    );
    page.tab().evaluate(&format!(
        "window.causeway.call.dtmf('{KEYS}', {PRESSED_MS})"
    ));
    let told = || page.tab().evaluate("window.told");
    wait::until(
        "the page is told of every key",
        Duration::from_secs(15),
        || (told().as_array().map_or(0, Vec::len) >= KEYS.len()).then_some(()),
    );
    // Nothing is told twice, not by the repeated ends either.
    sleep(Duration::from_secs(1));
    check_told(&told());
    page.hang_up();
    assert!(sipp.went_well(), "SIPp's scenario did not go as it says");
    check_wire(&capture.finish());
    page.sign_out();
    daemon.stop();
}

/// Chromium rounds what it sends up to its packets.
fn is_as_pressed(milliseconds: u64) -> bool {
    (PRESSED_MS..PRESSED_MS + 80).contains(&milliseconds)
}

fn check_told(told: &Value) {
    let digits: String = told
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event[0].as_str())
        .collect();
    assert_eq!(digits, KEYS, "{told}");
    for event in told.as_array().into_iter().flatten() {
        let duration_ms = event[1].as_u64().unwrap_or_default();
        assert!(is_as_pressed(duration_ms), "{told}");
    }
}

/// The wire's word: durations at 8 kHz, and timestamps among those of the voice.
fn check_wire(packets: &[Rtp]) {
    let gateway = format!("{}:", Line::GATEWAY_SIP);
    let sent: Vec<&Rtp> = packets
        .iter()
        .filter(|packet| packet.from.starts_with(&gateway))
        .collect();
    // Chromium puts none into its events.
    for voice in sent.iter().filter(|packet| packet.payload_type != EVENT) {
        assert_eq!(voice.extensions, [LEVEL], "{voice:?}");
    }
    let mut events: BTreeMap<u32, Vec<&Rtp>> = BTreeMap::new();
    for packet in sent.iter().filter(|packet| packet.payload_type == EVENT) {
        events.entry(packet.timestamp).or_default().push(packet);
    }
    let codes: Vec<u8> = events
        .values()
        .map(|packets| packets[0].payload[0])
        .collect();
    assert_eq!(codes, CODES, "one timestamp for each event: {events:?}");
    for (timestamp, packets) in &events {
        let duration =
            |packet: &Rtp| u64::from(packet.payload[2]) << 8 | u64::from(packet.payload[3]);
        let ends = packets
            .iter()
            .filter(|packet| packet.payload[1] & 0x80 != 0);
        let ends: Vec<u64> = ends.map(|packet| duration(packet)).collect();
        assert!(!ends.is_empty(), "an event without an end: {packets:?}");
        assert!(ends.iter().all(|end| is_as_pressed(end / 8)), "{ends:?}");
        let first = duration(packets[0]);
        assert!(
            first <= 8 * 60,
            "the first packet says {first}: {packets:?}"
        );
        let near = |voice: &&&Rtp| {
            let distance = voice.timestamp.wrapping_sub(*timestamp).cast_signed();
            voice.payload_type != EVENT && distance.unsigned_abs() < 48_000
        };
        assert!(
            sent.iter().any(|voice| near(&voice)),
            "{timestamp} is not the voice's"
        );
    }
}
