//! SIP messages: what the wire front hands on, what everything above builds, and how it is printed.
//!
//! Names of headers are kept as received, compact forms are expanded; look-ups ignore case. Lists of Via, Route,
//! Record-Route and Contact are split at parse time, one value per header, so that a proxy can pop the topmost.
//! Nothing that is printed can break the framing: control characters in values become spaces.

mod body;
mod fields;
mod framing;
mod method;
mod parse;

use std::fmt::Write as _;

pub(super) use body::media_type;
pub(crate) use body::sdp_of;
pub(super) use fields::split_host_port;
pub use fields::{NameAddr, Via, find_param, quote, split_list, unquote};
pub use framing::{Frame, Framing, FramingError};
pub use method::Method;
pub(super) use parse::is_token;
pub use parse::{Limits, ParseError, parse, parse_with};

/// One header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, never in its compact form.
    pub name: String,
    /// The value, unfolded and trimmed.
    pub value: String,
}

/// The headers in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub(crate) Vec<Header>);

impl Headers {
    /// The first value under a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.as_str())
    }

    /// All values under a name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> + 'a {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.as_str())
    }

    /// Whether a comma-separated list (Require, Supported, Allow) has a token.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }

    /// Replaces the first value under a name and removes the others; adds it at the end if there was none.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let place = self
            .0
            .iter()
            .position(|header| header.name.eq_ignore_ascii_case(name));
        self.remove(name);
        let header = Header {
            name: name.into(),
            value: value.into(),
        };
        self.0
            .insert(place.unwrap_or(self.0.len()).min(self.0.len()), header);
    }

    /// Adds at the end.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(Header {
            name: name.into(),
            value: value.into(),
        });
    }

    /// Adds at the beginning (Via, Record-Route of a proxy).
    pub fn prepend(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(
            0,
            Header {
                name: name.into(),
                value: value.into(),
            },
        );
    }

    /// Removes all values under a name.
    pub fn remove(&mut self, name: &str) {
        self.0
            .retain(|header| !header.name.eq_ignore_ascii_case(name));
    }

    /// Removes all others.
    pub(super) fn keep_only(&mut self, name: &str) {
        self.0
            .retain(|header| header.name.eq_ignore_ascii_case(name));
        self.0.shrink_to_fit();
    }

    /// Removes and returns the first value under a name (the topmost Via or Route).
    pub fn remove_first(&mut self, name: &str) -> Option<String> {
        let place = self
            .0
            .iter()
            .position(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(self.0.remove(place).value)
    }

    /// Replaces the first value under a name, leaving the others.
    pub fn replace_first(&mut self, name: &str, value: impl Into<String>) {
        if let Some(header) = self
            .0
            .iter_mut()
            .find(|header| header.name.eq_ignore_ascii_case(name))
        {
            header.value = value.into();
        }
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    /// How many header lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topmost Via.
    pub fn via(&self) -> Option<Via> {
        Via::parse(self.get("Via")?)
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> Option<(u32, Method)> {
        let (number, method) = self.get("CSeq")?.trim().split_once([' ', '\t'])?;
        let number = number
            .parse::<u32>()
            .ok()
            .filter(|number| *number < 1 << 31)?;
        Some((number, Method::from(method.trim())))
    }

    /// Call-ID, empty if missing.
    pub fn call_id(&self) -> &str {
        self.get("Call-ID").unwrap_or_default()
    }

    /// The tag of From.
    pub fn from_tag(&self) -> Option<&str> {
        find_param(self.get("From")?, "tag")
    }

    /// The tag of To: its presence makes a request one inside a dialog.
    pub fn to_tag(&self) -> Option<&str> {
        find_param(self.get("To")?, "tag")
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI as text: schemes other than `sip` pass too.
    pub uri: String,
    /// The headers; Content-Length is written by [`to_bytes`](Self::to_bytes).
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers.
    pub fn new(method: Method, uri: impl Into<String>) -> Self {
        Self {
            method,
            uri: uri.into(),
            headers: Headers::default(),
            body: Vec::new(),
        }
    }

    /// The wire form, with Content-Length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = format!("{} {} SIP/2.0", self.method, self.uri);
        print(&start, &self.headers, &self.body)
    }
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100..699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The headers; Content-Length is written by [`to_bytes`](Self::to_bytes).
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The wire form, with Content-Length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let start = format!("SIP/2.0 {} {}", self.status, self.reason);
        print(&start, &self.headers, &self.body)
    }
}

/// A message of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// The headers of either kind.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

/// The skeleton of a response (RFC 3261 section 8.2.6.2): Via, From, To, Call-ID and CSeq are copied. The caller adds
/// a To tag. An empty reason becomes the usual phrase.
pub fn response_to(request: &Request, status: u16, reason: &str) -> Response {
    let mut headers = Headers::default();
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        for value in request.headers.get_all(name) {
            headers.push(name, value);
        }
    }
    if status == 100
        && let Some(timestamp) = request.headers.get("Timestamp")
    {
        headers.push("Timestamp", timestamp);
    }
    let reason = if reason.is_empty() {
        reason_phrase(status)
    } else {
        reason.to_owned()
    };
    Response {
        status,
        reason,
        headers,
        body: Vec::new(),
    }
}

/// The usual reason phrase of a status code, out of the names in `rsip`'s table.
pub fn reason_phrase(status: u16) -> String {
    let name = match rsip::StatusCode::from(status) {
        rsip::StatusCode::Other(..) => return "Unknown".into(),
        rsip::StatusCode::OK => return "OK".into(),
        known => known.to_string(),
    };
    let name = name.split_once(' ').map_or("", |(_, name)| name);
    let mut phrase = String::with_capacity(name.len() + 4);
    for (place, letter) in name.char_indices() {
        if place > 0 && letter.is_ascii_uppercase() {
            phrase.push(' ');
        }
        phrase.push(letter);
    }
    phrase
}

fn print(start: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let size: usize = headers
        .iter()
        .map(|header| header.name.len() + header.value.len() + 4)
        .sum();
    let mut text = String::with_capacity(start.len() + size + 32);
    push_clean(&mut text, start);
    text.push_str("\r\n");
    for header in headers
        .iter()
        .filter(|header| !header.name.eq_ignore_ascii_case("Content-Length"))
    {
        push_clean(&mut text, &header.name);
        text.push_str(": ");
        push_clean(&mut text, &header.value);
        text.push_str("\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn push_clean(text: &mut String, part: &str) {
    text.extend(part.chars().map(|letter| {
        if letter.is_control() && letter != '\t' {
            ' '
        } else {
            letter
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_phrases_read_as_in_the_rfc() {
        for (status, phrase) in [
            (100, "Trying"),
            (200, "OK"),
            (486, "Busy Here"),
            (481, "Call Transaction Does Not Exist"),
            (799, "Unknown"),
        ] {
            assert_eq!(reason_phrase(status), phrase);
        }
    }

    #[test]
    fn header_edits_keep_the_order_of_the_others() {
        let mut headers = Headers::default();
        headers.push("Via", "a");
        headers.push("To", "t");
        headers.push("via", "b");
        headers.prepend("Via", "top");
        assert_eq!(
            headers.get_all("VIA").collect::<Vec<_>>(),
            ["top", "a", "b"]
        );
        assert_eq!(headers.remove_first("Via").as_deref(), Some("top"));
        headers.replace_first("Via", "a2");
        assert_eq!(headers.get_all("Via").collect::<Vec<_>>(), ["a2", "b"]);
        headers.set("Via", "only");
        assert_eq!(headers.get_all("Via").collect::<Vec<_>>(), ["only"]);
        assert_eq!(
            headers
                .iter()
                .map(|header| header.name.as_str())
                .collect::<Vec<_>>(),
            ["Via", "To"]
        );
    }

    #[test]
    fn a_printed_message_cannot_be_split_by_its_values() {
        let mut request = Request::new(Method::Options, "sip:a@b");
        request
            .headers
            .push("Subject", "x\r\nVia: forged\r\n\r\nbody");
        let text = String::from_utf8(request.to_bytes()).unwrap();
        assert_eq!(text.matches("\r\n").count(), 4);
        assert!(text.contains("Subject: x  Via: forged    body\r\n"));
    }
}
