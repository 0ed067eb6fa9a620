//! Whose pages may open a WebSocket: CORS does not hold one back, so its Origin is checked against the same list.

use super::problem::Refusal;
use axum::http::{HeaderMap, header};
use gateway_core::api::Problem;
use std::sync::Arc;

/// Origins of pages on other hosts; `*` stands for all.
#[derive(Clone)]
pub(super) struct Origins(Arc<[String]>);

impl Origins {
    /// `http.cors_origins`.
    pub(super) fn new(listed: &[String]) -> Self {
        Self(listed.into())
    }

    /// Refuses a page of an origin that is not listed.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.admit(headers) {
            return Ok(());
        }
        let detail = "pages of this origin may not connect: see http.cors_origins";
        Err(Problem::new(403, "origin", "Origin not allowed", detail).into())
    }

    /// No Origin: not a page. The gateway's own pages always may.
    fn admit(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let Some(origin) = text(header::ORIGIN) else {
            return true;
        };
        let (_, host) = origin.split_once("://").unwrap_or(("", origin));
        text(header::HOST) == Some(host)
            || self.0.iter().any(|known| known == "*" || known == origin)
    }
}
