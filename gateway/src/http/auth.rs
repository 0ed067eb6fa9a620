//! The bearer token of a request: against the session of its path, or as the grant that a page signs in with.

use super::Shell;
use super::problem::{self, Refusal};
use super::sessions::Feed;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use gateway_core::api::{Grant, Problem, SessionId};
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

/// What the token of a sign-in grants; `None` when none came and none is required.
pub(super) struct Granted(pub(super) Option<Grant>);

impl FromRequestParts<Shell> for Granted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shell: &Shell) -> Result<Self, Refusal> {
        let Some(tokens) = &shell.tokens else {
            return Ok(Self(None));
        };
        match bearer(&parts.headers).or_else(|| query_token(parts)) {
            Some(token) => Ok(Self(Some(tokens.verify(token)?))),
            None if tokens.required() => {
                let detail = "sign in with a token in `Authorization: Bearer`";
                Err(Problem::new(401, "no-token", "A token is required", detail).into())
            }
            None => Ok(Self(None)),
        }
    }
}

/// The token in the address of a WebSocket, for which a page cannot set headers (RFC 6750 section 2.3). A JWT has nothing to unescape.
fn query_token(parts: &Parts) -> Option<&str> {
    parts.headers.get(header::UPGRADE)?;
    let pairs = parts.uri.query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "access_token").then_some(value))
}

/// The bearer token of a request (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}
