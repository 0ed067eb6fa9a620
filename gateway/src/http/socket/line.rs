//! One WebSocket from its first frame to its end.

use super::Sockets;
use super::frame::{Id, SocketAlive, SocketEvent, SocketRequest, SocketResponse};
use super::seat::{Joined, Seat};
use crate::http::sessions::Numbered;
use crate::http::{Shell, problem, too_many_requests};
use axum::extract::Request;
use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, close_code};
use axum::response::Response;
use futures_util::StreamExt as _;
use gateway_core::api::Problem;
use serde::Serialize;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tower::ServiceExt as _;

/// How often the page is asked for a sign of life and given one; the core hears of it.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A page that has answered neither of two pings when the third is due is gone.
const SILENCE: Duration = Duration::from_secs(25);
/// A page that has not signed in by then wants nothing.
const STRANGER: Duration = Duration::from_secs(60);
/// A frame that is not taken in this time finds nobody reading.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the page may take to say goodbye too.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Requests that wait for their responses.
const OUTSTANDING: usize = 16;
/// Longest response: a session with all its calls has some 100 KiB.
const RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// See the module.
pub(super) struct Line {
    shell: Shell,
    sockets: Sockets,
    source: IpAddr,
    seat: Seat,
    requests: JoinSet<Done>,
    /// The session, once there is one.
    joined: Option<Joined>,
    /// Whether its last event has been sent.
    over: bool,
    began: Instant,
    heard: Instant,
}

/// A response with the session that its request opened, if it did.
struct Done {
    response: SocketResponse,
    joined: Option<Joined>,
}

/// How a socket ends.
enum End {
    /// Nobody is there to be told.
    Gone,
    /// The page closed it.
    Left,
    /// With a code and a reason.
    Close(CloseCode, &'static str),
    /// The same where nothing more can be read.
    Broken(CloseCode, &'static str),
}

impl Line {
    pub(super) fn new(shell: Shell, sockets: Sockets, source: IpAddr) -> Self {
        let now = Instant::now();
        Self {
            shell,
            sockets,
            source,
            seat: Seat::new(),
            requests: JoinSet::new(),
            joined: None,
            over: false,
            began: now,
            heard: now,
        }
    }

    /// Serves until one side ends it.
    pub(super) async fn serve(mut self, mut socket: WebSocket) {
        let mut ping = tokio::time::interval_at(self.began + PING_EVERY, PING_EVERY);
        let end = loop {
            if let Err(end) = self.turn(&mut socket, &mut ping).await {
                break end;
            }
        };
        // Whoever signs out and goes has asked for it: only the responses find nobody.
        self.requests.detach_all();
        match end {
            End::Gone => {}
            End::Left => goodbye(&mut socket).await,
            End::Close(code, reason) => {
                if close(&mut socket, code, reason).await.is_ok() {
                    goodbye(&mut socket).await;
                }
            }
            End::Broken(code, reason) => {
                if close(&mut socket, code, reason).await.is_ok() {
                    // To go with bytes unread resets the connection, and the page would not learn why.
                    tokio::time::sleep(CLOSE_LIMIT).await;
                }
            }
        }
    }

    /// One thing that happens: what is owed to the page comes before what it asks next.
    async fn turn(
        &mut self,
        socket: &mut WebSocket,
        ping: &mut tokio::time::Interval,
    ) -> Result<(), End> {
        if self.over && self.requests.is_empty() {
            return Err(End::Close(close_code::NORMAL, "the session is over"));
        }
        tokio::select! {
            biased;
            Some(done) = self.requests.join_next() => self.respond(socket, done).await,
            _ = ping.tick() => self.show_life(socket).await,
            event = next_event(&mut self.joined), if !self.over => match event {
                Some(event) => send(socket, &SocketEvent { event: event.json }).await,
                None => {
                    self.over = true;
                    Ok(())
                }
            },
            message = socket.next(), if !self.over => {
                self.heard = Instant::now();
                self.take(socket, message).await
            }
        }
    }

    async fn take(
        &mut self,
        socket: &mut WebSocket,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => match self.ask(&text) {
                Ok(()) => Ok(()),
                Err(refusal) => send(socket, &refusal).await,
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => {
                let reason = "frames are JSON in text messages";
                Err(End::Close(close_code::UNSUPPORTED, reason))
            }
            Some(Ok(Message::Close(_))) => Err(End::Left),
            None => Err(End::Gone),
            Some(Err(error)) => Err(broken(&error)),
        }
    }

    /// Has the routes of the API answer a frame, or refuses it right away.
    fn ask(&mut self, text: &str) -> Result<(), SocketResponse> {
        let admitted = self
            .sockets
            .limit
            .admit(self.source, std::time::Instant::now());
        let request = SocketRequest::parse(text);
        if let Err(wait) = admitted {
            let id = request.map_or_else(|refusal| refusal.id, |request| Some(request.id()));
            return Err(SocketResponse::refusal(id, &too_many_requests(wait)));
        }
        let request = request?;
        let id = request.id();
        if self.requests.len() >= OUTSTANDING {
            let detail = "as many requests of this WebSocket wait as may";
            let problem = Problem::new(429, "outstanding", "Too many requests at once", detail);
            return Err(SocketResponse::refusal(Some(id), &problem.retry_after(1)));
        }
        let token = self.joined.as_ref().map(|joined| joined.token.as_str());
        let seat = self.seat.clone();
        let request = request
            .into_http(token, seat.clone())
            .map_err(|problem| SocketResponse::refusal(Some(id.clone()), &problem))?;
        let routes = self.sockets.inside.clone();
        self.requests.spawn(answer(routes, request, id, seat));
        Ok(())
    }

    async fn respond(
        &mut self,
        socket: &mut WebSocket,
        done: Result<Done, JoinError>,
    ) -> Result<(), End> {
        let done = done.map_err(|_| End::Close(close_code::ERROR, "the gateway failed"))?;
        send(socket, &done.response).await?;
        if let Some(joined) = done.joined {
            self.shell.alive(joined.reader.session());
            self.joined = Some(joined);
        }
        Ok(())
    }

    /// A session is alive as long as its page is heard, not as long as somebody sends to it.
    async fn show_life(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let silent = self.heard.elapsed();
        if silent > SILENCE {
            return Err(End::Gone);
        }
        let mut alive = 0;
        match &self.joined {
            Some(joined) => {
                alive = joined.reader.last();
                if silent < 2 * PING_EVERY {
                    self.shell.alive(joined.reader.session());
                }
            }
            None if self.requests.is_empty() && self.began.elapsed() >= STRANGER => {
                return Err(End::Close(close_code::POLICY, "nobody signed in"));
            }
            None => {}
        }
        send(socket, &SocketAlive { alive }).await?;
        put(socket, Message::Ping(Default::default())).await
    }
}

/// The next event of the session; never any where there is none yet.
async fn next_event(joined: &mut Option<Joined>) -> Option<Numbered> {
    match joined {
        Some(joined) => joined.reader.next().await,
        None => std::future::pending().await,
    }
}

/// One request through the routes of the API.
async fn answer(routes: axum::Router, request: Request, id: Id, seat: Seat) -> Done {
    let response = match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let response = match body(response).await {
        Some(body) => SocketResponse {
            id: Some(id),
            status,
            body,
        },
        None => SocketResponse::refusal(Some(id), &problem::bug()),
    };
    let joined = seat.take();
    Done { response, joined }
}

/// The JSON of a response; `None` where it is neither empty nor JSON, which none of ours is.
async fn body(response: Response) -> Option<Option<Box<RawValue>>> {
    let bytes = axum::body::to_bytes(response.into_body(), RESPONSE_BYTES).await;
    let text = String::from_utf8(bytes.ok()?.into()).ok()?;
    if text.is_empty() {
        return Some(None);
    }
    RawValue::from_string(text).ok().map(Some)
}

/// What the library takes for no WebSocket, or for too much of it; its own errors are not ours to name but by what they say.
fn broken(error: &axum::Error) -> End {
    if error.to_string().starts_with("Space limit exceeded") {
        End::Broken(close_code::SIZE, "the message is too long")
    } else {
        End::Broken(close_code::PROTOCOL, "no message of a WebSocket")
    }
}

async fn close(socket: &mut WebSocket, code: CloseCode, reason: &'static str) -> Result<(), End> {
    let reason = reason.into();
    put(socket, Message::Close(Some(CloseFrame { code, reason }))).await
}

/// Reads on until the page has closed its side, or has had time to; what it sends now is answered by nobody.
async fn goodbye(socket: &mut WebSocket) {
    let until = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(CLOSE_LIMIT, until).await;
}

async fn send(socket: &mut WebSocket, frame: &impl Serialize) -> Result<(), End> {
    let text = serde_json::to_string(frame)
        .map_err(|_| End::Close(close_code::ERROR, "the gateway failed"))?;
    put(socket, Message::Text(text.into())).await
}

/// A page that does not read loses its socket, and holds nothing else up: each has a task of its own, and events wait in their ring.
async fn put(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_LIMIT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}
