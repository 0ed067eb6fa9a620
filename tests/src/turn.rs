//! coturn as the TURN server that shares a secret with the gateway: TCP towards its clients, UDP towards their peers.

use crate::files::Directory;
use crate::netns::Namespace;
use crate::process::{Process, Program};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A running coturn.
pub struct Turn {
    process: Process,
    secret: PathBuf,
    url: String,
    _directory: Directory,
}

impl Turn {
    const PORT: u16 = 3478;
    const SECRET: &str = "only the gateway and coturn know";

    /// Starts it: clients reach it by TCP at `clients`, and it relays by UDP from `relays`.
    pub fn start(namespace: &Namespace, clients: Ipv4Addr, relays: Ipv4Addr) -> Self {
        let directory = Directory::new("turn");
        let secret = directory.write("secret", Self::SECRET);
        let config = format!(
            "use-auth-secret\nstatic-auth-secret={}\nrealm=causeway.test\nlistening-ip={clients}\nlistening-port={}\n\
             relay-ip={relays}\nno-udp\nno-tls\nno-dtls\nno-cli\nno-multicast-peers\nfingerprint\nverbose\n\
             log-file=stdout\nuserdb={place}/users\npidfile={place}/pid\n",
            Self::SECRET,
            Self::PORT,
            place = directory.path().display(),
        );
        let file = directory.write("turnserver.conf", config);
        let mut process = Program::new("turnserver")
            .inside(Some(namespace))
            .args(["-c", &file.to_string_lossy()])
            .start();
        process.wait_for_line("TCP listener opened on", Duration::from_secs(10));
        Self {
            process,
            secret,
            url: format!("turn:{clients}:{}?transport=tcp", Self::PORT),
            _directory: directory,
        }
    }

    /// Its URI for pages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file with the secret.
    pub fn secret_file(&self) -> &PathBuf {
        &self.secret
    }

    /// What it says.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }
}
