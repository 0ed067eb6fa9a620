//! A browser behind a firewall that lets HTTP out and no UDP at all: its media goes to a TURN server over TCP, from there to the gateway.
//!
//! ```text
//! inside (Chromium) --- the line's browser namespace: firewall and coturn --- gateway --- SIP
//! ```

use super::call;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};
use testbed::datapath::Datapath;
use testbed::netns::{self, Line, Namespace};
use testbed::turn::Turn;

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 2);
const FIREWALL: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 1);
/// The firewall's device towards the browser.
const DEVICE: &str = "fw-inside";
/// How long credentials are good for, seconds.
const LIFETIME_S: u64 = 600;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_behind_turn_over_tcp_alone_calls_a_phone() {
    let line = Line::new();
    let inside = Namespace::new("inside");
    firewall(&line, &inside);
    let turn = Turn::start(&line.browser, FIREWALL, Line::BROWSER);
    let config = Datapath::XdpNative.config(&line, None);
    let web = "[web]\n";
    assert!(config.contains(web));
    let relay = format!(
        "{web}ice_servers = [\"{}\"]\nturn_secret_file = \"{}\"\nturn_lifetime_s = {LIFETIME_S}\n",
        turn.url(),
        turn.secret_file().display(),
    );
    call(
        &line,
        &inside,
        &config.replace(web, &relay),
        |own, gateways| {
            assert_eq!(own["candidateType"], "relay", "{own}");
            assert_eq!(own["relayProtocol"], "tcp", "{own}");
            assert_eq!(own["address"], Line::BROWSER.to_string(), "{own}");
            assert_eq!(gateways["address"], Line::GATEWAY_WEB.to_string());
        },
    );
    assert!(
        refused(&line) > 0,
        "the browser did not even try to send UDP past the relay"
    );
    credentials_expire(&turn);
}

/// The user name that coturn granted a relay to is the time until which the page may ask for one.
fn credentials_expire(turn: &Turn) {
    let log = turn.log();
    let granted = log
        .iter()
        .find(|line| line.contains("ALLOCATE processed, success"));
    let granted = granted.unwrap_or_else(|| panic!("coturn granted nothing: {log:?}"));
    let user = granted.split("user <").nth(1).unwrap_or_default();
    let expires = user.split(':').next().and_then(|time| time.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    assert!(
        expires.is_some_and(|expires: u64| (now + 400..=now + LIFETIME_S).contains(&expires)),
        "{granted}"
    );
}

/// Joins the browser to the firewall, which forwards TCP alone; the TURN server on it takes TCP alone.
fn firewall(line: &Line, inside: &Namespace) {
    let firewall = &line.browser;
    netns::join((inside, "eth0", INSIDE), (firewall, DEVICE, FIREWALL));
    inside.run(&["ip", "route", "add", "default", "via", &text(FIREWALL)]);
    let back = [&text(INSIDE), "via", &text(Line::BROWSER)];
    line.gateway
        .run(&["ip", "route", "add", back[0], back[1], back[2]]);
    firewall.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    firewall.run(&["iptables", "-P", "FORWARD", "DROP"]);
    firewall.run(&["iptables", "-A", "FORWARD", "-p", "tcp", "-j", "ACCEPT"]);
    for chain in ["FORWARD", "INPUT"] {
        firewall.run(&[
            "iptables", "-A", chain, "-i", DEVICE, "-p", "udp", "-j", "DROP",
        ]);
    }
}

fn text(address: Ipv4Addr) -> String {
    address.to_string()
}

/// How many datagrams of the browser the firewall did not forward.
fn refused(line: &Line) -> u64 {
    let rules = line
        .browser
        .run(&["iptables", "-L", "FORWARD", "-v", "-x", "-n"]);
    let rule = rules.lines().find(|rule| rule.contains(DEVICE));
    let count = rule.and_then(|rule| rule.split_whitespace().next()?.parse().ok());
    count.unwrap_or_else(|| panic!("no rule for {DEVICE}: {rules}"))
}
