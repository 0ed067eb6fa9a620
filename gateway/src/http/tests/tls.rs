//! The listener itself: HTTPS with a configured certificate, and the end of open connections at stop.

use super::*;
use crate::http::serve::{self, Listener};
use crate::tls::Files;
use rustls::pki_types::{CertificateDer, ServerName};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

const GET: &[u8] =
    b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A client that trusts exactly this certificate.
fn client(certificate: CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn https_is_spoken_where_a_certificate_is_configured() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let directory = std::env::temp_dir().join(format!("causeway-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (chain, private) = (directory.join("chain.pem"), directory.join("key.pem"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    let files = |key: &std::path::Path| Files {
        certificate: chain.clone(),
        key: key.to_owned(),
    };
    let acceptor = serve::tls(files(&private)).unwrap();
    let wrong = serve::tls(files(&directory.join("none.pem")))
        .err()
        .unwrap();
    assert!(format!("{wrong:#}").contains("none.pem"));
    std::fs::remove_dir_all(&directory).unwrap();

    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Some(acceptor), 16)
        .await
        .unwrap();
    let addr = listener.local().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(bed().public, stopped));
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client(certificate.der().clone())
        .connect(name, stream)
        .await
        .unwrap();
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    // Plain HTTP gets nothing there.
    let mut plain = TcpStream::connect(addr).await.unwrap();
    plain.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(3), serving)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_open_ones_do_not_hold_up_the_stop() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None, 1)
        .await
        .unwrap();
    let addr = listener.local().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(bed().public, stopped));
    let silent = TcpStream::connect(addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut second = TcpStream::connect(addr).await.unwrap();
    second.write_all(GET).await.unwrap();
    let mut answer = [0; 12];
    let early =
        tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut answer)).await;
    assert!(early.is_err());
    drop(silent);
    tokio::time::timeout(Duration::from_secs(3), second.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let _open = TcpStream::connect(addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(3), serving)
        .await
        .unwrap()
        .unwrap();
}
