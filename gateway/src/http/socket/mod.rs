//! API v1 over one WebSocket: each request frame is a request of the same routes that HTTP has, each event of the session a frame.
//!
//! The socket knows no request by itself: it hands each to a router of the API, and keeps what all requests have in common: whose pages may
//! connect, how much one source may ask, how much may wait, and when a peer is gone.

mod frame;
mod line;
mod seat;

pub(super) use seat::Seat;

use super::origin::Origins;
use super::problem::Refusal;
use super::rate::RateLimit;
use super::{BODY_BYTES, Shell};
use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use frame::{SocketAlive, SocketEvent, SocketRequest, SocketResponse};
use gateway_core::api::Problem;
use line::Line;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The subprotocol.
const PROTOCOL: &str = "causeway.v1";
/// Longest message. A body has the limit that it has by HTTP, and is refused like there; what is longer than this ends the socket.
const MESSAGE_BYTES: usize = 2 * BODY_BYTES;

#[derive(OpenApi)]
#[openapi(components(schemas(SocketRequest, SocketResponse, SocketEvent, SocketAlive)))]
struct Frames;

/// What all sockets share.
#[derive(Clone)]
pub(super) struct Sockets {
    /// The routes of the API, as a socket reaches them.
    inside: Router,
    limit: Arc<RateLimit>,
    origins: Origins,
    /// Sockets that are open; bounds them, as they count as connections no more.
    places: Arc<Semaphore>,
}

impl Sockets {
    /// `inside` are the routes that requests go to, without the limit of requests, which is shared with HTTP.
    pub(super) fn new(
        inside: Router,
        limit: Arc<RateLimit>,
        origins: Origins,
        sockets: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(sockets.min(Semaphore::MAX_PERMITS)));
        Self {
            inside,
            limit,
            origins,
            places,
        }
    }
}

pub(super) fn router(sockets: Sockets) -> OpenApiRouter<Shell> {
    OpenApiRouter::with_openapi(Frames::openapi())
        .routes(routes!(connect))
        .layer(Extension(sockets))
}

/// The whole API over one WebSocket, subprotocol `causeway.v1`; every frame is one JSON object in a text message.
///
/// The page sends `SocketRequest`: `{"id":1,"method":"POST","path":"/api/v1/sessions","body":{"user":"alice"}}`. The gateway sends
/// `SocketResponse` for each, with the status and body that HTTP has for it: `{"id":1,"status":201,"body":{...}}`; `SocketEvent` for each
/// event: `{"event":{"id":1,"type":"call.ringing",...}}`; and `SocketAlive` every ten seconds: `{"alive":1}`.
///
/// A socket carries one session (a second one is 409). The one that signs in on it is followed from its first event on, and further requests need no
/// token. Where a socket broke, the page opens another and names the session's token and the last event that it has:
/// `{"id":2,"method":"GET","path":"/api/v1/sessions/{session}/events?after=17","token":"..."}`. That is answered at once, with no events; those after
/// 17 follow as frames, then whatever happens.
///
/// At most 16 requests wait for their responses (429), and they are limited per source as requests by HTTP are (429). A body may be as
/// large as by HTTP (413). What is no request gets 400, with `id` null where it could not be read. The gateway closes with 1000 when the session is
/// over, 1002 and 1003 after what is no WebSocket or no text, 1008 when nobody signed in within 60 s, 1009 after more than 512 KiB in one
/// message, 1011 after a failure of its own; without a word where a peer says nothing for 30 s, not even to a ping, or reads nothing for 10 s.
#[utoipa::path(get, path = "/api/v1/socket", tag = "sessions", security(()),
    responses(
        (status = 101, description = "Frames from here on"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Not this subprotocol"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Not an origin whose pages may connect"),
        (status = 426, body = Problem, content_type = "application/problem+json", description = "No WebSocket"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many are open")))]
async fn connect(
    State(shell): State<Shell>,
    Extension(sockets): Extension<Sockets>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    sockets.origins.check(&headers)?;
    let upgrade = upgrade.map_err(|rejection| {
        let title = "A WebSocket is opened here";
        Problem::new(426, "upgrade", title, rejection.body_text())
    })?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(super::serve::SOCKET_READ_BUFFER)
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("the WebSocket has to ask for the subprotocol `{PROTOCOL}`");
        return Err(Problem::new(400, "subprotocol", "Unknown subprotocol", detail).into());
    }
    let Ok(place) = Arc::clone(&sockets.places).try_acquire_owned() else {
        let detail = "as many WebSockets are open as may be";
        return Err(Problem::new(503, "sockets", "Full", detail)
            .retry_after(5)
            .into());
    };
    Ok(upgrade.on_upgrade(async move |socket: WebSocket| {
        Line::new(shell, sockets, remote.ip()).serve(socket).await;
        drop(place);
    }))
}
