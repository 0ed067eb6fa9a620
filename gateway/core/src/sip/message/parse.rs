//! The wire front: bytes to [`Message`], mending what peers get wrong and refusing what cannot be trusted.
//!
//! Mended: bare LF, leading blank lines, folded lines, blanks before the colon, compact names, lists in one line,
//! Latin-1 in headers that are not echoed, a missing Content-Length in a datagram, bytes after the body.
//! Refused with the status that a peer gets: other versions (505), too large (513), too many headers, missing or
//! repeated or broken mandatory headers, control characters, a body shorter than announced (all 400).

use std::borrow::Cow;

use super::fields::{NameAddr, Via, split_list};
use super::{Headers, Message, Method, Request, Response};

/// Bounds of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Head and body together.
    pub max_message_bytes: usize,
    /// Header lines after unfolding and splitting of lists.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 65_535,
            max_headers: 128,
        }
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {reason}")]
pub struct ParseError {
    /// The status of the answer: 400, 505, 513.
    pub status: u16,
    /// Its reason phrase.
    pub reason: &'static str,
    /// The request as far as it was understood: enough headers for [`response_to`](super::response_to). `None` for
    /// responses, ACK, and what has no Via to answer to.
    pub request: Option<Box<Request>>,
}

/// Headers whose lists are split, one value per header.
const LISTS: [&str; 4] = ["Via", "Route", "Record-Route", "Contact"];
/// Headers that must stand exactly once.
const SINGLE: [&str; 4] = ["From", "To", "Call-ID", "CSeq"];

/// Reads one message with the default limits.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    parse_with(bytes, &Limits::default())
}

/// Reads one message: a datagram or a frame of a stream.
pub fn parse_with(bytes: &[u8], limits: &Limits) -> Result<Message, ParseError> {
    let skipped = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let bytes = &bytes[skipped..];
    let end = head_end(bytes, 0);
    let head = &bytes[..end.unwrap_or(bytes.len())];
    let mut problem = Problem(None);
    if bytes.len() > limits.max_message_bytes {
        problem.note(513, "Message Too Large");
    }
    if end.is_none() {
        problem.note(400, "Unfinished Header");
    }
    let mut lines = Lines(head);
    let start = lines.next().unwrap_or_default();
    let Ok(start) = std::str::from_utf8(start) else {
        return Err(ParseError {
            status: 400,
            reason: "Bad Start Line",
            request: None,
        });
    };
    let headers = read_headers(lines, limits.max_headers, &mut problem);
    let body = read_body(bytes, end.unwrap_or(bytes.len()), head, &mut problem);
    if let Some(rest) = start.strip_prefix("SIP/2.0 ") {
        return finish_response(rest, headers, body, &problem);
    }
    finish_request(start, headers, body, problem)
}

/// The first thing that was wrong.
struct Problem(Option<(u16, &'static str)>);

impl Problem {
    fn note(&mut self, status: u16, reason: &'static str) {
        self.0.get_or_insert((status, reason));
    }
}

fn finish_response(
    rest: &str,
    headers: Headers,
    body: Vec<u8>,
    problem: &Problem,
) -> Result<Message, ParseError> {
    let refuse = |reason| ParseError {
        status: 400,
        reason,
        request: None,
    };
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status
        .parse()
        .ok()
        .filter(|status| digits && (100..700).contains(status));
    let status = status.ok_or_else(|| refuse("Bad Status Line"))?;
    if let Some((_, reason)) = problem.0.or_else(|| check_headers(&headers)) {
        return Err(refuse(reason));
    }
    Ok(Message::Response(Response {
        status,
        reason: reason.trim().to_owned(),
        headers,
        body,
    }))
}

fn finish_request(
    start: &str,
    headers: Headers,
    body: Vec<u8>,
    mut problem: Problem,
) -> Result<Message, ParseError> {
    let (method, uri) = read_request_line(start, &mut problem)?;
    let request = Request {
        method: Method::from(method),
        uri: uri.to_owned(),
        headers,
        body,
    };
    if let Some((status, reason)) = check_headers(&request.headers) {
        problem.note(status, reason);
    } else if request
        .headers
        .cseq()
        .is_some_and(|(_, method)| method != request.method)
    {
        problem.note(400, "CSeq Method Differs");
    } else if request
        .headers
        .get("Max-Forwards")
        .is_some_and(|hops| hops.parse::<u8>().is_err())
    {
        problem.note(400, "Bad Max-Forwards");
    }
    let Some((status, reason)) = problem.0 else {
        return Ok(Message::Request(request));
    };
    let answerable = request.method != Method::Ack && request.headers.via().is_some();
    Err(ParseError {
        status,
        reason,
        request: answerable.then(|| Box::new(request)),
    })
}

/// Method and Request-URI; an error where nothing at all can be made of the line.
fn read_request_line<'a>(
    start: &'a str,
    problem: &mut Problem,
) -> Result<(&'a str, &'a str), ParseError> {
    let refuse = |reason| ParseError {
        status: 400,
        reason,
        request: None,
    };
    let parts: Vec<&str> = start.split(' ').collect();
    let (method, uri, version) = match parts.as_slice() {
        [method, uri, version] => (*method, *uri, *version),
        _ => {
            problem.note(400, "Bad Request Line");
            (parts.first().copied().unwrap_or_default(), "", "SIP/2.0")
        }
    };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        match version.get(..4) {
            Some(name) if name.eq_ignore_ascii_case("SIP/") => {
                problem.note(505, "Version Not Supported")
            }
            _ => return Err(refuse("Bad Request Line")),
        }
    }
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err(refuse("Bad Method"));
    }
    if uri.is_empty()
        || uri.contains(['<', '>', '"'])
        || !uri.contains(':')
        || uri.chars().any(char::is_control)
    {
        problem.note(400, "Bad Request-URI");
    }
    Ok((method, uri))
}

/// RFC 3261 section 25.1, `token`.
pub(in crate::sip) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

fn check_headers(headers: &Headers) -> Option<(u16, &'static str)> {
    if SINGLE.iter().any(|name| headers.get_all(name).count() != 1) {
        return Some((400, "Mandatory Header Missing Or Repeated"));
    }
    if !headers.get_all("Via").all(|via| Via::parse(via).is_some()) || headers.get("Via").is_none()
    {
        return Some((400, "Bad Via"));
    }
    let readable = |name| {
        headers
            .get(name)
            .is_some_and(|value| NameAddr::parse(value).is_some())
    };
    if !readable("From") || !readable("To") {
        return Some((400, "Bad From Or To"));
    }
    if headers.cseq().is_none() {
        return Some((400, "Bad CSeq"));
    }
    headers.call_id().is_empty().then_some((400, "Bad Call-ID"))
}

fn read_headers(mut lines: Lines<'_>, max: usize, problem: &mut Problem) -> Headers {
    let mut headers = Headers::default();
    let mut next = lines.next();
    while let Some(line) = next.filter(|line| !line.is_empty()) {
        let mut line = Cow::Borrowed(line);
        next = lines.next();
        while let Some(folded) = next.filter(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            line.to_mut().push(b' ');
            line.to_mut().extend_from_slice(folded.trim_ascii());
            next = lines.next();
        }
        if let Err(reason) = read_header(&line, &mut headers) {
            problem.note(400, reason);
        }
        if headers.len() > max {
            problem.note(400, "Too Many Headers");
            headers.0.truncate(max);
            break;
        }
    }
    headers
}

fn read_header(line: &[u8], headers: &mut Headers) -> Result<(), &'static str> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or("Header Without Colon")?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err("Bad Header Name");
    }
    let name = expand(std::str::from_utf8(name).map_err(|_| "Bad Header Name")?);
    let value = line[colon + 1..].trim_ascii();
    if value
        .iter()
        .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
    {
        return Err("Control Character In Header");
    }
    let value = match std::str::from_utf8(value) {
        Ok(value) => Cow::Borrowed(value),
        // These are echoed and compared byte by byte, so they cannot be mended.
        Err(_) if name == "Via" || SINGLE.contains(&name) => return Err("Header Is Not UTF-8"),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    };
    if LISTS.contains(&name) {
        for value in split_list(&value, ',')
            .into_iter()
            .filter(|value| !value.is_empty())
        {
            headers.push(name, value);
        }
    } else {
        headers.push(name, value);
    }
    Ok(())
}

/// The full name of a compact form, and the usual spelling of the headers that this stack looks at.
fn expand(name: &str) -> &str {
    if let [letter] = name.as_bytes() {
        return match letter.to_ascii_lowercase() {
            b'a' => "Accept-Contact",
            b'b' => "Referred-By",
            b'c' => "Content-Type",
            b'd' => "Request-Disposition",
            b'e' => "Content-Encoding",
            b'f' => "From",
            b'i' => "Call-ID",
            b'j' => "Reject-Contact",
            b'k' => "Supported",
            b'l' => "Content-Length",
            b'm' => "Contact",
            b'o' => "Event",
            b'r' => "Refer-To",
            b's' => "Subject",
            b't' => "To",
            b'u' => "Allow-Events",
            b'v' => "Via",
            b'x' => "Session-Expires",
            b'y' => "Identity",
            _ => name,
        };
    }
    let usual = LISTS
        .iter()
        .chain(&SINGLE)
        .find(|usual| usual.eq_ignore_ascii_case(name));
    usual.copied().unwrap_or(name)
}

fn read_body(bytes: &[u8], start: usize, head: &[u8], problem: &mut Problem) -> Vec<u8> {
    let rest = &bytes[start..];
    match content_length(head) {
        Ok(None) => rest.to_vec(),
        Ok(Some(length)) if length <= rest.len() => rest[..length].to_vec(),
        Ok(Some(_)) => {
            problem.note(400, "Body Shorter Than Content-Length");
            Vec::new()
        }
        Err(()) => {
            problem.note(400, "Bad Content-Length");
            Vec::new()
        }
    }
}

/// Content-Length of a head: `None` if missing, an error if it is no number or stands twice with different values.
pub(super) fn content_length(head: &[u8]) -> Result<Option<usize>, ()> {
    let mut found = None;
    for line in Lines(head).skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = line[..colon].trim_ascii_end();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let value = line[colon + 1..].trim_ascii();
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(());
        }
        // Too many digits is a number all the same, just a large one.
        let length = std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.parse().ok())
            .unwrap_or(usize::MAX);
        if found.is_some_and(|found| found != length) {
            return Err(());
        }
        found = Some(length);
    }
    Ok(found)
}

/// Where the body begins: behind the first empty line at or after `from`.
pub(super) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut place = from;
    while let Some(line_feed) = bytes.get(place..)?.iter().position(|byte| *byte == b'\n') {
        let after = place + line_feed + 1;
        match bytes.get(after..)? {
            [b'\n', ..] => return Some(after + 1),
            [b'\r', b'\n', ..] => return Some(after + 2),
            _ => place = after,
        }
    }
    None
}

/// Lines that end in LF or CRLF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match self.0.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}
