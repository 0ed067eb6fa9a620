//! The one session of a WebSocket. A [`Seat`] goes with each request that came over the socket; the request that signs in, or asks for
//! the events of a session, takes it, and leaves there what the socket follows from then on.

use crate::http::events::Reader;
use crate::http::problem::Refusal;
use crate::http::sessions::Feed;
use gateway_core::api::Problem;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module.
#[derive(Clone)]
pub(in crate::http) struct Seat {
    /// One, until somebody takes it.
    place: Arc<Semaphore>,
    joined: Arc<Mutex<Option<Joined>>>,
}

/// A session that a socket follows.
pub(super) struct Joined {
    /// Opens the session to further requests of the socket.
    pub(super) token: String,
    pub(super) reader: Reader,
}

/// The seat while a request is under way that may take it; free again when that fails.
pub(in crate::http) struct Claim {
    seat: Seat,
    permit: OwnedSemaphorePermit,
}

impl Seat {
    /// A free one.
    pub(super) fn new() -> Self {
        Self {
            place: Arc::new(Semaphore::new(1)),
            joined: Arc::default(),
        }
    }

    /// Claims it before anything is done: a second session has no place on a socket.
    pub(in crate::http) fn claim(&self) -> Result<Claim, Refusal> {
        let permit = Arc::clone(&self.place).try_acquire_owned().map_err(|_| {
            let detail = "a WebSocket carries one session: open another one";
            Problem::new(409, "second-session", "Signed in already", detail)
        })?;
        let seat = self.clone();
        Ok(Claim { seat, permit })
    }

    /// What a request has left here.
    pub(super) fn take(&self) -> Option<Joined> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Joined>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Takes the seat for good: the socket follows this session after this number, which is given back as far as it has been reached.
    pub(in crate::http) fn follow(
        self,
        token: &str,
        feed: &Arc<Feed>,
        after: u64,
    ) -> Result<u64, Refusal> {
        let reader = Reader::new(feed, after)?;
        let last = reader.last();
        let token = token.to_owned();
        *self.seat.lock() = Some(Joined { token, reader });
        self.permit.forget();
        Ok(last)
    }
}
