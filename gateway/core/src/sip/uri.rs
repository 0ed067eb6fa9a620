//! `sip:` and `tel:` URIs, as far as routing and matching need them (RFC 3261 section 19.1, RFC 3966).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::config::Transport;
use super::message::split_host_port;

/// The URI wants a transport that this stack does not have (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("transport not supported")]
pub struct UnsupportedTransport;

/// A parsed URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SipUri {
    /// `sip`, `sips` or `tel`, in lower case.
    pub scheme: String,
    /// The user part as it stands (with escapes, without password); the number of a `tel:` URI.
    pub user: Option<String>,
    /// Name or IP literal, IPv6 in brackets; empty for `tel:`.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
    /// The URI parameters.
    pub params: Vec<(String, Option<String>)>,
    /// What follows the question mark.
    pub headers: Option<String>,
}

impl SipUri {
    /// Reads a URI without angle brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(':')?;
        let scheme = scheme.to_ascii_lowercase();
        if rest
            .chars()
            .any(|letter| letter.is_control() || letter.is_whitespace() || "<>\"".contains(letter))
        {
            return None;
        }
        // The user part may hold question marks, the headers no at sign.
        let user_end = rest.rfind('@').map_or(0, |at| at + 1);
        let (rest, headers) = match rest[user_end..].find('?') {
            Some(mark) => {
                let mark = user_end + mark;
                (&rest[..mark], Some(rest[mark + 1..].to_owned()))
            }
            None => (rest, None),
        };
        match scheme.as_str() {
            "tel" => {
                let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
                let user = Some(number.to_owned()).filter(|number| !number.is_empty())?;
                let params = split_params(params);
                Some(Self {
                    scheme,
                    user: Some(user),
                    host: String::new(),
                    port: None,
                    params,
                    headers,
                })
            }
            "sip" | "sips" => {
                // The user part may hold semicolons and question marks, but no unescaped at sign.
                let (user, rest) = match rest.rsplit_once('@') {
                    Some((user, rest)) => (
                        Some(user.split(':').next().unwrap_or(user).to_owned()),
                        rest,
                    ),
                    None => (None, rest),
                };
                let (host_port, params) = rest.split_once(';').unwrap_or((rest, ""));
                let (host, port) = split_host_port(host_port)?;
                let params = split_params(params);
                Some(Self {
                    scheme,
                    user,
                    host: host.to_owned(),
                    port,
                    params,
                    headers,
                })
            }
            _ => None,
        }
    }

    /// The value of a parameter; `Some("")` if it stands without one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self
            .params
            .iter()
            .find(|(param, _)| param.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// The host as an address, if it is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        parse_ip(&self.host)
    }

    /// The transport that the URI fixes, if it fixes one; an error if we do not have it.
    pub fn transport(&self) -> Result<Option<Transport>, UnsupportedTransport> {
        let named = self
            .param("transport")
            .map(|token| Transport::from_token(token).ok_or(UnsupportedTransport))
            .transpose()?;
        // `sips` means TLS on every hop; its `transport=tcp` names what TLS runs over (RFC 3261 section 26.2.2).
        match (self.scheme.as_str(), named) {
            ("sips", Some(Transport::Udp)) => Err(UnsupportedTransport),
            ("sips", _) => Ok(Some(Transport::Tls)),
            (_, named) => Ok(named),
        }
    }

    /// The address, if the host is a literal; port 5060 unless given.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, self.port.unwrap_or(5060)))
    }
}

impl fmt::Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{user}{}", if self.host.is_empty() { "" } else { "@" })?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params
            .iter()
            .try_for_each(|(name, value)| match value {
                Some(value) => write!(f, ";{name}={value}"),
                None => write!(f, ";{name}"),
            })?;
        self.headers
            .iter()
            .try_for_each(|headers| write!(f, "?{headers}"))
    }
}

/// A user part made of any text: what the grammar does not allow there is escaped (RFC 3261 section 19.1.2).
pub(super) fn escape_user(text: &str) -> String {
    let mut user = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;/%".contains(&byte) {
            user.push(char::from(byte));
        } else {
            user.push_str(&format!("%{byte:02X}"));
        }
    }
    user
}

/// An IP literal with or without brackets.
pub(super) fn parse_ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn split_params(params: &str) -> Vec<(String, Option<String>)> {
    let parts = params.split(';').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| match part.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (part.to_owned(), None),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_of_all_shapes_are_read_and_printed_alike() {
        for text in [
            "sip:alice@example.com",
            "sip:example.com:5070;transport=tcp;lr",
            "sip:+1-212;ext=2@gw.example.com;user=phone?Subject=x",
            "sip:u@[2001:db8::1]:5061;transport=udp",
            "sips:u@h",
            "tel:+15551234;phone-context=example.com",
        ] {
            assert_eq!(SipUri::parse(text).unwrap().to_string(), text);
        }
        let uri = SipUri::parse("SIP:alice:secret@[::1]").unwrap();
        assert_eq!(uri.user.as_deref(), Some("alice"));
        assert_eq!(uri.address().unwrap().to_string(), "[::1]:5060");
        assert_eq!(
            SipUri::parse("sip:a@h;transport=sctp").unwrap().transport(),
            Err(UnsupportedTransport)
        );
        for bad in [
            "",
            "sip:",
            "sip:a@",
            "sip:a b@h",
            "mailto:a@b",
            "tel:",
            "sip:a@h:70000",
            "<sip:a@h>",
            "sip:a@h\r\nx",
        ] {
            assert_eq!(SipUri::parse(bad), None, "{bad}");
        }
    }
}
