//! API v1 over a WebSocket, in memory and in virtual time: who may open it, a session on it, resuming, bad input, and peers that are gone.

mod bounds;

use super::*;
use crate::http::serve::connection;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway_core::api::{CallId, Event};
use serde_json::json;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(super) const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "causeway.v1");
const SIGN_IN: &str = r#"{"id":"in","method":"POST","path":"/api/v1/sessions","body":{}}"#;
const VIEW: &str = r#"{"id":7,"method":"GET","path":"/api/v1/sessions/one"}"#;
/// What a connection holds that nobody reads.
const PIPE_BYTES: usize = 16 * 1024;

/// The page's end.
pub(super) struct Page(WebSocketStream<DuplexStream>);

impl Page {
    /// Opens a socket; else the status and kind that it was refused with.
    pub(super) async fn open(
        router: &Router,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = "ws://gateway.example.org/api/v1/socket"
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let router = router.clone();
        tokio::spawn(async move {
            let (_running, stop) = watch::channel(false);
            connection(far, SOURCE.parse().unwrap(), router, stop).await;
        });
        match tokio_tungstenite::client_async(request, near).await {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], "causeway.v1");
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// One that is signed in as the session `one`.
    async fn signed_in(bed: &Bed) -> Self {
        let mut page = Self::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
        assert_eq!(page.ask(SIGN_IN).await["status"], 201);
        page
    }

    async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next frame; the code where the gateway closes, null where it goes without a word.
    async fn next(&mut self) -> Value {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => {
                    return json!({"closed": frame.map(|frame| u16::from(frame.code))});
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Value::Null,
            }
        }
    }

    /// Sends a frame and gives the next one.
    pub(super) async fn ask(&mut self, text: &str) -> Value {
        self.send(text).await;
        self.next().await
    }

    /// The status and kind that a frame is refused with, under the name that it has.
    async fn refusal(&mut self, text: &str, id: Value) -> (u64, String) {
        let frame = self.ask(text).await;
        assert_eq!(frame["id"], id, "{frame}");
        assert_eq!(frame["body"]["status"], frame["status"], "{frame}");
        let kind = frame["body"]["type"].as_str().unwrap();
        (frame["status"].as_u64().unwrap(), kind.to_owned())
    }

    /// Numbers of the next events.
    async fn events(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let frame = self.next().await;
            assert_eq!(frame["event"]["type"], "call.ringing", "{frame}");
            numbers.push(frame["event"]["id"].as_u64().unwrap());
        }
        numbers
    }
}

/// The core tells the session something, so often.
fn push(bed: &Bed, count: u16) {
    for status in 0..count {
        let call = CallId("c".into());
        let event = Event::Ringing { call, status };
        bed.shell.sessions.push(&SessionId("one".into()), &event);
    }
}

fn readers(bed: &Bed) -> usize {
    8 - bed
        .shell
        .sessions
        .by_token("secret")
        .unwrap()
        .readers
        .available_permits()
}

/// A bed whose core is the test itself.
fn bare(settings: &Settings) -> (Router, Arc<Sessions>, mpsc::Receiver<Ask>) {
    let (loop_, asks) = mpsc::channel(64);
    let shell = Shell {
        loop_,
        sessions: Arc::default(),
        metrics: Arc::new(Metrics::new()),
        standing: Arc::default(),
        roap: Arc::default(),
        whip: Arc::default(),
        tokens: None,
        ice: Arc::default(),
    };
    let sessions = Arc::clone(&shell.sessions);
    (public(shell, settings), sessions, asks)
}

#[tokio::test(start_paused = true)]
async fn the_api_s_websocket_is_for_its_subprotocol_and_for_pages_of_allowed_origins() {
    let bed = bed();
    for (headers, status) in [
        (&[][..], Err(400)),
        (&[("sec-websocket-protocol", "sip")][..], Err(400)),
        (
            &[PROTOCOL, ("origin", "https://evil.example")][..],
            Err(403),
        ),
        (
            &[PROTOCOL, ("origin", "https://desk.example.org")][..],
            Ok(()),
        ),
        (
            &[PROTOCOL, ("origin", "https://gateway.example.org")][..],
            Ok(()),
        ),
        (&[PROTOCOL][..], Ok(())),
    ] {
        let opened = Page::open(&bed.public, headers).await;
        assert_eq!(opened.map(|_| ()), status, "{headers:?}");
    }
    let plain = request("GET", "/api/v1/socket")
        .body(Body::empty())
        .unwrap();
    let plain = send(&bed.public, plain).await;
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(read(plain).await["type"], "upgrade");
}

/// Requests of the session by their statuses.
async fn routes_answer(page: &mut Page) {
    let call = "/api/v1/sessions/one/calls/c";
    for (method, path, body, status) in [
        (
            "POST",
            format!("{call}/offer"),
            json!({"offer": "v=0"}),
            200,
        ),
        (
            "POST",
            format!("{call}/candidates"),
            json!({"candidates": []}),
            204,
        ),
        ("POST", format!("{call}/dtmf"), json!({"digits": "5"}), 204),
        (
            "POST",
            format!("{call}/transfer"),
            json!({"to": "bob"}),
            204,
        ),
        (
            "POST",
            format!("{call}/transfer"),
            json!({"two": "bob"}),
            422,
        ),
        ("GET", call.to_owned(), Value::Null, 404),
        ("DELETE", call.to_owned(), Value::Null, 204),
        ("GET", "/api/v1/sessions/two".to_owned(), Value::Null, 401),
        ("PATCH", call.to_owned(), Value::Null, 405),
        ("GET", "/sip".to_owned(), Value::Null, 404),
        ("GET", "/api/v1/socket".to_owned(), Value::Null, 404),
    ] {
        let frame = json!({"id": 1.5, "method": method, "path": path, "body": body});
        let answer = page.ask(&frame.to_string()).await;
        assert_eq!(answer["status"], status, "{frame}: {answer}");
        assert_eq!(answer["id"], 1.5);
        assert_eq!(answer.get("body").is_some(), status != 204, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_from_sign_in_to_sign_out_over_one_websocket() {
    let bed = bed();
    let mut page = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    assert_eq!(page.refusal(VIEW, json!(7)).await.0, 401);
    let signed = page.ask(SIGN_IN).await;
    assert_eq!(
        (&signed["id"], &signed["status"]),
        (&json!("in"), &json!(201))
    );
    assert_eq!(signed["body"]["token"], "secret");
    push(&bed, 2);
    assert_eq!(page.events(2).await, [1, 2]);
    // The routes of the API with their own statuses and problems, without a token in each frame.
    assert_eq!(
        page.ask(VIEW).await["body"]["address"],
        "sip:alice@example.org"
    );
    routes_answer(&mut page).await;
    // What happens while requests are answered is told all the same, and the end closes the socket.
    let session = SessionId("one".into());
    let reason = "signed out".to_owned();
    let ended = Event::SessionEnded { reason };
    bed.shell.sessions.push(&session, &ended);
    bed.shell.sessions.close(&session);
    assert_eq!(page.next().await["event"]["type"], "session.ended");
    assert_eq!(page.next().await, json!({"closed": 1000}));
}

#[tokio::test(start_paused = true)]
async fn a_broken_websocket_is_resumed_and_loses_and_repeats_nothing() {
    let bed = bed();
    let mut page = Page::signed_in(&bed).await;
    push(&bed, 3);
    assert_eq!(page.events(2).await, [1, 2]);
    drop(page);
    push(&bed, 2);
    let mut page = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    let resume = |after: u64, token: &str| {
        let path = format!("/api/v1/sessions/one/events?after={after}");
        json!({"id": "again", "method": "GET", "path": path, "token": token}).to_string()
    };
    for token in ["wrong", "not a token\n"] {
        let (status, _) = page.refusal(&resume(2, token), json!("again")).await;
        assert!(status == 400 || status == 401, "{status}");
    }
    let answer = page.ask(&resume(2, "secret")).await;
    assert_eq!(answer["body"], json!({"events": [], "last": 2}));
    assert_eq!(page.events(3).await, [3, 4, 5]);
    push(&bed, 1);
    assert_eq!(page.events(1).await, [6]);
    assert_eq!(page.ask(VIEW).await["status"], 200);
    // A number that never was must not hold back what comes.
    let mut page = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    let answer = page.ask(&resume(999, "secret")).await;
    assert_eq!(answer["body"]["last"], 6);
    push(&bed, 1);
    assert_eq!(page.events(1).await, [7]);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_carries_one_session() {
    let bed = bed();
    let mut page = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    // A sign-in that is refused leaves the place free.
    let full = r#"{"id":1,"method":"POST","path":"/api/v1/sessions","body":{"user":"full"}}"#;
    assert_eq!(
        page.refusal(full, json!(1)).await,
        (503, "session-limit".into())
    );
    assert_eq!(page.ask(SIGN_IN).await["status"], 201);
    assert_eq!(readers(&bed), 1);
    let events = r#"{"id":2,"method":"GET","path":"/api/v1/sessions/one/events?after=0"}"#;
    let second = (409, "second-session".to_owned());
    assert_eq!(page.refusal(SIGN_IN, json!("in")).await, second);
    assert_eq!(page.refusal(events, json!(2)).await, second);
    assert_eq!(readers(&bed), 1);
    push(&bed, 1);
    assert_eq!(page.events(1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_signs_out_and_goes_is_signed_out() {
    let (router, sessions, mut asks) = bare(&settings());
    sessions.open(&SessionId("one".into()), "secret");
    let mut page = Page::open(&router, &[PROTOCOL]).await.ok().unwrap();
    page.send(r#"{"id":1,"method":"DELETE","path":"/api/v1/sessions/one","token":"secret"}"#)
        .await;
    drop(page);
    let ask = tokio::time::timeout(Duration::from_secs(1), asks.recv()).await;
    assert!(matches!(
        ask,
        Ok(Some(Ask::Request(wire::Request::EndSession(_), _)))
    ));
}
