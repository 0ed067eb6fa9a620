//! The WebSocket of SIP user agents: who may open it, and a first exchange on it.

use super::*;
use crate::http::serve::Listener;
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A core that takes user agents in.
fn core(request: wire::Request) -> Result<Reply, Problem> {
    match request {
        wire::Request::CreatePhone(_) => Ok(Reply::SessionCreated(SessionCreated {
            id: SessionId("one".into()),
            token: "secret".into(),
            address: "sip:guest@example.org".into(),
            registered: false,
            ice_servers: Vec::new(),
        })),
        _ => Ok(Reply::Done),
    }
}

/// Opens the WebSocket with these headers; gives the HTTP status, and what comes back to a first message.
async fn open(addr: SocketAddr, headers: &[(&'static str, &str)], first: &str) -> (u16, String) {
    let mut request = format!("ws://{addr}/sip").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut socket, response) = match tokio_tungstenite::client_async(request, stream).await {
        Ok(opened) => opened,
        Err(Error::Http(response)) => return (response.status().as_u16(), String::new()),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
    socket.send(Message::text(first)).await.unwrap();
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return (101, text.to_string()),
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(_) | Err(_)) | None => return (101, String::new()),
        }
    }
}

#[tokio::test]
async fn a_websocket_is_for_sip_and_for_pages_of_allowed_origins() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None, 16)
        .await
        .unwrap();
    let addr = listener.local().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(bed_with(&settings(), core).public, stopped));
    const SIP: (&str, &str) = ("sec-websocket-protocol", "sip");
    let own = format!("http://{addr}");
    let options = "OPTIONS sip:gateway SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                   To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    for (headers, status) in [
        (&[][..], 400),
        (&[("sec-websocket-protocol", "chat")][..], 400),
        (&[SIP, ("origin", "https://evil.example")][..], 403),
        (&[SIP, ("origin", "https://desk.example.org")][..], 101),
        (&[SIP, ("origin", own.as_str())][..], 101),
        (&[SIP][..], 101),
    ] {
        let (got, answer) = open(addr, headers, options).await;
        assert_eq!(got, status, "{headers:?}");
        assert_eq!(
            answer.starts_with("SIP/2.0 200 OK\r\n"),
            status == 101,
            "{answer}"
        );
    }
    // More than a message may have: the connection ends, the daemon goes on.
    let (_, answer) = open(addr, &[SIP], &"x".repeat(70_000)).await;
    assert_eq!(answer, "");
    // A plain request is told what this is for.
    let plain = send(
        &bed().public,
        request("GET", "/sip").body(Body::empty()).unwrap(),
    )
    .await;
    assert!(plain.status().is_client_error());
    stop.send(true).unwrap();
    serving.await.unwrap();
}
