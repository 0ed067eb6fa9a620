//! API v1 over one WebSocket, blocking: what `Api` speaks where a page asks for it.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gateway_core::api::Event;
use serde::Deserialize;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, Message, WebSocket};

/// Longest wait for a response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(40);
/// A read has to have some time-out; what is shorter is waited for so long.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// An open WebSocket of one session.
pub(super) struct Socket {
    line: WebSocket<TcpStream>,
    number: u64,
    events: VecDeque<(u64, Event)>,
}

/// Any frame of the gateway.
#[derive(Deserialize)]
struct Frame {
    id: Option<u64>,
    status: Option<u16>,
    body: Option<Value>,
    event: Option<Value>,
}

impl Socket {
    /// Connects to the gateway with this base URL, `http://host:port`.
    pub(super) fn open(gateway: &str) -> Result<Self> {
        let host = gateway.strip_prefix("http://").context("no http:// URL")?;
        let host = host.trim_end_matches('/');
        let stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{host}/api/v1/socket").into_client_request()?;
        let protocol = HeaderValue::from_static("causeway.v1");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (line, _) = tungstenite::client(request, stream)
            .map_err(|error| anyhow::anyhow!("WebSocket: {error}"))?;
        Ok(Self {
            line,
            number: 0,
            events: VecDeque::new(),
        })
    }

    /// The status and body of the response to a request; events that come before it are kept.
    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value)> {
        self.number += 1;
        let frame = json!({"id": self.number, "method": method, "path": path, "body": body});
        self.line.send(Message::text(frame.to_string()))?;
        let until = Instant::now() + RESPONSE_LIMIT;
        loop {
            let Some(frame) = self.read(until)? else {
                bail!("no response within {RESPONSE_LIMIT:?}");
            };
            if let (Some(status), true) = (frame.status, frame.id == Some(self.number)) {
                return Ok((status, frame.body.unwrap_or_default()));
            }
        }
    }

    /// The events so far with the number of the last one; waits for the first at most `wait`.
    pub(super) fn events(&mut self, wait: Duration) -> Result<Option<(Vec<Event>, u64)>> {
        let until = Instant::now() + wait;
        while self.events.is_empty() && self.read(until)?.is_some() {}
        let last = self.events.back().map(|(number, _)| *number);
        let events = self.events.drain(..).map(|(_, event)| event).collect();
        Ok(last.map(|last| (events, last)))
    }

    /// The next frame; an event is kept, too.
    fn read(&mut self, until: Instant) -> Result<Option<Frame>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = left.max(SHORTEST_WAIT);
            self.line.get_ref().set_read_timeout(Some(left))?;
            let text = match self.line.read() {
                Ok(Message::Text(text)) => text,
                Ok(_) => continue,
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error).context("WebSocket"),
            };
            let mut frame: Frame = serde_json::from_str(&text)?;
            if let Some(event) = frame.event.take() {
                let number = event["id"].as_u64().context("an event without a number")?;
                self.events
                    .push_back((number, serde_json::from_value(event)?));
            }
            return Ok(Some(frame));
        }
    }
}
