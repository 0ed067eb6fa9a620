//! Tokens and event feeds of the sessions: written by the event loop, read by the handlers.
//!
//! A feed keeps the last [`KEPT`] events, each with its number, so that a page whose stream broke goes on where it was.

use axum::http::HeaderMap;
use gateway_core::api::{Event, SessionId};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Events of one session that can be read again.
const KEPT: usize = 256;
/// How long the last events of a session that is over can still be read with its token.
const LINGER: Duration = Duration::from_secs(5);

/// What a token is stored and looked up by: comparing hashes of secrets tells nothing about the secrets.
pub(super) type TokenHash = [u8; 32];

/// All sessions that have a token.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    by_token: HashMap<TokenHash, Arc<Feed>>,
    by_session: HashMap<SessionId, (TokenHash, Arc<Feed>)>,
}

/// The events of one session.
pub(super) struct Feed {
    pub(super) session: SessionId,
    /// Streams and polls that are open; bounds them.
    pub(super) readers: Arc<tokio::sync::Semaphore>,
    ring: Mutex<Ring>,
    /// Changes with every event and at the end.
    news: watch::Sender<()>,
}

/// An event as the page gets it.
#[derive(Clone)]
pub(super) struct Numbered {
    pub(super) id: u64,
    /// Its `type`.
    pub(super) kind: String,
    /// `{"id":N,"type":...}`.
    pub(super) json: Box<serde_json::value::RawValue>,
}

#[derive(Default)]
struct Ring {
    kept: VecDeque<Numbered>,
    last: u64,
    over: bool,
}

/// Streams and polls of one session at once; a page has one, and stale ones while its network changes.
const READERS: usize = 8;

#[derive(Serialize)]
struct WithId<'a> {
    id: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Sessions {
    /// A session begins; its token opens it from now on.
    pub(crate) fn open(&self, session: &SessionId, token: &str) {
        let feed = Arc::new(Feed {
            session: session.clone(),
            readers: Arc::new(tokio::sync::Semaphore::new(READERS)),
            ring: Mutex::new(Ring::default()),
            news: watch::Sender::new(()),
        });
        let hash = hash(token);
        let mut tables = self.tables();
        tables.by_token.insert(hash, Arc::clone(&feed));
        tables.by_session.insert(session.clone(), (hash, feed));
    }

    /// An event for a page; none for a session that has no token yet.
    pub(crate) fn push(&self, session: &SessionId, event: &Event) {
        let feed = self
            .tables()
            .by_session
            .get(session)
            .map(|(_, feed)| Arc::clone(feed));
        if let Some(feed) = feed {
            feed.push(event);
        }
    }

    /// A session is over: its streams end with the events that it has, its token is void soon after.
    pub(crate) fn close(self: &Arc<Self>, session: &SessionId) {
        let Some((hash, feed)) = self.tables().by_session.remove(session) else {
            return;
        };
        feed.ring().over = true;
        feed.news.send_replace(());
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            sessions.tables().by_token.remove(&hash);
        });
    }

    /// The session that the bearer token of a request opens.
    pub(super) fn authorized(&self, headers: &HeaderMap) -> Option<Arc<Feed>> {
        self.by_token(super::auth::bearer(headers)?)
    }

    /// The session that a token opens.
    pub(super) fn by_token(&self, token: &str) -> Option<Arc<Feed>> {
        self.tables().by_token.get(&hash(token)).cloned()
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        // Every change is one insert or remove: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn push(&self, event: &Event) {
        {
            let mut ring = self.ring();
            let id = ring.last + 1;
            let kind = kind(event);
            let Ok(json) = serde_json::value::to_raw_value(&WithId { id, event }) else {
                return;
            };
            ring.last = id;
            if ring.kept.len() == KEPT {
                ring.kept.pop_front();
            }
            ring.kept.push_back(Numbered { id, kind, json });
        }
        self.news.send_replace(());
    }

    /// Events after number `after`, oldest first.
    pub(super) fn after(&self, after: u64) -> Vec<Numbered> {
        let ring = self.ring();
        ring.kept
            .iter()
            .filter(|event| event.id > after)
            .cloned()
            .collect()
    }

    /// Number of the newest event, 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.ring().last
    }

    /// Whether no more events will come.
    pub(super) fn is_over(&self) -> bool {
        self.ring().over
    }

    /// Tells of changes from now on.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// The `type` of an event, as serde writes it.
fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    value
        .get("type")
        .and_then(|kind| kind.as_str())
        .unwrap_or_default()
        .to_owned()
}
