//! What a handler may know of the connection that its answer goes out on: whether the peer can have got it.
//!
//! `serve` makes one for each connection and gives it to the handlers as an extension of the request. The endpoint that has no numbers for
//! what it tells a page (`roap`) looks at it, so that an answer written to a page that has just gone is told again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const BROKEN: u8 = 2;

/// Who closes a connection so soon after an answer, without another request, did not read the answer: a browser keeps a connection for minutes.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// By then the peer's TCP has acknowledged the answer, or the connection is broken.
const BROKEN_WITHIN: Duration =
    super::serve::UNACKNOWLEDGED_LIMIT.saturating_add(Duration::from_secs(5));

/// A connection, as its handlers see it.
#[derive(Default)]
pub(crate) struct Line {
    requests: AtomicU32,
    state: AtomicU8,
    changed: Notify,
}

/// One request's place on its connection: an extension of the request.
#[derive(Clone)]
pub(crate) struct Asked {
    line: Arc<Line>,
    number: u32,
    last: bool,
}

impl Line {
    /// Another request came; `last` if the peer has said that it closes the connection behind the answer.
    pub(super) fn ask(self: &Arc<Self>, last: bool) -> Asked {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.changed.notify_waiters();
        Asked {
            line: Arc::clone(self),
            number,
            last,
        }
    }

    /// The connection is over.
    pub(super) fn end(&self, broken: bool) {
        let state = if broken { BROKEN } else { CLOSED };
        self.state.store(state, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

impl Asked {
    /// Waits until it is known whether the peer got the answer, which is sent meanwhile. It did if it asked for more on the same
    /// connection, or keeps the connection.
    pub(super) async fn was_answered(self) -> bool {
        if self.last {
            return true;
        }
        let answered = Instant::now();
        loop {
            let changed = self.line.changed.notified();
            if self.line.requests.load(Ordering::Relaxed) != self.number {
                return true;
            }
            match self.line.state.load(Ordering::Relaxed) {
                OPEN => {}
                CLOSED => return answered.elapsed() >= READ_WITHIN,
                _ => return false,
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(answered + BROKEN_WITHIN) => return true,
            }
        }
    }
}
