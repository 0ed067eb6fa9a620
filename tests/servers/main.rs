//! SIP servers as they are found, and as they behave.
//!
//! A page whose SIP servers are found by DNS and spoken to over TLS: two Kamailios behind one name, the first of which dies.
//!
//! str0m is the page, so that the whole test takes seconds; baresip is a user of the second Kamailio.

mod sipp;

use bench::webrtc::{CallConfig, Engine, Page};
use std::path::Path;
use std::time::Duration;
use testbed::authority::{Authority, KeyPair};
use testbed::baresip::Baresip;
use testbed::daemon::Daemon;
use testbed::dns::Dns;
use testbed::kamailio::Kamailio;
use testbed::netns::Line;
use testbed::wait;

/// TLS ports of the first and the second Kamailio.
const FIRST: u16 = 5161;
const SECOND: u16 = 5061;

/// NAPTR leads to TLS, SRV to the first Kamailio and then to the second.
fn records() -> Vec<String> {
    let domain = Kamailio::DOMAIN;
    vec![
        format!("naptr-record={domain},10,10,s,SIPS+D2T,,_sips._tcp.{domain}"),
        format!("srv-host=_sips._tcp.{domain},first.{domain},{FIRST},10,1"),
        format!("srv-host=_sips._tcp.{domain},second.{domain},{SECOND},20,1"),
        format!("host-record=first.{domain},second.{domain},{}", Line::SIP),
    ]
}

fn config(line: &Line, own: &KeyPair, authority: &Path) -> String {
    format!(
        r#"[http]
listen = "{web}:8080"
admin_listen = "127.0.0.1:9090"

[web]
listen = ["{web}:40000"]

[sip]
listen_udp = ""
listen_tcp = ""
listen_tls = "{sip}:5061"
tls_certificate = "{certificate}"
tls_key = "{key}"
tls_ca = "{authority}"
name_servers = ["{dns}"]

[[trunk]]
name = "pbx"
destinations = ["*@{domain}"]
proxies = ["{domain}"]
options_s = 2

[rtp]
address = "{sip}"

[datapath]
mode = "userspace"
pin_dir = "{pins}/causeway"
"#,
        web = Line::GATEWAY_WEB,
        sip = Line::GATEWAY_SIP,
        certificate = own.certificate.display(),
        key = own.key.display(),
        authority = authority.display(),
        dns = Dns::address(),
        domain = Kamailio::DOMAIN,
        pins = line.bpffs.path().display(),
    )
}

fn alice() -> CallConfig {
    CallConfig {
        gateway: format!("http://{}:8080", Line::GATEWAY_WEB),
        user: Some(format!("alice@{}", Kamailio::DOMAIN)),
        password: Some(Kamailio::password("alice")),
        to: format!("bob@{}", Kamailio::DOMAIN),
        ..CallConfig::default()
    }
}

/// Whether the trunk's target at that port answers; `None` while nothing is known of it.
fn alive(daemon: &Daemon<'_>, port: u16) -> Option<bool> {
    let trunks = daemon.admin("/admin/v1/trunks").json();
    let targets = trunks[0]["targets"].as_array().cloned().unwrap_or_default();
    let address = format!("{}:{port}", Line::SIP);
    let target = targets.iter().find(|target| target["address"] == address)?;
    assert_eq!(target["transport"], "tls");
    target["alive"].as_bool()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_page_registers_over_tls_at_the_server_that_dns_names_first_and_moves_to_the_next_when_it_dies()
{
    let line = Line::new();
    let authority = Authority::new();
    let theirs = authority.issue("kamailio", &[Kamailio::DOMAIN]);
    let ours = authority.issue("gateway", &[&Line::GATEWAY_SIP.to_string()]);
    let _dns = Dns::start(&line.sip, &records());
    let first = Kamailio::secured(&line.sip, 5160, FIRST, &theirs);
    let _second = Kamailio::secured(&line.sip, 5060, SECOND, &theirs);
    let (domain, password) = (Kamailio::DOMAIN, Kamailio::password("bob"));
    let _bob = Baresip::registered(&line.sip, "bob", domain, &password);
    let mut daemon = Daemon::start(
        Some(&line.gateway),
        &config(&line, &ours, &authority.certificate()),
    );
    line.browser.enter(|| {
        let engine = Engine::start().expect("an engine");
        let mut page = Page::sign_in(&alice()).expect("alice is registered");
        for port in [FIRST, SECOND] {
            let limit = Duration::from_secs(10);
            wait::until("both servers answer OPTIONS", limit, || {
                alive(&daemon, port).filter(|alive| *alive)
            });
        }
        let registered = || daemon.metric("causeway_registrations_total", &["ok"]);
        let before = registered();
        drop(first);
        wait::until(
            "alice is registered elsewhere",
            Duration::from_secs(20),
            || (registered() > before).then_some(()),
        );
        wait::until(
            "the dead server is known to be",
            Duration::from_secs(10),
            || alive(&daemon, FIRST).filter(|alive| !alive),
        );
        // Bob is known to the second one only.
        let mut call = page.call(&engine, &alice()).expect("a call");
        page.wait_connected(&mut call, Duration::from_secs(20))
            .expect("connected");
        page.talk(&mut call, Duration::from_secs(2))
            .expect("a talk");
        let report = page.hang_up(call).expect("a report");
        assert!(report.media.received > 50, "{:?}", report.media);
        page.sign_out().expect("signed out");
    });
    let plain = daemon.metric("causeway_sip_messages_total", &["UDP"])
        + daemon.metric("causeway_sip_messages_total", &["TCP"]);
    assert_eq!(plain, 0.0, "nothing goes unprotected");
    daemon.stop();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_server_whose_certificate_names_another_host_gets_no_password() {
    let line = Line::new();
    let authority = Authority::new();
    let theirs = authority.issue("kamailio", &["elsewhere.test"]);
    let ours = authority.issue("gateway", &[&Line::GATEWAY_SIP.to_string()]);
    let _dns = Dns::start(&line.sip, &records());
    let _first = Kamailio::secured(&line.sip, 5160, FIRST, &theirs);
    let _second = Kamailio::secured(&line.sip, 5060, SECOND, &theirs);
    let mut daemon = Daemon::start(
        Some(&line.gateway),
        &config(&line, &ours, &authority.certificate()),
    );
    let refused = line.browser.enter(|| Page::sign_in(&alice()).err());
    let refused = format!("{:#}", refused.expect("no registration"));
    assert!(refused.contains("does not answer"), "{refused}");
    for port in [FIRST, SECOND] {
        assert_eq!(alive(&daemon, port), Some(false));
    }
    daemon.stop();
}
