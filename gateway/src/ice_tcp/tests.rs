//! Connections against a UDP socket in the place of the media threads.

use super::*;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const CHECK: &[u8] = &[
    0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];
const SUCCESS: &[u8] = &[
    1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
];
const HELLO: &[u8] = &[22, 254, 253, 0, 0];
const SOON: Duration = Duration::from_secs(5);

/// The gateway's side: the listener's address, and the browsers' UDP socket.
struct Bed {
    address: SocketAddr,
    web: UdpSocket,
    metrics: Arc<Metrics>,
    _stop: watch::Sender<bool>,
}

async fn bed(connections: usize) -> Bed {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let web = UdpSocket::bind(local).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let at = web.local_addr().unwrap();
    let listener = Listener::bind(local, at, connections, Arc::clone(&metrics))
        .await
        .unwrap();
    let (stop, stopped) = watch::channel(false);
    let address = listener.local().unwrap();
    tokio::spawn(listener.serve(stopped));
    Bed {
        address,
        web,
        metrics,
        _stop: stop,
    }
}

impl Bed {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 4096];
        let (length, from) = timeout(SOON, self.web.recv_from(&mut bytes))
            .await
            .expect("a datagram")
            .unwrap();
        (bytes[..length].to_vec(), from)
    }

    async fn events(&self, name: &str, count: u64) {
        let line = format!("causeway_ice_tcp_connections_total{{event=\"{name}\"}} {count}\n");
        let until = Instant::now() + SOON;
        while !self.metrics.encode().contains(&line) {
            assert!(Instant::now() < until, "{line}{}", self.metrics.encode());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn send(stream: &mut TcpStream, packet: &[u8]) {
    let length = u16::try_from(packet.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(packet).await.unwrap();
}

async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let length = stream.read_u16().await.unwrap();
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await.unwrap();
        packet
    };
    timeout(SOON, read).await.expect("a frame")
}

/// The other side closes.
async fn closed(stream: &mut TcpStream) {
    let end = timeout(SOON, stream.read_u8()).await.expect("an end");
    assert!(end.is_err());
}

/// A connection that has shown that it belongs to a call, and the address that it has on our side.
async fn proven(bed: &Bed) -> (TcpStream, SocketAddr) {
    let mut page = bed.connect().await;
    send(&mut page, CHECK).await;
    let (heard, from) = bed.hear().await;
    assert_eq!(heard, CHECK);
    bed.web.send_to(SUCCESS, from).await.unwrap();
    assert_eq!(receive(&mut page).await, SUCCESS);
    (page, from)
}

#[tokio::test]
async fn packets_go_both_ways_whole_and_each_connection_has_its_own_address() {
    let bed = bed(8).await;
    let (mut first, from_first) = proven(&bed).await;
    let (mut second, from_second) = proven(&bed).await;
    assert_ne!(from_first.ip(), from_second.ip());
    assert!(is_relayed(from_first.ip()) && is_relayed(from_second.ip()));
    send(&mut second, HELLO).await;
    assert_eq!(bed.hear().await, (HELLO.to_vec(), from_second));
    // Several frames in one write, one in several.
    let packet = [0x80; 1200];
    let frame = [&1200_u16.to_be_bytes()[..], &packet].concat();
    first
        .write_all(&[&frame[..], &frame[..700]].concat())
        .await
        .unwrap();
    assert_eq!(bed.hear().await, (packet.to_vec(), from_first));
    first.write_all(&frame[700..]).await.unwrap();
    assert_eq!(bed.hear().await, (packet.to_vec(), from_first));
    for packet in [SUCCESS, HELLO, &[0x80; 1400]] {
        bed.web.send_to(packet, from_first).await.unwrap();
        assert_eq!(receive(&mut first).await, packet);
    }
    drop(first);
    bed.events("closed", 1).await;
    bed.events("accepted", 2).await;
}

#[tokio::test]
async fn nothing_but_checks_goes_on_before_one_was_answered_with_success() {
    let bed = bed(8).await;
    let mut page = bed.connect().await;
    send(&mut page, HELLO).await;
    closed(&mut page).await;
    bed.events("unproven", 1).await;
    let mut page = bed.connect().await;
    send(&mut page, CHECK).await;
    let (_, from) = bed.hear().await;
    // An error response is no success.
    bed.web.send_to(&[1, 0x11, 0, 0], from).await.unwrap();
    receive(&mut page).await;
    send(&mut page, HELLO).await;
    closed(&mut page).await;
    bed.events("unproven", 2).await;
}

#[tokio::test]
async fn frames_that_no_packet_is_in_end_the_connection() {
    let bed = bed(8).await;
    for frame in [&[0, 0][..], &[0xff, 0xff, 0x80], b"GET / HTTP/1.1\r\n\r\n"] {
        let (mut page, _) = proven(&bed).await;
        page.write_all(frame).await.unwrap();
        closed(&mut page).await;
    }
    bed.events("malformed", 3).await;
}

#[tokio::test]
async fn there_are_so_many_at_once() {
    let bed = bed(2).await;
    let (first, _) = proven(&bed).await;
    let (_second, _) = proven(&bed).await;
    let mut third = bed.connect().await;
    closed(&mut third).await;
    bed.events("refused", 1).await;
    drop(first);
    bed.events("closed", 1).await;
    proven(&bed).await;
}

#[tokio::test]
async fn who_does_not_read_loses_packets_and_then_the_connection() {
    let bed = bed(2).await;
    let (page, from) = proven(&bed).await;
    let (mut other, from_other) = proven(&bed).await;
    let flood = async {
        loop {
            let _ = bed.web.send_to(&[0x80; 1400], from).await;
            tokio::task::yield_now().await;
        }
    };
    let stuck = async {
        let until = Instant::now() + 4 * SOON;
        while !bed.metrics.encode().contains("event=\"stuck\"} 1\n") {
            assert!(Instant::now() < until, "{}", bed.metrics.encode());
            bed.web.send_to(HELLO, from_other).await.unwrap();
            assert_eq!(receive(&mut other).await, HELLO, "nobody else waits");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = flood => {}
        () = stuck => {}
    }
    drop(page);
}
