//! The HTTP shell against a scripted core.

mod events;
mod requests;
mod roap;
mod sip_page;
mod sip_page_back;
mod socket;
mod tls;
mod token;
mod whip;

use super::{Ask, Sessions, Settings, Shell, Standing, administration, public};
use crate::metrics::Metrics;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use gateway_core::api::{self as wire, Problem, Reply, SessionCreated, SessionId, SessionView};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

/// Routers without listeners, and the core's end of the channel.
struct Bed {
    public: Router,
    admin: Router,
    shell: Shell,
}

const SOURCE: &str = "192.0.2.1:5000";

fn settings() -> Settings {
    Settings {
        cors_origins: vec!["https://desk.example.org".into()],
        requests_per_second: 1000,
        request_burst: 1000,
        sockets: 16,
    }
}

/// A bed whose core answers by `script`.
fn bed_with(settings: &Settings, script: fn(wire::Request) -> Result<Reply, Problem>) -> Bed {
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
    let sessions = Arc::clone(&shell.sessions);
    tokio::spawn(async move {
        while let Some(ask) = asks.recv().await {
            if let Ask::Request(request, back) = ask {
                let reply = script(request);
                if let Ok(Reply::SessionCreated(created)) = &reply {
                    sessions.open(&created.id, &created.token);
                }
                let _ = back.send(reply);
            }
        }
    });
    let (public, admin) = (
        public(shell.clone(), settings),
        administration(shell.clone()),
    );
    Bed {
        public,
        admin,
        shell,
    }
}

fn bed() -> Bed {
    bed_with(&settings(), answer)
}

/// A core with one session, `one`, whose token is `secret`.
fn answer(request: wire::Request) -> Result<Reply, Problem> {
    match request {
        wire::Request::CreateSession(body, _) if body.user.as_deref() == Some("full") => {
            Err(Problem::new(503, "session-limit", "Full", "no more").retry_after(5))
        }
        wire::Request::CreateSession(..) => Ok(Reply::SessionCreated(SessionCreated {
            id: SessionId("one".into()),
            token: "secret".into(),
            address: "sip:alice@example.org".into(),
            registered: true,
            ice_servers: Vec::new(),
        })),
        wire::Request::Session(id) => {
            let address = "sip:alice@example.org".into();
            Ok(Reply::Session(SessionView {
                id,
                address,
                registered: true,
                calls: Vec::new(),
            }))
        }
        wire::Request::Call(..) => Err(Problem::new(404, "no-call", "No such call", "it is over")),
        wire::Request::Offer(_, _, body) => {
            Ok(Reply::Answered(wire::Answered { answer: body.offer }))
        }
        wire::Request::AllCalls => Ok(Reply::Calls(Vec::new())),
        wire::Request::Flows => Ok(Reply::Flows(Vec::new())),
        wire::Request::Trunks => Ok(Reply::Trunks(Vec::new())),
        _ => Ok(Reply::Done),
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    let source: SocketAddr = SOURCE.parse().unwrap();
    Request::builder()
        .method(method)
        .uri(path)
        .extension(ConnectInfo(source))
}

fn json(method: &str, path: &str, token: &str, body: &str) -> Request<Body> {
    let request = request(method, path).header("content-type", "application/json");
    let request = if token.is_empty() {
        request
    } else {
        request.header("authorization", format!("Bearer {token}"))
    };
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

async fn read(response: Response<Body>) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&bytes)))
}

/// Signs in and gives the token.
async fn sign_in(bed: &Bed) {
    let response = send(&bed.public, json("POST", "/api/v1/sessions", "", "{}")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(read(response).await["token"], "secret");
}
