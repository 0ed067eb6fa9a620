//! API v1: one handler for each route, described for the OpenAPI document where it stands.

use super::Shell;
use super::auth::{Authorized, Granted};
use super::events;
use super::extract::{Body, Path};
use super::problem::{self, Refusal};
use super::socket::Seat;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use gateway_core::api::{
    Answer, Answered, CallId, CallView, Candidates, CreateCall, CreateSession, Event, Offer,
    Problem, Reject, Reply, Request, SessionCreated, SessionView,
};
use std::time::SystemTime;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Causeway", description = "Calls between browsers and SIP. Errors are problem documents (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    components(schemas(Event)),
    modifiers(&Token))]
struct Description;

/// The bearer token of a session.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
    }
}

/// All routes with their description.
pub(super) fn router() -> OpenApiRouter<Shell> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(create_session))
        .routes(routes!(session, end_session))
        .routes(routes!(events::events))
        .routes(routes!(create_call))
        .routes(routes!(call, hang_up))
        .routes(routes!(answer))
        .routes(routes!(offer))
        .routes(routes!(candidates))
        .routes(routes!(reject))
        .merge(super::data::router())
}

/// The OpenAPI document itself.
pub(super) fn document(document: Document) -> Router<Shell> {
    let document = serde_json::to_value(&document).unwrap_or_default();
    Router::new().route(
        "/api/v1/openapi.json",
        get(async move || Json(document.clone())),
    )
}

/// Signs in: as a SIP user with a password, which is registered, as the user that a token names (JWT in `Authorization: Bearer`), or
/// as a guest.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", request_body = CreateSession, security((), ("token" = [])),
    responses(
        (status = 201, body = SessionCreated),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Not JSON, or a bad user"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Wrong password, a token that is not valid, or none where it is required"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "No guests here"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The WebSocket has a session already"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "Wrong fields"),
        (status = 502, body = Problem, content_type = "application/problem+json", description = "The registrar refused"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Full, or draining"),
        (status = 504, body = Problem, content_type = "application/problem+json", description = "No registrar")))]
async fn create_session(
    State(shell): State<Shell>,
    Granted(grant): Granted,
    seat: Option<Extension<Seat>>,
    Body(body): Body<CreateSession>,
) -> Result<Response, Refusal> {
    let claim = seat.map(|Extension(seat)| seat.claim()).transpose()?;
    match shell.ask(Request::CreateSession(body, grant)).await? {
        Reply::SessionCreated(mut created) => {
            created.ice_servers = shell.ice.of(&created.address, SystemTime::now());
            if let Some(claim) = claim {
                let feed = shell.sessions.by_token(&created.token);
                claim.follow(&created.token, &feed.ok_or_else(problem::bug)?, 0)?;
            }
            Ok((StatusCode::CREATED, Json(created)).into_response())
        }
        other => Err(unexpected(&other)),
    }
}

/// A session and its calls.
#[utoipa::path(get, path = "/api/v1/sessions/{session}", tag = "sessions", params(("session" = String, Path)),
    responses((status = 200, body = SessionView), (status = 401, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn session(State(shell): State<Shell>, authorized: Authorized) -> Result<Response, Refusal> {
    respond(shell.ask(Request::Session(authorized.session())).await?)
}

/// Signs out: ends the calls and removes the registration.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "sessions", params(("session" = String, Path)),
    responses((status = 204), (status = 401, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn end_session(
    State(shell): State<Shell>,
    authorized: Authorized,
) -> Result<Response, Refusal> {
    respond(shell.ask(Request::EndSession(authorized.session())).await?)
}

/// Places a call; the answer comes as the event `call.answer`. Without an offer the callee makes it: the event `call.offer` brings it, and
/// the page answers by `POST .../answer`.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls", tag = "calls", params(("session" = String, Path)),
    request_body = CreateCall,
    responses(
        (status = 201, body = CallView),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Bad address or description; or no offer, of a session that did not sign in with takes_offers"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The token does not let it call there"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Too many calls of this session"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Full, or draining")),
    security(("token" = [])))]
async fn create_call(
    State(shell): State<Shell>,
    authorized: Authorized,
    Body(body): Body<CreateCall>,
) -> Result<Response, Refusal> {
    match shell
        .ask(Request::CreateCall(authorized.session(), body))
        .await?
    {
        Reply::Call(view) => Ok((StatusCode::CREATED, Json(view)).into_response()),
        other => Err(unexpected(&other)),
    }
}

/// A call with its path and statistics.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/calls/{call}", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)),
    responses(
        (status = 200, body = CallView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn call(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Call(authorized.session(), CallId(path.1)))
            .await?,
    )
}

/// Hangs up.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}/calls/{call}", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)),
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn hang_up(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::HangUp(authorized.session(), CallId(path.1)))
            .await?,
    )
}

/// Takes an incoming call, or answers `call.offer`.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/answer", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Answer,
    responses(
        (status = 200, body = CallView),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Not ringing, and no offer waits"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "No codec in common")),
    security(("token" = [])))]
async fn answer(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Answer>,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Answer(authorized.session(), CallId(path.1), body))
            .await?,
    )
}

/// Renegotiates; an offer with new ICE credentials restarts ICE, one with another fingerprint begins the media path anew. On a call that
/// came without an offer and still rings it takes the call: 204, and `call.answer` brings the answer.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/offer", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Offer,
    responses(
        (status = 200, body = Answered),
        (status = 204, description = "The answer comes as an event"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn offer(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Offer>,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Offer(authorized.session(), CallId(path.1), body))
            .await?,
    )
}

/// More ICE candidates of the page (RFC 8838).
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/candidates", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Candidates,
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")),
    security(("token" = [])))]
async fn candidates(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Candidates>,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Candidates(
                authorized.session(),
                CallId(path.1),
                body,
            ))
            .await?,
    )
}

/// Refuses an incoming call.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/reject", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Reject,
    responses(
        (status = 204),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Not ringing")),
    security(("token" = [])))]
async fn reject(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Reject>,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Reject(authorized.session(), CallId(path.1), body))
            .await?,
    )
}

/// Session and call of the path; the session has been checked by [`Authorized`].
pub(super) type Names = Path<(String, String)>;

/// 200 with what the core says, or 204 where it has nothing to say.
pub(super) fn respond(reply: Reply) -> Result<Response, Refusal> {
    Ok(match reply {
        Reply::Done => StatusCode::NO_CONTENT.into_response(),
        Reply::Session(view) => Json(view).into_response(),
        Reply::Call(view) => Json(view).into_response(),
        Reply::Answered(answered) => Json(answered).into_response(),
        Reply::MessageAnswered(answered) => Json(answered).into_response(),
        Reply::Calls(calls) => Json(calls).into_response(),
        Reply::Trunks(trunks) => Json(trunks).into_response(),
        Reply::Flows(flows) => Json(flows).into_response(),
        // The one has a token, which would stand in a reply that nobody asked for; the other is for user agents in pages alone.
        Reply::SessionCreated(_) | Reply::Registered(_) => return Err(unexpected(&reply)),
    })
}

/// The core answered with the reply of another request: a bug.
fn unexpected(reply: &Reply) -> Refusal {
    tracing::error!(reply = ?std::mem::discriminant(reply), "the reply does not fit the request");
    problem::bug().into()
}
