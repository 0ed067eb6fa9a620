//! A page against a gateway of a few lines: the wire format of the API, and the course of a call.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::webrtc::{LoadConfig, Refused, load};

/// A gateway whose media side is an echo. Serves one request per connection.
struct FakeGateway {
    engine: Engine,
    echo: Option<Connection>,
    events: Vec<Value>,
    requests: Vec<String>,
}

impl FakeGateway {
    fn start() -> (String, Arc<Mutex<Self>>) {
        let gateway = Self {
            engine: Engine::start().unwrap(),
            echo: None,
            events: Vec::new(),
            requests: Vec::new(),
        };
        let gateway = Arc::new(Mutex::new(gateway));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&gateway);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &shared);
            }
        });
        (url, gateway)
    }

    fn event(&mut self, mut event: Value) {
        event["id"] = json!(self.events.len() + 1);
        self.events.push(event);
    }

    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let view = json!({
            "id": "c1", "direction": "outgoing", "state": "connected", "peer": "sip:echo@localhost",
            "codec": "PCMU/8000",
            "suite": null, "dtls": null, "to_sip": null, "to_browser": null, "duration_s": 1.5,
            "statistics": {
                "to_sip": counters(), "to_browser": counters(), "browser_rtt_ms": null, "sip_rtt_ms": null,
            },
        });
        match (method, path.split('?').next().unwrap()) {
            ("POST", "/api/v1/sessions") if body["password"] == "wrong" => (
                401,
                json!({ "type": "wrong-password", "status": 401, "title": "Unauthorized", "detail": "no such user" }),
            ),
            ("POST", "/api/v1/sessions") => (
                201,
                json!({ "id": "s1", "token": "t", "address": "sip:alice@localhost", "registered": false }),
            ),
            ("POST", "/api/v1/sessions/s1/calls") if body["to"] == "nobody" => {
                self.event(json!({
                    "type": "call.ended", "call": "c1", "by": "sip", "status": 404, "reason": "Not Found",
                }));
                (201, view)
            }
            ("POST", "/api/v1/sessions/s1/calls") => {
                self.take(body["offer"].as_str().unwrap());
                (201, view)
            }
            ("POST", "/api/v1/sessions/s1/calls/c1/answer") => {
                let answer = body["answer"].as_str().unwrap();
                let echo = self.echo.as_ref().unwrap();
                echo.with(|peer, now| peer.accept_answer(answer, now))
                    .unwrap();
                self.connected();
                (200, view)
            }
            ("GET", "/api/v1/sessions/s1/calls/c1") => (200, view),
            ("GET", "/api/v1/sessions/s1/events") => {
                let after = path
                    .split("after=")
                    .nth(1)
                    .unwrap()
                    .split('&')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                (
                    200,
                    json!({ "events": self.events[after..], "last": self.events.len() }),
                )
            }
            ("DELETE", _) => (204, Value::Null),
            _ => (404, Value::Null),
        }
    }

    fn take(&mut self, offer: &str) {
        let echo = self.peer();
        let answer = echo.with(|peer, now| peer.answer(offer, now)).unwrap();
        self.echo = Some(echo);
        self.event(json!({ "type": "call.ringing", "call": "c1", "status": 180 }));
        self.event(
            json!({ "type": "call.answer", "call": "c1", "answer": answer, "early": false }),
        );
        self.connected();
    }

    /// Calls the page.
    fn ring(&mut self) {
        let echo = self.peer();
        let offer = echo.with(|peer, _| peer.offer(false)).unwrap();
        self.echo = Some(echo);
        let from = "sip:bob@localhost";
        self.event(json!({ "type": "call.incoming", "call": "c1", "from": from, "from_name": null, "offer": offer }));
    }

    fn peer(&self) -> Connection {
        let dtls = DtlsVersion::Auto;
        let config = |local| PeerConfig {
            local,
            codec: Codec::Pcmu,
            sound: Sound::Echo,
            dtls,
        };
        self.engine
            .connect(Ipv4Addr::LOCALHOST.into(), 77, config)
            .unwrap()
    }

    fn connected(&mut self) {
        let path = json!({ "path": "userspace", "reason": "a test" });
        self.event(json!({
            "type": "call.connected", "call": "c1", "codec": "PCMU/8000", "suite": "AES_CM_128_HMAC_SHA1_80",
            "to_sip": path, "to_browser": path,
        }));
    }
}

fn counters() -> Value {
    json!({ "packets": 1, "octets": 160, "lost": 0, "jitter_ms": 0.0, "dropped": 0 })
}

fn serve(mut stream: TcpStream, gateway: &Mutex<FakeGateway>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ').map(str::to_string);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut length = 0;
    let mut authorised = false;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        authorised |= header == "authorization: bearer t";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    assert!(
        authorised || path == "/api/v1/sessions",
        "no token on {path}"
    );
    let (status, reply) = {
        let mut gateway = gateway.lock().unwrap();
        gateway.requests.push(format!("{method} {path}"));
        gateway.answer(&method, &path, &body)
    };
    let reply = if reply.is_null() {
        String::new()
    } else {
        reply.to_string()
    };
    let head =
        format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let length = if status == 204 {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", reply.len())
    };
    stream
        .write_all(format!("{head}{length}\r\n{reply}").as_bytes())
        .unwrap();
}

fn config(gateway: &str) -> CallConfig {
    CallConfig {
        gateway: gateway.to_string(),
        talk_s: 1.0,
        connect_timeout_s: 10.0,
        ..CallConfig::default()
    }
}

#[test]
fn a_call_goes_from_sign_in_to_sign_out() {
    let (url, gateway) = FakeGateway::start();
    let engine = Engine::start().unwrap();
    let report = run_call(&engine, &config(&url)).unwrap();
    assert_eq!(report.codec, "PCMU/8000");
    assert_eq!(report.to_sip.reason, "a test");
    assert!(report.answer_ms.is_some() && report.ended.is_none());
    assert_eq!(report.view.unwrap().statistics.to_sip.octets, 160);
    let media = report.media;
    assert!(
        media.sent > 20 && media.received == media.sent && media.lost == 0,
        "{media:?}"
    );
    assert_eq!(media.round_trip.unwrap().count, media.sent);
    let requests = &gateway.lock().unwrap().requests;
    let end = &requests[requests.len() - 2..];
    assert_eq!(
        end,
        [
            "DELETE /api/v1/sessions/s1/calls/c1",
            "DELETE /api/v1/sessions/s1"
        ]
    );
}

#[test]
fn an_incoming_call_is_taken() {
    let (url, gateway) = FakeGateway::start();
    let engine = Engine::start().unwrap();
    let config = config(&url);
    let mut page = Page::sign_in(&config).unwrap();
    assert_eq!(page.address(), "sip:alice@localhost");
    gateway.lock().unwrap().ring();
    let mut call = page
        .take_call(&engine, &config, Duration::from_secs(10))
        .unwrap();
    page.wait_connected(&mut call, Duration::from_secs(10))
        .unwrap();
    page.talk(&mut call, Duration::from_secs(1)).unwrap();
    let report = page.hang_up(call).unwrap();
    assert_eq!(report.answer_ms, None);
    let media = report.media;
    assert!(media.sent > 20 && media.received == media.sent, "{media:?}");
    page.sign_out().unwrap();
}

#[test]
fn refusals_are_reported_as_the_gateway_said_them() {
    let (url, _gateway) = FakeGateway::start();
    let engine = Engine::start().unwrap();
    let wrong = CallConfig {
        password: Some("wrong".to_string()),
        ..config(&url)
    };
    let error = run_call(&engine, &wrong).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Refused>().unwrap().0.kind,
        "wrong-password"
    );
    let nobody = CallConfig {
        to: "nobody".to_string(),
        ..config(&url)
    };
    let error = run_call(&engine, &nobody).unwrap_err();
    assert!(
        format!("{error:#}").contains("404 Not Found (by sip)"),
        "{error:#}"
    );
}

#[test]
fn a_load_adds_its_calls_up() {
    // The fake gateway knows one call at a time, so they follow each other.
    let (url, _gateway) = FakeGateway::start();
    let call = CallConfig {
        to: "nobody".to_string(),
        ..config(&url)
    };
    let report = load(&LoadConfig {
        call,
        calls: 3,
        rate_per_s: 50.0,
        engines: 1,
    })
    .unwrap();
    assert_eq!((report.calls, report.completed), (3, 0));
    assert_eq!(report.failures.values().sum::<usize>(), 3);
}
