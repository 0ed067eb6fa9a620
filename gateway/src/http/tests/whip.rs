//! WHIP against a scripted core: a call from POST to DELETE, ICE by PATCH, failures, and clients that go away.

use super::*;
use gateway_core::api::{CallId, CallState, CallView, Direction, Event, Statistics};
use std::sync::Mutex;
use std::time::Duration;

const OFFER: &str = "v=0\r\no=- 42 7 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=ice-ufrag:aaaa\r\na=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\n";
const ANSWER: &str =
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:gate\r\na=ice-pwd:way\r\n";

/// A core with one session and one call, that writes down what it is asked.
struct Core {
    public: Router,
    shell: Shell,
    asked: Arc<Mutex<Vec<String>>>,
}

pub(super) fn view(id: &str) -> CallView {
    CallView {
        id: CallId(id.into()),
        direction: Direction::Outgoing,
        state: CallState::Calling,
        hold: None,
        muted: false,
        data: gateway_core::api::Data::new(),
        at_ms: 0,
        peer: "sip:echo@example.org".into(),
        codec: None,
        video: None,
        suite: None,
        sip_suite: None,
        dtls: None,
        to_sip: None,
        to_browser: None,
        duration_s: 0.0,
        statistics: Statistics::default(),
    }
}

fn core() -> Core {
    let (loop_, mut asks) = mpsc::channel(64);
    let shell = Shell {
        loop_,
        sessions: Arc::new(Sessions::default()),
        metrics: Arc::new(Metrics::new()),
        standing: Arc::new(Standing::default()),
        roap: Arc::default(),
        whip: Arc::default(),
        tokens: None,
        ice: Arc::default(),
    };
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (sessions, log) = (Arc::clone(&shell.sessions), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Some(ask) = asks.recv().await {
            let Ask::Request(request, back) = ask else {
                continue;
            };
            let (line, reply) = match request {
                wire::Request::CreateSession(..) => {
                    let created = SessionCreated {
                        id: SessionId("one".into()),
                        token: "secret".into(),
                        address: "sip:guest@example.org".into(),
                        registered: false,
                        ice_servers: Vec::new(),
                    };
                    sessions.open(&created.id, &created.token);
                    ("sign in".to_owned(), Reply::SessionCreated(created))
                }
                wire::Request::CreateCall(_, body) => (
                    format!("call {}", body.to),
                    Reply::Call(Box::new(view("call"))),
                ),
                wire::Request::Candidates(_, _, body) => {
                    (format!("candidates {:?}", body.candidates), Reply::Done)
                }
                wire::Request::Offer(_, _, body) => {
                    let answer = wire::Answered {
                        answer: ANSWER.into(),
                    };
                    (
                        format!("offer {}", body.offer.contains("a=ice-ufrag:cccc")),
                        Reply::Answered(answer),
                    )
                }
                wire::Request::EndSession(id) => {
                    sessions.close(&id);
                    ("sign out".to_owned(), Reply::Done)
                }
                _ => ("?".to_owned(), Reply::Done),
            };
            log.lock().unwrap().push(line);
            let _ = back.send(Ok(reply));
        }
    });
    let public = public(shell.clone(), &settings());
    Core {
        public,
        shell,
        asked,
    }
}

impl Core {
    fn push(&self, event: &Event) {
        self.shell.sessions.push(&SessionId("one".into()), event);
    }

    /// Waits until the core was asked for this.
    async fn until(&self, line: &str) {
        for _ in 0..200 {
            if self.asked.lock().unwrap().iter().any(|asked| asked == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never asked for {line}: {:?}", self.asked.lock().unwrap());
    }

    /// Posts the offer; the callee does what `event` says.
    async fn post(&self, event: Event) -> Response<Body> {
        let posted = send(
            &self.public,
            body("POST", "/whip/echo", "application/sdp", OFFER),
        );
        let answered = async {
            self.until("call echo").await;
            self.push(&event);
        };
        tokio::join!(posted, answered).0
    }
}

fn body(method: &str, path: &str, kind: &str, text: &str) -> Request<Body> {
    request(method, path)
        .header("content-type", kind)
        .body(Body::from(text.to_owned()))
        .unwrap()
}

fn patch(path: &str, if_match: &str, text: &str) -> Request<Body> {
    let mut request = body("PATCH", path, "application/trickle-ice-sdpfrag", text);
    request
        .headers_mut()
        .insert("if-match", if_match.parse().unwrap());
    request
}

fn answer() -> Event {
    Event::Answer {
        call: CallId("call".into()),
        answer: ANSWER.into(),
        early: false,
    }
}

fn ended(status: Option<u16>) -> Event {
    Event::Ended {
        call: CallId("call".into()),
        by: "sip".into(),
        status,
        reason: "Busy Here".into(),
        causes: Vec::new(),
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16)
        .await
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_call_from_post_to_delete_with_trickle_and_restart() {
    let core = core();
    let response = core.post(answer()).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("content-type"), header("etag")),
        ("application/sdp".into(), "\"0\"".into())
    );
    let location = header("location");
    assert!(!location.contains("secret"));
    assert_eq!(text(response).await, ANSWER);

    let trickle = "a=ice-ufrag:aaaa\r\na=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\r\n";
    let response = send(&core.public, patch(&location, "\"0\"", trickle)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    core.until("candidates [\"candidate:1 1 UDP 1 192.0.2.1 9 typ host\"]")
        .await;

    let restart = "a=ice-ufrag:cccc\r\na=ice-pwd:dddddddddddddddddddddd\r\n";
    let stale = send(&core.public, patch(&location, "\"0\"", restart)).await;
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
    let response = send(&core.public, patch(&location, "*", restart)).await;
    assert_eq!(
        (response.status(), &response.headers()["etag"]),
        (StatusCode::OK, &"\"1\"".parse().unwrap())
    );
    assert!(text(response).await.contains("a=ice-ufrag:gate\r\n"));
    core.until("offer true").await;
    let stale = send(&core.public, patch(&location, "\"0\"", trickle)).await;
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);

    let end = || request("DELETE", &location).body(Body::empty()).unwrap();
    assert_eq!(send(&core.public, end()).await.status(), StatusCode::OK);
    core.until("sign out").await;
    assert_eq!(
        send(&core.public, end()).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_call_that_fails_is_a_problem_and_leaves_no_session() {
    for (status, http) in [
        (Some(486), 503),
        (Some(404), 404),
        (Some(603), 403),
        (None, 502),
    ] {
        let core = core();
        let response = core.post(ended(status)).await;
        assert_eq!(response.status().as_u16(), http);
        assert_eq!(read(response).await["type"], "call-failed");
        core.until("sign out").await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_ends_its_session() {
    let core = core();
    let posted = send(
        &core.public,
        body("POST", "/whip/echo", "application/sdp", OFFER),
    );
    let gone = tokio::time::timeout(Duration::from_millis(200), posted).await;
    assert!(gone.is_err(), "nobody answered");
    core.until("sign out").await;
}

#[tokio::test]
async fn the_end_of_the_call_ends_session_and_resource() {
    let core = core();
    let response = core.post(answer()).await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    core.push(&ended(Some(200)));
    core.until("sign out").await;
    let response = send(
        &core.public,
        patch(&location, "\"0\"", "a=end-of-candidates\r\n"),
    )
    .await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_whip_is_refused() {
    let core = core();
    let status = async |request| send(&core.public, request).await.status().as_u16();
    assert_eq!(
        status(body("POST", "/whip/echo", "application/json", "{}")).await,
        415
    );
    assert_eq!(
        status(body("GET", "/whip/echo", "application/sdp", "")).await,
        405
    );
    let location = core.post(answer()).await.headers()["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let no_tag = body(
        "PATCH",
        &location,
        "application/trickle-ice-sdpfrag",
        "a=end-of-candidates\r\n",
    );
    assert_eq!(status(no_tag).await, 428);
    assert_eq!(status(patch(&location, "*", "no fragment")).await, 400);
    assert_eq!(
        status(patch(
            "/whip/sessions/unknown",
            "*",
            "a=end-of-candidates\r\n"
        ))
        .await,
        404
    );
    let options = send(
        &core.public,
        request("OPTIONS", "/whip/echo")
            .body(Body::empty())
            .unwrap(),
    )
    .await;
    assert_eq!(options.headers()["accept-post"], "application/sdp");
}
