//! Events for a page: as a stream (SSE), by long poll or over its WebSocket, all resuming after the number that the page names.

use super::Shell;
use super::auth::{self, Authorized};
use super::extract::Query;
use super::problem::Refusal;
use super::sessions::{Feed, Numbered};
use super::socket::Seat;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::Stream;
use futures_util::stream;
use gateway_core::api::{Problem, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

/// How often an open stream says that it is alive, to the page and to the core.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest long poll, seconds.
const LONGEST_WAIT_S: u64 = 30;
/// Long poll without `wait`, seconds.
const DEFAULT_WAIT_S: u64 = 25;

/// Query of the long poll.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Poll {
    /// Number of the last event that the page has; 0 for all that are kept.
    #[serde(default)]
    after: u64,
    /// Seconds to wait for an event when there is none, 0 to 30; 25 when absent.
    wait: Option<u64>,
}

/// Reply of the long poll.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Events {
    /// Events after the number asked for, each with its `id`.
    #[schema(value_type = Vec<gateway_core::api::Event>)]
    events: Vec<Box<RawValue>>,
    /// Number of the last of them, or `after` when there is none.
    last: u64,
}

/// Events of a session.
///
/// With `Accept: text/event-stream` a stream (resumed by `Last-Event-ID` or `after`), else a long poll. Numbers grow by one; a gap means
/// that the page was away for more than 256 events and should read its session again. Over the WebSocket of `/api/v1/socket` the answer comes
/// at once, without events: those after `after` are sent there.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/events", tag = "sessions",
    params(("session" = String, Path), ("Last-Event-ID" = Option<u64>, Header, description = "Resumes the stream"), Poll),
    responses(
        (status = 200, description = "Events", content((Events = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The WebSocket has a session already"),
        (status = 429, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn events(
    State(shell): State<Shell>,
    Authorized(feed): Authorized,
    Query(poll): Query<Poll>,
    seat: Option<Extension<Seat>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    shell.alive(&feed.session);
    if let Some(Extension(seat)) = seat {
        let token = auth::bearer(&headers).unwrap_or_default();
        let last = seat.claim()?.follow(token, &feed, poll.after)?;
        let events = Vec::new();
        return Ok(Json(Events { events, last }).into_response());
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if accept.contains("text/event-stream") {
        let resume = headers
            .get("last-event-id")
            .map(|value| value.to_str().ok()?.trim().parse().ok());
        let after = match resume {
            None => poll.after,
            Some(Some(after)) => after,
            Some(None) => return Err(bad("Last-Event-ID has to be a number").into()),
        };
        let response = Sse::new(stream_of(shell, Reader::new(&feed, after)?));
        // Proxies that buffer would hold events back (nginx honours this).
        return Ok(([("x-accel-buffering", "no")], response).into_response());
    }
    // What came in is not kept while the poll waits: the headers share the connection's buffer.
    drop(headers);
    let wait = poll.wait.unwrap_or(DEFAULT_WAIT_S);
    if wait > LONGEST_WAIT_S {
        return Err(bad("`wait` has to be 0 to 30").into());
    }
    let _place = place(&feed)?;
    let events = wait_for(&shell, &feed, poll.after, Duration::from_secs(wait)).await;
    let last = events.last().map_or(poll.after, |event| event.id);
    let events = events.into_iter().map(|event| event.json).collect();
    Ok(Json(Events { events, last }).into_response())
}

fn bad(detail: &str) -> Problem {
    Problem::new(400, "bad-query", "Bad query", detail)
}

/// Events after a number; waits for the first when there is none.
async fn wait_for(shell: &Shell, feed: &Arc<Feed>, after: u64, wait: Duration) -> Vec<Numbered> {
    let mut news = feed.news();
    let after = after.min(feed.last());
    let deadline = Instant::now() + wait;
    loop {
        news.mark_unchanged();
        let events = feed.after(after);
        if !events.is_empty() || feed.is_over() {
            return events;
        }
        let until = deadline.min(Instant::now() + KEEP_ALIVE);
        if tokio::time::timeout_at(until, news.changed())
            .await
            .is_err()
        {
            if Instant::now() >= deadline {
                return Vec::new();
            }
            shell.alive(&feed.session);
        }
    }
}

/// What somebody who follows a session has had of its events.
pub(super) struct Reader {
    feed: Arc<Feed>,
    news: watch::Receiver<()>,
    after: u64,
    ready: VecDeque<Numbered>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// Follows a session from the event after this number on, if it may have one more reader.
    pub(super) fn new(feed: &Arc<Feed>, after: u64) -> Result<Self, Refusal> {
        Ok(Self {
            _place: place(feed)?,
            news: feed.news(),
            // A number from another life of the session would hold every event back.
            after: after.min(feed.last()),
            feed: Arc::clone(feed),
            ready: VecDeque::new(),
        })
    }

    /// The session.
    pub(super) fn session(&self) -> &SessionId {
        &self.feed.session
    }

    /// Number of the last event that was given out.
    pub(super) fn last(&self) -> u64 {
        self.after
    }

    /// The next event; `None` when the session is over and its last event is out. Nothing is lost where it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Option<Numbered> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.id;
                return Some(event);
            }
            self.news.mark_unchanged();
            let over = self.feed.is_over();
            self.ready = self.feed.after(self.after).into();
            if !self.ready.is_empty() {
                continue;
            }
            if over || self.news.changed().await.is_err() {
                return None;
            }
        }
    }
}

/// Streams and polls of a session are bounded.
fn place(feed: &Feed) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(&feed.readers).try_acquire_owned().map_err(|_| {
        let detail = "this session has as many open streams and polls as it may have";
        Problem::new(429, "streams", "Too many streams", detail)
            .retry_after(5)
            .into()
    })
}

/// Server-sent events, with a comment now and then that keeps the connection and the session alive.
fn stream_of(shell: Shell, reader: Reader) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let state = (shell, reader, Instant::now() + KEEP_ALIVE);
    stream::unfold(state, |(shell, mut reader, mut keep_alive)| async move {
        let event = match tokio::time::timeout_at(keep_alive, reader.next()).await {
            Ok(None) => return None,
            Ok(Some(event)) => sse::Event::default()
                .id(event.id.to_string())
                .event(event.kind)
                .data(event.json.get()),
            Err(_) => {
                keep_alive = Instant::now() + KEEP_ALIVE;
                shell.alive(reader.session());
                sse::Event::default().comment("alive")
            }
        };
        Some((Ok(event), (shell, reader, keep_alive)))
    })
}
