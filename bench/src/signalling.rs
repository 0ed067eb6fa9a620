//! How many calls a second the gateway sets up and tears down without media: HTTP, SDP and SIP over UDP, no ICE check and no DTLS.
//!
//! Pages that are signed in place one call after the other, each with an offer that a browser could make: the INVITE goes to the SIP peer,
//! its answer comes back to the page, and then the page hangs up. So many at once that the gateway is never idle.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_core::api::{CallId, CreateCall, CreateSession, Event};
use serde::{Deserialize, Serialize};

use crate::webrtc::{Api, Codec, DtlsVersion, Engine, PeerConfig, Sound, Transport};

/// How long pages without a call wait for events.
const POLL: Duration = Duration::from_secs(4);
/// A call that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);

/// The figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signalling {
    /// Pages that place calls at once.
    pub pages: usize,
    /// Calls that were answered and hung up.
    pub calls: usize,
    /// In so many seconds.
    pub seconds: f64,
    /// CPU time of the daemon per call, milliseconds.
    pub daemon_ms: f64,
    /// CPU time of SIP peer and pages per call, milliseconds.
    pub peers_ms: f64,
}

impl Signalling {
    /// Calls per second, with pages and SIP peer on the same CPUs.
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// Calls per second that the daemon alone could set up with all of so many CPUs.
    pub fn daemon_alone(&self, cpus: usize) -> f64 {
        cpus as f64 * 1000.0 / self.daemon_ms
    }
}

/// Places calls for a time; the number of them, and how long it took.
///
/// # Errors
/// A page that cannot sign in, or a call that fails.
pub fn place(
    gateway: &str,
    transport: Transport,
    pages: usize,
    time: Duration,
) -> Result<(usize, f64)> {
    let calls = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let page = || -> Result<()> {
            let mut page = Page::sign_in(gateway, transport)?;
            while start.elapsed() < time {
                page.call_and_hang_up()?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            page.api.sign_out()
        };
        let running: Vec<_> = (0..pages).map(|_| scope.spawn(page)).collect();
        for page in running {
            page.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(())
    })?;
    let calls = calls.into_inner();
    ensure!(calls > 0, "no call was placed");
    Ok((calls, start.elapsed().as_secs_f64()))
}

/// Does something while so many pages are signed in, each waiting for events; what that answered.
///
/// # Errors
/// A page that cannot sign in or out, or whose poll fails.
pub fn while_signed_in<T>(
    gateway: &str,
    transport: Transport,
    pages: usize,
    act: impl FnOnce() -> T,
) -> Result<T> {
    let signed_in = Barrier::new(pages + 1);
    let page = || -> Result<()> {
        let session = Api::new(gateway, transport).and_then(|mut api| {
            api.sign_in(&CreateSession::default()).context("sign in")?;
            Ok(api)
        });
        signed_in.wait();
        let mut api = session?;
        api.events(0, POLL)?;
        api.sign_out()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..pages).map(|_| scope.spawn(page)).collect();
        signed_in.wait();
        std::thread::sleep(POLL / 2);
        let answer = act();
        for page in running {
            page.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(answer)
    })
}

/// A signed-in page with its one offer.
struct Page {
    api: Api,
    offer: String,
    last_event: u64,
}

impl Page {
    fn sign_in(gateway: &str, transport: Transport) -> Result<Self> {
        let mut api = Api::new(gateway, transport)?;
        api.sign_in(&CreateSession::default()).context("sign in")?;
        let engine = Engine::start()?;
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let owner = getrandom::u32().context("random number")?;
        let connection = engine.connect(local, owner, |local| PeerConfig {
            local,
            codec: Codec::Pcmu,
            sound: Sound::Marked,
            dtls: DtlsVersion::Auto,
        })?;
        Ok(Self {
            api,
            offer: connection.with(|peer, _| peer.offer(false))?,
            last_event: 0,
        })
    }

    fn call_and_hang_up(&mut self) -> Result<()> {
        let call = CreateCall {
            to: "echo".into(),
            offer: Some(self.offer.clone()),
            ..CreateCall::default()
        };
        let id = self.api.create_call(&call).context("place a call")?.id;
        self.wait(&id, |event| matches!(event, Event::Answer { .. }))?;
        self.api.hang_up(&id).context("hang up")?;
        self.wait(&id, |event| matches!(event, Event::Ended { .. }))
    }

    /// Waits for an event of the call.
    fn wait(&mut self, id: &CallId, wanted: impl Fn(&Event) -> bool) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            let (events, last) = self.api.events(self.last_event, Duration::from_secs(2))?;
            self.last_event = last;
            for event in events {
                match &event {
                    Event::Answer { call, .. } | Event::Ended { call, .. } if call == id => {
                        if wanted(&event) {
                            return Ok(());
                        }
                        if let Event::Ended { reason, .. } = event {
                            bail!("the call ended: {reason}");
                        }
                    }
                    _ => {}
                }
            }
        }
        bail!("nothing was heard of a call for {LIMIT:?}")
    }
}
