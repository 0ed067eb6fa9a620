//! The SIP peer of the demo and the tests: registrar, proxy between registered users, and services that answer with real RTP.
//!
//! Parts: `core` is the whole peer without sockets and clock (`relay`: proxy; `registrar`; `uas` and `uac`: its own calls), `shell`
//! gives it UDP, TCP and timers, [`SipPeer`] runs both in a thread of its own. It is written apart from the gateway's own SIP stack,
//! of which it shares the message parser only, so that the two test each other.
//!
//! Services, by the user part of the address: `echo`, `tone` (440 Hz), `early` (tone as early media, then answered), `hangup` (answers
//! and hangs up after 2 s), `busy` 486, `reject` 603, `ring` (180 and no answer), `silent` (100 and no answer).

mod call;
mod core;
mod describe;
mod registrar;
mod relay;
mod report;
mod shell;
mod uac;
mod uas;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway_core::sip::{Credentials, Transport};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use gateway_core::sip::digest::Algorithm;
pub use report::{CallReport, Counters, Direction, Ending, Event};

use crate::media::Source;

/// Set-up of a peer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address for UDP and TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its domain. Addresses at `listen` are its own too.
    pub domain: String,
    /// Address of the RTP sockets.
    pub media_ip: IpAddr,
    /// User names and passwords.
    pub users: HashMap<String, String>,
    /// Algorithms of the challenges, the preferred one first.
    pub algorithms: Vec<Algorithm>,
    /// Whether calls of known users are challenged (407).
    pub authenticate_calls: bool,
    /// Encodings that `echo` takes, in any order; it follows the order of the offer.
    pub echo_codecs: Vec<String>,
    /// Time from the 180 of `echo` to its 200.
    pub answer_after: Duration,
}

impl Config {
    /// A peer on one address, with the users alice, bob and carol, whose password is `secret`.
    pub fn new(listen: SocketAddr) -> Self {
        let users = ["alice", "bob", "carol"];
        Self {
            listen,
            domain: "localhost".into(),
            media_ip: listen.ip(),
            users: users
                .map(|user| (user.to_owned(), "secret".to_owned()))
                .into(),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            authenticate_calls: false,
            echo_codecs: ["PCMU", "PCMA", "G722", "opus"].map(str::to_owned).into(),
            answer_after: Duration::from_millis(200),
        }
    }
}

/// A call that the peer shall place.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// A registered user, or a SIP URI.
    pub to: String,
    /// User part of From.
    pub from: String,
    /// Next hop; without it the user's registered contact, or the URI's address.
    pub proxy: Option<(Transport, SocketAddr)>,
    /// Answers a 401 or 407.
    pub credentials: Option<Credentials>,
    /// What is sent once it is answered.
    pub source: Source,
    /// Encodings offered; only those of G.711 can be sent as a tone.
    pub codecs: Vec<String>,
    /// Hangs up this long after the answer.
    pub hang_up_after: Option<Duration>,
    /// Cancels if nobody has answered for so long.
    pub ring_limit: Duration,
}

impl CallRequest {
    /// A call with a tone, G.711, for a minute of ringing at most.
    pub fn new(to: impl Into<String>) -> Self {
        Self {
            to: to.into(),
            from: "caller".into(),
            proxy: None,
            credentials: None,
            source: Source::Tone,
            codecs: ["PCMU", "PCMA"].map(str::to_owned).into(),
            hang_up_after: None,
            ring_limit: Duration::from_secs(60),
        }
    }
}

type Question = Box<dyn FnOnce(&mut core::Core, Instant) + Send>;

/// A running peer; it stops when it is dropped. Calls then end without BYE.
#[derive(Debug)]
pub struct SipPeer {
    local: SocketAddr,
    questions: Option<UnboundedSender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl SipPeer {
    /// Starts a peer.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, |_| {})
    }

    /// Starts a peer that tells what happens; `events` is called on its thread.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start_with(
        config: Config,
        events: impl FnMut(&Event) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (questions, asked) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("sip-peer".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                    let shell = runtime.block_on(shell::Shell::bind(config, Box::new(events)))?;
                    Ok((runtime, shell))
                });
                match result {
                    Ok((runtime, shell)) => {
                        if started.send(Ok(shell.local())).is_ok() {
                            runtime.block_on(shell.run(asked));
                        }
                    }
                    // The receiver waits below and cannot be gone.
                    Err(error) => drop(started.send(Err(error))),
                }
            })
            .context("no thread for the SIP peer")?;
        let local = start.recv().context("the SIP peer died at its start")??;
        Ok(Self {
            local,
            questions: Some(questions),
            thread: Some(thread),
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// All calls that are up, and the newest thousand that have ended, in the order of their beginning.
    pub fn calls(&self) -> Vec<CallReport> {
        self.ask(|core, now| core.reports(now)).unwrap_or_default()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.ask(|core, _| core.counters.clone())
            .unwrap_or_default()
    }

    /// Whether a user has a contact.
    pub fn is_registered(&self, user: &str) -> bool {
        let user = user.to_owned();
        self.ask(move |core, now| core.registrar.binding(&user, now).is_some())
            .unwrap_or(false)
    }

    /// Places a call; returns its Call-ID, by which [`calls`](Self::calls) shows what becomes of it.
    ///
    /// # Errors
    /// Nowhere to send it, or no media port free.
    pub fn call(&self, request: CallRequest) -> anyhow::Result<String> {
        self.ask(move |core, now| core.place_call(now, request))
            .context("the SIP peer has stopped")?
    }

    /// Ends a call: CANCEL before the answer, BYE after it. Returns whether there was one.
    pub fn hang_up(&self, call_id: &str) -> bool {
        let call_id = call_id.to_owned();
        self.ask(move |core, now| core.hang_up_call(now, &call_id))
            .unwrap_or(false)
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut core::Core, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = mpsc::channel();
        let question: Question = Box::new(move |core, now| {
            // Nobody waits any more only where the asker has panicked.
            let _ = answer.send(question(core, now));
        });
        self.questions.as_ref()?.send(question).ok()?;
        answered.recv().ok()
    }
}

impl Drop for SipPeer {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already, and a second one here would abort the test.
            let _ = thread.join();
        }
    }
}
