//! The frames of the WebSocket: JSON objects, one in each text message.

use super::seat::Seat;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, Uri};
use gateway_core::api::{Event, Problem};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the page names its request by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(serde_json::Number),
    Text(String),
}

/// A request, from the page: one of API v1, by its method, path and body.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SocketRequest {
    /// The page's own name of the request, a number or a text; comes back with the response.
    #[schema(value_type = serde_json::Value)]
    id: Id,
    /// `GET`, `POST` or `DELETE`.
    method: String,
    /// Path and query, from `/api/v1/` on.
    path: String,
    /// What is the body by HTTP.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    body: Option<Box<RawValue>>,
    /// What is `Authorization: Bearer` by HTTP; the token of the socket's session where it is absent.
    #[serde(default)]
    token: Option<String>,
}

/// The response to a request, from the gateway; in the order in which they are ready.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SocketResponse {
    /// That of the request; null where it could not be read.
    #[schema(value_type = Option<serde_json::Value>)]
    pub(super) id: Option<Id>,
    /// HTTP status.
    pub(super) status: u16,
    /// What is the body by HTTP: of a refused request its problem document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(super) body: Option<Box<RawValue>>,
}

/// An event of the socket's session, from the gateway.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SocketEvent {
    /// With its number `id`, as in the event stream.
    #[schema(value_type = Event)]
    pub(super) event: Box<RawValue>,
}

/// A sign of life, from the gateway, every ten seconds: a page does not see the pings of the WebSocket.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SocketAlive {
    /// Number of the last event that was sent, 0 before the first.
    pub(super) alive: u64,
}

impl SocketRequest {
    /// Reads a frame; what is refused carries the page's name of it as far as there is one.
    pub(super) fn parse(text: &str) -> Result<Self, SocketResponse> {
        #[derive(Deserialize)]
        struct Named {
            id: Id,
        }
        serde_json::from_str(text).map_err(|error| {
            let named = serde_json::from_str::<Named>(text).ok();
            let title = "The frame is no request";
            let problem = Problem::new(400, "bad-frame", title, error.to_string());
            SocketResponse::refusal(named.map(|named| named.id), &problem)
        })
    }

    /// The page's name of it.
    pub(super) fn id(&self) -> Id {
        self.id.clone()
    }

    /// The request that HTTP would have brought, and the seat for the session that it may open.
    pub(super) fn into_http(self, token: Option<&str>, seat: Seat) -> Result<Request, Problem> {
        let bad = |what: &str| Problem::new(400, "bad-frame", "The frame is no request", what);
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| bad("no method"))?;
        let uri: Uri = self.path.parse().map_err(|_| bad("no path"))?;
        if !self.path.starts_with('/') {
            return Err(bad("a path begins with /"));
        }
        let body: String = self
            .body
            .map_or_else(String::new, |body| Box::<str>::from(body).into());
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(token) = self.token.as_deref().or(token) {
            let bearer = HeaderValue::try_from(format!("Bearer {token}"));
            let bearer = bearer.map_err(|_| bad("no token"))?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
        }
        request.extensions_mut().insert(seat);
        Ok(request)
    }
}

impl SocketResponse {
    /// A refusal by the socket itself.
    pub(super) fn refusal(id: Option<Id>, problem: &Problem) -> Self {
        Self {
            id,
            status: problem.status,
            body: serde_json::value::to_raw_value(problem).ok(),
        }
    }
}
