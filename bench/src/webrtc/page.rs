//! One page: a session at the gateway, and a call from the first request to the report.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gateway_core::api::{CallId, CallView, CreateCall, CreateSession, Event, PathView};
use serde::{Deserialize, Serialize};
use str0m::config::DtlsVersion;

use super::api::{Api, Transport};
use super::engine::{Connection, Engine};
use super::heard::ms;
use super::peer::{MediaReport, PeerConfig};
use super::voice::{Codec, Sound};

/// How long packets that are on their way are listened for after the last one was sent.
const LINGER: Duration = Duration::from_millis(300);

/// A page's side of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallConfig {
    /// The gateway's base URL.
    pub gateway: String,
    /// How the page reaches it.
    pub transport: Transport,
    /// SIP user to sign in as; a guest's name without a password.
    pub user: Option<String>,
    /// SIP password.
    pub password: Option<String>,
    /// Whom to call.
    pub to: String,
    /// Codec that is offered.
    pub codec: Codec,
    /// What is sent.
    pub sound: Sound,
    /// Whether DTLS 1.3 is spoken, as browsers do.
    pub dtls13: bool,
    /// Address of the media sockets; by default the one that reaches the gateway.
    pub local: Option<IpAddr>,
    /// Seconds that the call may take to be connected.
    pub connect_timeout_s: f64,
    /// Seconds of talk.
    pub talk_s: f64,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            gateway: "http://127.0.0.1:8080".to_string(),
            transport: Transport::Http,
            user: None,
            password: None,
            to: "echo".to_string(),
            codec: Codec::Pcmu,
            sound: Sound::Marked,
            dtls13: true,
            local: None,
            connect_timeout_s: 20.0,
            talk_s: 5.0,
        }
    }
}

/// A call that was connected, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct CallReport {
    /// The call.
    pub call: CallId,
    /// From the request to the gateway's SDP answer; absent on incoming calls.
    pub answer_ms: Option<f64>,
    /// From the request to `call.connected`.
    pub connected_ms: f64,
    /// Voice codec, by the gateway.
    pub codec: String,
    /// SRTP suite, by the gateway.
    pub suite: String,
    /// Path of what we send.
    pub to_sip: PathView,
    /// Path of what we hear.
    pub to_browser: PathView,
    /// What we sent and heard.
    pub media: MediaReport,
    /// The gateway's last view of the call, with its own counters.
    pub view: Option<CallView>,
    /// Why the call was over before we hung up.
    pub ended: Option<String>,
}

/// A session.
pub struct Page {
    api: Api,
    address: String,
    local: IpAddr,
    last_event: u64,
    incoming: VecDeque<(CallId, String)>,
    events: VecDeque<Event>,
}

/// A call of a page.
pub struct Call {
    id: CallId,
    connection: Connection,
    started: Instant,
    answer_ms: Option<f64>,
    connected: Option<Connected>,
    ended: Option<String>,
}

struct Connected {
    after_ms: f64,
    codec: String,
    suite: String,
    to_sip: PathView,
    to_browser: PathView,
}

impl Page {
    /// Signs in.
    pub fn sign_in(config: &CallConfig) -> Result<Self> {
        let local = match config.local {
            Some(local) => local,
            None => local_address(&config.gateway)?,
        };
        let mut api = Api::new(&config.gateway, config.transport)?;
        let request = CreateSession {
            user: config.user.clone(),
            password: config.password.clone(),
            display_name: None,
            ..CreateSession::default()
        };
        let created = api.sign_in(&request).context("sign in")?;
        Ok(Self {
            api,
            address: created.address,
            local,
            last_event: 0,
            incoming: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// The page's own SIP address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Places a call; it is connected when [`Self::wait_connected`] says so.
    pub fn call(&mut self, engine: &Engine, config: &CallConfig) -> Result<Call> {
        let started = Instant::now();
        let connection = self.connection(engine, config)?;
        let offer = connection.with(|peer, _| peer.offer(false))?;
        let view = self
            .api
            .create_call(&CreateCall {
                to: config.to.clone(),
                offer: Some(offer),
                ..CreateCall::default()
            })
            .context("place a call")?;
        Ok(Call {
            id: view.id,
            connection,
            started,
            answer_ms: None,
            connected: None,
            ended: None,
        })
    }

    /// Waits for an incoming call and takes it.
    pub fn take_call(
        &mut self,
        engine: &Engine,
        config: &CallConfig,
        timeout: Duration,
    ) -> Result<Call> {
        let until = Instant::now() + timeout;
        while self.incoming.is_empty() {
            let event = self.next_event(until)?.context("nobody called in time")?;
            self.sort(event, None)?;
        }
        let (id, offer) = self.incoming.pop_front().context("nobody called in time")?;
        let started = Instant::now();
        let connection = self.connection(engine, config)?;
        let answer = connection.with(|peer, now| peer.answer(&offer, now))?;
        self.api.answer(&id, answer).context("take a call")?;
        Ok(Call {
            id,
            connection,
            started,
            answer_ms: None,
            connected: None,
            ended: None,
        })
    }

    /// Waits until media flows.
    pub fn wait_connected(&mut self, call: &mut Call, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        while call.connected.is_none() {
            if let Some(ended) = &call.ended {
                bail!("the call ended before it was connected: {ended}");
            }
            let Some(event) = self.next_event(until)? else {
                let media = call
                    .connection
                    .with(|peer, _| peer.error().map(str::to_string));
                bail!(
                    "not connected within {timeout:?}; media: {}",
                    media.as_deref().unwrap_or("no error")
                );
            };
            self.sort(event, Some(call))?;
        }
        Ok(())
    }

    /// Talks for a time, or until the other side hangs up.
    pub fn talk(&mut self, call: &mut Call, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while call.ended.is_none() {
            let Some(event) = self.next_event(until)? else {
                break;
            };
            self.sort(event, Some(call))?;
        }
        Ok(())
    }

    /// Restarts ICE of a connected call.
    pub fn restart_ice(&mut self, call: &Call) -> Result<()> {
        let offer = call.connection.with(|peer, _| peer.offer(true))?;
        let answer = self.api.offer(&call.id, offer).context("restart ICE")?;
        call.connection
            .with(|peer, now| peer.accept_answer(&answer, now))
    }

    /// Hangs up and says what was heard.
    pub fn hang_up(&mut self, call: Call) -> Result<CallReport> {
        call.connection.with(|peer, _| peer.stop_speaking());
        std::thread::sleep(LINGER);
        let view = if call.ended.is_none() {
            self.api.call(&call.id).ok()
        } else {
            None
        };
        let media = call.connection.with(|peer, _| peer.report());
        if call.ended.is_none() {
            self.api.hang_up(&call.id).context("hang up")?;
        }
        call.connection.with(|peer, now| peer.close(now));
        let connected = call.connected.context("the call was never connected")?;
        Ok(CallReport {
            call: call.id,
            answer_ms: call.answer_ms,
            connected_ms: connected.after_ms,
            codec: connected.codec,
            suite: connected.suite,
            to_sip: connected.to_sip,
            to_browser: connected.to_browser,
            media,
            view,
            ended: call.ended,
        })
    }

    /// Ends the session.
    pub fn sign_out(mut self) -> Result<()> {
        self.api.sign_out().context("sign out")
    }

    fn connection(&self, engine: &Engine, config: &CallConfig) -> Result<Connection> {
        let dtls = if config.dtls13 {
            DtlsVersion::Auto
        } else {
            DtlsVersion::Dtls12
        };
        let owner = getrandom::u32().context("random number")?;
        let (codec, sound) = (config.codec, config.sound);
        engine.connect(self.local, owner, |local: SocketAddr| PeerConfig {
            local,
            codec,
            sound,
            dtls,
        })
    }

    /// The next event, `None` at the time-out.
    fn next_event(&mut self, until: Instant) -> Result<Option<Event>> {
        while self.events.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let (events, last) = self.api.events(self.last_event, left).context("events")?;
            self.last_event = last;
            self.events.extend(events);
        }
        Ok(self.events.pop_front())
    }

    /// Applies an event to the call that it belongs to.
    fn sort(&mut self, event: Event, call: Option<&mut Call>) -> Result<()> {
        match (event, call) {
            (
                Event::Incoming {
                    call: id, offer, ..
                },
                _,
            ) => self.incoming.push_back((id, offer)),
            (Event::SessionEnded { reason }, _) => bail!("the session ended: {reason}"),
            (event, Some(call)) => call.handle(event)?,
            (_, None) => {}
        }
        Ok(())
    }
}

impl Call {
    /// The call's name at the gateway.
    pub fn id(&self) -> &CallId {
        &self.id
    }

    /// Does something with the media side.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        match event {
            Event::Answer { call, answer, .. } if call == self.id => {
                ensure!(self.answer_ms.is_none(), "a second answer");
                self.answer_ms = Some(ms(self.started, now));
                self.connection
                    .with(|peer, now| peer.accept_answer(&answer, now))?;
            }
            Event::Connected {
                call,
                codec,
                suite,
                to_sip,
                to_browser,
                ..
            } if call == self.id => {
                let after_ms = ms(self.started, now);
                self.connected = Some(Connected {
                    after_ms,
                    codec,
                    suite,
                    to_sip,
                    to_browser,
                });
            }
            Event::PathChanged {
                call,
                to_sip,
                to_browser,
            } if call == self.id => {
                if let Some(connected) = &mut self.connected {
                    (connected.to_sip, connected.to_browser) = (to_sip, to_browser);
                }
            }
            Event::Ended {
                call,
                by,
                status,
                reason,
                ..
            } if call == self.id => {
                let status = status
                    .map(|status| format!("{status} "))
                    .unwrap_or_default();
                self.ended = Some(format!("{status}{reason} (by {by})"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Signs in, calls, talks, hangs up, signs out.
pub fn run_call(engine: &Engine, config: &CallConfig) -> Result<CallReport> {
    let mut page = Page::sign_in(config)?;
    let result = talk(engine, config, &mut page);
    // The session goes in any case; what went wrong before is the better message.
    let signed_out = page.sign_out();
    let report = result?;
    signed_out?;
    Ok(report)
}

fn talk(engine: &Engine, config: &CallConfig, page: &mut Page) -> Result<CallReport> {
    let mut call = page.call(engine, config)?;
    page.wait_connected(&mut call, Duration::from_secs_f64(config.connect_timeout_s))?;
    page.talk(&mut call, Duration::from_secs_f64(config.talk_s))?;
    page.hang_up(call)
}

/// Our address towards the gateway, by the routing table; nothing is sent.
fn local_address(gateway: &str) -> Result<IpAddr> {
    let authority = gateway.split("://").last().unwrap_or(gateway);
    let authority = authority.split('/').next().unwrap_or(authority);
    let remote = authority
        .to_socket_addrs()
        .or_else(|_| (authority, 80).to_socket_addrs())
        .with_context(|| format!("address of {gateway}"))?
        .next()
        .with_context(|| format!("{gateway} has no address"))?;
    let any: IpAddr = if remote.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0_u16; 8].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket
        .connect(remote)
        .with_context(|| format!("route to {remote}"))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
