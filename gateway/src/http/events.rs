//! Events for a page: as a stream (SSE) or by long poll, both resuming after the number that the page names.

use super::Shell;
use super::auth::Authorized;
use super::extract::Query;
use super::problem::Refusal;
use super::sessions::{Feed, Numbered};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::Stream;
use futures_util::stream;
use gateway_core::api::Problem;
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
/// that the page was away for more than 256 events and should read its session again.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/events", tag = "sessions",
    params(("session" = String, Path), ("Last-Event-ID" = Option<u64>, Header, description = "Resumes the stream"), Poll),
    responses(
        (status = 200, description = "Events", content((Events = "application/json"), (String = "text/event-stream"))),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
pub(super) async fn events(
    State(shell): State<Shell>,
    Authorized(feed): Authorized,
    Query(poll): Query<Poll>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Ok(place) = Arc::clone(&feed.readers).try_acquire_owned() else {
        let detail = "this session has as many open streams and polls as it may have";
        return Err(Problem::new(429, "streams", "Too many streams", detail)
            .retry_after(5)
            .into());
    };
    shell.alive(&feed.session);
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
        let response = Sse::new(stream_of(shell, feed, after, place));
        // Proxies that buffer would hold events back (nginx honours this).
        return Ok(([("x-accel-buffering", "no")], response).into_response());
    }
    // What came in is not kept while the poll waits: the headers share the connection's buffer.
    drop(headers);
    let wait = poll.wait.unwrap_or(DEFAULT_WAIT_S);
    if wait > LONGEST_WAIT_S {
        return Err(bad("`wait` has to be 0 to 30").into());
    }
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

/// Where an open stream stands.
struct Reader {
    shell: Shell,
    feed: Arc<Feed>,
    news: watch::Receiver<()>,
    after: u64,
    ready: VecDeque<Numbered>,
    keep_alive: Instant,
    _place: OwnedSemaphorePermit,
}

/// Ends when the session is over and its last event is out.
fn stream_of(
    shell: Shell,
    feed: Arc<Feed>,
    after: u64,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let reader = Reader {
        shell,
        news: feed.news(),
        // A number from another life of the session would hold every event back.
        after: after.min(feed.last()),
        feed,
        ready: VecDeque::new(),
        keep_alive: Instant::now() + KEEP_ALIVE,
        _place: place,
    };
    stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    })
}

impl Reader {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.id;
                let id = event.id.to_string();
                return Some(
                    sse::Event::default()
                        .id(id)
                        .event(event.kind)
                        .data(event.json.get()),
                );
            }
            self.news.mark_unchanged();
            let over = self.feed.is_over();
            self.ready = self.feed.after(self.after).into();
            if !self.ready.is_empty() {
                continue;
            }
            if over {
                return None;
            }
            if tokio::time::timeout_at(self.keep_alive, self.news.changed())
                .await
                .is_err()
            {
                self.keep_alive = Instant::now() + KEEP_ALIVE;
                self.shell.alive(&self.feed.session);
                return Some(sse::Event::default().comment("alive"));
            }
        }
    }
}
