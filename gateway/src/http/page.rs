//! The agent desk and `causeway.js` with its types, embedded from `web/`.

use super::Shell;
use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

/// Path, content type, bytes.
const FILES: [(&str, &str, &[u8]); 13] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_bytes!("../../../web/index.html"),
    ),
    (
        "/index.html",
        "text/html; charset=utf-8",
        include_bytes!("../../../web/index.html"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/app.js"),
    ),
    (
        "/desk.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/desk.js"),
    ),
    (
        "/keys.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/keys.js"),
    ),
    (
        "/log.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/log.js"),
    ),
    (
        "/meter.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/meter.js"),
    ),
    (
        "/view.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/view.js"),
    ),
    (
        "/causeway.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/causeway.js"),
    ),
    (
        "/socket.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/socket.js"),
    ),
    (
        "/causeway.d.ts",
        "application/typescript; charset=utf-8",
        include_bytes!("../../../web/causeway.d.ts"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_bytes!("../../../web/style.css"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_bytes!("../../../web/icon.svg"),
    ),
];

/// The page loads and reaches nothing but its own origin, runs no inline script, and stands in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      media-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Shell> {
    FILES
        .iter()
        .fold(Router::new(), |router, (path, kind, bytes)| {
            router.route(path, get(async || file(kind, bytes)))
        })
}

fn file(kind: &'static str, bytes: &'static [u8]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // A new daemon may have a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}
