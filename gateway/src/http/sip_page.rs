//! SIP over WebSocket (RFC 7118) at `/sip`: one connection is one session of API v1 with a [`Phone`] before it, which translates.
//!
//! The connection is its own proof: no token is ever shown to the page. When the page closes it, the session ends and its calls with it.
//! When it breaks, the calls of a page that had registered wait for it to come back (`parked`): it registers over another connection, as
//! the same user with the same instance, and the core says which session it had before. A page that is still there is not robbed
//! of its calls by another that knows its password: the earlier connection is asked for a sign of life first.

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
use gateway_core::api::{Answer, Event, Offer, Problem, Reject, Reply, Request, SessionId};
use gateway_core::sip_page::{Ask, AskKind, Phone};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
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
/// What is still there answers a ping in this time.
const PROBE: Duration = Duration::from_secs(3);
/// How long a connection waits for another one's calls: two of them may want each other's, and neither answers while it waits.
const HANDOVER_LIMIT: Duration = Duration::from_secs(6);

/// A page's connection as another one takes it over.
struct Handover {
    phone: Phone,
    feed: Arc<Feed>,
    /// Number of the last event that the page was told.
    after: u64,
}

/// Who asks for a [`Handover`].
type Taker = oneshot::Sender<Handover>;

/// The connections, and those that are broken, by their sessions: each can be asked to give its calls away.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<HashMap<SessionId, mpsc::Sender<Taker>>>>);

/// How a connection ends.
enum End {
    /// The page closed it, or has to go.
    Left,
    /// It broke.
    Lost,
    /// Another one has its calls.
    Taken,
}

pub(super) fn router(origins: Origins) -> Router<Shell> {
    Router::new()
        .route("/sip", any(connect))
        .layer(Extension(origins))
        .layer(Extension(Connections::default()))
}

async fn connect(
    State(shell): State<Shell>,
    Extension(origins): Extension<Origins>,
    Extension(connections): Extension<Connections>,
    granted: Granted,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    origins.check(&headers)?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(super::serve::SOCKET_READ_BUFFER)
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
    Ok(upgrade.on_upgrade(async move |socket| {
        let session = feed.session.clone();
        let takers = connections.enter(&session);
        let end = Connection::new(shell.clone(), feed, connections.clone(), takers)
            .run(socket)
            .await;
        connections.leave(&session);
        // Who took the calls over ends what is left of the session, and not before they are moved.
        if !matches!(end, End::Taken) {
            let _ = shell.ask(Request::EndSession(session)).await;
        }
    }))
}

impl Connections {
    fn enter(&self, session: &SessionId) -> mpsc::Receiver<Taker> {
        let (asks, takers) = mpsc::channel(1);
        self.table().insert(session.clone(), asks);
        takers
    }

    fn leave(&self, session: &SessionId) {
        self.table().remove(session);
    }

    /// The page's earlier connection, if it is broken.
    async fn take(&self, session: &SessionId) -> Option<Handover> {
        let asks = self.table().get(session).cloned()?;
        let (taker, given) = oneshot::channel();
        asks.try_send(taker).ok()?;
        let given = tokio::time::timeout(HANDOVER_LIMIT, given).await;
        given.ok()?.ok()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<Taker>>> {
        // Every change is one insert or remove: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply on its way back to the connection's task.
type Answered = (u64, Result<Reply, Problem>);

/// One connection, and what waits after it broke.
struct Connection {
    shell: Shell,
    feed: Arc<Feed>,
    connections: Connections,
    phone: Phone,
    /// Number of the last event that the page was told.
    after: u64,
    replied: mpsc::Sender<Answered>,
    replies: mpsc::Receiver<Answered>,
    takers: mpsc::Receiver<Taker>,
    heard: Instant,
    /// Who wants the calls, and until when the page may show that it is there.
    wanted: Option<(Taker, Instant)>,
}

impl Connection {
    fn new(
        shell: Shell,
        feed: Arc<Feed>,
        connections: Connections,
        takers: mpsc::Receiver<Taker>,
    ) -> Self {
        let (replied, replies) = mpsc::channel(REPLIES);
        Self {
            shell,
            feed,
            connections,
            phone: Phone::new(crate::system_random()),
            after: 0,
            replied,
            replies,
            takers,
            heard: Instant::now(),
            wanted: None,
        }
    }

    /// From the first message to the end of the session.
    async fn run(mut self, mut socket: WebSocket) -> End {
        let end = self.serve(&mut socket).await;
        match end {
            End::Taken => end,
            End::Lost => {
                drop(socket);
                self.parked().await
            }
            End::Left => {
                let bye = CloseFrame {
                    code: axum::extract::ws::close_code::AWAY,
                    reason: "the session is over".into(),
                };
                let bye = socket.send(Message::Close(Some(bye)));
                let _ = tokio::time::timeout(SEND_LIMIT, bye).await;
                end
            }
        }
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let feed = Arc::clone(&self.feed);
        let mut news = feed.news();
        let mut ping = tokio::time::interval(PING_EVERY);
        let began = Instant::now();
        loop {
            news.mark_unchanged();
            self.tell();
            self.put_all().await;
            if flush(&mut self.phone, socket).await.is_err() {
                return End::Lost;
            }
            if feed.is_over() {
                return End::Left;
            }
            let probed = self.wanted.as_ref().map(|(_, until)| *until);
            tokio::select! {
                message = socket.next() => {
                    if let Some(Ok(_)) = &message {
                        self.heard = Instant::now();
                        // Who is there keeps its calls.
                        self.wanted = None;
                    }
                    match message {
                        Some(Ok(Message::Text(text))) => self.phone.handle_message(text.as_bytes()),
                        Some(Ok(Message::Binary(bytes))) => self.phone.handle_message(&bytes),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) => return End::Left,
                        Some(Err(_)) | None => return End::Lost,
                    }
                }
                Some((number, reply)) = self.replies.recv() => self.replied(number, reply).await,
                Some(taker) = self.takers.recv() => {
                    self.wanted = Some((taker, Instant::now() + PROBE));
                    if socket.send(Message::Ping(Default::default())).await.is_err() {
                        return End::Lost;
                    }
                }
                () = tokio::time::sleep_until(probed.unwrap_or(began)), if probed.is_some() => {
                    if self.hand_over() {
                        return End::Taken;
                    }
                }
                changed = news.changed() => if changed.is_err() { return End::Left },
                _ = ping.tick() => {
                    if !self.phone.is_settled() && began.elapsed() > STRANGER {
                        return End::Left;
                    }
                    if self.heard.elapsed() > SILENCE {
                        return End::Lost;
                    }
                    self.shell.alive(&feed.session);
                    if socket.send(Message::Ping(Default::default())).await.is_err() {
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Without a connection: until the page takes the calls over, or the core has waited long enough.
    async fn parked(&mut self) -> End {
        self.phone.lose_connection();
        self.put_all().await;
        if self.hand_over() {
            return End::Taken;
        }
        let lost = Request::LostPhone(self.feed.session.clone());
        if !self.phone.has_calls() || self.shell.ask(lost).await.is_err() {
            return End::Left;
        }
        let feed = Arc::clone(&self.feed);
        let mut news = feed.news();
        while !feed.is_over() {
            tokio::select! {
                Some((number, reply)) = self.replies.recv() => {
                    self.phone.handle_reply(number, reply);
                    self.put_all().await;
                }
                Some(taker) = self.takers.recv() => {
                    self.wanted = Some((taker, Instant::now()));
                    if self.hand_over() {
                        return End::Taken;
                    }
                }
                changed = news.changed() => if changed.is_err() { break },
            }
        }
        End::Left
    }

    /// Gives the calls to who asked for them; `false` if nobody waits for them any more.
    fn hand_over(&mut self) -> bool {
        let Some((taker, _)) = self.wanted.take() else {
            return false;
        };
        let phone = std::mem::replace(&mut self.phone, Phone::new(crate::system_random()));
        let (feed, after) = (Arc::clone(&self.feed), self.after);
        match taker.send(Handover { phone, feed, after }) {
            Ok(()) => true,
            Err(handover) => {
                self.phone = handover.phone;
                false
            }
        }
    }

    /// What the gateway says; after a registration the page may have calls of an earlier connection.
    async fn replied(&mut self, number: u64, reply: Result<Reply, Problem>) {
        let before = match &reply {
            Ok(Reply::Registered(registered)) => registered.before.clone(),
            _ => None,
        };
        self.phone.handle_reply(number, reply);
        let Some(before) = before else { return };
        let Some(mut handover) = self.connections.take(&before).await else {
            return;
        };
        let session = self.feed.session.clone();
        let moved = Request::TakeOver(session, before.clone());
        if self.shell.ask(moved).await.is_err() {
            // Nobody has them any more.
            let _ = self.shell.ask(Request::EndSession(before)).await;
            return;
        }
        let Handover { feed, after, .. } = &handover;
        for event in events(feed, *after).1 {
            handover.phone.handle_event(event);
        }
        self.phone.take_over(handover.phone);
    }

    /// Tells the page what is new.
    fn tell(&mut self) {
        let (after, events) = events(&self.feed, self.after);
        self.after = after;
        for event in events {
            self.phone.handle_event(event);
        }
    }

    async fn put_all(&mut self) {
        while let Some(ask) = self.phone.next_ask() {
            put(&self.shell, &self.feed, &mut self.phone, &self.replied, ask).await;
        }
    }
}

/// The events after that number, and the number of the last.
fn events(feed: &Feed, after: u64) -> (u64, Vec<Event>) {
    let numbered = feed.after(after);
    let last = numbered.last().map_or(after, |event| event.id);
    let events = numbered.iter();
    let events = events.filter_map(|event| serde_json::from_str(event.json.get()).ok());
    (last, events.collect())
}

/// Sends what waits. SIP is text, but a body need not be UTF-8 (RFC 7118 section 4.2).
async fn flush(phone: &mut Phone, socket: &mut WebSocket) -> Result<(), ()> {
    while let Some(bytes) = phone.next_message() {
        let message = match String::from_utf8(bytes.clone()) {
            Ok(text) => Message::Text(text.into()),
            Err(error) => Message::Binary(error.into_bytes().into()),
        };
        match tokio::time::timeout(SEND_LIMIT, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                phone.put_back(bytes);
                return Err(());
            }
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
