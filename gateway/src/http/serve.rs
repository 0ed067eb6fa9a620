//! Listeners: plain or TLS, a bounded number of connections, none of which can stay half open.

use super::line::Line;
use crate::tls::{self, Files, Identity};
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// A request's head, and a TLS handshake, that take longer are given up.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// Longest head of a request, and what a connection keeps for reading: pages keep theirs open as long as they are there.
const READ_BUFFER: usize = 8 * 1024;
/// The same of a WebSocket, which the library clears before each read: longer messages take several reads.
pub(super) const SOCKET_READ_BUFFER: usize = 4 * 1024;
/// A peer that acknowledges nothing for this long is gone: else a page that lost its network keeps its session for a quarter of an hour.
pub(super) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(30);
/// How long open connections may finish when the daemon stops.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// One listener.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: usize,
}

impl Listener {
    /// Binds; with TLS when there is a certificate.
    pub(crate) async fn bind(
        addr: SocketAddr,
        tls: Option<TlsAcceptor>,
        connections: usize,
    ) -> Result<Self> {
        let socket = TcpListener::bind(addr)
            .await
            .with_context(|| format!("HTTP on {addr}"))?;
        Ok(Self {
            socket,
            tls,
            connections,
        })
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Serves until `stop` changes, then lets open connections finish for a moment.
    pub(crate) async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.connections));
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&places) => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Some((stream, remote, permit)) = accepted else {
                continue;
            };
            let (router, tls, stop) = (router.clone(), self.tls.clone(), stop.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match tls {
                    None => connection(stream, remote, router, stop).await,
                    Some(tls) => {
                        // A handshake that fails is the peer's business; a scanner would fill the log.
                        if let Ok(Ok(stream)) =
                            tokio::time::timeout(HEAD_LIMIT, tls.accept(stream)).await
                        {
                            connection(stream, remote, router, stop).await;
                        }
                    }
                }
            });
        }
        drop(self.socket);
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(FINISH_LIMIT, places.acquire_many(all)).await;
    }

    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        // At the limit further connections wait in the backlog.
        let permit = Arc::clone(places).acquire_owned().await.ok()?;
        match self.socket.accept().await {
            Ok((stream, remote)) => {
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT));
                Some((stream, remote, permit))
            }
            Err(error) => {
                // Out of file descriptors, or the peer was faster: either passes.
                tracing::debug!(%error, "HTTP connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

pub(super) async fn connection<S>(
    stream: S,
    remote: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = Arc::new(Line::default());
    let asked = Arc::clone(&line);
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let asked = asked.ask(is_last(&request));
        request.extensions_mut().insert(asked);
        request.extensions_mut().insert(ConnectInfo(remote));
        request.map(axum::body::Body::new)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .max_buf_size(READ_BUFFER)
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A connection that breaks is the peer's business, and of whoever wrote to it last.
    line.end(ended.is_err());
}

/// Whether the peer closes the connection behind the answer.
fn is_last(request: &hyper::Request<hyper::body::Incoming>) -> bool {
    let values = request.headers().get_all(hyper::header::CONNECTION);
    let mut options = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    request.version() < hyper::Version::HTTP_11
        || options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// TLS with the configured certificate.
///
/// # Errors
/// The files cannot be used.
pub(crate) fn tls(files: Files) -> Result<TlsAcceptor> {
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Identity::load(files)?);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
