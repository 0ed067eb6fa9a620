//! WHIP (RFC 9725): a client that knows nothing of Causeway posts its SDP offer to `/whip/{sip-address}` and is in a call with that
//! address.
//!
//! Each client is a session with one call: a guest's, or that of the user whom the bearer token names. The reply waits until the callee
//! answers (or sends early media), because it carries the SDP answer. Trickle ICE, ICE restart and hang-up go to the unguessable URL of
//! the `Location` header. What ends the call ends the session; a client that goes away while it waits hangs up.

mod fragment;
mod resource;

use super::auth::Granted;
use super::extract::Path;
use super::problem::{self, Refusal};
use super::sessions::Feed;
use super::{Ask, Shell};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{patch, post};
use fragment::Fragment;
use gateway_core::api::{
    self as wire, CallId, Candidates, CreateCall, CreateSession, Event, Offer, Problem, Reply,
    SessionId,
};
pub(crate) use resource::Resources;
use resource::{Change, Resource};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// What an offer and an answer are.
const SDP: &str = "application/sdp";
/// What a PATCH is (RFC 8840 section 9).
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// How often the core hears that the client of a running call is still there; consent (RFC 7675) says when it is not.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A body that takes longer to arrive is given up.
const BODY_LIMIT: Duration = Duration::from_secs(15);

pub(super) fn router() -> Router<Shell> {
    Router::new()
        .route("/whip/{address}", post(place))
        .route("/whip/sessions/{resource}", patch(change).delete(hang_up))
}

/// Says what can be posted and patched (RFC 9725 section 4.2). Around the CORS layer, which answers every OPTIONS itself.
pub(super) async fn announce(request: Request, next: Next) -> Response {
    let asked = request.method() == Method::OPTIONS && request.uri().path().starts_with("/whip/");
    let mut response = next.run(request).await;
    if asked {
        let headers = response.headers_mut();
        headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP));
        headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    }
    response
}

/// Places the call; 201 with the answer once there is one.
async fn place(
    State(shell): State<Shell>,
    Granted(grant): Granted,
    Path(to): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let offer = body(request, SDP).await?;
    let blank = CreateSession::default();
    let Reply::SessionCreated(created) = shell
        .ask(wire::Request::CreateSession(blank, grant))
        .await?
    else {
        return Err(problem::bug().into());
    };
    let mut placing = Placing(Some((shell.clone(), created.id.clone())));
    let feed = shell
        .sessions
        .by_token(&created.token)
        .ok_or_else(problem::bug)?;
    let wanted = CreateCall {
        to,
        offer: Some(offer.clone()),
        ..CreateCall::default()
    };
    let Reply::Call(view) = shell
        .ask(wire::Request::CreateCall(created.id.clone(), wanted))
        .await?
    else {
        return Err(problem::bug().into());
    };
    let answer = answered(&shell, &feed, &view.id).await?;
    let name = resource::name(&created.token);
    let resource = Resource::new(created.id, view.id, offer);
    let tag = resource.tag();
    shell.whip.insert(name.clone(), resource);
    tokio::spawn(follow(shell.clone(), feed, name.clone()));
    placing.0 = None;
    let links = shell.ice.links(&created.address, SystemTime::now());
    let links = links.into_iter().map(|link| (header::LINK, link));
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/whip/sessions/{name}")),
        (header::ETAG, tag),
        (ACCEPT_PATCH, FRAGMENT.to_owned()),
    ];
    let headers = headers.into_iter().chain(links).map(|(name, value)| {
        let value = HeaderValue::from_str(&value).map_err(|_| problem::bug())?;
        Ok((name, value))
    });
    let mut response = (StatusCode::CREATED, answer).into_response();
    let headers: Vec<(HeaderName, HeaderValue)> = headers.collect::<Result<_, Problem>>()?;
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// Signs the session out when the request ends before its call stands, be it by an error or because the client hung up.
struct Placing(Option<(Shell, SessionId)>);

impl Drop for Placing {
    fn drop(&mut self) {
        if let Some((shell, session)) = self.0.take() {
            sign_out(&shell, session);
        }
    }
}

/// Ends a session without waiting for it. A loop that is too busy to be told ends it when it goes silent.
fn sign_out(shell: &Shell, session: SessionId) {
    let (back, _) = oneshot::channel();
    let _ = shell
        .loop_
        .try_send(Ask::Request(wire::Request::EndSession(session), back));
}

/// The answer of a call, or why there is none.
async fn answered(shell: &Shell, feed: &Arc<Feed>, call: &CallId) -> Result<String, Refusal> {
    let mut reader = Reader::new(feed);
    while let Some(event) = reader.next(shell).await {
        match event {
            Event::Answer {
                call: of, answer, ..
            } if of == *call => return Ok(answer),
            Event::Ended {
                call: of,
                status,
                reason,
                ..
            } if of == *call => return Err(failed(status, &reason).into()),
            _ => {}
        }
    }
    Err(failed(None, "the session ended").into())
}

/// A call that did not come about, in HTTP's terms.
fn failed(status: Option<u16>, reason: &str) -> Problem {
    let (http, title) = match status {
        Some(404 | 410 | 484 | 604) => (404, "Nobody has this address"),
        Some(401 | 403 | 407) => (403, "The SIP side refuses this call"),
        Some(408 | 480 | 487) => (504, "Nobody answered"),
        Some(486 | 600) => (503, "Busy"),
        Some(488 | 606) => (406, "The callee takes no such media"),
        Some(603) => (403, "Declined"),
        _ => (502, "The call failed"),
    };
    let detail = match status {
        Some(status) => format!("{status} {reason}"),
        None => reason.to_owned(),
    };
    let problem = Problem::new(http, "call-failed", title, detail);
    if http == 503 {
        problem.retry_after(10)
    } else {
        problem
    }
}

/// Keeps the session while its call lasts, then clears up.
async fn follow(shell: Shell, feed: Arc<Feed>, name: String) {
    let mut reader = Reader::new(&feed);
    while let Some(event) = reader.next(&shell).await {
        if matches!(event, Event::Ended { .. }) {
            break;
        }
    }
    shell.whip.remove(&name);
    sign_out(&shell, feed.session.clone());
}

/// Reads the events of a session one by one, and tells the core meanwhile that somebody does.
struct Reader<'a> {
    feed: &'a Arc<Feed>,
    news: tokio::sync::watch::Receiver<()>,
    after: u64,
}

impl<'a> Reader<'a> {
    fn new(feed: &'a Arc<Feed>) -> Self {
        Self {
            feed,
            news: feed.news(),
            after: 0,
        }
    }

    /// The next event; `None` when the session is over.
    async fn next(&mut self, shell: &Shell) -> Option<Event> {
        loop {
            self.news.mark_unchanged();
            let over = self.feed.is_over();
            if let Some(event) = self.feed.after(self.after).into_iter().next() {
                self.after = event.id;
                match serde_json::from_str(event.json.get()) {
                    Ok(event) => return Some(event),
                    Err(_) => continue,
                }
            }
            if over {
                return None;
            }
            shell.alive(&self.feed.session);
            let _ = tokio::time::timeout(ALIVE_EVERY, self.news.changed()).await;
        }
    }
}

/// Trickle ICE, or an ICE restart (RFC 9725 section 4.3).
async fn change(
    State(shell): State<Shell>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let text = body(request, FRAGMENT).await?;
    let fragment = Fragment::parse(&text)
        .map_err(|what| Problem::new(400, "bad-fragment", "Bad SDP fragment", what))?;
    let resource = shell.whip.get(&name).ok_or_else(gone)?;
    match resource.change(&fragment, if_match(&headers)?)? {
        Change::Candidates => {
            let candidates = Candidates {
                candidates: fragment.candidates,
            };
            shell
                .ask(wire::Request::Candidates(
                    resource.session,
                    resource.call,
                    candidates,
                ))
                .await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Change::Restart(offer) => {
            let wanted = Offer {
                offer: offer.clone(),
            };
            let asked =
                wire::Request::Offer(resource.session.clone(), resource.call.clone(), wanted);
            let Reply::Answered(answered) = shell.ask(asked).await? else {
                return Err(problem::bug().into());
            };
            let tag = shell.whip.restarted(&name, offer).ok_or_else(gone)?;
            let headers = [
                (header::CONTENT_TYPE, FRAGMENT.to_owned()),
                (header::ETAG, tag),
            ];
            Ok((
                StatusCode::OK,
                headers,
                fragment::of_answer(&answered.answer),
            )
                .into_response())
        }
    }
}

/// Hangs up.
async fn hang_up(
    State(shell): State<Shell>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let resource = shell.whip.remove(&name).ok_or_else(gone)?;
    shell
        .ask(wire::Request::EndSession(resource.session))
        .await?;
    Ok(StatusCode::OK.into_response())
}

fn gone() -> Problem {
    Problem::new(404, "no-call", "No such call", "it is over or never was")
}

/// The entity tag that a PATCH names.
fn if_match(headers: &HeaderMap) -> Result<&str, Refusal> {
    let tag = headers
        .get(header::IF_MATCH)
        .and_then(|value| value.to_str().ok());
    tag.map(str::trim).ok_or_else(|| {
        let detail =
            "PATCH needs If-Match with the ETag of the ICE session, or \"*\" to restart ICE";
        Problem::new(428, "no-if-match", "If-Match is missing", detail).into()
    })
}

/// The body as text, if it is of the type that it has to be.
async fn body(request: Request, kind: &str) -> Result<String, Refusal> {
    let sent = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !sent.trim().eq_ignore_ascii_case(kind) {
        let title = "The body has another type";
        return Err(Problem::new(415, "media-type", title, format!("it has to be {kind}")).into());
    }
    let slow = || {
        Problem::new(
            408,
            "slow-body",
            "Request timed out",
            "the body did not arrive in time",
        )
    };
    let bytes = tokio::time::timeout(BODY_LIMIT, Bytes::from_request(request, &()))
        .await
        .map_err(|_| slow())?
        .map_err(|rejection| {
            Problem::new(
                rejection.status().as_u16(),
                "bad-body",
                "The body cannot be read",
                rejection.body_text(),
            )
        })?;
    String::from_utf8(bytes.into()).map_err(|_| {
        Problem::new(400, "bad-body", "The body cannot be read", "it is no UTF-8").into()
    })
}

/// What a WHIP client of another origin may send and see, beyond what API v1 needs.
pub(super) fn cross_origin() -> ([Method; 1], [HeaderName; 1], [HeaderName; 4]) {
    (
        [Method::PATCH],
        [header::IF_MATCH],
        [header::LOCATION, header::ETAG, header::LINK, ACCEPT_PATCH],
    )
}
