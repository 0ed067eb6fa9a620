//! SIP over WebSocket (RFC 7118) at `/sip`: one connection is one session of API v1 with a [`Phone`] before it, which translates.
//!
//! The connection is its own proof: no token is ever shown to the page. When it closes, the session ends and its calls with it.

use super::Shell;
use super::auth::Granted;
use super::origin::Origins;
use super::problem::{self, Refusal};
use super::sessions::Feed;
use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::any;
use futures_util::StreamExt as _;
use gateway_core::api::{Answer, Offer, Problem, Reject, Reply, Request};
use gateway_core::sip_page::{Ask, AskKind, Phone};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The subprotocol (RFC 7118 section 4.1).
const PROTOCOL: &str = "sip";
/// Longest message: a description has some 10 KiB.
const MESSAGE_BYTES: usize = 64 * 1024;
/// How often the page is asked for a sign of life, and the core hears of it.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A page that says nothing, not even to a ping, is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A page that neither registered nor called in this time wants nothing.
const STRANGER: Duration = Duration::from_secs(60);
/// A message that is not taken in this time finds nobody reading.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// Replies that wait for the connection's task.
const REPLIES: usize = 64;

pub(super) fn router(origins: Origins) -> Router<Shell> {
    Router::new()
        .route("/sip", any(connect))
        .layer(Extension(origins))
}

async fn connect(
    State(shell): State<Shell>,
    Extension(origins): Extension<Origins>,
    granted: Granted,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    origins.check(&headers)?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES);
    if upgrade.selected_protocol().is_none() {
        let detail = "the WebSocket has to ask for the subprotocol `sip` (RFC 7118)";
        return Err(Problem::new(400, "subprotocol", "No SIP", detail).into());
    }
    let Reply::SessionCreated(created) = shell.ask(Request::CreatePhone(granted.0)).await? else {
        return Err(problem::bug().into());
    };
    let feed = shell
        .sessions
        .by_token(&created.token)
        .ok_or_else(problem::bug)?;
    let session = feed.session.clone();
    let ends = shell.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(&shell, &feed, socket).await;
        let _ = ends.ask(Request::EndSession(session)).await;
    }))
}

/// A reply on its way back to the connection's task.
type Answered = (u64, Result<Reply, Problem>);

/// One connection until it ends.
async fn serve(shell: &Shell, feed: &Arc<Feed>, mut socket: WebSocket) {
    let mut phone = Phone::new(crate::system_random());
    let (replied, mut replies) = mpsc::channel::<Answered>(REPLIES);
    let mut news = feed.news();
    let mut after = 0;
    let mut ping = tokio::time::interval(PING_EVERY);
    let began = Instant::now();
    let mut heard = began;
    loop {
        news.mark_unchanged();
        for event in feed.after(after) {
            after = event.id;
            if let Ok(event) = serde_json::from_str(event.json.get()) {
                phone.handle_event(event);
            }
        }
        while let Some(ask) = phone.next_ask() {
            put(shell, feed, &mut phone, &replied, ask).await;
        }
        if flush(&mut phone, &mut socket).await.is_err() || feed.is_over() {
            break;
        }
        tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => phone.handle_message(text.as_bytes()),
                    Some(Ok(Message::Binary(bytes))) => phone.handle_message(&bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                }
            }
            Some((number, reply)) = replies.recv() => phone.handle_reply(number, reply),
            changed = news.changed() => if changed.is_err() { break },
            _ = ping.tick() => {
                let stranger = !phone.is_settled() && began.elapsed() > STRANGER;
                if heard.elapsed() > SILENCE || stranger {
                    break;
                }
                shell.alive(&feed.session);
                if socket.send(Message::Ping(Default::default())).await.is_err() {
                    break;
                }
            }
        }
    }
    let bye = CloseFrame {
        code: axum::extract::ws::close_code::AWAY,
        reason: "the session is over".into(),
    };
    let _ = tokio::time::timeout(SEND_LIMIT, socket.send(Message::Close(Some(bye)))).await;
}

/// Sends what waits. SIP is text, but a body need not be UTF-8 (RFC 7118 section 4.2).
async fn flush(phone: &mut Phone, socket: &mut WebSocket) -> Result<(), ()> {
    while let Some(bytes) = phone.next_message() {
        let message = match String::from_utf8(bytes) {
            Ok(text) => Message::Text(text.into()),
            Err(error) => Message::Binary(error.into_bytes().into()),
        };
        match tokio::time::timeout(SEND_LIMIT, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(()),
        }
    }
    Ok(())
}

/// Asks the gateway. A call's reply is waited for, as its events make sense only after it; others come back when they come.
async fn put(
    shell: &Shell,
    feed: &Arc<Feed>,
    phone: &mut Phone,
    replied: &mpsc::Sender<Answered>,
    ask: Ask,
) {
    let session = feed.session.clone();
    let (number, request) = match ask.kind {
        AskKind::Call(call) => {
            let reply = shell.ask(Request::CreateCall(session, call)).await;
            return phone.handle_reply(ask.number, reply.map_err(Refusal::into_problem));
        }
        AskKind::Register(register) => (ask.number, Request::Register(session, register)),
        AskKind::Answer(call, answer) => (
            ask.number,
            Request::Answer(session, call, Answer { answer }),
        ),
        AskKind::Offer(call, offer) => (ask.number, Request::Offer(session, call, Offer { offer })),
        AskKind::Reject(call, status) => {
            let status = Some(status);
            (
                ask.number,
                Request::Reject(session, call, Reject { status }),
            )
        }
        AskKind::HangUp(call) => (ask.number, Request::HangUp(session, call)),
        AskKind::Info(call, content) => (ask.number, Request::Info(session, call, content)),
        AskKind::Transfer(call, transfer) => {
            (ask.number, Request::Transfer(session, call, transfer))
        }
        AskKind::Message(message) => (ask.number, Request::Message(session, message)),
    };
    let (shell, replied) = (shell.clone(), replied.clone());
    tokio::spawn(async move {
        let reply = shell.ask(request).await.map_err(Refusal::into_problem);
        // Nobody listens once the connection is over.
        let _ = replied.send((number, reply)).await;
    });
}
