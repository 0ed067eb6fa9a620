//! `causeway-bench sip-peer` and `sip-call`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bench::media::Source;
use bench::sip_peer::{Algorithm, CallReport, CallRequest, Config, Event, SipPeer};
use gateway_core::sip::{Credentials, Transport};
use nix::sys::signal::{SigSet, Signal};

/// How long the report waits for the BYE's answer.
const END_LIMIT: Duration = Duration::from_secs(35);

#[derive(clap::Args)]
pub(crate) struct PeerOptions {
    /// Address for UDP and TCP.
    #[arg(long, default_value = "127.0.0.1:5060")]
    listen: SocketAddr,
    /// Its domain, and the realm of its challenges.
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// Address of the RTP sockets; the SIP address without it.
    #[arg(long)]
    media_ip: Option<IpAddr>,
    /// `name:password`; may be repeated. Without any: alice, bob and carol, password `secret`.
    #[arg(long = "user")]
    users: Vec<String>,
    /// File with one `name:password` a line; `#` begins a comment.
    #[arg(long)]
    users_file: Option<PathBuf>,
    /// Digest algorithms of the challenges, the preferred one first.
    #[arg(long, value_delimiter = ',', default_value = "sha256,md5")]
    digest: Vec<Digest>,
    /// Challenges calls of known users (407).
    #[arg(long)]
    authenticate_calls: bool,
    /// Encodings that `echo` takes.
    #[arg(long, value_delimiter = ',', default_value = "PCMU,PCMA,G722,opus")]
    echo_codecs: Vec<String>,
    /// Milliseconds from the 180 of `echo` to its 200.
    #[arg(long, default_value_t = 200)]
    answer_after_ms: u64,
    /// Prints every event as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Digest {
    Md5,
    Sha256,
}

pub(crate) fn peer(options: PeerOptions) -> anyhow::Result<ExitCode> {
    let json = options.json;
    let config = options.into_config()?;
    let users = user_list(&config);
    // Blocked before the peer's thread starts, which inherits it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block()?;
    let domain = config.domain.clone();
    let peer = SipPeer::start_with(config, move |event| print_event(event, json))?;
    if !json {
        println!(
            "SIP peer on {} (udp, tcp), domain {domain}",
            peer.local_addr()
        );
        println!("users: {users}");
        println!("services: echo tone early hangup busy reject ring silent");
    } else {
        println!(
            "{}",
            serde_json::json!({ "event": "listening", "address": peer.local_addr() })
        );
    }
    signals.wait()?;
    Ok(ExitCode::SUCCESS)
}

impl PeerOptions {
    fn into_config(self) -> anyhow::Result<Config> {
        let mut config = Config::new(self.listen);
        config.domain = self.domain;
        config.media_ip = self.media_ip.unwrap_or_else(|| self.listen.ip());
        config.algorithms = self
            .digest
            .into_iter()
            .map(|digest| match digest {
                Digest::Md5 => Algorithm::Md5,
                Digest::Sha256 => Algorithm::Sha256,
            })
            .collect();
        config.authenticate_calls = self.authenticate_calls;
        config.echo_codecs = self.echo_codecs;
        config.answer_after = Duration::from_millis(self.answer_after_ms);
        let mut users = self.users;
        if let Some(path) = &self.users_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("users file {}", path.display()))?;
            let lines = text.lines().map(str::trim);
            users.extend(
                lines
                    .filter(|line| !line.is_empty() && !line.starts_with('#'))
                    .map(str::to_owned),
            );
        }
        if !users.is_empty() {
            config.users = users
                .iter()
                .map(|user| {
                    let (name, password) = user
                        .split_once(':')
                        .with_context(|| format!("user {user:?} is not name:password"))?;
                    Ok((name.to_owned(), password.to_owned()))
                })
                .collect::<anyhow::Result<_>>()?;
        }
        Ok(config)
    }
}

fn user_list(config: &Config) -> String {
    let mut names: Vec<&str> = config.users.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

fn print_event(event: &Event, json: bool) {
    if json {
        match serde_json::to_string(event) {
            Ok(line) => println!("{line}"),
            Err(error) => eprintln!("event not printed: {error}"),
        }
        return;
    }
    match event {
        Event::Registered {
            user,
            contact,
            expires,
        } => println!("{user} is at {contact} for {expires} s"),
        Event::Unregistered { user } => println!("{user} has left"),
        Event::CallStarted(call) => println!("call {} -> {}", from_of(call).0, from_of(call).1),
        Event::CallAnswered(call) => println!(
            "call {} is up, {}",
            call.call_id,
            call.codec.as_deref().unwrap_or("no codec yet")
        ),
        Event::CallEnded(call) => println!("{}", summary(call)),
    }
}

fn from_of(call: &CallReport) -> (&str, &str) {
    match call.direction {
        bench::sip_peer::Direction::Incoming => (&call.remote, &call.local),
        bench::sip_peer::Direction::Outgoing => (&call.local, &call.remote),
    }
}

fn summary(call: &CallReport) -> String {
    let media = &call.media;
    let level = media
        .audio
        .level_dbfs
        .map_or_else(|| "-".to_owned(), |level| format!("{level:.1} dBFS"));
    format!(
        "call {} ended ({}) after {:.1} s: sent {}, received {}, lost {}, jitter {:.1} ms, tone in {} of {} windows, \
         level {level}, digits {:?}",
        call.call_id,
        call.status,
        call.seconds,
        media.sent_packets,
        media.received.packets,
        media.received.lost,
        media.received.jitter_ms,
        media.audio.tone_windows,
        media.audio.windows,
        media.digits,
    )
}

#[derive(clap::Args)]
pub(crate) struct CallOptions {
    /// Whom: a SIP URI, or a user of the proxy's domain.
    to: String,
    /// Next hop; without it the address in the URI.
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// Sends over TCP.
    #[arg(long)]
    tcp: bool,
    /// Domain of From, and of a callee without one.
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// User part of From, and of the digest.
    #[arg(long, default_value = "caller")]
    from: String,
    /// Answers a challenge.
    #[arg(long)]
    password: Option<String>,
    /// Own address.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What is sent.
    #[arg(long, value_enum, default_value = "tone")]
    media: Media,
    /// Encodings offered.
    #[arg(long, value_delimiter = ',', default_value = "PCMU,PCMA")]
    codecs: Vec<String>,
    /// Length of the call from its answer.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Longest ringing in seconds.
    #[arg(long, default_value_t = 30.0)]
    ring_seconds: f64,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Media {
    Tone,
    Echo,
    Nothing,
}

pub(crate) fn call(options: CallOptions) -> anyhow::Result<ExitCode> {
    let mut config = Config::new(options.listen);
    config.domain.clone_from(&options.domain);
    config.users.clear();
    let (ended, end) = mpsc::channel();
    let peer = SipPeer::start_with(config, move |event| {
        if let Event::CallEnded(report) = event {
            // Nobody listens any more only at the process's end.
            let _ = ended.send(report.clone());
        }
    })?;
    let length = Duration::try_from_secs_f64(options.seconds).context("length of the call")?;
    let ring = Duration::try_from_secs_f64(options.ring_seconds).context("ringing")?;
    let request = request(&options, length, ring)?;
    peer.call(request)?;
    let deadline = Instant::now() + ring + length + END_LIMIT;
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(report) = end.recv_timeout(left) else {
        bail!("the call did not end");
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", summary(&report));
    }
    ensure!(
        (200..300).contains(&report.status),
        "the call was not answered: {}",
        report.status
    );
    Ok(ExitCode::SUCCESS)
}

fn request(options: &CallOptions, length: Duration, ring: Duration) -> anyhow::Result<CallRequest> {
    let transport = if options.tcp {
        Transport::Tcp
    } else {
        Transport::Udp
    };
    let to = match (options.to.contains(':'), options.to.contains('@')) {
        (true, _) => options.to.clone(),
        (false, true) => format!("sip:{}", options.to),
        (false, false) => format!("sip:{}@{}", options.to, options.domain),
    };
    let mut request = CallRequest::new(to);
    request.from.clone_from(&options.from);
    request.proxy = options.proxy.map(|proxy| (transport, proxy));
    request.credentials = options.password.as_ref().map(|password| Credentials {
        user: options.from.clone(),
        password: password.clone(),
    });
    request.source = match options.media {
        Media::Tone => Source::Tone,
        Media::Echo => Source::Echo,
        Media::Nothing => Source::Nothing,
    };
    request.codecs.clone_from(&options.codecs);
    request.hang_up_after = Some(length);
    request.ring_limit = ring;
    Ok(request)
}
