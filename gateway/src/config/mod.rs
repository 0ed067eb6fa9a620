//! The configuration: a TOML text becomes a [`Config`] in which everything is checked, or an error that names its place.
//!
//! `causeway.toml` beside `src/` is the commented example with all defaults; a test holds it equal to the defaults here.

mod conflicts;
mod read;
mod sections;
mod srtp;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod trunks;

use crate::datapath;
use crate::http::{ice_servers, token};
use crate::media::MediaConfig;
use crate::sip::TlsSettings;
use crate::tls::Files;
use gateway_core::trunk::Trunk;
use gateway_core::{gateway as core, sip};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use trunks::summary;

/// The commented example, with every key at its default.
pub(crate) const EXAMPLE: &str = include_str!("../../causeway.toml");

/// How long the RTP ports of a closed call are kept back: a late packet must not reach the next call.
const PORT_REST: Duration = Duration::from_secs(5);

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {error}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// Something in it is not allowed.
    #[error("{file}:{line}:{column}: {}{what}", key_prefix(key))]
    At {
        /// Its name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// `section.key`; empty for bad TOML.
        key: String,
        /// What is wrong and what is allowed.
        what: String,
    },
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("`{key}` ")
    }
}

/// Everything that can be configured, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) http: Http,
    /// `[tokens]`; `None` without keys.
    pub(crate) tokens: Option<token::Config>,
    pub(crate) web: Web,
    pub(crate) sip: Sip,
    pub(crate) rtp: Rtp,
    /// `[[trunk]]` in the order of the file, and the one that `[sip]` and `[media]` make.
    pub(crate) trunks: Vec<Trunk>,
    pub(crate) datapath: datapath::Config,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
    pub(crate) cors_origins: Vec<String>,
    /// HTTPS.
    pub(crate) tls: Option<Files>,
    pub(crate) admin_listen: SocketAddr,
}

/// `[web]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Web {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) advertised: Vec<SocketAddr>,
    /// ICE over TCP.
    pub(crate) listen_tcp: Vec<SocketAddr>,
    pub(crate) advertised_tcp: Vec<SocketAddr>,
    pub(crate) connect_timeout: Duration,
    pub(crate) srtp_suites: Vec<flow::Suite>,
    pub(crate) dscp: u8,
    pub(crate) certificate_dir: Option<PathBuf>,
    /// STUN and TURN servers for pages.
    pub(crate) ice: ice_servers::Settings,
}

/// `[sip]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sip {
    pub(crate) listen_udp: Option<SocketAddr>,
    pub(crate) listen_tcp: Option<SocketAddr>,
    /// `listen_tls` and the `tls_*` keys.
    pub(crate) tls: Option<TlsSettings>,
    /// Host, and port where it differs from the bound one.
    pub(crate) advertised: Option<(String, Option<u16>)>,
    pub(crate) domain: String,
    /// DNS servers; none: those of the host.
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) guests: bool,
    pub(crate) registration_expires: Duration,
    /// 0 = no session timer is asked for.
    pub(crate) session_expires: Duration,
    pub(crate) reliable_provisional: bool,
    pub(crate) gruu: bool,
    pub(crate) max_redirects: usize,
    pub(crate) user_agent: String,
    pub(crate) data_prefix: String,
}

/// `[rtp]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rtp {
    pub(crate) address: IpAddr,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) dscp: u8,
    pub(crate) latching: core::Latching,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) calls: usize,
    pub(crate) sessions: usize,
    pub(crate) calls_per_session: usize,
    pub(crate) no_answer: Duration,
    pub(crate) reconnect: Duration,
    pub(crate) session_idle: Duration,
    /// 0 = no limit.
    pub(crate) requests_per_second: u32,
    pub(crate) request_burst: u32,
    pub(crate) http_connections: usize,
    pub(crate) sip_connections: usize,
    /// Of one source; 0 = no limit.
    pub(crate) sip_requests_per_second: u32,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Log {
    pub(crate) level: tracing::Level,
    pub(crate) json: bool,
}

impl Config {
    /// Reads a file; without one, all defaults.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Self::parse("the defaults", "");
        };
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&name, &text),
            Err(error) => Err(ConfigError::Read { file: name, error }),
        }
    }

    /// Reads a text; `file` stands in the error messages.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        sections::parse(&read::Source { file, text })
    }

    /// What the media thread needs.
    pub(crate) fn media(&self) -> MediaConfig {
        MediaConfig {
            web_listen: self.web.listen.clone(),
            rtp_addresses: vec![self.rtp.address],
            rtp_ports: self.rtp.ports.clone(),
            port_rest: PORT_REST,
            calls: self.limits.calls,
            datapath: self.datapath.clone(),
        }
    }

    /// What the call logic needs: `web` and `sip` are the addresses that were really bound.
    pub(crate) fn core(
        &self,
        web: &[SocketAddr],
        sip: &[(sip::Transport, SocketAddr)],
    ) -> core::Config {
        let advertised = |addr: SocketAddr| {
            let (host, port) = self.sip.advertised.clone()?;
            Some((host, port.unwrap_or_else(|| addr.port())))
        };
        let listen = sip.iter().map(|&(transport, addr)| sip::Listen {
            transport,
            addr,
            advertised: advertised(addr),
        });
        core::Config {
            sip: sip::Config {
                user_agent: self.sip.user_agent.clone(),
                listen: listen.collect(),
                max_ring: self.limits.no_answer + Duration::from_secs(5),
                // One dialog each, and those that are being torn down.
                max_dialogs: self.limits.calls * 2,
                max_transactions: (self.limits.calls + self.limits.sessions) * 8,
                session_expires: Some(self.sip.session_expires).filter(|span| !span.is_zero()),
                reliable_provisional: self.sip.reliable_provisional,
                gruu: self.sip.gruu,
                max_redirects: self.sip.max_redirects,
                requests_per_second: self.limits.sip_requests_per_second,
                ..sip::Config::default()
            },
            domain: self.sip.domain.clone(),
            guests: self.sip.guests,
            data_prefix: self.sip.data_prefix.clone(),
            web: core::Web {
                listen: web.to_vec(),
                advertised: self.web.advertised.clone(),
                tcp: if self.web.advertised_tcp.is_empty() {
                    self.web.listen_tcp.clone()
                } else {
                    self.web.advertised_tcp.clone()
                },
                connect_timeout: self.web.connect_timeout,
                srtp_suites: self.web.srtp_suites.clone(),
            },
            trunks: self.trunks.clone(),
            latching: self.rtp.latching,
            sip_media_ipv6: self.rtp.address.is_ipv6(),
            sip_dscp: self.rtp.dscp,
            web_dscp: self.web.dscp,
            packet_rate_margin: self.datapath.flood.media_margin,
            registration_expires: self.sip.registration_expires,
            limits: core::Limits {
                calls: self.limits.calls,
                sessions: self.limits.sessions,
                calls_per_session: self.limits.calls_per_session,
                no_answer: self.limits.no_answer,
                reconnect: self.limits.reconnect,
                session_idle: self.limits.session_idle,
            },
        }
    }
}
