//! The NG control protocol: one question, one answer, found by its cookie.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Value;
use crate::load;

const LIMIT: Duration = Duration::from_secs(3);

/// A control connection.
#[derive(Debug)]
pub struct Ng {
    socket: UdpSocket,
    questions: u64,
}

impl Ng {
    /// Opens a socket inside a namespace.
    ///
    /// # Errors
    /// The namespace or the socket cannot be had.
    pub fn connect(namespace: &Path, control: &str) -> anyhow::Result<Self> {
        // A thread of its own, because the namespace belongs to the thread; a socket stays where it was made.
        let socket = std::thread::scope(|scope| {
            let opened = scope.spawn(|| {
                load::enter(namespace)?;
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(control)?;
                anyhow::Ok(socket)
            });
            opened
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            socket,
            questions: 0,
        })
    }

    /// Asks, and returns the answer's dictionary.
    ///
    /// # Errors
    /// No answer, one that cannot be read, or a refusal.
    pub fn ask(&mut self, command: &str, arguments: &[(&str, Value)]) -> anyhow::Result<Value> {
        self.questions += 1;
        let cookie = format!("bench{}", self.questions);
        let mut dictionary: std::collections::BTreeMap<_, _> = arguments
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.clone()))
            .collect();
        dictionary.insert(b"command".to_vec(), Value::text(command));
        let mut question = format!("{cookie} ").into_bytes();
        Value::Dictionary(dictionary).write(&mut question);
        self.socket.send(&question)?;
        let deadline = Instant::now() + LIMIT;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < deadline {
            let length = self
                .socket
                .recv(&mut buffer)
                .with_context(|| format!("no answer to {command}"))?;
            let Some(answer) = buffer[..length].strip_prefix(cookie.as_bytes()) else {
                continue;
            };
            let answer = answer.strip_prefix(b" ").and_then(Value::parse);
            let answer = answer.with_context(|| format!("a broken answer to {command}"))?;
            return match answer.get("result") {
                Some("ok" | "pong") => Ok(answer),
                result => bail!(
                    "{command} refused: {} {}",
                    result.unwrap_or("no result"),
                    answer.get("error-reason").unwrap_or_default()
                ),
            };
        }
        bail!("no answer to {command}")
    }
}
