//! Transports over loopback: what arrives, what is reported, what is bounded.

mod tls;

use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(3);

async fn bed(connections: usize) -> (Transports, mpsc::Receiver<Event>) {
    let any = "127.0.0.1:0".parse().unwrap();
    Transports::bind(&Settings {
        udp: Some(any),
        tcp: Some(any),
        tls: None,
        connections,
    })
    .await
    .unwrap()
}

async fn next(transports: &mut Transports, events: &mut mpsc::Receiver<Event>) -> Event {
    let mut event = timeout(SOON, events.recv())
        .await
        .expect("an event in time")
        .expect("open");
    transports.note(&mut event);
    event
}

fn to(transports: &Transports, transport: Transport, remote: SocketAddr) -> Peer {
    let local = transports
        .bound()
        .iter()
        .find(|bound| bound.0 == transport)
        .unwrap()
        .1;
    Peer {
        transport,
        local,
        remote,
        connection: None,
    }
}

#[tokio::test]
async fn udp_goes_both_ways_and_a_closed_port_is_reported() {
    let (mut transports, mut events) = bed(4).await;
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let remote = other.local_addr().unwrap();
    let peer = to(&transports, Transport::Udp, remote);
    other.send_to(&[7; 60_000], peer.local).await.unwrap();
    match next(&mut transports, &mut events).await {
        Event::Datagram(from, bytes) => assert_eq!((from, bytes.len()), (peer, 60_000)),
        _ => panic!("not a datagram"),
    }
    transports.transmit(Transmit {
        peer,
        bytes: b"hello".to_vec(),
    });
    let mut buffer = [0; 16];
    assert_eq!(
        timeout(SOON, other.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap(),
        5
    );
    drop(other);
    transports.transmit(Transmit {
        peer,
        bytes: b"hello".to_vec(),
    });
    match next(&mut transports, &mut events).await {
        Event::Unreachable(Transport::Udp, addr) => assert_eq!(addr, remote),
        _ => panic!("not unreachable"),
    }
    // And the socket still works.
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer = to(&transports, Transport::Udp, other.local_addr().unwrap());
    transports.transmit(Transmit {
        peer,
        bytes: b"again".to_vec(),
    });
    assert_eq!(
        timeout(SOON, other.recv(&mut buffer))
            .await
            .unwrap()
            .unwrap(),
        5
    );
}

#[tokio::test]
async fn an_accepted_connection_is_answered_on_and_closed_after_what_was_sent() {
    let (mut transports, mut events) = bed(4).await;
    let local = to(&transports, Transport::Tcp, "127.0.0.1:1".parse().unwrap()).local;
    let mut stream = TcpStream::connect(local).await.unwrap();
    stream.write_all(b"OPTIONS").await.unwrap();
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Accepted(_)
    ));
    let Event::Stream(peer, bytes) = next(&mut transports, &mut events).await else {
        panic!("no bytes");
    };
    assert_eq!(bytes, b"OPTIONS");
    assert_eq!(peer.remote, stream.local_addr().unwrap());
    transports.transmit(Transmit {
        peer,
        bytes: b"400".to_vec(),
    });
    transports.close(peer.connection.unwrap());
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"400");
    drop(stream);
    match next(&mut transports, &mut events).await {
        Event::Closed(id) => assert_eq!(Some(id), peer.connection),
        _ => panic!("not closed"),
    }
}

#[tokio::test]
async fn an_opened_connection_is_reused_and_one_that_is_refused_is_reported() {
    let (mut transports, mut events) = bed(4).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = to(&transports, Transport::Tcp, listener.local_addr().unwrap());
    transports.transmit(Transmit {
        peer,
        bytes: b"one".to_vec(),
    });
    transports.transmit(Transmit {
        peer,
        bytes: b"two".to_vec(),
    });
    let (mut stream, from) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    assert_eq!(from.ip(), peer.local.ip());
    let mut buffer = [0; 6];
    timeout(SOON, stream.read_exact(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&buffer, b"onetwo");
    stream.write_all(b"200").await.unwrap();
    match next(&mut transports, &mut events).await {
        Event::Stream(from, bytes) => {
            assert!(from.connection.is_some() && from.remote == peer.remote);
            assert_eq!(bytes, b"200");
        }
        _ => panic!("no bytes"),
    }
    drop((stream, listener));
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Closed(_)
    ));
    transports.transmit(Transmit {
        peer,
        bytes: b"three".to_vec(),
    });
    match next(&mut transports, &mut events).await {
        Event::Unreachable(Transport::Tcp, addr) => assert_eq!(addr, peer.remote),
        _ => panic!("not unreachable"),
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_connection_and_holds_nobody_up() {
    let (mut transports, mut events) = bed(4).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = to(&transports, Transport::Tcp, listener.local_addr().unwrap());
    transports.transmit(Transmit {
        peer: slow,
        bytes: vec![0; 60_000],
    });
    let (stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let reported = async {
        loop {
            // More than the queue and any socket buffer hold; the loop never waits for it.
            for _ in 0..200 {
                transports.transmit(Transmit {
                    peer: slow,
                    bytes: vec![0; 60_000],
                });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Ok(event) = events.try_recv() {
                return event;
            }
        }
    };
    let event = timeout(SOON, reported)
        .await
        .expect("the slow peer is given up");
    assert!(matches!(event, Event::Unreachable(Transport::Tcp, addr) if addr == slow.remote));
    drop(stream);
}

#[tokio::test]
async fn no_more_connections_than_configured_are_served() {
    let (mut transports, mut events) = bed(1).await;
    let local = to(&transports, Transport::Tcp, "127.0.0.1:1".parse().unwrap()).local;
    let first = TcpStream::connect(local).await.unwrap();
    let mut second = TcpStream::connect(local).await.unwrap();
    second.write_all(b"x").await.unwrap();
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Accepted(_)
    ));
    assert!(
        timeout(Duration::from_millis(200), events.recv())
            .await
            .is_err()
    );
    drop(first);
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Closed(_)
    ));
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Accepted(_)
    ));
    assert!(matches!(
        next(&mut transports, &mut events).await,
        Event::Stream(..)
    ));
}
