//! Debian's rtpengine daemon as a device under test: started inside a namespace, its calls made over the NG protocol.
//!
//! NG is bencoded dictionaries over UDP, each behind a cookie that the answer repeats. Userspace forwarding only (`--table=-1`).

mod bencode;
mod ng;

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use flow::Suite;

pub use bencode::Value;
pub use ng::Ng;

use crate::load::MasterKey;

/// Where its control socket listens, inside its namespace.
const CONTROL: &str = "127.0.0.1:2223";
const START_LIMIT: Duration = Duration::from_secs(10);
/// All suites that it would offer.
const SUITES: [&str; 12] = [
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
    "AES_192_CM_HMAC_SHA1_80",
    "AES_192_CM_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_256_CM_HMAC_SHA1_32",
    "F8_128_HMAC_SHA1_80",
    "F8_128_HMAC_SHA1_32",
    "NULL_HMAC_SHA1_80",
    "NULL_HMAC_SHA1_32",
];

/// A running daemon; stopped on drop.
pub struct Rtpengine {
    child: Child,
    ng: Ng,
    calls: usize,
}

/// One end of a call, as the daemon shall see it.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    /// Its RTP address.
    pub rtp: SocketAddr,
    /// Under which key it sends SRTP (SDES); `None` where it speaks RTP.
    pub key: Option<MasterKey>,
    /// `a` or `b`: the daemon's interface towards it.
    pub interface: &'static str,
}

/// The daemon's side of one party.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// Port that takes the party's RTP.
    pub port: u16,
    /// Key under which the daemon sends to the party.
    pub key: Option<MasterKey>,
}

/// Where the program is, if it is installed.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("rtpengine"))
        .find(|file| file.is_file())
}

impl Rtpengine {
    /// Starts the daemon in a namespace on one CPU, with an interface `a` and an interface `b`.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(namespace: &Path, cpu: usize, a: IpAddr, b: IpAddr) -> anyhow::Result<Self> {
        let program = program().context("rtpengine is not installed")?;
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", namespace.display()))
            // It would outlive a parent that is killed.
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(["taskset", "-c", &cpu.to_string()])
            .arg(program)
            .args([
                "--table=-1",
                "--foreground",
                "--log-stderr",
                "--log-level=3",
            ])
            .arg(format!("--interface=a/{a}"))
            .arg(format!("--interface=b/{b}"))
            .arg(format!("--listen-ng={CONTROL}"))
            .args(["--port-min=30000", "--port-max=60000", "--num-threads=1"])
            .args(["--timeout=600", "--silent-timeout=600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting rtpengine")?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let pong = Ng::connect(namespace, CONTROL).and_then(|mut ng| {
                ng.ask("ping", &[])?;
                Ok(ng)
            });
            if let Ok(ng) = pong {
                return Ok(Self {
                    child,
                    ng,
                    calls: 0,
                });
            }
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                // It may hang as well as have ended.
                let _ = child.kill();
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    stderr.read_to_string(&mut said)?;
                }
                child.wait()?;
                bail!("rtpengine did not come up: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes a call; returns the legs of the party that offers and of the one that answers.
    ///
    /// # Errors
    /// The daemon refuses, or its description cannot be read.
    pub fn call(&mut self, offerer: Party, answerer: Party) -> anyhow::Result<(Leg, Leg)> {
        self.calls += 1;
        let id = Value::text(format!("causeway-bench-{}", self.calls));
        let profile = |party: Party| {
            if party.key.is_some() {
                "RTP/SAVP"
            } else {
                "RTP/AVP"
            }
        };
        let suite = |party: Party| party.key.map(|key| key.suite());
        let wanted = [offerer, answerer].map(|party| suite(party).map_or("", Suite::name));
        let others = SUITES.iter().filter(|name| !wanted.contains(name));
        let replaced = Value::list(["origin", "session-connection"]);
        let interfaces = [offerer.interface, answerer.interface];
        let offered = self.ng.ask(
            "offer",
            &[
                ("call-id", id.clone()),
                ("from-tag", Value::text("offerer")),
                ("sdp", Value::text(describe(offerer, "1"))),
                ("direction", Value::list(interfaces)),
                ("ICE", Value::text("remove")),
                ("DTLS", Value::text("off")),
                ("transport-protocol", Value::text(profile(answerer))),
                (
                    "SDES",
                    Value::List(
                        others
                            .map(|name| Value::text(format!("no-{name}")))
                            .collect(),
                    ),
                ),
                ("replace", replaced.clone()),
            ],
        )?;
        let (to_answerer, tag) = leg(&offered, suite(answerer))?;
        let answered = self.ng.ask(
            "answer",
            &[
                ("call-id", id),
                ("from-tag", Value::text("offerer")),
                ("to-tag", Value::text("answerer")),
                ("sdp", Value::text(describe(answerer, &tag))),
                ("ICE", Value::text("remove")),
                ("replace", replaced),
            ],
        )?;
        let (to_offerer, _) = leg(&answered, suite(offerer))?;
        Ok((to_offerer, to_answerer))
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        // Either fails only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn describe(party: Party, tag: &str) -> String {
    let (ip, port) = (party.rtp.ip(), party.rtp.port());
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    let profile = if party.key.is_some() {
        "RTP/SAVP"
    } else {
        "RTP/AVP"
    };
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} {profile} 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    if let Some(key) = party.key {
        let inline = STANDARD.encode(key.bytes());
        sdp += &format!("a=crypto:{tag} {} inline:{inline}\r\n", key.suite().name());
    }
    sdp
}

/// Port and key in a description of the daemon's, and the tag of its crypto line.
fn leg(answer: &Value, suite: Option<Suite>) -> anyhow::Result<(Leg, String)> {
    let sdp = answer.get("sdp").context("no description")?;
    let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start));
    let audio = line("m=audio ").context("no audio in its description")?;
    let port = audio.split(' ').next().unwrap_or_default();
    let port = port.parse().context("no port in its description")?;
    let Some(suite) = suite else {
        return Ok((Leg { port, key: None }, String::new()));
    };
    let crypto = sdp
        .lines()
        .find(|line| line.starts_with("a=crypto:") && line.split(' ').nth(1) == Some(suite.name()));
    let crypto = crypto.context("no crypto line of our suite in its description")?;
    let mut words = crypto["a=crypto:".len()..].split(' ');
    let tag = words.next().unwrap_or_default().to_owned();
    let inline = words.nth(1).and_then(|word| word.strip_prefix("inline:"));
    // It leaves padding out.
    let key = inline
        .and_then(|key| key.split(['|', '=']).next())
        .unwrap_or_default();
    let key = STANDARD_NO_PAD
        .decode(key)
        .context("its key is no base64")?;
    let read = MasterKey::new(suite, &key);
    let key = Some(read.with_context(|| format!("its key has {} bytes", key.len()))?);
    Ok((Leg { port, key }, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_tag_and_key_are_read_from_a_description() {
        let suite = Suite::AesCm128HmacSha1_80;
        let inline = STANDARD.encode([7; 30]);
        let sdp = format!(
            "v=0\r\nm=audio 30122 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:x\r\n\
             a=crypto:2 {} inline:{inline}|2^20\r\n",
            suite.name()
        );
        let answer = Value::Dictionary([(b"sdp".to_vec(), Value::text(sdp))].into());
        let (secure, tag) = leg(&answer, Some(suite)).unwrap();
        assert_eq!((secure.port, tag.as_str()), (30122, "2"));
        assert_eq!(secure.key, MasterKey::new(suite, &[7; 30]));
        assert_eq!(leg(&answer, None).unwrap().0.key, None);
        let empty = Value::Dictionary([(b"sdp".to_vec(), Value::text("v=0\r\n"))].into());
        assert!(leg(&empty, None).is_err());
    }
}
