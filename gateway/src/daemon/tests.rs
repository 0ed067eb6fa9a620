//! The whole daemon in one process: start, requests, drain, stop.

use super::*;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(3);

/// A running daemon and its SIP server, which is a socket that the test reads.
struct Bed {
    public: SocketAddr,
    admin: SocketAddr,
    stop: mpsc::Sender<()>,
    daemon: JoinHandle<Result<()>>,
    sip: UdpSocket,
}

async fn bed() -> Bed {
    let sip = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[web]\nlisten = [\"127.0.0.1:0\"]\n\
         [sip]\nlisten_udp = \"127.0.0.1:0\"\nlisten_tcp = \"127.0.0.1:0\"\noutbound_proxy = \"{}\"\n\
         [rtp]\nports = \"46000-46099\"\n[datapath]\nmode = \"userspace\"\n",
        sip.local_addr().unwrap()
    );
    let config = Config::parse("test", &text).unwrap();
    let daemon = Daemon::start(config).await.unwrap();
    let (public, admin) = daemon.addresses;
    let (stop, stopped) = mpsc::channel(2);
    let daemon = tokio::spawn(daemon.serve(stopped));
    Bed {
        public,
        admin,
        stop,
        daemon,
        sip,
    }
}

impl Bed {
    /// The next request of the gateway at the SIP server.
    async fn sip_request(&self) -> (String, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = timeout(SOON, self.sip.recv_from(&mut buffer))
            .await
            .expect("a SIP request")
            .unwrap();
        (String::from_utf8(buffer[..length].to_vec()).unwrap(), from)
    }

    /// Answers a request with 200 and the same Contact.
    async fn accept(&self, request: &str, to: SocketAddr) {
        let kept = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"];
        let lines = request
            .lines()
            .filter(|line| kept.iter().any(|name| line.starts_with(name)));
        let headers: String = lines.map(|line| format!("{line}\r\n")).collect();
        let answer = format!("SIP/2.0 200 OK\r\n{headers}Content-Length: 0\r\n\r\n");
        self.sip.send_to(answer.as_bytes(), to).await.unwrap();
    }

    /// Waits for the daemon's end.
    async fn ended(self) {
        timeout(SOON + SOON, self.daemon)
            .await
            .expect("the daemon stops")
            .unwrap()
            .unwrap();
    }
}

/// Status and JSON of one request.
async fn fetch(addr: SocketAddr, line: &str, body: &str) -> (u16, Value) {
    let (status, text) = timeout(SOON, exchange(addr, line, "", body))
        .await
        .expect("a response");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn exchange(addr: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

#[tokio::test]
async fn a_guest_signs_in_a_drained_gateway_takes_no_more_and_a_stop_ends_the_session() {
    let bed = bed().await;
    assert_eq!(fetch(bed.admin, "GET /ready", "").await.0, 200);
    let (status, created) = fetch(bed.public, "POST /api/v1/sessions", "{\"user\":\"Ann\"}").await;
    assert_eq!((status, &created["registered"]), (201, &Value::Bool(false)));
    assert_eq!(fetch(bed.admin, "POST /admin/v1/drain", "").await.0, 204);
    let (status, problem) = fetch(bed.public, "POST /api/v1/sessions", "{}").await;
    assert_eq!((status, problem["type"].as_str()), (503, Some("draining")));
    assert_eq!(fetch(bed.admin, "GET /ready", "").await.0, 503);
    let (id, token) = (
        created["id"].as_str().unwrap(),
        created["token"].as_str().unwrap(),
    );
    let line = format!("GET /api/v1/sessions/{id}/events");
    let headers = format!("accept: text/event-stream\r\nauthorization: Bearer {token}\r\n");
    let public = bed.public;
    let stream = tokio::spawn(async move { exchange(public, &line, &headers, "").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    bed.stop.send(()).await.unwrap();
    let (status, text) = timeout(SOON, stream)
        .await
        .expect("the stream ends")
        .unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("event: session.ended"), "{text}");
    bed.ended().await;
}

#[tokio::test]
async fn a_registered_user_is_unregistered_at_stop_and_a_silent_registrar_costs_three_seconds() {
    let bed = bed().await;
    let public = bed.public;
    let body = "{\"user\":\"alice\",\"password\":\"secret\"}";
    let signing_in =
        tokio::spawn(async move { fetch(public, "POST /api/v1/sessions", body).await });
    let (request, from) = bed.sip_request().await;
    assert!(
        request.starts_with("REGISTER sip:localhost SIP/2.0\r\n"),
        "{request}"
    );
    bed.accept(&request, from).await;
    let (status, created) = signing_in.await.unwrap();
    assert_eq!(
        (status, created["address"].as_str()),
        (201, Some("sip:alice@localhost"))
    );
    let start = Instant::now();
    bed.stop.send(()).await.unwrap();
    let (request, _) = bed.sip_request().await;
    assert!(
        request.starts_with("REGISTER ") && request.contains("xpires: 0"),
        "{request}"
    );
    bed.ended().await;
    let took = start.elapsed();
    assert!((2500..4500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let bed = bed().await;
    let public = bed.public;
    let body = "{\"user\":\"alice\",\"password\":\"secret\"}";
    let signing_in =
        tokio::spawn(async move { fetch(public, "POST /api/v1/sessions", body).await });
    let (request, from) = bed.sip_request().await;
    bed.accept(&request, from).await;
    assert_eq!(signing_in.await.unwrap().0, 201);
    let start = Instant::now();
    bed.stop.send(()).await.unwrap();
    bed.sip_request().await;
    bed.stop.send(()).await.unwrap();
    bed.ended().await;
    assert!(
        start.elapsed() < Duration::from_millis(2000),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_page_that_left_while_it_was_registered_leaves_no_session() {
    let bed = bed().await;
    let body = "{\"user\":\"alice\",\"password\":\"secret\"}";
    let mut page = TcpStream::connect(bed.public).await.unwrap();
    let request = format!(
        "POST /api/v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    page.write_all(request.as_bytes()).await.unwrap();
    let (request, from) = bed.sip_request().await;
    drop(page);
    tokio::time::sleep(Duration::from_millis(200)).await;
    bed.accept(&request, from).await;
    let (request, from) = bed.sip_request().await;
    assert!(
        request.starts_with("REGISTER ") && request.contains("xpires: 0"),
        "{request}"
    );
    bed.accept(&request, from).await;
    bed.stop.send(()).await.unwrap();
    bed.ended().await;
}

#[tokio::test]
async fn noise_on_the_sip_ports_hurts_nobody() {
    let bed = bed().await;
    // Where SIP is spoken stands in the Contact of a registration.
    let public = bed.public;
    let body = "{\"user\":\"alice\",\"password\":\"secret\"}";
    let signing_in =
        tokio::spawn(async move { fetch(public, "POST /api/v1/sessions", body).await });
    let (request, gateway) = bed.sip_request().await;
    for noise in [
        &b"\r\n\r\n"[..],
        b"\0\xff\xfe",
        b"INVITE",
        &[b'A'; 60_000],
        b"SIP/2.0 999 \r\n\r\n",
    ] {
        bed.sip.send_to(noise, gateway).await.unwrap();
    }
    bed.accept(&request, gateway).await;
    assert_eq!(signing_in.await.unwrap().0, 201);
    assert_eq!(fetch(bed.admin, "GET /health", "").await.0, 200);
    bed.stop.send(()).await.unwrap();
    bed.stop.send(()).await.unwrap();
    bed.ended().await;
}
