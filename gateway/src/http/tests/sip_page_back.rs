//! A SIP page whose connection breaks, or falls silent, comes back over another one to the call that it has; one that is there keeps it.

use super::whip::view;
use super::*;
use crate::http::serve::Listener;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway_core::api::{Event, PhoneRegistered};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

static CONNECTED: AtomicUsize = AtomicUsize::new(0);
static ENDED: Mutex<Vec<SessionId>> = Mutex::new(Vec::new());
static MOVED: AtomicUsize = AtomicUsize::new(0);

/// A core in which each odd session has a call, and the next one is the same user agent.
fn core(request: wire::Request) -> Result<Reply, Problem> {
    match request {
        wire::Request::CreatePhone(_) => {
            let number = CONNECTED.fetch_add(1, Ordering::Relaxed) + 1;
            Ok(Reply::SessionCreated(SessionCreated {
                id: SessionId(number.to_string()),
                token: format!("secret {number}"),
                address: "sip:guest@example.org".into(),
                registered: false,
                ice_servers: Vec::new(),
            }))
        }
        wire::Request::Register(session, _) => {
            let number: usize = session.0.parse().unwrap();
            let before = number
                .is_multiple_of(2)
                .then(|| SessionId((number - 1).to_string()));
            Ok(Reply::Registered(PhoneRegistered {
                status: 200,
                reason: "OK".into(),
                expires_s: 60,
                headers: Vec::new(),
                before,
            }))
        }
        wire::Request::CreateCall(..) => Ok(Reply::Call(Box::new(view("c")))),
        wire::Request::EndSession(session) => {
            ENDED.lock().unwrap().push(session);
            Ok(Reply::Done)
        }
        wire::Request::TakeOver(_, before) => {
            assert!(
                !ENDED.lock().unwrap().contains(&before),
                "it has no calls any more"
            );
            MOVED.fetch_add(1, Ordering::Relaxed);
            Ok(Reply::Done)
        }
        _ => Ok(Reply::Done),
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn open(addr: SocketAddr) -> Socket {
    let mut request = format!("ws://{addr}/sip").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "sip".parse().unwrap());
    let stream = TcpStream::connect(addr).await.unwrap();
    let opened = tokio_tungstenite::client_async(request, stream).await;
    opened.unwrap().0
}

async fn say(socket: &mut Socket, method: &str, body: &str) {
    let length = body.len();
    let text = format!(
        "{method} sip:echo@example.org SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK{method}\r\n\
         From: <sip:a@example.org>;tag=1\r\nTo: <sip:a@example.org>\r\nCall-ID: {method}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:x@x.invalid>;+sip.instance=\"<urn:uuid:1>\"\r\nContent-Type: application/sdp\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    socket.send(Message::text(text)).await.unwrap();
}

/// The next message that begins so; those before it are dropped.
async fn hear(socket: &mut Socket, start: &str) -> Option<String> {
    let heard = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with(start) => {
                    return Some(text.to_string());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    let limit = Duration::from_secs(12);
    tokio::time::timeout(limit, heard).await.ok().flatten()
}

/// A page with a call; gives its session.
async fn in_call(addr: SocketAddr, shell: &Shell) -> (Socket, SessionId) {
    let mut socket = open(addr).await;
    let session = SessionId(CONNECTED.load(Ordering::Relaxed).to_string());
    say(&mut socket, "REGISTER", "").await;
    hear(&mut socket, "SIP/2.0 200").await.unwrap();
    say(&mut socket, "INVITE", "v=0").await;
    hear(&mut socket, "SIP/2.0 100").await.unwrap();
    let (call, answer) = (view("c").id, "v=0".to_owned());
    let early = false;
    for event in [
        Event::Answer {
            call: call.clone(),
            answer,
            early,
        },
        Event::Answered { call },
    ] {
        shell.sessions.push(&session, &event);
    }
    hear(&mut socket, "SIP/2.0 200").await.unwrap();
    (socket, session)
}

/// The same user agent over another connection: whether it has the call.
async fn comes_back(addr: SocketAddr, shell: &Shell) -> bool {
    let mut socket = open(addr).await;
    let session = SessionId(CONNECTED.load(Ordering::Relaxed).to_string());
    let moved = MOVED.load(Ordering::Relaxed);
    say(&mut socket, "REGISTER", "").await;
    hear(&mut socket, "SIP/2.0 200").await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ended = Event::Ended {
        call: view("c").id,
        by: "sip".into(),
        status: None,
        reason: "over".into(),
        causes: Vec::new(),
    };
    shell.sessions.push(&session, &ended);
    let bye = hear(&mut socket, "BYE ").await;
    assert_eq!(bye.is_some(), MOVED.load(Ordering::Relaxed) == moved + 1);
    bye.is_some_and(|bye| bye.contains("Call-ID: INVITE\r\n"))
}

#[tokio::test]
async fn a_sip_page_comes_back_to_its_call_over_another_connection_and_nobody_robs_one_that_is_there()
 {
    let local = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(local, None, 16).await.unwrap();
    let addr = listener.local().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let bed = bed_with(&settings(), core);
    let shell = bed.shell.clone();
    tokio::spawn(listener.serve(bed.public, stopped));
    // It breaks.
    let (socket, _) = in_call(addr, &shell).await;
    drop(socket);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(comes_back(addr, &shell).await);
    // It falls silent: nobody reads it any more, so no ping is answered.
    let (silent, _) = in_call(addr, &shell).await;
    assert!(comes_back(addr, &shell).await);
    drop(silent);
    // It is still there.
    let (mut there, _) = in_call(addr, &shell).await;
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = there.next().await {} });
    assert!(!comes_back(addr, &shell).await);
    reading.abort();
}

/// To whom each of two sessions is the same user agent.
fn core_of_twins(request: wire::Request) -> Result<Reply, Problem> {
    static TWINS: AtomicUsize = AtomicUsize::new(0);
    match request {
        wire::Request::CreatePhone(_) => {
            let name = format!("twin {}", TWINS.fetch_add(1, Ordering::Relaxed));
            Ok(Reply::SessionCreated(SessionCreated {
                id: SessionId(name.clone()),
                token: name,
                address: "sip:guest@example.org".into(),
                registered: false,
                ice_servers: Vec::new(),
            }))
        }
        wire::Request::Register(SessionId(name), _) => {
            let other = if name == "twin 0" { "twin 1" } else { "twin 0" };
            Ok(Reply::Registered(PhoneRegistered {
                status: 200,
                reason: "OK".into(),
                expires_s: 60,
                headers: Vec::new(),
                before: Some(SessionId(other.into())),
            }))
        }
        _ => Ok(Reply::Done),
    }
}

#[tokio::test]
async fn two_that_want_each_others_calls_do_not_wait_for_ever() {
    let local = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(local, None, 16).await.unwrap();
    let addr = listener.local().unwrap();
    let (_stop, stopped) = watch::channel(false);
    let bed = bed_with(&settings(), core_of_twins);
    tokio::spawn(listener.serve(bed.public, stopped));
    let (mut first, mut second) = (open(addr).await, open(addr).await);
    tokio::join!(
        say(&mut first, "REGISTER", ""),
        say(&mut second, "REGISTER", "")
    );
    let (first, second) = tokio::join!(
        hear(&mut first, "SIP/2.0 200"),
        hear(&mut second, "SIP/2.0 200")
    );
    assert!(first.is_some() && second.is_some());
}
