//! Values with structure: Via, name-addr with parameters, quoted strings and lists.

use std::fmt;

use crate::sip::config::Transport;

/// A Via value (RFC 3261 section 20.42).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The transport token as received (`UDP`).
    pub transport: String,
    /// The host of sent-by; IPv6 in brackets.
    pub host: String,
    /// The port of sent-by.
    pub port: Option<u16>,
    /// Parameters in order: `branch`, `received`, `rport`, ...
    pub params: Vec<(String, Option<String>)>,
}

impl Via {
    /// Reads one value; blanks around the slashes and colons are allowed.
    pub fn parse(value: &str) -> Option<Self> {
        let (protocol, rest) = value.split_once('/')?;
        let (version, rest) = rest.split_once('/')?;
        if !protocol.trim().eq_ignore_ascii_case("SIP") || version.trim() != "2.0" {
            return None;
        }
        let (transport, rest) = rest.trim_start().split_once([' ', '\t'])?;
        let (sent_by, params) = rest
            .split_once(';')
            .map_or((rest, ""), |(sent_by, params)| (sent_by, params));
        let (host, port) = split_host_port(sent_by.trim())?;
        let params = split_params(params);
        Some(Self {
            transport: transport.to_owned(),
            host: host.to_owned(),
            port,
            params,
        })
    }

    /// The value of a parameter; `Some("")` if it stands without one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self
            .params
            .iter()
            .find(|(param, _)| param.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// Sets or adds a parameter.
    pub fn set_param(&mut self, name: &str, value: &str) {
        match self
            .params
            .iter_mut()
            .find(|(param, _)| param.eq_ignore_ascii_case(name))
        {
            Some((_, old)) => *old = Some(value.to_owned()),
            None => self.params.push((name.to_owned(), Some(value.to_owned()))),
        }
    }

    /// The branch, empty if missing.
    pub fn branch(&self) -> &str {
        self.param("branch").unwrap_or_default()
    }

    /// The transport, if it is one of ours.
    pub fn known_transport(&self) -> Option<Transport> {
        Transport::from_token(&self.transport)
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.params
            .iter()
            .try_for_each(|(name, value)| match value {
                Some(value) => write!(f, ";{name}={value}"),
                None => write!(f, ";{name}"),
            })
    }
}

/// From, To, Contact, Route and Record-Route values: display name, URI and header parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without quotes.
    pub name: Option<String>,
    /// The URI without angle brackets.
    pub uri: String,
    /// The parameters after the URI.
    pub params: Vec<(String, Option<String>)>,
}

impl NameAddr {
    /// Reads `"Name" <uri>;params`, `Name <uri>;params` or `uri;params` (the parameters are the header's then).
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let Some(open) = find_outside_quotes(value, '<') else {
            let (uri, params) = value.split_once(';').unwrap_or((value, ""));
            let uri = uri.trim();
            let fits = !uri.is_empty() && !uri.contains(['"', ' ', '>']);
            return fits.then(|| Self {
                name: None,
                uri: uri.to_owned(),
                params: split_params(params),
            });
        };
        let name = value[..open].trim();
        let (uri, rest) = value[open + 1..].split_once('>')?;
        let rest = rest.trim_start();
        if uri.trim().is_empty() || !(rest.is_empty() || rest.starts_with(';')) {
            return None;
        }
        let name = if name.starts_with('"') {
            Some(unquote(name))
        } else {
            Some(name.to_owned())
        };
        Some(Self {
            name: name.filter(|name| !name.is_empty()),
            uri: uri.trim().to_owned(),
            params: split_params(rest.trim_start_matches(';')),
        })
    }

    /// The value of a header parameter; `Some("")` if it stands without one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self
            .params
            .iter()
            .find(|(param, _)| param.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_deref().unwrap_or(""))
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{} ", quote(name))?;
        }
        write!(f, "<{}>", self.uri)?;
        self.params
            .iter()
            .try_for_each(|(name, value)| match value {
                Some(value) => write!(f, ";{name}={value}"),
                None => write!(f, ";{name}"),
            })
    }
}

/// The value of a header parameter behind a name-addr or addr-spec, without building the whole value.
pub fn find_param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let params = match find_outside_quotes(value, '<') {
        Some(open) => value[open..].split_once('>')?.1,
        None => value,
    };
    split_list(params, ';')
        .into_iter()
        .skip(1)
        .find_map(|param| {
            let (key, value) = param.split_once('=').unwrap_or((param, ""));
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
}

/// Splits at a separator that is neither in quotes nor in angle brackets; the parts are trimmed.
pub fn split_list(value: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped, mut depth) = (0, false, false, 0u32);
    for (place, letter) in value.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if letter == separator && depth == 0 => {
                parts.push(value[start..place].trim());
                start = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(value[start..].trim());
    parts
}

/// Puts a string in quotes, with backslashes where needed and without control characters.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

/// Takes the quotes and backslashes off; a value without quotes comes back as it is.
pub fn unquote(text: &str) -> String {
    let Some(inner) = text.trim().strip_prefix('"') else {
        return text.trim().to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => plain.extend(letters.next()),
            letter => plain.push(letter),
        }
    }
    plain
}

/// Host (IPv6 in brackets) and port.
pub(in crate::sip) fn split_host_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if text.starts_with('[') {
        let end = text.find(']')?;
        (&text[..=end], text[end + 1..].trim_start())
    } else {
        let end = text.find(':').unwrap_or(text.len());
        (text[..end].trim_end(), &text[end..])
    };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._[]:%".contains(letter);
    if host.is_empty() || !host.chars().all(fits) {
        return None;
    }
    match port.strip_prefix(':') {
        Some(port) => Some((host, Some(port.trim().parse().ok()?))),
        None if port.is_empty() => Some((host, None)),
        None => None,
    }
}

fn split_params(params: &str) -> Vec<(String, Option<String>)> {
    let parts = split_list(params, ';')
        .into_iter()
        .filter(|part| !part.is_empty());
    let pairs = parts.map(|part| match part.split_once('=') {
        Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
        None => (part.to_owned(), None),
    });
    pairs.collect()
}

fn find_outside_quotes(value: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    value.char_indices().find_map(|(place, letter)| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted && letter == wanted => return Some(place),
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn via_values_of_all_shapes_are_read() {
        let via = Via::parse(
            "SIP / 2.0 / UDP  first.example.com : 4000;ttl=16 ;maddr=224.2.0.1 ;branch=z9hG4bKa7",
        )
        .unwrap();
        assert_eq!(
            (via.host.as_str(), via.port, via.branch()),
            ("first.example.com", Some(4000), "z9hG4bKa7")
        );
        let via = Via::parse("SIP/2.0/TCP [2001:db8::1]:5061;rport;branch=z9hG4bK1").unwrap();
        assert_eq!(
            (via.host.as_str(), via.port, via.param("rport")),
            ("[2001:db8::1]", Some(5061), Some(""))
        );
        assert_eq!(
            via.to_string(),
            "SIP/2.0/TCP [2001:db8::1]:5061;rport;branch=z9hG4bK1"
        );
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/3.0/UDP a",
            "SIP/2.0/UDP a:99999",
            "HTTP/2.0/UDP a",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP ;x",
        ] {
            assert_eq!(Via::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn name_addr_values_of_all_shapes_are_read() {
        let addr = NameAddr::parse(r#""A \"<x>\" , B" <sip:u@h;lr>;tag=1;q"#).unwrap();
        assert_eq!(addr.name.as_deref(), Some(r#"A "<x>" , B"#));
        assert_eq!(
            (addr.uri.as_str(), addr.param("tag"), addr.param("q")),
            ("sip:u@h;lr", Some("1"), Some(""))
        );
        assert_eq!(NameAddr::parse(&addr.to_string()).unwrap(), addr);
        let addr = NameAddr::parse("sip:u@h;tag=2").unwrap();
        assert_eq!(
            (addr.uri.as_str(), addr.param("TAG")),
            ("sip:u@h", Some("2"))
        );
        assert_eq!(
            NameAddr::parse("Anne Example <sip:a@b>")
                .unwrap()
                .name
                .as_deref(),
            Some("Anne Example")
        );
        for bad in ["", "<>", "<sip:a", "\"open <sip:a@b>", "<sip:a@b> x"] {
            assert_eq!(NameAddr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_inside_the_brackets_are_not_header_parameters() {
        assert_eq!(find_param("<sip:a@b;tag=no>;tag=yes", "tag"), Some("yes"));
        assert_eq!(find_param("\"<;tag=no>\" <sip:a@b>", "tag"), None);
        assert_eq!(find_param("sip:a@b ; tag = yes", "tag"), Some("yes"));
    }
}
