//! The admin listener: metrics, health, all calls and flows, drain. Without authentication, so on a private address.

use super::api::respond;
use super::problem::Refusal;
use super::{Ask, Shell, busy};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gateway_core::api::{Problem, Request};
use serde_json::json;

/// Content type of the text format of OpenMetrics 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn router() -> Router<Shell> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/admin/v1/calls", get(calls))
        .route("/admin/v1/flows", get(flows))
        .route("/admin/v1/trunks", get(trunks))
        .route("/admin/v1/drain", post(drain))
}

async fn metrics(State(shell): State<Shell>) -> Response {
    (
        [(header::CONTENT_TYPE, OPENMETRICS)],
        shell.metrics.encode(),
    )
        .into_response()
}

/// 200 as long as the process answers.
async fn health(State(shell): State<Shell>) -> Json<serde_json::Value> {
    let datapath = shell.metrics.datapath().map(|report| {
        json!({
            "mode": report.mode,
            "reason": report.reason,
            "flows_xdp": report.flows_xdp,
            "flows_userspace": report.flows_userspace,
            "memory_bytes": report.memory_bytes,
        })
    });
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "ready": shell.standing.obstacle().is_none(),
        "datapath": datapath,
    }))
}

/// 200 when new calls are taken, else 503: what a load balancer asks.
async fn ready(State(shell): State<Shell>) -> Result<Response, Refusal> {
    match shell.standing.obstacle() {
        None => Ok(Json(json!({"ready": true})).into_response()),
        Some(why) => {
            let problem = Problem::new(503, why, "Not ready", format!("the gateway is {why}"));
            Err(problem.retry_after(5).into())
        }
    }
}

async fn calls(State(shell): State<Shell>) -> Result<Response, Refusal> {
    respond(shell.ask(Request::AllCalls).await?)
}

async fn trunks(State(shell): State<Shell>) -> Result<Response, Refusal> {
    respond(shell.ask(Request::Trunks).await?)
}

async fn flows(State(shell): State<Shell>) -> Result<Response, Refusal> {
    respond(shell.ask(Request::Flows).await?)
}

async fn drain(State(shell): State<Shell>, headers: HeaderMap) -> Result<StatusCode, Refusal> {
    // Browsers send it with every cross-site POST: a page that the operator happens to visit must not drain the gateway.
    if headers.contains_key(header::ORIGIN) {
        let detail = "the admin API is not for browsers";
        return Err(Problem::new(403, "browser", "Refused", detail).into());
    }
    shell.loop_.send(Ask::Drain).await.map_err(|_| busy())?;
    shell.standing.set_draining();
    Ok(StatusCode::NO_CONTENT)
}
