//! Every refusal as a problem document (RFC 9457), the ones of the HTTP library too.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use gateway_core::api::Problem;

/// A problem as a response.
#[derive(Debug)]
pub(super) struct Refusal(Box<Problem>);

impl Refusal {
    /// The problem that it is.
    pub(super) fn into_problem(self) -> Problem {
        *self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = *self.0;
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// 404.
pub(super) fn not_found() -> Problem {
    Problem::new(
        404,
        "no-route",
        "Not found",
        "there is nothing at this path",
    )
}

/// 405.
pub(super) fn method_not_allowed() -> Problem {
    Problem::new(
        405,
        "method",
        "Method not allowed",
        "this path has other methods, see /api/v1/openapi.json",
    )
}

/// 401.
pub(super) fn unauthorized() -> Problem {
    let detail = "this session needs its token in `Authorization: Bearer`, or it is over";
    Problem::new(401, "token", "Not signed in", detail)
}

/// 500.
pub(super) fn bug() -> Problem {
    Problem::new(
        500,
        "bug",
        "The gateway failed",
        "this is a bug of the gateway; its log says more",
    )
}
