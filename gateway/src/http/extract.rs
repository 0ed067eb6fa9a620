//! Bodies, paths and queries whose rejections are problem documents.

use super::BODY_BYTES;
use super::problem::Refusal;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use gateway_core::api::Problem;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A body that takes longer to arrive is given up.
const BODY_LIMIT: Duration = Duration::from_secs(15);

/// Of a body that is too long this much is read all the same.
const DRAINED_BYTES: usize = 8 * 1024 * 1024;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

/// Parameters of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(super) struct Path<T>(pub(super) T);

/// Parameters of the query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        // An object first: derived types would also take an array of their fields.
        type Object = axum::Json<serde_json::Map<String, serde_json::Value>>;
        let read = async {
            let request = whole(request).await?;
            Object::from_request(request, state)
                .await
                .map_err(Refusal::from)
        };
        match tokio::time::timeout(BODY_LIMIT, read).await {
            Ok(Ok(axum::Json(object))) => {
                serde_json::from_value(object.into())
                    .map(Self)
                    .map_err(|error| {
                        let title = "The JSON has not the fields that it should";
                        Problem::new(422, "bad-fields", title, error.to_string()).into()
                    })
            }
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => {
                let detail = "the body did not arrive in time";
                Err(Problem::new(408, "slow-body", "Request timed out", detail).into())
            }
        }
    }
}

/// The request with its body read. What is too long is read to its end and forgotten before it is refused: a connection that is closed
/// with bytes unread is reset, and the refusal lost on its way.
async fn whole(request: Request) -> Result<Request, Refusal> {
    let (parts, body) = request.into_parts();
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            let detail = "the connection broke within the body";
            return Err(Problem::new(400, "bad-body", "The body cannot be read", detail).into());
        };
        length = length.saturating_add(chunk.len());
        if length <= BODY_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if length > DRAINED_BYTES {
            break;
        }
    }
    if length > BODY_BYTES {
        let detail = format!("at most {BODY_BYTES} bytes are taken");
        return Err(Problem::new(413, "too-large", "The body is too large", detail).into());
    }
    Ok(Request::from_parts(parts, bytes.into()))
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let (kind, title) = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("media-type", "The body has to be application/json")
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                ("bad-fields", "The JSON has not the fields that it should")
            }
            _ => ("bad-json", "The body is no JSON"),
        };
        Problem::new(
            rejection.status().as_u16(),
            kind,
            title,
            rejection.body_text(),
        )
        .into()
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Problem::new(
            rejection.status().as_u16(),
            "bad-path",
            "Bad path",
            rejection.body_text(),
        )
        .into()
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Problem::new(
            rejection.status().as_u16(),
            "bad-query",
            "Bad query",
            rejection.body_text(),
        )
        .into()
    }
}
