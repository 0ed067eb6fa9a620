//! The endpoint for pages of the Genesys browser library: `/sign_in`, `/wait`, `/message`, `/sign_out`.
//!
//! Each page is a session of API v1 with a [`Page`] before it, which translates. A task for each page hands it the session's events; the
//! page itself keeps the session by polling. The page's lock is held while the gateway is asked something, so that no event overtakes
//! the reply that makes sense of it.

use super::Shell;
use super::auth::Granted;
use super::extract::Query;
use super::line::Asked;
use super::problem::{self, Refusal};
use super::sessions::{Feed, TokenHash, hash};
use axum::Router;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use gateway_core::api::{
    Answer, CreateCall, CreateSession, Offer, Problem, Reject, Reply, Request,
};
use gateway_core::roap::{AskKind, Page, Text};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

/// A poll is answered with nothing after this long; the library gives up after 30 s by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(55);
/// How often the core hears that a page waits.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// Longest body: a description in JSON.
const SIGN_IN_BYTES: usize = 512;

/// All pages of this protocol.
#[derive(Default)]
pub(crate) struct Pages(std::sync::Mutex<HashMap<TokenHash, Arc<Signed>>>);

/// A signed-in page.
struct Signed {
    feed: Arc<Feed>,
    page: Mutex<Page>,
    /// Changes with every text.
    news: watch::Sender<()>,
    /// Number of the newest poll: an older one that a proxy keeps open must not take a text from it.
    poll: AtomicU64,
}

pub(super) fn router() -> Router<Shell> {
    Router::new()
        .route("/sign_in", get(sign_in_guest).post(sign_in))
        .route("/wait", get(wait))
        .route("/message", post(message))
        .route("/sign_out", get(sign_out).post(sign_out))
}

/// `GET /sign_in?ID`: as a guest of this name.
async fn sign_in_guest(
    State(shell): State<Shell>,
    granted: Granted,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let name = query.unwrap_or_default();
    let name = percent_encoding::percent_decode_str(&name)
        .decode_utf8_lossy()
        .into_owned();
    enter(shell, granted, name, None).await
}

/// `POST /sign_in` with `ID:password`: as a user of the SIP server, who is registered there.
async fn sign_in(
    State(shell): State<Shell>,
    granted: Granted,
    body: String,
) -> Result<Response, Refusal> {
    let bad = |what: &str| Problem::new(400, "bad-sign-in", "Bad sign-in", what);
    if body.len() > SIGN_IN_BYTES {
        return Err(bad("the body is too long").into());
    }
    let (name, password) = body
        .trim()
        .split_once(':')
        .ok_or_else(|| bad("the body has to be ID:password"))?;
    enter(shell, granted, name.to_owned(), Some(password.to_owned())).await
}

async fn enter(
    shell: Shell,
    granted: Granted,
    name: String,
    password: Option<String>,
) -> Result<Response, Refusal> {
    let wanted = CreateSession {
        user: (!name.is_empty()).then_some(name),
        password,
        ..CreateSession::default()
    };
    let Reply::SessionCreated(created) =
        shell.ask(Request::CreateSession(wanted, granted.0)).await?
    else {
        return Err(problem::bug().into());
    };
    let feed = shell
        .sessions
        .by_token(&created.token)
        .ok_or_else(problem::bug)?;
    let signed = Arc::new(Signed {
        feed,
        page: Mutex::new(Page::new(crate::system_random())),
        news: watch::Sender::new(()),
        poll: AtomicU64::new(0),
    });
    let key = hash(&created.token);
    shell.roap.table().insert(key, Arc::clone(&signed));
    tokio::spawn(follow(shell, key, signed));
    Ok(plain(format!("key={}\n", created.token)))
}

/// Hands the session's events to the page until the session is over.
async fn follow(shell: Shell, key: TokenHash, signed: Arc<Signed>) {
    let mut news = signed.feed.news();
    let mut after = 0;
    loop {
        news.mark_unchanged();
        let over = signed.feed.is_over();
        for event in signed.feed.after(after) {
            after = event.id;
            if let Ok(event) = serde_json::from_str(event.json.get()) {
                signed.page.lock().await.handle_event(&event);
                signed.news.send_replace(());
            }
        }
        if over || news.changed().await.is_err() {
            break;
        }
    }
    shell.roap.table().remove(&key);
    signed.news.send_replace(());
}

/// Query of `/wait` and `/sign_out`.
#[derive(Deserialize)]
struct Id {
    id: String,
}

/// One text for the page, its sender in the `Pragma` header; empty when there is none for long.
async fn wait(
    State(shell): State<Shell>,
    asked: Option<Extension<Asked>>,
    Query(Id { id }): Query<Id>,
) -> Result<Response, Refusal> {
    let key = hash(&id);
    let signed = shell.roap.find(&key).ok_or_else(signed_out)?;
    let number = signed.poll.fetch_add(1, Ordering::Relaxed) + 1;
    let mut news = signed.news.subscribe();
    signed.news.send_replace(());
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        news.mark_unchanged();
        if signed.poll.load(Ordering::Relaxed) != number {
            return Ok(text_from("self", String::new()));
        }
        // Nothing is awaited between taking the text and handing it out: a poll that was given up takes none.
        if let Some(text) = signed.page.lock().await.next_text() {
            let reply = text_from(&text.peer, text.body.clone());
            if let Some(Extension(asked)) = asked {
                tokio::spawn(keep(Arc::clone(&signed), asked, text));
            }
            return Ok(reply);
        }
        if shell.roap.find(&key).is_none() {
            return Err(signed_out());
        }
        shell.alive(&signed.feed.session);
        let now = Instant::now();
        if now >= deadline {
            return Ok(text_from("self", String::new()));
        }
        let _ = tokio::time::timeout_at(deadline.min(now + ALIVE_EVERY), news.changed()).await;
    }
}

/// A page that gives its poll up just when the text is on its way gets it by its next one: the protocol itself has no numbers for texts.
async fn keep(signed: Arc<Signed>, asked: Asked, text: Text) {
    if !asked.was_answered().await {
        signed.page.lock().await.put_back(text);
        signed.news.send_replace(());
    }
}

/// Query of `/message`.
#[derive(Deserialize)]
struct Addressed {
    from: String,
    #[serde(default = "own")]
    to: String,
}

fn own() -> String {
    "self".to_owned()
}

/// A text of the page.
async fn message(
    State(shell): State<Shell>,
    Query(Addressed { from, to }): Query<Addressed>,
    body: String,
) -> Result<Response, Refusal> {
    let signed = shell.roap.find(&hash(&from)).ok_or_else(signed_out)?;
    // The page names itself by its own id.
    let to = if to == from { own() } else { to };
    let mut page = signed.page.lock().await;
    let mut ask = page
        .handle_message(&to, &body)
        .map_err(|error| Problem::new(400, "bad-message", "Bad message", error.to_string()))?;
    while let Some(wanted) = ask {
        let reply = put(&shell, &signed, wanted.kind).await;
        ask = page.handle_reply(wanted.number, reply);
    }
    drop(page);
    shell.alive(&signed.feed.session);
    signed.news.send_replace(());
    Ok(plain(String::new()))
}

/// Asks the gateway.
async fn put(shell: &Shell, signed: &Signed, kind: AskKind) -> Result<Reply, Problem> {
    let session = signed.feed.session.clone();
    let request = match kind {
        AskKind::Call { to, offer, data } => {
            let wanted = CreateCall {
                to,
                offer: Some(offer),
                data,
                ..CreateCall::default()
            };
            Request::CreateCall(session, wanted)
        }
        AskKind::Answer(call, answer) => Request::Answer(session, call, Answer { answer }),
        AskKind::Offer(call, offer) => Request::Offer(session, call, Offer { offer }),
        AskKind::Reject(call) => Request::Reject(session, call, Reject { status: None }),
        AskKind::HangUp(call) => Request::HangUp(session, call),
        AskKind::View(call) => Request::Call(session, call),
        AskKind::Info(call, content) => Request::Info(session, call, content),
    };
    shell.ask(request).await.map_err(Refusal::into_problem)
}

/// Ends the calls and the registration.
async fn sign_out(
    State(shell): State<Shell>,
    Query(Id { id }): Query<Id>,
) -> Result<Response, Refusal> {
    let signed = shell
        .roap
        .table()
        .remove(&hash(&id))
        .ok_or_else(signed_out)?;
    signed.news.send_replace(());
    shell
        .ask(Request::EndSession(signed.feed.session.clone()))
        .await?;
    Ok(plain(String::new()))
}

/// What the library takes for the end of the session: any status but 200.
fn signed_out() -> Refusal {
    let detail = "this id is over or never was; sign in again";
    Problem::new(403, "signed-out", "Not signed in", detail).into()
}

fn plain(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

fn text_from(peer: &str, body: String) -> Response {
    const PRAGMA: HeaderName = header::PRAGMA;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (PRAGMA, peer),
    ];
    (StatusCode::OK, headers, body).into_response()
}

impl Pages {
    fn find(&self, key: &TokenHash) -> Option<Arc<Signed>> {
        self.table().get(key).cloned()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<TokenHash, Arc<Signed>>> {
        // Every change is one insert or remove: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
