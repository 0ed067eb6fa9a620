//! Streams and long polls.

use super::*;
use futures_util::StreamExt as _;
use gateway_core::api::{CallId, Event};
use std::time::Duration;

const EVENTS: &str = "/api/v1/sessions/one/events";

fn ringing(status: u16) -> Event {
    Event::Ringing {
        call: CallId("c".into()),
        status,
    }
}

fn push(bed: &Bed, statuses: std::ops::Range<u16>) {
    for status in statuses {
        bed.shell
            .sessions
            .push(&SessionId("one".into()), &ringing(status));
    }
}

fn stream(last: Option<&str>) -> Request<Body> {
    let mut request = json("GET", EVENTS, "secret", "");
    request
        .headers_mut()
        .insert("accept", "text/event-stream".parse().unwrap());
    if let Some(last) = last {
        request
            .headers_mut()
            .insert("last-event-id", last.parse().unwrap());
    }
    request
}

/// Numbers of the events that arrive until nothing more does.
async fn numbers(body: &mut axum::body::BodyDataStream) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Ok(Some(Ok(bytes))) =
        tokio::time::timeout(Duration::from_millis(100), body.next()).await
    {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        for line in data {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["type"], "call.ringing");
            assert!(text.contains("event: call.ringing\n"));
            assert!(text.contains(&format!("id: {}\n", event["id"])));
            numbers.push(event["id"].as_u64().unwrap());
        }
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn a_stream_resumes_after_the_last_event_that_the_page_had() {
    let bed = bed();
    sign_in(&bed).await;
    push(&bed, 180..183);
    let response = send(&bed.public, stream(None)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    assert_eq!(numbers(&mut body).await, [1, 2, 3]);
    push(&bed, 183..184);
    assert_eq!(numbers(&mut body).await, [4]);
    drop(body);
    push(&bed, 180..182);
    let mut body = send(&bed.public, stream(Some("4")))
        .await
        .into_body()
        .into_data_stream();
    assert_eq!(numbers(&mut body).await, [5, 6]);
    // A number that never was must not hold back what comes.
    let mut body = send(&bed.public, stream(Some("999")))
        .await
        .into_body()
        .into_data_stream();
    push(&bed, 180..181);
    assert_eq!(numbers(&mut body).await, [7]);
    assert_eq!(
        send(&bed.public, stream(Some("x"))).await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_last_256_events_are_kept() {
    let bed = bed();
    sign_in(&bed).await;
    push(&bed, 0..300);
    let mut body = send(&bed.public, stream(Some("0")))
        .await
        .into_body()
        .into_data_stream();
    let seen = numbers(&mut body).await;
    assert_eq!((seen.len(), seen[0], seen[255]), (256, 45, 300));
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_has_a_keep_alive_every_ten_seconds_and_ends_with_the_session() {
    let bed = bed();
    sign_in(&bed).await;
    let mut body = send(&bed.public, stream(None))
        .await
        .into_body()
        .into_data_stream();
    let start = tokio::time::Instant::now();
    let comment = body.next().await.unwrap().unwrap();
    assert_eq!(&comment[..], b": alive\n\n");
    assert_eq!(start.elapsed().as_secs(), 10);
    let session = SessionId("one".into());
    bed.shell.sessions.push(
        &session,
        &Event::SessionEnded {
            reason: "signed out".into(),
        },
    );
    bed.shell.sessions.close(&session);
    let last = body.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&last).contains("session.ended"));
    assert!(body.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_answers_at_once_later_or_after_its_wait() {
    let bed = bed();
    sign_in(&bed).await;
    let poll = async |query: &str| {
        let start = tokio::time::Instant::now();
        let response = send(
            &bed.public,
            json("GET", &format!("{EVENTS}?{query}"), "secret", ""),
        )
        .await;
        assert_eq!(response.status(), StatusCode::OK);
        (read(response).await, start.elapsed().as_secs())
    };
    let (nothing, took) = poll("wait=2").await;
    assert_eq!(
        (nothing, took),
        (serde_json::json!({"events": [], "last": 0}), 2)
    );
    push(&bed, 180..182);
    let (both, took) = poll("after=0").await;
    assert_eq!((both["last"].as_u64(), took), (Some(2), 0));
    assert_eq!(
        both["events"][1],
        serde_json::json!({"id": 2, "type": "call.ringing", "call": "c", "status": 181})
    );
    let later = async {
        tokio::time::sleep(Duration::from_secs(12)).await;
        push(&bed, 183..184);
    };
    let ((third, took), ()) = tokio::join!(poll("after=2&wait=30"), later);
    assert_eq!(
        (
            third["events"][0]["id"].as_u64(),
            third["last"].as_u64(),
            took
        ),
        (Some(3), Some(3), 12)
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_has_a_bounded_number_of_streams() {
    let bed = bed();
    sign_in(&bed).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let response = send(&bed.public, stream(None)).await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    let refused = send(&bed.public, stream(None)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    open.pop();
    assert_eq!(
        send(&bed.public, stream(None)).await.status(),
        StatusCode::OK
    );
}
