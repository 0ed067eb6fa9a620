//! API v1, what goes beside media: data, digits, mute and transfers of a call, messages of a session.

use super::Shell;
use super::api::{Names, respond};
use super::auth::Authorized;
use super::extract::{Body, Path};
use super::problem::Refusal;
use axum::extract::State;
use axum::response::Response;
use gateway_core::api::{
    CallId, Content, Dtmf, MessageAnswered, Mute, OutgoingMessage, Problem, Referred, Request,
    Transfer,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn router() -> OpenApiRouter<Shell> {
    OpenApiRouter::new()
        .routes(routes!(info))
        .routes(routes!(dtmf))
        .routes(routes!(mute))
        .routes(routes!(transfer))
        .routes(routes!(refer))
        .routes(routes!(message))
}

/// Sends data to the SIP side (INFO); `call.info_sent` tells what it answered.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/info", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Content,
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Not answered yet"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too much waits already")),
    security(("token" = [])))]
async fn info(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Content>,
) -> Result<Response, Refusal> {
    let request = Request::Info(authorized.session(), CallId(path.1), body);
    respond(shell.ask(request).await?)
}

/// Sends digits to the SIP side (INFO), for pages that cannot put them into their media; `call.dtmf_sent` tells what it answered to each.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/dtmf", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Dtmf,
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Not answered, on hold, or over: `state` and `hold` say which"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "No digits, or times out of bounds"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many wait already")),
    security(("token" = [])))]
async fn dtmf(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Dtmf>,
) -> Result<Response, Refusal> {
    let request = Request::Dtmf(authorized.session(), CallId(path.1), body);
    respond(shell.ask(request).await?)
}

/// Says whether the page's microphone is off; others see it in `call.muted` and in the call.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/mute", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Mute,
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Over")),
    security(("token" = [])))]
async fn mute(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Mute>,
) -> Result<Response, Refusal> {
    let request = Request::Mute(authorized.session(), CallId(path.1), body);
    respond(shell.ask(request).await?)
}

/// Sends the other party to an address, or to the other party of another call (REFER); `call.transfer` tells how that goes.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/transfer", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Transfer,
    responses(
        (status = 204),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Bad address"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The token does not let it call there"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Not answered yet"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "A transfer is under way")),
    security(("token" = [])))]
async fn transfer(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Transfer>,
) -> Result<Response, Refusal> {
    let request = Request::Transfer(authorized.session(), CallId(path.1), body);
    respond(shell.ask(request).await?)
}

/// Answers `call.refer`: the gateway calls whom the SIP side names, who then takes the other party's place (`call.party`), or does not.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/calls/{call}/refer", tag = "calls",
    params(("session" = String, Path), ("call" = String, Path)), request_body = Referred,
    responses(
        (status = 204),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The SIP side names a bad address"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Nobody asks, or no more")),
    security(("token" = [])))]
async fn refer(
    State(shell): State<Shell>,
    authorized: Authorized,
    Path(path): Names,
    Body(body): Body<Referred>,
) -> Result<Response, Refusal> {
    let request = Request::Referred(authorized.session(), CallId(path.1), body);
    respond(shell.ask(request).await?)
}

/// Sends a message (MESSAGE) and waits for what the SIP side says to it.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/messages", tag = "sessions",
    params(("session" = String, Path)), request_body = OutgoingMessage,
    responses(
        (status = 200, body = MessageAnswered),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "Bad address"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "The token does not let it call there"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Full, or draining")),
    security(("token" = [])))]
async fn message(
    State(shell): State<Shell>,
    authorized: Authorized,
    Body(body): Body<OutgoingMessage>,
) -> Result<Response, Refusal> {
    respond(
        shell
            .ask(Request::Message(authorized.session(), body))
            .await?,
    )
}
