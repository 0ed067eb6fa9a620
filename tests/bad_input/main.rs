//! What bad input gets from the real daemon: problem documents, SIP refusals and 503, and a gateway that goes on.
//!
//! One daemon per test on loopback with the userspace datapath; the SIP peer is a socket of the test, so nothing but
//! the daemon decides what happens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod flood;

use serde_json::{Value, json};
use std::net::UdpSocket;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::daemon::Daemon;
use testbed::http::Response;
use testbed::page::DemoPage;
use testbed::wait;

/// A daemon whose SIP peer is the given socket, with media ports for that many calls.
fn start(peer: &UdpSocket, calls: u16) -> Daemon<'static> {
    let port = || {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
        probe.local_addr().unwrap().port()
    };
    let first = 30_000;
    let config = format!(
        r#"[http]
listen = "127.0.0.1:{}"
admin_listen = "127.0.0.1:{}"

[web]
listen = ["127.0.0.1:{}"]

[sip]
listen_udp = "127.0.0.1:{sip}"
listen_tcp = "127.0.0.1:{sip}"
outbound_proxy = "{}"

[rtp]
ports = "{first}-{}"

[datapath]
mode = "userspace"
"#,
        port(),
        port(),
        port(),
        peer.local_addr().unwrap(),
        first + calls * 2 - 1,
        sip = SIP_PORT,
    );
    Daemon::start(None, &config)
}

const SIP_PORT: u16 = 25_062;

fn silent_peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// An offer as browsers make it.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\n\
a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlDn\r\na=ice-options:trickle\r\n\
a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24\r\n\
a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n\
a=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\n\
a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r\n";

#[track_caller]
fn is_problem(response: &Response, statuses: &[u16]) {
    assert!(statuses.contains(&response.status), "{response:?}");
    assert!(
        response
            .content_type
            .starts_with("application/problem+json"),
        "{response:?}"
    );
    let problem = response.json();
    assert_eq!(problem["status"], response.status, "{response:?}");
    assert!(
        problem["title"]
            .as_str()
            .is_some_and(|title| !title.is_empty()),
        "{response:?}"
    );
}

#[test]
#[ignore = "needs the daemon: cargo xtask test"]
fn malformed_http_and_json_get_problem_documents() {
    let peer = silent_peer();
    let mut daemon = start(&peer, 4);
    let post = |path: &str, body: &str| daemon.request("POST", path, None, Some(body));
    is_problem(&post("/api/v1/sessions", "{"), &[400]);
    is_problem(&post("/api/v1/sessions", "[]"), &[400, 422]);
    is_problem(&post("/api/v1/sessions", r#"{"user":7}"#), &[400, 422]);
    is_problem(&post("/api/v1/sessions", r#"{"nobody":"x"}"#), &[400, 422]);
    is_problem(
        &post(
            "/api/v1/sessions",
            &format!(r#"{{"user":"{}"}}"#, "x".repeat(2_000_000)),
        ),
        &[400, 413],
    );
    is_problem(
        &daemon.request("GET", "/api/v1/nothing", None, None),
        &[404],
    );
    is_problem(
        &daemon.request("DELETE", "/api/v1/sessions", None, None),
        &[405],
    );
    let (session, token) = daemon.guest();
    let own = format!("/api/v1/sessions/{session}");
    is_problem(&daemon.request("GET", &own, None, None), &[401]);
    is_problem(&daemon.request("GET", &own, Some("wrong"), None), &[401]);
    is_problem(
        &daemon.request(
            "GET",
            "/api/v1/sessions/AAAAAAAAAAAAAAAA",
            Some(&token),
            None,
        ),
        &[401, 404],
    );
    is_problem(
        &daemon.request(
            "GET",
            &format!("{own}/calls/AAAAAAAAAAAAAAAA"),
            Some(&token),
            None,
        ),
        &[404],
    );
    is_problem(
        &daemon.request(
            "GET",
            &format!("{own}/events?after=x&wait=y"),
            Some(&token),
            None,
        ),
        &[400, 422],
    );
    assert_eq!(daemon.request("GET", &own, Some(&token), None).status, 200);
    assert!(daemon.runs());
}

#[test]
#[ignore = "needs the daemon: cargo xtask test"]
fn malformed_offers_are_refused_and_other_calls_stay() {
    let peer = silent_peer();
    let mut daemon = start(&peer, 4);
    let (session, token) = daemon.guest();
    let calls = format!("/api/v1/sessions/{session}/calls");
    let dial = |offer: &str| {
        let body = json!({"to": "echo", "offer": offer}).to_string();
        daemon.request("POST", &calls, Some(&token), Some(&body))
    };
    let standing = dial(OFFER);
    assert_eq!(standing.status, 201, "{standing:?}");
    let bad = [
        String::new(),
        "v=0".to_owned(),
        "hello\r\n".to_owned(),
        OFFER.replace("v=0\r\n", "v=1\r\n"),
        OFFER.replace("m=audio", "m=video"),
        OFFER.replace("m=audio 9", "m=audio 99999999"),
        OFFER.replace("a=fingerprint:sha-256", "a=nothing:sha-256"),
        OFFER.replace("a=ice-ufrag:4ZcD\r\n", ""),
        OFFER.replace("75:74:5A", "ZZ:74:5A"),
        OFFER.replace(
            "UDP/TLS/RTP/SAVPF 111 9 0 8 13 110 126",
            "UDP/TLS/RTP/SAVPF 99",
        ),
        OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        OFFER.to_owned() + &"a=x\r\n".repeat(40_000),
    ];
    for offer in &bad {
        let response = dial(offer);
        let head: String = offer.chars().take(40).collect();
        assert!(
            (400..500).contains(&response.status),
            "{head:?}...: {response:?}"
        );
        is_problem(&response, &[response.status]);
    }
    let id = standing.json()["id"].as_str().unwrap().to_owned();
    let view = daemon.request("GET", &format!("{calls}/{id}"), Some(&token), None);
    assert_eq!(
        (view.status, view.json()["state"].clone()),
        (200, Value::from("calling"))
    );
    assert!(daemon.runs());
}

#[test]
#[ignore = "needs the daemon: cargo xtask test"]
fn used_up_ports_get_503_with_retry_after() {
    let peer = silent_peer();
    let daemon = start(&peer, 1);
    let (session, token) = daemon.guest();
    let calls = format!("/api/v1/sessions/{session}/calls");
    let body = json!({"to": "echo", "offer": OFFER}).to_string();
    let first = daemon.request("POST", &calls, Some(&token), Some(&body));
    assert_eq!(first.status, 201, "{first:?}");
    let second = daemon.request("POST", &calls, Some(&token), Some(&body));
    is_problem(&second, &[503]);
    assert!(second.retry_after.is_some(), "{second:?}");
    // The port comes back with the end of the first.
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        daemon
            .request("DELETE", &format!("{calls}/{id}"), Some(&token), None)
            .status,
        204
    );
    wait::until("the port is free again", Duration::from_secs(40), || {
        let again = daemon.request("POST", &calls, Some(&token), Some(&body));
        (again.status == 201).then_some(())
    });
}

#[test]
#[ignore = "needs the daemon: cargo xtask test"]
fn malformed_sip_is_refused_or_dropped_and_the_gateway_goes_on() {
    let peer = silent_peer();
    let mut daemon = start(&peer, 4);
    let to = ("127.0.0.1", SIP_PORT);
    let own = peer.local_addr().unwrap();
    let request = |method: &str, more: &str, body: &str| {
        let branch = format!("z9hG4bK{method}{}", more.len() + body.len());
        format!(
            "{method} sip:x@127.0.0.1:{SIP_PORT} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{own}>;tag=1\r\nTo: <sip:x@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:a@{own}>\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let noise = [
        "\r\n\r\n".to_owned(),
        "INVITE".to_owned(),
        "\0\u{1}\u{2}".to_owned(),
        "x".repeat(60_000),
    ];
    for datagram in &noise {
        peer.send_to(datagram.as_bytes(), to).unwrap();
    }
    let broken = request("OPTIONS", "", "").replace("CSeq: 1 OPTIONS", "CSeq: one OPTIONS");
    assert_eq!(answer(&peer, &broken), 400);
    assert_eq!(answer(&peer, &request("NOTHING", "", "")), 501);
    let version = request("OPTIONS", "Subject: version\r\n", "")
        .replace("x@127.0.0.1:25062 SIP/2.0", "x@127.0.0.1:25062 SIP/7.0");
    assert_eq!(answer(&peer, &version), 505);
    let sdp = "Content-Type: application/sdp\r\n";
    let refused = answer(&peer, &request("INVITE", sdp, "v=0\r\nm=audio"));
    assert!([400, 404, 480, 488].contains(&refused), "{refused}");
    assert_eq!(answer(&peer, &request("OPTIONS", "", "")), 200);
    assert!(daemon.runs());
}

/// Sends a request and gives the status of its final answer.
fn answer(peer: &UdpSocket, request: &str) -> u16 {
    peer.send_to(request.as_bytes(), ("127.0.0.1", SIP_PORT))
        .unwrap();
    let call = request
        .lines()
        .find(|line| line.starts_with("Call-ID: "))
        .unwrap();
    loop {
        let mut buffer = [0; 65_536];
        let length = peer
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{error}: no answer to {request}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let status = text
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        if let Some(status @ 200..) = status
            && text.contains(call)
        {
            return status;
        }
    }
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn a_wrong_fingerprint_ends_the_call_and_installs_nothing() {
    let peer = silent_peer();
    let daemon = start(&peer, 4);
    let browser = Browser::start(&Options {
        loopback: true,
        ..Options::default()
    });
    let page = DemoPage::open(&browser, daemon.url());
    page.sign_in("", "");
    // The page's own library, but with one digit of the fingerprint changed on its way to the gateway.
    page.tab().evaluate(
        "(() => {
            const genuine = window.fetch;
            const other = (all, head, digit) => head + (digit === '0' ? '1' : '0');
            window.fetch = (url, options) => {
                if (!options?.body) return genuine(url, options);
                const body = options.body.replace(/(fingerprint:sha-256 )(.)/, other);
                return genuine(url, { ...options, body });
            };
        })()",
    );
    page.dial("echo");
    let invite = receive(&peer, "INVITE");
    accept(&peer, &invite);
    let ended = page.wait_ended();
    assert_eq!(ended["by"], "gateway", "{ended}");
    let reason = ended["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("fingerprint") || reason.contains("certificate"),
        "{ended}"
    );
    assert_eq!(daemon.flows(), Vec::<Value>::new());
}

/// Waits for a request of that method.
fn receive(peer: &UdpSocket, method: &str) -> String {
    loop {
        let mut buffer = [0; 65_536];
        let length = peer
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{error}: no {method}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with(method) {
            return text;
        }
    }
}

/// Answers an INVITE with 200 and G.711.
fn accept(peer: &UdpSocket, invite: &str) {
    let own = peer.local_addr().unwrap();
    let kept = ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"];
    let mut headers: Vec<_> = invite
        .lines()
        .filter(|line| kept.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    let to = invite.lines().find(|line| line.starts_with("To:")).unwrap();
    headers.push(format!("{to};tag=peer"));
    headers.push(format!("Contact: <sip:echo@{own}>"));
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 31000 RTP/AVP 0\r\n";
    let head = headers.join("\r\n");
    let answer = format!(
        "SIP/2.0 200 OK\r\n{head}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    peer.send_to(answer.as_bytes(), ("127.0.0.1", SIP_PORT))
        .unwrap();
}
