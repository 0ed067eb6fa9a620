//! Requests, refusals, tokens, CORS, rate limit, admin.

use super::*;

/// Status and slug of the problem document that a request gets.
async fn refusal(router: &Router, request: Request<Body>) -> (u16, String) {
    let response = send(router, request).await;
    let status = response.status().as_u16();
    let kind = response
        .headers()
        .get("content-type")
        .expect("a content type")
        .clone();
    assert_eq!(kind, "application/problem+json", "status {status}");
    let problem = read(response).await;
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string());
    (status, problem["type"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_bad_body_is_refused_by_a_problem_document() {
    let bed = bed();
    let large = format!("{{\"user\":\"{}\"}}", "x".repeat(300 * 1024));
    for (body, status, kind) in [
        ("{\"user\":", 400, "bad-json"),
        ("", 400, "bad-json"),
        ("{\"user\":7}", 422, "bad-fields"),
        ("{\"usr\":\"a\"}", 422, "bad-fields"),
        (large.as_str(), 413, "too-large"),
        ("{\"user\":\"full\"}", 503, "session-limit"),
    ] {
        let request = json("POST", "/api/v1/sessions", "", body);
        let expected = (status, kind.to_owned());
        assert_eq!(refusal(&bed.public, request).await, expected, "{body:.40}");
    }
    let text = request("POST", "/api/v1/sessions").header("content-type", "text/plain");
    let text = text.body(Body::from("{}")).unwrap();
    assert_eq!(
        refusal(&bed.public, text).await,
        (415, "media-type".to_owned())
    );
}

#[tokio::test]
async fn a_bad_path_token_or_query_is_refused_by_a_problem_document() {
    let bed = bed();
    sign_in(&bed).await;
    for (method, path, token, status, kind) in [
        ("GET", "/nowhere", "", 404, "no-route"),
        ("GET", "/api/v1/nowhere", "", 404, "no-route"),
        ("PUT", "/api/v1/sessions", "", 405, "method"),
        ("POST", "/", "", 405, "method"),
        ("GET", "/api/v1/sessions/one", "", 401, "token"),
        ("GET", "/api/v1/sessions/one", "wrong", 401, "token"),
        ("GET", "/api/v1/sessions/two", "secret", 401, "token"),
        ("GET", "/api/v1/sessions/%ff", "secret", 400, "bad-path"),
        (
            "GET",
            "/api/v1/sessions/one/calls/none",
            "secret",
            404,
            "no-call",
        ),
        (
            "GET",
            "/api/v1/sessions/one/calls/%ff",
            "secret",
            400,
            "bad-path",
        ),
        (
            "GET",
            "/api/v1/sessions/one/events?wait=31",
            "secret",
            400,
            "bad-query",
        ),
        (
            "GET",
            "/api/v1/sessions/one/events?after=x",
            "secret",
            400,
            "bad-query",
        ),
        (
            "GET",
            "/api/v1/sessions/one/events?wiat=1",
            "secret",
            400,
            "bad-query",
        ),
    ] {
        let request = json(method, path, token, "");
        let expected = (status, kind.to_owned());
        assert_eq!(
            refusal(&bed.public, request).await,
            expected,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn retry_after_and_authenticate_stand_in_the_headers() {
    let bed = bed();
    let full = send(
        &bed.public,
        json("POST", "/api/v1/sessions", "", "{\"user\":\"full\"}"),
    )
    .await;
    assert_eq!(full.headers()["retry-after"], "5");
    let unsigned = send(&bed.public, json("GET", "/api/v1/sessions/one", "", "")).await;
    assert_eq!(unsigned.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn replies_come_with_their_status() {
    let bed = bed();
    sign_in(&bed).await;
    let view = send(
        &bed.public,
        json("GET", "/api/v1/sessions/one", "secret", ""),
    )
    .await;
    assert_eq!(view.status(), StatusCode::OK);
    assert_eq!(read(view).await["address"], "sip:alice@example.org");
    let call = "/api/v1/sessions/one/calls/c";
    let offer = send(
        &bed.public,
        json(
            "POST",
            &format!("{call}/offer"),
            "secret",
            "{\"offer\":\"v=0\"}",
        ),
    )
    .await;
    assert_eq!(read(offer).await["answer"], "v=0");
    for (method, path, body) in [
        ("POST", format!("{call}/candidates"), "{\"candidates\":[]}"),
        ("POST", format!("{call}/reject"), "{}"),
        ("DELETE", call.to_owned(), ""),
        ("DELETE", "/api/v1/sessions/one".to_owned(), ""),
    ] {
        let response = send(&bed.public, json(method, &path, "secret", body)).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{method} {path}");
    }
}

#[tokio::test]
async fn a_session_that_is_over_has_no_token_any_more() {
    tokio::time::pause();
    let bed = bed();
    sign_in(&bed).await;
    bed.shell.sessions.close(&SessionId("one".into()));
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let late = json("GET", "/api/v1/sessions/one/events?wait=0", "secret", "");
    assert_eq!(refusal(&bed.public, late).await, (401, "token".to_owned()));
}

#[tokio::test]
async fn a_core_that_does_not_take_requests_costs_503_and_one_that_does_not_answer_504() {
    tokio::time::pause();
    let (loop_, asks) = mpsc::channel(1);
    let shell = Shell {
        loop_,
        sessions: Arc::default(),
        metrics: Arc::new(Metrics::new()),
        standing: Arc::default(),
        roap: Arc::default(),
        whip: Arc::default(),
        tokens: None,
        ice: Arc::default(),
    };
    let router = public(shell, &settings());
    let first = json("POST", "/api/v1/sessions", "", "{}");
    let second = json("POST", "/api/v1/sessions", "", "{}");
    let (first, second) = tokio::join!(refusal(&router, first), refusal(&router, second));
    assert_eq!((first.0, second.0), (504, 503));
    drop(asks);
    assert_eq!(
        refusal(&router, json("POST", "/api/v1/sessions", "", "{}"))
            .await
            .0,
        503
    );
}

#[tokio::test]
async fn only_listed_origins_may_use_the_api() {
    let bed = bed();
    let preflight = |origin: &str| {
        request("OPTIONS", "/api/v1/sessions/one/calls")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type,last-event-id",
            )
            .body(Body::empty())
            .unwrap()
    };
    let listed = send(&bed.public, preflight("https://desk.example.org")).await;
    assert_eq!(
        listed.headers()["access-control-allow-origin"],
        "https://desk.example.org"
    );
    let headers = listed.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap()
        .to_lowercase();
    for name in ["authorization", "content-type", "last-event-id"] {
        assert!(headers.contains(name), "{headers}");
    }
    let other = send(&bed.public, preflight("https://evil.example.org")).await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    // A refusal has to be readable by the page that caused it.
    let mut refused = json("POST", "/api/v1/sessions", "", "nonsense");
    refused
        .headers_mut()
        .insert("origin", "https://desk.example.org".parse().unwrap());
    let refused = send(&bed.public, refused).await;
    assert_eq!(
        refused.headers()["access-control-allow-origin"],
        "https://desk.example.org"
    );
}

const ALLOWED: &str = "access-control-allow-origin";
const COOKIES: &str = "access-control-allow-credentials";

/// What the answer to a request of that origin says of origins and of cookies.
async fn cross_origin(bed: &Bed, method: &str, path: &str, origin: &str) -> [Option<String>; 2] {
    let body = if method == "POST" { "{}" } else { "" };
    let mut asked = json(method, path, "secret", body);
    let headers = asked.headers_mut();
    headers.insert("origin", origin.parse().unwrap());
    headers.insert("access-control-request-method", "POST".parse().unwrap());
    if path.ends_with("/events") {
        headers.insert("accept", "text/event-stream".parse().unwrap());
    }
    let answer = send(&bed.public, asked).await;
    let mut vary = answer.headers().get_all("vary").iter();
    assert!(
        vary.any(|vary| vary.to_str().unwrap().contains("origin")),
        "a cache would give one origin's answer to another: {method} {path}"
    );
    [ALLOWED, COOKIES].map(|name| {
        let value = answer.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    })
}

/// One of each kind: API v1, its events, ROAP, WHIP, their preflights, refusals.
const CROSS_ORIGIN: [(&str, &str); 12] = [
    ("OPTIONS", "/api/v1/sessions"),
    ("POST", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/one"),
    ("GET", "/api/v1/sessions/other"),
    ("GET", "/api/v1/sessions/one/events"),
    ("DELETE", "/api/v1/sessions/one"),
    ("GET", "/sign_in?alice"),
    ("GET", "/wait?id=nobody"),
    ("POST", "/message?from=nobody"),
    ("OPTIONS", "/whip/bob"),
    ("POST", "/whip/bob"),
    ("DELETE", "/whip/sessions/none"),
];

#[tokio::test]
async fn listed_origins_may_send_cookies_and_nobody_else() {
    let bed = bed();
    sign_in(&bed).await;
    let (listed, yes) = ("https://desk.example.org", "true");
    for (method, path) in CROSS_ORIGIN {
        let seen = cross_origin(&bed, method, path, listed).await;
        let wanted = [Some(listed.to_owned()), Some(yes.to_owned())];
        assert_eq!(seen, wanted, "{method} {path}");
        // A name that begins or ends like a listed one, another scheme or port, and a page of no origin.
        for other in [
            "https://evil.example.org",
            "https://desk.example.org.evil.example",
            "https://evil-desk.example.org",
            "http://desk.example.org",
            "https://desk.example.org:8443",
            "null",
            "*",
        ] {
            let seen = cross_origin(&bed, method, path, other).await;
            assert_eq!(seen, [None, None], "{method} {path} of {other}");
        }
    }
    // What comes from no page of another origin is told nothing.
    let own = send(
        &bed.public,
        json("GET", "/api/v1/sessions/one", "secret", ""),
    )
    .await;
    assert!(!own.headers().contains_key(COOKIES));
}

#[tokio::test]
async fn where_all_origins_may_come_none_may_send_cookies() {
    let all = Settings {
        cors_origins: vec!["*".into()],
        ..settings()
    };
    let bed = bed_with(&all, answer);
    sign_in(&bed).await;
    for (method, path) in CROSS_ORIGIN {
        let mut asked = json(method, path, "secret", "");
        let origin = "https://desk.example.org".parse().unwrap();
        asked.headers_mut().insert("origin", origin);
        let answer = send(&bed.public, asked).await;
        assert_eq!(answer.headers()[ALLOWED], "*", "{method} {path}");
        assert!(!answer.headers().contains_key(COOKIES), "{method} {path}");
    }
}

#[tokio::test]
async fn too_many_requests_of_one_address_get_429_and_others_do_not() {
    let limited = Settings {
        requests_per_second: 1,
        request_burst: 3,
        ..settings()
    };
    let bed = bed_with(&limited, answer);
    for _ in 0..3 {
        assert_eq!(
            send(&bed.public, json("POST", "/api/v1/sessions", "", "{}"))
                .await
                .status(),
            StatusCode::CREATED
        );
    }
    let refused = send(&bed.public, json("POST", "/api/v1/sessions", "", "{}")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(read(refused).await["type"], "rate-limit");
    let mut other = json("POST", "/api/v1/sessions", "", "{}");
    let address: SocketAddr = "192.0.2.2:5000".parse().unwrap();
    other.extensions_mut().insert(ConnectInfo(address));
    assert_eq!(send(&bed.public, other).await.status(), StatusCode::CREATED);
    // The page itself is not part of the API.
    let page = request("GET", "/").body(Body::empty()).unwrap();
    assert_eq!(send(&bed.public, page).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_page_comes_with_types_and_a_policy_without_inline_script() {
    let bed = bed();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/desk.js", "text/javascript; charset=utf-8"),
        ("/keys.js", "text/javascript; charset=utf-8"),
        ("/log.js", "text/javascript; charset=utf-8"),
        ("/meter.js", "text/javascript; charset=utf-8"),
        ("/view.js", "text/javascript; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/causeway.js", "text/javascript; charset=utf-8"),
        ("/socket.js", "text/javascript; charset=utf-8"),
        ("/causeway.d.ts", "application/typescript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let response = send(
            &bed.public,
            request("GET", path).body(Body::empty()).unwrap(),
        )
        .await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()["content-type"], kind, "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
}

/// The routes of the API, as its users know them.
const ROUTES: [(&str, &str); 18] = [
    ("get", "/api/v1/socket"),
    ("post", "/api/v1/sessions"),
    ("get", "/api/v1/sessions/{session}"),
    ("delete", "/api/v1/sessions/{session}"),
    ("get", "/api/v1/sessions/{session}/events"),
    ("post", "/api/v1/sessions/{session}/calls"),
    ("get", "/api/v1/sessions/{session}/calls/{call}"),
    ("delete", "/api/v1/sessions/{session}/calls/{call}"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/answer"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/offer"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/candidates"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/reject"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/dtmf"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/info"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/mute"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/transfer"),
    ("post", "/api/v1/sessions/{session}/calls/{call}/refer"),
    ("post", "/api/v1/sessions/{session}/messages"),
];

#[tokio::test]
async fn the_openapi_document_has_every_route_and_no_other() {
    let bed = bed();
    let response = send(
        &bed.public,
        request("GET", "/api/v1/openapi.json")
            .body(Body::empty())
            .unwrap(),
    )
    .await;
    let document = read(response).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut described = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.push((method.as_str(), path.as_str()));
            // An empty requirement among the alternatives: the token may be left out.
            let secured = operation["security"]
                .as_array()
                .is_some_and(|any| any.iter().all(|one| one != &serde_json::json!({})));
            let open = ["/api/v1/sessions", "/api/v1/socket"];
            assert_eq!(secured, !open.contains(&path.as_str()), "{method} {path}");
        }
    }
    described.sort_unstable();
    let mut routes = ROUTES.to_vec();
    routes.sort_unstable();
    assert_eq!(described, routes);
    // Each is really served, and nothing but a sign-in without a token.
    for (method, path) in ROUTES {
        let path = path.replace("{session}", "s").replace("{call}", "c");
        let status = send(&bed.public, json(&method.to_uppercase(), &path, "", "{}"))
            .await
            .status();
        let expected = match path.as_str() {
            "/api/v1/sessions" => StatusCode::CREATED,
            "/api/v1/socket" => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::UNAUTHORIZED,
        };
        assert_eq!(status, expected, "{method} {path}");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer} is missing");
    }
}

#[tokio::test]
async fn the_admin_listener_tells_health_readiness_and_metrics_and_drains() {
    let bed = bed();
    let get = |path: &str| request("GET", path).body(Body::empty()).unwrap();
    let post = || request("POST", "/admin/v1/drain");
    assert_eq!(
        read(send(&bed.admin, get("/health")).await).await["status"],
        "ok"
    );
    assert_eq!(
        refusal(&bed.admin, get("/ready")).await,
        (503, "starting".to_owned())
    );
    bed.shell.standing.set_ready();
    assert_eq!(
        send(&bed.admin, get("/ready")).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        read(send(&bed.admin, get("/admin/v1/flows")).await).await,
        serde_json::json!([])
    );
    assert_eq!(
        read(send(&bed.admin, get("/admin/v1/calls")).await).await,
        serde_json::json!([])
    );
    let from_page = post()
        .header("origin", "http://evil.example.org")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        refusal(&bed.admin, from_page).await,
        (403, "browser".to_owned())
    );
    assert_eq!(
        send(&bed.admin, get("/ready")).await.status(),
        StatusCode::OK
    );
    let drained = send(&bed.admin, post().body(Body::empty()).unwrap()).await;
    assert_eq!(drained.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        refusal(&bed.admin, get("/ready")).await,
        (503, "draining".to_owned())
    );
    let metrics = send(&bed.admin, get("/metrics")).await;
    let text = axum::body::to_bytes(metrics.into_body(), 1 << 20)
        .await
        .unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(
        text.contains(
            "causeway_http_requests_total{method=\"GET\",route=\"/ready\",status=\"503\"} 2"
        ),
        "{text}"
    );
    // The public listener has none of it.
    assert_eq!(refusal(&bed.public, get("/metrics")).await.0, 404);
}
