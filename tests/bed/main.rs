//! The test bed itself: if this fails, the failures of the other targets mean nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use testbed::baresip::Baresip;
use testbed::browser::{Browser, Options};
use testbed::kamailio::Kamailio;
use testbed::netns::{Line, Namespace};
use testbed::xdp_pass::XdpPass;

/// Whether the far host answers at all: nothing listens there, so it refuses.
fn reaches(namespace: &Namespace, far: Ipv4Addr) -> bool {
    let address = (far, 9).into();
    let connected =
        namespace.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(3)));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn namespaces_reach_their_neighbours_and_go_away() {
    let line = Line::new();
    let names = [&line.browser, &line.gateway, &line.sip].map(Namespace::path);
    assert!(reaches(&line.browser, Line::GATEWAY_WEB));
    assert!(reaches(&line.gateway, Line::SIP));
    let bpffs = line.bpffs.path().to_path_buf();
    drop(line);
    assert!(names.iter().all(|name| !name.exists()));
    assert!(!bpffs.exists());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn xdp_pass_attaches_natively_and_lets_everything_through() {
    let line = Line::new();
    let _far = XdpPass::attach(&line.browser, Line::BROWSER_DEVICE);
    let link = line
        .browser
        .run(&["ip", "-d", "link", "show", "dev", Line::BROWSER_DEVICE]);
    assert!(link.contains("prog/xdp"), "{link}");
    assert!(!link.contains("xdpgeneric"), "{link}");
    assert!(reaches(&line.browser, Line::GATEWAY_WEB));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_phone_registers_at_kamailio() {
    let line = Line::new();
    let _kamailio = Kamailio::start(&line.sip);
    let _phone = Baresip::registered(
        &line.sip,
        "bob",
        Kamailio::DOMAIN,
        &Kamailio::password("bob"),
    );
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn chromium_evaluates_and_has_a_microphone() {
    let line = Line::new();
    let origin = format!("http://{}:8000", Line::GATEWAY_WEB);
    let listener = line
        .gateway
        .enter(|| TcpListener::bind((Line::GATEWAY_WEB, 8000)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    let browser = Browser::start(&Options {
        namespace: Some(&line.browser),
        secure_origins: vec![origin.clone()],
        ..Options::default()
    });
    let tab = browser.open(&origin);
    assert_eq!(tab.evaluate("document.title"), "bed");
    assert_eq!(tab.evaluate("window.isSecureContext"), true);
    let tracks =
        "navigator.mediaDevices.getUserMedia({audio: true}).then((s) => s.getAudioTracks().length)";
    assert_eq!(tab.evaluate(tracks), 1);
}

/// Answers one request with an empty page.
fn serve(mut stream: TcpStream) {
    const BODY: &str = "<!doctype html><title>bed</title>";
    let _ = stream.read(&mut [0; 4096]);
    let length = BODY.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // The browser may have gone away.
    let _ = stream.write_all((head + BODY).as_bytes());
}
