//! Pages of the Genesys library against a scripted core: sign-in, a call, polls, sign-out.

use super::*;
use crate::http::serve;
use gateway_core::api::{CallId, Event};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const OFFER: &str = r#"RSMP {"messageType":"OFFER","offererSessionId":"p","seq":1,"sdp":"v=0"}"#;

/// A core that has one session, `one` with the token `secret`, and one call, `c`.
fn answer(request: wire::Request) -> Result<Reply, Problem> {
    match request {
        wire::Request::CreateSession(body, _) => match body.password.as_deref() {
            Some("wrong") => Err(Problem::new(401, "wrong-password", "Wrong password", "")),
            _ => Ok(Reply::SessionCreated(SessionCreated {
                id: SessionId("one".into()),
                token: "secret".into(),
                address: format!("sip:{}@example.org", body.user.unwrap_or_default()),
                registered: body.password.is_some(),
                ice_servers: Vec::new(),
            })),
        },
        wire::Request::CreateCall(..) => Ok(Reply::Call(Box::new(whip::view("c")))),
        _ => Ok(Reply::Done),
    }
}

async fn text(response: Response<Body>) -> (u16, String, String) {
    let status = response.status().as_u16();
    let pragma = response.headers().get("pragma");
    let pragma = pragma.map(|value| value.to_str().unwrap().to_owned());
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16)
        .await
        .unwrap();
    (
        status,
        pragma.unwrap_or_default(),
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

async fn get(bed: &Bed, path: &str) -> (u16, String, String) {
    text(
        send(
            &bed.public,
            request("GET", path).body(Body::empty()).unwrap(),
        )
        .await,
    )
    .await
}

async fn post(bed: &Bed, path: &str, body: &str) -> (u16, String, String) {
    let request = request("POST", path)
        .header("content-type", "text/plain")
        .body(Body::from(body.to_owned()));
    text(send(&bed.public, request.unwrap()).await).await
}

fn answered(answer: &str) -> Event {
    Event::Answer {
        call: CallId("c".into()),
        answer: answer.into(),
        early: false,
    }
}

fn push(bed: &Bed, event: &Event) {
    bed.shell.sessions.push(&SessionId("one".into()), event);
}

#[tokio::test]
async fn a_page_signs_in_calls_polls_and_signs_out() {
    let bed = bed_with(&settings(), answer);
    assert_eq!(
        get(&bed, "/sign_in?1234%20x").await,
        (200, String::new(), "key=secret\n".into())
    );
    let posted = post(&bed, "/message?from=secret&to=echo", OFFER).await;
    assert_eq!(posted.0, 200);
    let (polled, ()) = tokio::join!(get(&bed, "/wait?id=secret"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        push(&bed, &answered("v=0 answer"));
    });
    assert_eq!((polled.0, polled.1.as_str()), (200, "echo"));
    assert!(
        polled.2.starts_with("SDP {") && polled.2.contains("\"ANSWER\""),
        "{}",
        polled.2
    );
    assert_eq!(get(&bed, "/sign_out?id=secret").await.0, 200);
    assert_eq!(get(&bed, "/wait?id=secret").await.0, 403);
    assert_eq!(
        post(&bed, "/message?from=secret&to=echo", "BYE").await.0,
        403
    );
}

#[tokio::test]
async fn a_user_signs_in_with_a_password() {
    let bed = bed_with(&settings(), answer);
    assert_eq!(post(&bed, "/sign_in", "7001:wrong").await.0, 401);
    assert_eq!(post(&bed, "/sign_in", "7001").await.0, 400);
    assert_eq!(
        post(&bed, "/sign_in", "7001:secret").await.2,
        "key=secret\n"
    );
    assert_eq!(
        post(&bed, "/message?from=secret&to=echo", "nonsense")
            .await
            .0,
        400
    );
}

/// Row S-05: polls that are given up at any moment lose no text, and none comes twice.
#[tokio::test]
async fn a_thousand_polls_lose_nothing() {
    let bed = bed_with(&settings(), answer);
    get(&bed, "/sign_in?1234").await;
    let mut heard = Vec::new();
    for number in 0..334 {
        let to = format!("p{number}");
        for patience in [1, 3] {
            let poll = get(&bed, "/wait?id=secret");
            let given_up = tokio::time::timeout(Duration::from_millis(patience), poll).await;
            heard.extend(given_up.ok());
        }
        // An answer to nothing: each brings an ERROR down.
        let stray = r#"RSMP {"messageType":"ANSWER","seq":1,"sdp":"v=0"}"#;
        post(&bed, &format!("/message?from=secret&to={to}"), stray).await;
        heard.push(get(&bed, "/wait?id=secret").await);
    }
    let peers: Vec<_> = heard.iter().map(|(_, peer, _)| peer.clone()).collect();
    let expected: Vec<_> = (0..334).map(|number| format!("p{number}")).collect();
    assert_eq!(peers, expected);
}

/// A browser's connection to the gateway.
struct Wire(tokio::io::DuplexStream);

impl Wire {
    fn open(bed: &Bed) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let router = bed.public.clone();
        tokio::spawn(async move {
            let (_running, stop) = tokio::sync::watch::channel(false);
            serve::connection(far, SOURCE.parse().unwrap(), router, stop).await;
        });
        Self(near)
    }

    /// Asks for the next text, with this further header.
    async fn poll(&mut self, header: &str) {
        let head = format!("GET /wait?id=secret HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        self.0.write_all(head.as_bytes()).await.unwrap();
    }

    /// Reads until an answer of the gateway has `text` in it.
    async fn read(&mut self, text: &str) {
        let mut heard = String::new();
        while !heard.contains(text) {
            let mut bytes = [0; 2048];
            let length = self.0.read(&mut bytes).await.unwrap();
            assert!(length > 0, "no {text} in {heard}");
            heard.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }
}

/// An ERROR comes down for `peer`.
async fn tell(bed: &Bed, peer: &str) {
    let stray = r#"RSMP {"messageType":"ANSWER","seq":1,"sdp":"v=0"}"#;
    post(bed, &format!("/message?from=secret&to={peer}"), stray).await;
}

/// Rows S-05, S-35: the page gives its poll up while the text is on its way to it, whether by closing the connection or by losing it.
#[tokio::test]
async fn a_text_that_was_written_to_nobody_is_told_again_in_its_place() {
    let bed = bed_with(&settings(), answer);
    get(&bed, "/sign_in?1234").await;
    for round in 0..50 {
        let (mut first, mut second) = (Wire::open(&bed), Wire::open(&bed));
        first.poll("").await;
        tell(&bed, "a").await;
        first.0.read_exact(&mut [0; 9]).await.unwrap();
        // The second poll is there before the first connection is gone.
        second.poll("").await;
        tell(&bed, "b").await;
        second.0.read_exact(&mut [0; 9]).await.unwrap();
        let both = if round % 2 == 0 {
            (second, first)
        } else {
            (first, second)
        };
        drop(both.0);
        tokio::task::yield_now().await;
        drop(both.1);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(get(&bed, "/wait?id=secret").await.1, "a");
        assert_eq!(get(&bed, "/wait?id=secret").await.1, "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_was_read_is_not_told_twice() {
    let bed = bed_with(&settings(), answer);
    get(&bed, "/sign_in?1234").await;
    // Who asks again on the same connection has read the answer before.
    let mut wire = Wire::open(&bed);
    wire.poll("").await;
    tell(&bed, "a").await;
    wire.read("SDP ").await;
    wire.poll("").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(wire);
    // Who said that he closes it closes it behind the answer.
    let mut wire = Wire::open(&bed);
    wire.poll("Connection: close\r\n").await;
    tell(&bed, "b").await;
    wire.read("SDP ").await;
    drop(wire);
    // And who keeps it has read it by now.
    let mut wire = Wire::open(&bed);
    wire.poll("").await;
    tell(&bed, "c").await;
    wire.read("SDP ").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(wire);
    tokio::time::sleep(Duration::from_millis(10)).await;
    tell(&bed, "d").await;
    assert_eq!(get(&bed, "/wait?id=secret").await.1, "d");
}

#[tokio::test]
async fn an_older_poll_gives_way_to_the_next() {
    let bed = bed_with(&settings(), answer);
    get(&bed, "/sign_in?1234").await;
    let (first, second) = tokio::join!(get(&bed, "/wait?id=secret"), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (second, _) = tokio::join!(get(&bed, "/wait?id=secret"), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            post(
                &bed,
                "/message?from=secret&to=x",
                r#"RSMP {"messageType":"ANSWER","seq":1,"sdp":"v=0"}"#,
            )
            .await
        });
        second
    });
    assert_eq!(first, (200, "self".into(), String::new()));
    assert_eq!(second.1, "x");
}
