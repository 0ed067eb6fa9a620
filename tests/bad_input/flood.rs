//! A flood of checks for a call that waits for its browser, by somebody who has the description and not the password.

use super::{OFFER, accept, receive, silent_peer, start};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use testbed::daemon::Daemon;
use testbed::{stun, wait};

/// Addresses that flood; each has a budget of its own.
const SOURCES: u8 = 5;
/// Checks of each: more than it may send at once.
const CHECKS: u32 = 8000;

/// What the gateway tells the page: where to, and with which names.
struct Told {
    address: SocketAddr,
    ufrag: String,
    password: String,
}

/// Places a call that the SIP side answers, and reads the page's answer.
fn call(daemon: &Daemon<'_>, peer: &UdpSocket) -> (String, String, Told) {
    let (session, token) = daemon.guest();
    let calls = format!("/api/v1/sessions/{session}/calls");
    let body = json!({"to": "echo", "offer": OFFER}).to_string();
    let placed = daemon.request("POST", &calls, Some(&token), Some(&body));
    assert_eq!(placed.status, 201, "{placed:?}");
    accept(peer, &receive(peer, "INVITE"));
    let path = format!("/api/v1/sessions/{session}/events?after=0&wait=1");
    let answer = wait::until("the page has its answer", Duration::from_secs(10), || {
        let told = daemon.request("GET", &path, Some(&token), None).json();
        let events = told["events"].as_array()?.iter();
        let mut answers = events.filter(|event| event["type"] == "call.answer");
        Some(answers.next()?["answer"].as_str()?.to_owned())
    });
    let line = |start: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(start));
        line.unwrap_or_else(|| panic!("no {start} in {answer}"))
    };
    let candidate: Vec<_> = line("a=candidate:").split(' ').collect();
    let told = Told {
        address: format!("{}:{}", candidate[4], candidate[5])
            .parse()
            .unwrap(),
        ufrag: line("a=ice-ufrag:").to_owned(),
        password: line("a=ice-pwd:").to_owned(),
    };
    let id = placed.json()["id"].as_str().unwrap().to_owned();
    (format!("{calls}/{id}"), token, told)
}

fn transaction(number: u32) -> [u8; 12] {
    let mut transaction = [0x5a; 12];
    transaction[..4].copy_from_slice(&number.to_be_bytes());
    transaction
}

#[test]
#[ignore = "needs the daemon: cargo xtask test"]
fn forged_checks_get_nothing_and_the_browser_its_answer() {
    let peer = silent_peer();
    let mut daemon = start(&peer, 4);
    let (call, token, told) = call(&daemon, &peer);
    let username = format!("{}:4ZcD", told.ufrag);
    let floods: Vec<_> = (2..2 + SOURCES)
        .map(|host| UdpSocket::bind((format!("127.0.0.{host}"), 0)).unwrap())
        .collect();
    for number in 0..CHECKS {
        let forged = stun::check(&username, b"not the password", transaction(number));
        for flood in &floods {
            flood.send_to(&forged, told.address).unwrap();
        }
    }
    // Right behind all that the browser comes.
    let browser = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Some(Duration::from_millis(100));
    browser.set_read_timeout(patience).unwrap();
    let genuine = stun::check(&username, told.password.as_bytes(), transaction(u32::MAX));
    let begun = Instant::now();
    wait::until("the browser has its answer", Duration::from_secs(5), || {
        browser.send_to(&genuine, told.address).unwrap();
        let mut bytes = [0; 1500];
        let length = browser.recv(&mut bytes).ok()?;
        stun::is_answer(&bytes[..length], transaction(u32::MAX)).then_some(())
    });
    println!("answered after {:?}", begun.elapsed());

    for flood in &floods {
        flood.set_nonblocking(true).unwrap();
        assert!(flood.recv(&mut [0; 1500]).is_err(), "a forger was answered");
    }
    let dropped = daemon.metric("causeway_packets_total", &["stun_over_budget"]);
    assert!(dropped > 0.0, "no source was over its budget");
    let view = daemon.request("GET", &call, Some(&token), None).json();
    assert_eq!(view["state"], Value::from("connecting"), "{view}");
    assert!(daemon.runs());
}
