//! Bodies, paths and queries whose rejections are problem documents.

use super::problem::Refusal;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use gateway_core::api::Problem;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A body that takes longer to arrive is given up.
const BODY_LIMIT: Duration = Duration::from_secs(15);

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
        match tokio::time::timeout(BODY_LIMIT, Object::from_request(request, state)).await {
            Ok(Ok(axum::Json(object))) => {
                serde_json::from_value(object.into())
                    .map(Self)
                    .map_err(|error| {
                        let title = "The JSON has not the fields that it should";
                        Problem::new(422, "bad-fields", title, error.to_string()).into()
                    })
            }
            Ok(Err(rejection)) => Err(rejection.into()),
            Err(_) => {
                let detail = "the body did not arrive in time";
                Err(Problem::new(408, "slow-body", "Request timed out", detail).into())
            }
        }
    }
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
