//! Bodies of one or several parts (RFC 2046 section 5.1, RFC 5621): how the session description among them is found.

use super::{Headers, find_param, unquote};

/// More parts of one body are not looked at.
const MAX_PARTS: usize = 16;
/// Multipart bodies inside multipart bodies.
const MAX_DEPTH: usize = 2;

/// A body that nobody here understands and that must not be passed over: 415.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsupported;

/// The session description of a message, if it has one.
pub(crate) fn sdp_of(headers: &Headers, body: &[u8]) -> Result<Option<String>, Unsupported> {
    if body.is_empty() {
        return Ok(None);
    }
    sdp_in(headers, body, MAX_DEPTH)
}

/// The media type of a body in lower case, without parameters; empty if the header is missing.
pub(in crate::sip) fn media_type(headers: &Headers) -> String {
    let value = headers.get("Content-Type").unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn sdp_in(headers: &Headers, body: &[u8], depth: usize) -> Result<Option<String>, Unsupported> {
    let plain = headers
        .get("Content-Encoding")
        .is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    let kind = media_type(headers);
    let is_sdp = kind == "application/sdp" || (kind.is_empty() && body.starts_with(b"v="));
    if plain && is_sdp && is_session(headers) {
        return Ok(Some(String::from_utf8_lossy(body).into_owned()));
    }
    if plain && depth > 0 && kind.starts_with("multipart/") {
        let content_type = headers.get("Content-Type").unwrap_or_default();
        return sdp_among(&kind, &parts(content_type, body), depth);
    }
    if is_optional(headers) {
        Ok(None)
    } else {
        Err(Unsupported)
    }
}

/// Of alternatives the last is the richest (RFC 2046 section 5.1.4); of others the first description counts. A part
/// beside it that nobody understands is passed over unless it says that it must not be (RFC 5621 section 4).
fn sdp_among(kind: &str, parts: &[Part<'_>], depth: usize) -> Result<Option<String>, Unsupported> {
    let mut found = None;
    let mut refused = false;
    for part in parts {
        match sdp_in(&part.headers, part.body, depth - 1) {
            Ok(Some(sdp)) if found.is_none() || kind == "multipart/alternative" => {
                found = Some(sdp);
            }
            Ok(_) => {}
            Err(Unsupported) if is_required(&part.headers) => return Err(Unsupported),
            Err(Unsupported) => refused = true,
        }
    }
    if found.is_none() && refused {
        return Err(Unsupported);
    }
    Ok(found)
}

/// A part of a multipart body.
struct Part<'a> {
    headers: Headers,
    body: &'a [u8],
}

fn parts<'a>(content_type: &str, body: &'a [u8]) -> Vec<Part<'a>> {
    let boundary = find_param(content_type, "boundary").map(unquote);
    let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) else {
        return Vec::new();
    };
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    // Where the part under way begins; none in the preamble.
    let mut begin = None;
    let mut place = 0;
    while place < body.len() && parts.len() < MAX_PARTS {
        let rest = &body[place..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let next = place + length.map_or(rest.len(), |length| length + 1);
        let line = body[place..next].trim_ascii_end();
        let tail = line.strip_prefix(delimiter.as_bytes());
        if let Some(tail) = tail.filter(|tail| tail.is_empty() || *tail == b"--") {
            if let Some(begin) = begin {
                parts.push(part(&body[begin..place]));
            }
            if !tail.is_empty() {
                return parts;
            }
            begin = Some(next);
        }
        place = next;
    }
    parts
}

/// Header lines, an empty line, and the content, whose last line break belongs to the delimiter.
fn part(bytes: &[u8]) -> Part<'_> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut headers = Headers::default();
    let mut rest = bytes;
    while !rest.is_empty() && headers.len() < MAX_PARTS {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = after;
        let line = line.trim_ascii();
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        if let Some(colon) = colon {
            let name = String::from_utf8_lossy(line[..colon].trim_ascii());
            let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii());
            headers.push(&name, value);
        }
    }
    Part {
        headers,
        body: rest,
    }
}

/// A description for another purpose than this session (RFC 3959 early-session, a preview, ...) is none.
fn is_session(headers: &Headers) -> bool {
    headers.get("Content-Disposition").is_none_or(|value| {
        let kind = value.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("session")
    })
}

fn handling(headers: &Headers) -> Option<&str> {
    find_param(headers.get("Content-Disposition")?, "handling")
}

fn is_optional(headers: &Headers) -> bool {
    handling(headers).is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
}

fn is_required(headers: &Headers) -> bool {
    handling(headers).is_some_and(|handling| handling.eq_ignore_ascii_case("required"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(content_type: &str, more: &str, body: &str) -> Result<Option<String>, Unsupported> {
        let mut headers = Headers::default();
        headers.push("Content-Type", content_type);
        if !more.is_empty() {
            headers.push("Content-Disposition", more);
        }
        sdp_of(&headers, body.as_bytes())
    }

    #[test]
    fn the_description_is_found_among_the_parts() {
        let mixed = "preamble\r\n--b 1\r\nContent-Type: application/isup;version=x\r\n\
                     Content-Disposition: signal;handling=optional\r\n\r\n\x01\x02\r\n--b 1\r\n\
                     Content-Type: application/sdp\r\n\r\nv=0\r\ns=-\r\n\r\n--b 1--\r\nepilogue v=";
        assert_eq!(
            sdp("multipart/mixed; boundary=\"b 1\"", "", mixed),
            Ok(Some("v=0\r\ns=-\r\n".into()))
        );
        let bare = mixed.replace("\r\n", "\n");
        assert_eq!(
            sdp("Multipart/Mixed;boundary=\"b 1\"", "", &bare),
            Ok(Some("v=0\ns=-\n".into()))
        );
    }

    #[test]
    fn of_alternatives_the_last_counts_and_of_others_the_first() {
        let two = "--x\r\nContent-Type: application/sdp\r\n\r\nv=1\r\n--x\r\nContent-Type: application/sdp\r\n\r\nv=2\r\n--x--";
        let found = |kind| sdp(kind, "", two).unwrap().unwrap();
        assert_eq!(found("multipart/alternative;boundary=x"), "v=2");
        assert_eq!(found("multipart/mixed;boundary=x"), "v=1");
    }

    #[test]
    fn what_must_not_be_passed_over_is_refused() {
        let part = |disposition: &str| {
            format!(
                "--x\r\nContent-Type: application/foo\r\nContent-Disposition: {disposition}\r\n\r\nfoo\r\n\
                 --x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--\r\n"
            )
        };
        let mixed = "multipart/mixed;boundary=x";
        assert_eq!(
            sdp(mixed, "", &part("signal;handling=required")),
            Err(Unsupported)
        );
        assert_eq!(
            sdp(mixed, "", &part("signal")).unwrap().as_deref(),
            Some("v=0")
        );
        assert_eq!(sdp("text/plain", "", "hello"), Err(Unsupported));
        assert_eq!(
            sdp("text/plain", "render;handling=optional", "hello"),
            Ok(None)
        );
        assert_eq!(
            sdp("application/sdp", "early-session;handling=optional", "v=0"),
            Ok(None)
        );
        assert_eq!(sdp("multipart/mixed", "", "no boundary"), Ok(None));
    }

    #[test]
    fn nesting_and_the_number_of_parts_are_bounded() {
        let mut body = "Content-Type: application/sdp\r\n\r\nv=0".to_owned();
        for depth in 0..4 {
            let wrapped = format!("--b{depth}\r\n{body}\r\n--b{depth}--\r\n");
            let kind = format!("multipart/mixed;boundary=b{depth}");
            let found = sdp(&kind, "", &wrapped);
            assert_eq!(found.ok().flatten().is_some(), depth < 2, "{depth}");
            body = format!("Content-Type: {kind}\r\n\r\n{wrapped}");
        }
        let many = "--x\r\n\r\nfoo\r\n".repeat(100) + "--x\r\n\r\nv=0\r\n--x--";
        assert_eq!(
            sdp("multipart/mixed;boundary=x", "", &many),
            Err(Unsupported)
        );
    }
}
