//! What a WebSocket may not do, and what becomes of a peer that is gone or reads nothing.

use super::*;

/// Frames, and the name, status and kind that they are refused with.
fn no_requests() -> Vec<(String, Value, u64, &'static str)> {
    let path = "/api/v1/sessions/one";
    let large = "x".repeat(300 * 1024);
    vec![
        ("hello".to_owned(), Value::Null, 400, "bad-frame"),
        (String::new(), Value::Null, 400, "bad-frame"),
        ("[]".to_owned(), Value::Null, 400, "bad-frame"),
        (
            r#"{"method":"GET"}"#.to_owned(),
            Value::Null,
            400,
            "bad-frame",
        ),
        (r#"{"id":3}"#.to_owned(), json!(3), 400, "bad-frame"),
        (
            r#"{"id":{},"method":"GET","path":"/"}"#.to_owned(),
            Value::Null,
            400,
            "bad-frame",
        ),
        (
            r#"{"id":3,"method":"GET","path":"/","more":1}"#.to_owned(),
            json!(3),
            400,
            "bad-frame",
        ),
        (
            format!(r#"{{"id":3,"method":"G T","path":"{path}"}}"#),
            json!(3),
            400,
            "bad-frame",
        ),
        (
            r#"{"id":3,"method":"GET","path":"api"}"#.to_owned(),
            json!(3),
            400,
            "bad-frame",
        ),
        (
            r#"{"id":3,"method":"GET","path":"http://h/a"}"#.to_owned(),
            json!(3),
            400,
            "bad-frame",
        ),
        (
            format!(r#"{{"id":3,"method":"JUMP","path":"{path}"}}"#),
            json!(3),
            405,
            "method",
        ),
        (
            r#"{"id":3,"method":"GET","path":"/nowhere"}"#.to_owned(),
            json!(3),
            404,
            "no-route",
        ),
        (
            format!(r#"{{"id":3,"method":"POST","path":"{path}/calls","body":"{large}"}}"#),
            json!(3),
            413,
            "too-large",
        ),
        (
            format!(r#"{{"id":3,"method":"POST","path":"{path}/calls"}}"#),
            json!(3),
            400,
            "bad-json",
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_and_changes_nothing() {
    let bed = bed();
    let mut page = Page::signed_in(&bed).await;
    for (frame, id, status, kind) in no_requests() {
        let expected = (status, kind.to_owned());
        assert_eq!(page.refusal(&frame, id).await, expected, "{frame:.80}");
    }
    assert_eq!(page.ask(VIEW).await["status"], 200);
    page.0.send(Message::binary(VIEW)).await.unwrap();
    assert_eq!(page.next().await, json!({"closed": 1003}));
    assert_eq!(page.next().await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_closes_the_websocket() {
    let bed = bed();
    let page = Page::signed_in(&bed).await;
    let (mut sink, mut stream) = page.0.split();
    let sending = tokio::spawn(async move {
        let _ = sink.send(Message::text("x".repeat(600 * 1024))).await;
    });
    let closed = loop {
        match stream.next().await {
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(closed, Some(1009));
    drop(stream);
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_of_a_websocket_wait() {
    let (router, sessions, mut asks) = bare(&settings());
    sessions.open(&SessionId("one".into()), "secret");
    let mut page = Page::open(&router, &[PROTOCOL]).await.ok().unwrap();
    let view = r#"{"id":7,"method":"GET","path":"/api/v1/sessions/one","token":"secret"}"#;
    let mut waiting = Vec::new();
    for _ in 0..16 {
        page.send(view).await;
        waiting.push(asks.recv().await.unwrap());
    }
    let refused = (429, "outstanding".to_owned());
    assert_eq!(page.refusal(view, json!(7)).await, refused);
    // A sign-in that waits for its outcome keeps the place; here it fails as the core gives it up.
    waiting.pop();
    assert_eq!(page.next().await["status"], 503);
    page.send(SIGN_IN).await;
    waiting.push(asks.recv().await.unwrap());
    assert_eq!(page.refusal(view, json!(7)).await, refused);
    waiting.remove(0);
    assert_eq!(page.next().await["status"], 503);
    let second = (409, "second-session".to_owned());
    assert_eq!(page.refusal(SIGN_IN, json!("in")).await, second);
    waiting.clear();
    for _ in 0..15 {
        assert_eq!(page.next().await["status"], 503);
    }
    page.send(SIGN_IN).await;
    assert!(matches!(asks.recv().await, Some(Ask::Request(..))));
}

#[tokio::test(start_paused = true)]
async fn requests_over_a_websocket_and_by_http_have_one_limit() {
    let settings = Settings {
        requests_per_second: 1,
        request_burst: 4,
        ..settings()
    };
    let bed = bed_with(&settings, answer);
    // Opening it is the first request.
    let mut page = Page::signed_in(&bed).await;
    assert_eq!(page.ask(VIEW).await["status"], 200);
    assert_eq!(page.refusal("hello", Value::Null).await.0, 400);
    let limited = (429, "rate-limit".to_owned());
    assert_eq!(page.refusal(VIEW, json!(7)).await, limited);
    assert_eq!(page.refusal("hello", Value::Null).await, limited);
    let by_http = send(&bed.public, json("POST", "/api/v1/sessions", "", "{}")).await;
    assert_eq!(by_http.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn so_many_websockets_are_open_and_a_stranger_s_is_closed() {
    let settings = Settings {
        sockets: 1,
        ..settings()
    };
    let bed = bed_with(&settings, answer);
    let mut page = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    let second = Page::open(&bed.public, &[PROTOCOL]).await;
    assert_eq!(second.map(|_| ()), Err(503));
    for _ in 0..5 {
        assert_eq!(page.next().await, json!({"alive": 0}));
    }
    assert_eq!(page.next().await, json!({"closed": 1008}));
    assert_eq!(page.next().await, Value::Null);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(Page::open(&bed.public, &[PROTOCOL]).await.is_ok());
}

/// The page answers pings as long as it is there.
#[tokio::test(start_paused = true)]
async fn a_page_that_is_not_heard_keeps_its_session_alive_no_more_and_loses_its_websocket() {
    let (router, sessions, mut asks) = bare(&settings());
    sessions.open(&SessionId("one".into()), "secret");
    let mut page = Page::open(&router, &[PROTOCOL]).await.ok().unwrap();
    let follow = r#"{"id":1,"method":"GET","path":"/api/v1/sessions/one/events","token":"secret"}"#;
    assert_eq!(page.ask(follow).await["status"], 200);
    let began = tokio::time::Instant::now();
    for _ in 0..6 {
        assert_eq!(page.next().await, json!({"alive": 0}));
    }
    assert_eq!(began.elapsed().as_secs(), 60);
    let mut alive = 0;
    while let Ok(Ask::Alive(session)) = asks.try_recv() {
        assert_eq!(session.0, "one");
        alive += 1;
    }
    assert!(alive >= 6, "{alive}");
    // Its network is gone: the last pong was that to the ping before, ten seconds ago.
    let feed = sessions.by_token("secret").unwrap();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!(feed.readers.available_permits(), 7);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(feed.readers.available_permits(), 8);
    assert!(
        asks.try_recv().is_err(),
        "the core was told that it is there"
    );
    drop(page);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_reads_nothing_loses_its_websocket_and_holds_nothing_up() {
    let bed = bed();
    let page = Page::signed_in(&bed).await;
    assert_eq!(readers(&bed), 1);
    for _ in 0..200 {
        let reason = "x".repeat(1000);
        let event = Event::SessionEnded { reason };
        bed.shell.sessions.push(&SessionId("one".into()), &event);
    }
    // Another one is served at once.
    let began = tokio::time::Instant::now();
    let mut other = Page::open(&bed.public, &[PROTOCOL]).await.ok().unwrap();
    let follow = r#"{"id":1,"method":"GET","path":"/api/v1/sessions/one/events?after=199","token":"secret"}"#;
    assert_eq!(other.ask(follow).await["status"], 200);
    assert_eq!(other.next().await["event"]["id"], 200);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(readers(&bed), 2);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(readers(&bed), 1);
    drop(page);
}
