//! The bearer token of a request against the session of its path.

use super::Shell;
use super::problem::{self, Refusal};
use super::sessions::Feed;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use gateway_core::api::{Problem, SessionId};
use std::sync::Arc;

/// The session of the path, whose token came with the request. Another session's token is as good as none.
pub(super) struct Authorized(pub(super) Arc<Feed>);

impl Authorized {
    /// The session.
    pub(super) fn session(&self) -> SessionId {
        self.0.session.clone()
    }
}

impl FromRequestParts<Shell> for Authorized {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shell: &Shell) -> Result<Self, Refusal> {
        let feed = shell.sessions.authorized(&parts.headers);
        let feed = feed.ok_or_else(problem::unauthorized)?;
        let parameters = RawPathParams::from_request_parts(parts, shell).await;
        let parameters = parameters.map_err(|rejection| {
            Problem::new(400, "bad-path", "Bad path", rejection.body_text())
        })?;
        let named = parameters
            .iter()
            .find(|(name, _)| *name == "session")
            .map(|(_, value)| value);
        if named != Some(feed.session.0.as_str()) {
            return Err(problem::unauthorized().into());
        }
        Ok(Self(feed))
    }
}
