//! SIP over TLS between two of our own transports: whom each believes, and certificates that are renewed meanwhile.

use super::*;
use crate::tls::Files;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use std::time::SystemTime;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A directory of certificates that goes with the test.
struct Certificates(PathBuf);

impl Certificates {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("causeway-sips-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn authority(&self, name: &str) -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = Authority::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(self.0.join(name), authority.pem()).unwrap();
        authority
    }

    /// Writes certificate and key of a host.
    fn issue(&self, authority: &Authority, host: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()])
            .unwrap()
            .signed_by(&key, authority)
            .unwrap();
        let files = Files {
            certificate: self.0.join(format!("{host}.pem")),
            key: self.0.join(format!("{host}.key")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn secured(
    files: &Files,
    authorities: PathBuf,
    verify_clients: bool,
) -> (Transports, mpsc::Receiver<Event>) {
    let tls = TlsSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        files: files.clone(),
        authorities: Some(authorities),
        verify_clients,
    };
    Transports::bind(&Settings {
        udp: None,
        tcp: None,
        tls: Some(tls),
        connections: 4,
    })
    .await
    .unwrap()
}

/// Sends from one to the other, as to `name`; whether it arrived.
async fn reaches(
    from: &mut (Transports, mpsc::Receiver<Event>),
    to_events: &mut (Transports, mpsc::Receiver<Event>),
    name: Option<&str>,
) -> bool {
    let remote = to_events.0.bound()[0].1;
    if let Some(name) = name {
        from.0.resolved(name, &[(Transport::Tls, remote)]);
    }
    let peer = to(&from.0, Transport::Tls, remote);
    from.0.transmit(Transmit {
        peer,
        bytes: b"OPTIONS".to_vec(),
    });
    loop {
        tokio::select! {
            event = to_events.1.recv() => {
                let mut event = event.unwrap();
                to_events.0.note(&mut event);
                if let Event::Stream(peer, bytes) = event {
                    assert_eq!((peer.transport, bytes.as_slice()), (Transport::Tls, &b"OPTIONS"[..]));
                    from.0.close(ConnectionId(1));
                    return true;
                }
            }
            event = from.1.recv() => {
                let mut event = event.unwrap();
                from.0.note(&mut event);
                if let Event::Unreachable(transport, addr) = event {
                    assert_eq!((transport, addr), (Transport::Tls, remote));
                    return false;
                }
            }
            () = tokio::time::sleep(SOON) => panic!("neither arrived nor failed"),
        }
    }
}

#[tokio::test]
async fn a_server_has_to_be_the_name_that_was_called() {
    let certificates = Certificates::new("name");
    let authority = certificates.authority("ca.pem");
    let files = certificates.issue(&authority, "sip.example.org");
    let ca = certificates.0.join("ca.pem");
    let mut server = secured(&files, ca.clone(), false).await;
    for (name, arrives) in [
        (Some("sip.example.org"), true),
        (Some("other.example.org"), false),
        // Called by its address, which the certificate does not hold.
        (None, false),
    ] {
        let mut client = secured(&files, ca.clone(), false).await;
        assert_eq!(
            reaches(&mut client, &mut server, name).await,
            arrives,
            "{name:?}"
        );
    }
    // An authority that we do not know.
    certificates.authority("other.pem");
    let mut client = secured(&files, certificates.0.join("other.pem"), false).await;
    assert!(!reaches(&mut client, &mut server, Some("sip.example.org")).await);
}

#[tokio::test]
async fn an_address_that_stands_in_the_certificate_is_believed() {
    let certificates = Certificates::new("address");
    let authority = certificates.authority("ca.pem");
    let files = certificates.issue(&authority, "127.0.0.1");
    let ca = certificates.0.join("ca.pem");
    let mut server = secured(&files, ca.clone(), false).await;
    let mut client = secured(&files, ca, false).await;
    assert!(reaches(&mut client, &mut server, None).await);
}

#[tokio::test]
async fn clients_are_verified_where_that_is_asked_for() {
    let certificates = Certificates::new("clients");
    let (authority, stranger) = (
        certificates.authority("ca.pem"),
        certificates.authority("stranger.pem"),
    );
    let files = certificates.issue(&authority, "sip.example.org");
    let foreign = certificates.issue(&stranger, "evil.example.org");
    let ca = certificates.0.join("ca.pem");
    let mut server = secured(&files, ca.clone(), true).await;
    let mut client = secured(&files, ca.clone(), false).await;
    assert!(reaches(&mut client, &mut server, Some("sip.example.org")).await);
    let mut client = secured(&foreign, ca, false).await;
    assert!(!reaches(&mut client, &mut server, Some("sip.example.org")).await);
}

#[tokio::test]
async fn a_renewed_certificate_serves_without_a_restart_and_a_broken_one_does_not() {
    let certificates = Certificates::new("renewed");
    let (old, new) = (
        certificates.authority("old.pem"),
        certificates.authority("new.pem"),
    );
    let files = certificates.issue(&old, "sip.example.org");
    let mut server = secured(&files, certificates.0.join("old.pem"), false).await;
    let later = |seconds| {
        for path in [&files.certificate, &files.key] {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(seconds))
                .unwrap();
        }
    };
    // The client believes the new authority only.
    let believing = certificates.0.join("new.pem");
    let mut client = secured(&files, believing.clone(), false).await;
    assert!(!reaches(&mut client, &mut server, Some("sip.example.org")).await);
    certificates.issue(&new, "sip.example.org");
    later(10);
    let mut client = secured(&files, believing.clone(), false).await;
    assert!(reaches(&mut client, &mut server, Some("sip.example.org")).await);
    let mut client = secured(&files, believing, false).await;
    std::fs::write(&files.certificate, "no certificate").unwrap();
    later(20);
    assert!(reaches(&mut client, &mut server, Some("sip.example.org")).await);
}
