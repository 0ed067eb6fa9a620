//! One connection: frames of RFC 4571 on the one side, datagrams to the browsers' UDP socket on the other.
//!
//! Until the gateway has answered one of its checks with success, which takes a call's ICE password, only STUN goes on, little of it, and
//! for a few seconds. What a page does not read waits in the datagram socket's buffer and is lost when that is full, as packets are.

use super::places::Place;
use flow::{Protocol, classify};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Longest packet that is taken in either direction, bytes: longer than what any path carries.
const LONGEST: usize = 2048;
/// Of the length before each packet (RFC 4571 section 2).
const LENGTH: usize = 2;
/// How long a connection may take to show that it belongs to a call.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
/// Packets that are taken until then.
const UNPROVEN_PACKETS: usize = 64;
/// Browsers check every few seconds; a connection on which nothing comes for this long is of nobody.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long a page may leave what it is sent unread.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that wait for a page: a fifth of a second of voice and video.
const WAITING: usize = 128 * 1024;
/// Binding success response (RFC 8489 section 5).
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Either side closed it, or nothing came any more.
    Closed,
    /// It did not show that it belongs to a call.
    Unproven,
    /// Frames that no packet is in.
    Malformed,
    /// The page did not read.
    Stuck,
}

impl End {
    /// For metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unproven => "unproven",
            Self::Malformed => "malformed",
            Self::Stuck => "stuck",
        }
    }
}

/// Relays until either side ends.
pub(super) async fn run(stream: TcpStream, place: Place, web: SocketAddr) -> End {
    let Ok(socket) = open(&place, web).await else {
        return End::Closed;
    };
    let (read, write) = stream.into_split();
    let proven = AtomicBool::new(false);
    tokio::select! {
        end = from_page(read, &socket, &proven) => end,
        end = to_page(write, &socket, &proven, &place) => end,
        () = lapse(&proven) => End::Unproven,
    }
}

async fn open(place: &Place, web: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((place.address(), 0)).await?;
    // Less than wished is as good: packets are lost sooner.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(WAITING);
    socket.connect(web).await?;
    Ok(socket)
}

/// Ends when the time for a proof is over and there was none.
async fn lapse(proven: &AtomicBool) {
    tokio::time::sleep(PROOF_LIMIT).await;
    if proven.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

async fn from_page(read: OwnedReadHalf, socket: &UdpSocket, proven: &AtomicBool) -> End {
    let mut read = BufReader::with_capacity(LENGTH + LONGEST, read);
    let mut packet = [0; LONGEST];
    let mut unproven = 0;
    loop {
        let length = match timeout(SILENCE_LIMIT, read.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            Ok(Err(_)) | Err(_) => return End::Closed,
        };
        let Some(packet) = packet.get_mut(..length).filter(|packet| !packet.is_empty()) else {
            return End::Malformed;
        };
        match timeout(SILENCE_LIMIT, read.read_exact(packet)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return End::Closed,
        }
        if !proven.load(Ordering::Relaxed) {
            unproven += 1;
            let second = packet.get(1).copied().unwrap_or_default();
            if unproven > UNPROVEN_PACKETS || classify(packet[0], second) != Protocol::Stun {
                return End::Unproven;
            }
        }
        // A full socket loses packets, and one that nobody has any more (the daemon stops) all.
        let _ = socket.send(packet).await;
    }
}

async fn to_page(
    mut write: OwnedWriteHalf,
    socket: &UdpSocket,
    proven: &AtomicBool,
    place: &Place,
) -> End {
    let mut frame = [0; LENGTH + LONGEST];
    loop {
        let Ok(length) = socket.recv(&mut frame[LENGTH..]).await else {
            // The error that an earlier packet met.
            continue;
        };
        let Ok(bytes) = u16::try_from(length) else {
            continue;
        };
        if frame[LENGTH..].starts_with(&SUCCESS) && !proven.swap(true, Ordering::Relaxed) {
            place.prove();
        }
        frame[..LENGTH].copy_from_slice(&bytes.to_be_bytes());
        match timeout(WRITE_LIMIT, write.write_all(&frame[..LENGTH + length])).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::Stuck,
        }
    }
}
