//! STUN and TURN servers that pages are told to use, with credentials of limited life where a secret is shared with the TURN servers.
//!
//! The gateway itself is ICE-lite with addresses that browsers reach; it uses none of them. A page behind a firewall that lets nothing but
//! TURN through does. Credentials are those that coturn calls `use-auth-secret`: the user name is the time of expiry and the user, the
//! password a keyed hash of it, so gateway and TURN server share nothing but the secret. Called by the handlers that sign in.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_core::api::IceServer;
use ring::hmac;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Shortest secret in bytes.
const SECRET_BYTES: usize = 16;

/// `ice_servers` and the `turn_*` keys of `[web]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// URIs of RFC 7064 and RFC 7065.
    pub(crate) urls: Vec<String>,
    /// File with the secret that is shared with the TURN servers.
    pub(crate) secret_file: Option<PathBuf>,
    /// How long credentials are good for.
    pub(crate) lifetime: Duration,
}

/// Makes the lists. The secret has no `Debug`.
#[derive(Default)]
pub(crate) struct IceServers {
    stun: Vec<String>,
    turn: Vec<String>,
    secret: Option<hmac::Key>,
    lifetime: Duration,
}

impl IceServers {
    /// Reads the secret.
    pub(crate) fn load(settings: &Settings) -> Result<Self> {
        let (turn, stun) = settings
            .urls
            .iter()
            .cloned()
            .partition(|url| url.starts_with("turn"));
        let secret = settings.secret_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("`web.turn_secret_file`: cannot read {}", file.display()));
            let text = Zeroizing::new(text?);
            let secret = text.trim();
            if secret.len() < SECRET_BYTES {
                bail!(
                    "`web.turn_secret_file`: {} has to hold a secret of at least {SECRET_BYTES} bytes",
                    file.display()
                );
            }
            let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
            Ok(hmac::Key::new(algorithm, secret.as_bytes()))
        });
        Ok(Self {
            stun,
            turn,
            secret: secret.transpose()?,
            lifetime: settings.lifetime,
        })
    }

    /// The list for a user (a SIP address), as `RTCPeerConnection` takes it.
    pub(crate) fn of(&self, user: &str, now: SystemTime) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun.is_empty() {
            servers.push(IceServer {
                urls: self.stun.clone(),
                username: None,
                credential: None,
            });
        }
        if let Some(secret) = &self.secret
            && !self.turn.is_empty()
        {
            let expires = (now + self.lifetime).duration_since(UNIX_EPOCH);
            let expires = expires.unwrap_or_default().as_secs();
            let username = format!("{expires}:{}", user.trim_start_matches("sip:"));
            let tag = hmac::sign(secret, username.as_bytes());
            servers.push(IceServer {
                urls: self.turn.clone(),
                credential: Some(STANDARD.encode(tag)),
                username: Some(username),
            });
        }
        servers
    }

    /// The same as values of `Link` headers (RFC 9725 section 4.6).
    pub(crate) fn links(&self, user: &str, now: SystemTime) -> Vec<String> {
        let servers = self.of(user, now);
        let link = |server: &IceServer, url: &String| {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
                link += &format!(
                    "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
                );
            }
            link
        };
        servers
            .iter()
            .flat_map(|server| server.urls.iter().map(move |url| link(server, url)))
            .collect()
    }
}

/// Whether a text is a URI of a STUN or TURN server: `stun:host`, `turns:host:5349?transport=tcp`.
pub(crate) fn is_server(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let (place, transport) = match rest.split_once("?transport=") {
        Some((place, transport)) => (place, Some(transport)),
        None => (rest, None),
    };
    let transport = match scheme {
        "stun" | "stuns" => transport.is_none(),
        "turn" | "turns" => transport.is_none_or(|name| matches!(name, "udp" | "tcp")),
        _ => false,
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_name = |name: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !name.is_empty() && name.bytes().all(letter)
    };
    let place = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
            address.parse::<std::net::Ipv6Addr>().is_ok() && port
        }),
        None => match place.split_once(':') {
            Some((name, port)) => is_name(name) && is_port(port),
            None => is_name(place),
        },
    };
    transport && place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(secret: Option<&str>) -> IceServers {
        IceServers {
            stun: vec!["stun:stun.example.org".into()],
            turn: vec![
                "turn:turn.example.org:3478?transport=udp".into(),
                "turns:turn.example.org".into(),
            ],
            secret: secret.map(|secret| {
                hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes())
            }),
            lifetime: Duration::from_secs(600),
        }
    }

    #[test]
    fn credentials_are_a_keyed_hash_of_their_expiry_and_user() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let list = servers(Some("north south east west")).of("alice", now);
        assert_eq!(list[0].urls, ["stun:stun.example.org"]);
        assert_eq!(list[0].username, None);
        assert_eq!(list[1].urls.len(), 2);
        assert_eq!(list[1].username.as_deref(), Some("1800000600:alice"));
        // printf 1800000600:alice | openssl dgst -sha1 -hmac 'north south east west' -binary | base64
        assert_eq!(
            list[1].credential.as_deref(),
            Some("ugaV0aIF29UC00x9zm+DvNlHlnQ=")
        );
        let links = servers(Some("north south east west")).links("alice", now);
        assert_eq!(links.len(), 3);
        assert_eq!(links[0], "<stun:stun.example.org>; rel=\"ice-server\"");
        assert!(links[2].starts_with("<turns:turn.example.org>; rel=\"ice-server\"; username="));
    }

    #[test]
    fn a_relay_without_a_secret_is_not_told() {
        let list = servers(None).of("alice", SystemTime::now());
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn uris_of_servers() {
        for good in [
            "stun:192.0.2.1",
            "stun:[2001:db8::1]:3478",
            "stuns:stun.example.org:5349",
            "turn:turn.example.org?transport=tcp",
            "turns:turn.example.org:443?transport=tcp",
        ] {
            assert!(is_server(good), "{good}");
        }
        for bad in [
            "",
            "stun",
            "stun:",
            "http://turn.example.org",
            "stun:host?transport=udp",
            "turn:host:0",
            "turn:host:99999",
            "turn:host?transport=sctp",
            "turn:[2001:db8::1",
            "turn:user@host",
            "turn:a b",
        ] {
            assert!(!is_server(bad), "{bad}");
        }
    }
}
