//! HTTP requests of a test, from inside a namespace or not.

use crate::netns::Namespace;
use serde_json::Value;
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty where absent.
    pub content_type: String,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON; panics where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// A request.
pub struct Request<'a> {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'a str,
    /// Absolute.
    pub url: &'a str,
    /// Bearer token.
    pub token: Option<&'a str>,
    /// Body, sent as JSON whether it is or not.
    pub body: Option<&'a str>,
}

/// Sends a request; `None` where no answer came.
pub fn send(namespace: Option<&Namespace>, request: &Request<'_>) -> Option<Response> {
    match namespace {
        Some(namespace) => namespace.enter(|| exchange(request)),
        None => exchange(request),
    }
}

/// `GET` without a token.
pub fn get(namespace: Option<&Namespace>, url: &str) -> Option<Response> {
    let request = Request {
        method: "GET",
        url,
        token: None,
        body: None,
    };
    send(namespace, &request)
}

fn exchange(request: &Request<'_>) -> Option<Response> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(40)))
        .build()
        .into();
    let mut builder = ureq::http::Request::builder()
        .method(request.method)
        .uri(request.url);
    if let Some(token) = request.token {
        builder = builder.header("Authorization", format!("Bearer {token}"));
    }
    if request.body.is_some() {
        builder = builder.header("Content-Type", "application/json");
    }
    let message = builder
        .body(request.body.unwrap_or_default().to_owned())
        .ok()?;
    let mut answer = agent.run(message).ok()?;
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    Some(Response {
        status: answer.status().as_u16(),
        content_type: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()),
        body: answer.body_mut().read_to_string().ok()?,
    })
}
