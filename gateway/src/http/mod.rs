//! The HTTP shell: translates requests of pages into requests of the core, and events of the core into streams. Decides nothing.
//!
//! Two listeners: the public one with page and API v1, and the admin one. The event loop is reached through a bounded channel of
//! [`Ask`]s; what it has to tell pages goes through [`Sessions`].

pub(crate) mod admin;
mod api;
mod auth;
mod data;
mod events;
mod extract;
pub(crate) mod ice_servers;
mod line;
mod origin;
mod page;
mod problem;
mod rate;
mod roap;
pub(crate) mod serve;
mod sessions;
mod sip_page;
mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod token;
mod whip;

pub(crate) use roap::Pages as RoapPages;
pub(crate) use sessions::Sessions;
pub(crate) use whip::Resources as WhipResources;

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use gateway_core::api::{self as wire, Problem, Reply, SessionId};
use origin::Origins;
use problem::Refusal;
use rate::RateLimit;
use socket::Sockets;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};

/// Longest request body: an SDP offer has some 10 KiB.
const BODY_BYTES: usize = 256 * 1024;
/// A reply of the core that takes longer is given up: SIP's own time-out (64*T1) is 32 s.
const REPLY_LIMIT: Duration = Duration::from_secs(40);

/// What the HTTP shell asks of the event loop.
pub(crate) enum Ask {
    /// A request with the way back for its reply.
    Request(wire::Request, oneshot::Sender<Result<Reply, Problem>>),
    /// The page of this session is there.
    Alive(SessionId),
    /// No new calls and sessions from now on.
    Drain,
}

/// Whether the daemon serves, as `/ready` tells.
#[derive(Default)]
pub(crate) struct Standing {
    ready: AtomicBool,
    draining: AtomicBool,
}

impl Standing {
    /// Everything is bound.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// New calls are refused.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why the daemon takes no new calls; `None` if it does.
    pub(crate) fn obstacle(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("draining")
        } else if self.ready.load(Ordering::Relaxed) {
            None
        } else {
            Some("starting")
        }
    }
}

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Shell {
    pub(crate) loop_: mpsc::Sender<Ask>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) standing: Arc<Standing>,
    /// Pages that speak ROAP.
    pub(crate) roap: Arc<RoapPages>,
    /// Calls of WHIP clients.
    pub(crate) whip: Arc<WhipResources>,
    /// Verifies sign-in tokens, where they are configured.
    pub(crate) tokens: Option<Arc<token::Tokens>>,
    /// STUN and TURN servers for pages.
    pub(crate) ice: Arc<ice_servers::IceServers>,
}

impl Shell {
    /// Asks the core and waits for its reply.
    async fn ask(&self, request: wire::Request) -> Result<Reply, Refusal> {
        let (back, reply) = oneshot::channel();
        self.loop_
            .try_send(Ask::Request(request, back))
            .map_err(|_| busy())?;
        match tokio::time::timeout(REPLY_LIMIT, reply).await {
            Ok(Ok(reply)) => Ok(reply?),
            Ok(Err(_)) => Err(busy()),
            Err(_) => Err(Problem::new(
                504,
                "no-reply",
                "The gateway did not answer in time",
                "try again",
            )
            .into()),
        }
    }

    /// Tells the core that a page is there; when the loop is behind, the next time does.
    fn alive(&self, session: &SessionId) {
        let _ = self.loop_.try_send(Ask::Alive(session.clone()));
    }
}

fn busy() -> Refusal {
    let detail = "too many requests wait, or the gateway stops";
    Problem::new(503, "busy", "The gateway is busy", detail)
        .retry_after(1)
        .into()
}

/// What the public listener needs of the configuration.
pub(crate) struct Settings {
    pub(crate) cors_origins: Vec<String>,
    pub(crate) requests_per_second: u32,
    pub(crate) request_burst: u32,
    /// WebSockets of the API that may be open.
    pub(crate) sockets: usize,
}

/// Page, API v1 and its OpenAPI document.
pub(crate) fn public(shell: Shell, settings: &Settings) -> Router {
    let limit = RateLimit::new(settings.requests_per_second, settings.request_burst);
    let limit = Arc::new(limit);
    let origins = Origins::new(&settings.cors_origins);
    let (inside, _) = api::router().split_for_parts();
    let sockets = Sockets::new(
        finish(inside, shell.clone()),
        Arc::clone(&limit),
        origins.clone(),
        settings.sockets,
    );
    let (api, document) = api::router()
        .merge(socket::router(sockets))
        .split_for_parts();
    let api = api
        .merge(api::document(document))
        .merge(whip::router())
        .merge(roap::router())
        .merge(sip_page::router(origins))
        // Before the layers: they have to answer a preflight, which comes as a method that no route has.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(limit, within_rate))
        .layer(cors(&settings.cors_origins))
        .layer(middleware::from_fn(whip::announce));
    let router = Router::new().merge(api).merge(page::router());
    finish(router, shell)
}

/// Metrics, health and the admin API.
pub(crate) fn administration(shell: Shell) -> Router {
    finish(admin::router(), shell)
}

/// What both listeners have: problem documents for everything, body limit, request metrics, headers.
fn finish(router: Router<Shell>, shell: Shell) -> Router {
    router
        .fallback(|| async { Refusal::from(problem::not_found()) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(CatchPanicLayer::custom(|_| {
            Refusal::from(problem::bug()).into_response()
        }))
        .layer(middleware::from_fn_with_state(shell.clone(), observe))
        .with_state(shell)
}

async fn method_not_allowed() -> Refusal {
    problem::method_not_allowed().into()
}

/// What pages of other origins may do. Those on the list may send cookies too, by which a balancer before several gateways knows where a
/// page signed in; the gateway itself has none, so they open nothing to anybody. Where all origins may come, none may send any.
fn cors(origins: &[String]) -> CorsLayer {
    let (origins, credentials) = if origins.iter().any(|origin| origin == "*") {
        (AllowOrigin::any(), AllowCredentials::default())
    } else {
        let listed: Vec<HeaderValue> = origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok())
            .collect();
        let known = listed.clone();
        let credentials = AllowCredentials::predicate(move |origin, _| known.contains(origin));
        (AllowOrigin::list(listed), credentials)
    };
    let (methods, sent, seen) = whip::cross_origin();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(credentials)
        .allow_methods(
            [Method::GET, Method::POST, Method::DELETE]
                .into_iter()
                .chain(methods)
                .collect::<Vec<_>>(),
        )
        .allow_headers(
            [
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                HeaderName::from_static("last-event-id"),
            ]
            .into_iter()
            .chain(sent)
            .collect::<Vec<_>>(),
        )
        .expose_headers(
            [header::RETRY_AFTER]
                .into_iter()
                .chain(seen)
                .collect::<Vec<_>>(),
        )
        .max_age(Duration::from_secs(600))
}

async fn within_rate(
    State(limit): State<Arc<RateLimit>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    match limit.admit(remote.ip(), Instant::now()) {
        Ok(()) => Ok(next.run(request).await),
        Err(wait) => Err(too_many_requests(wait).into()),
    }
}

fn too_many_requests(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    let detail = "this address sends more requests than the gateway takes from one";
    Problem::new(429, "rate-limit", "Too many requests", detail)
        .retry_after(seconds.saturating_add(1))
}

/// Counts every request by route and status, and sets the headers that every response has.
async fn observe(State(shell): State<Shell>, request: Request, next: Next) -> Response {
    // The pattern, not the path: session names must not become labels.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    shell
        .metrics
        .http_request(&method, &route, response.status());
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
