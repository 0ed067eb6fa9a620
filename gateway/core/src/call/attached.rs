//! Data attached to a call: each pair is a header of the INVITE, `<prefix><key>: <value>`, both percent-encoded where the grammar asks
//! for it. What comes in under the prefix is shown to the page as data of the call.

use crate::api::{Data, Problem};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Most pairs of a call.
const PAIRS: usize = 32;
/// Most bytes of a call's keys and values, encoded.
const BYTES: usize = 4096;
/// Longest key, encoded.
const KEY_BYTES: usize = 128;

/// What a header name may not have: a token has these signs and alphanumerics (RFC 3261 section 25.1); `%` begins an escape.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'!')
    .remove(b'*')
    .remove(b'_')
    .remove(b'+')
    .remove(b'\'')
    .remove(b'~');
/// What a value may not have: it stays readable, without what parsers of lists and parameters would take for theirs.
const VALUE: &AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'\\');

/// The headers that carry the data.
///
/// # Errors
/// 422 for what is too much, or has an empty key.
pub(crate) fn headers(prefix: &str, data: &Data) -> Result<Vec<(String, String)>, Problem> {
    let wrong = |what: &str| Problem::new(422, "bad-data", "Bad data", what);
    if data.len() > PAIRS {
        return Err(wrong("a call has at most 32 pairs of data"));
    }
    let mut bytes = 0;
    let mut headers = Vec::with_capacity(data.len());
    for (key, value) in data {
        let key = utf8_percent_encode(key, KEY).to_string();
        let value = utf8_percent_encode(value, VALUE).to_string();
        bytes += key.len() + value.len();
        if key.is_empty() || key.len() > KEY_BYTES {
            return Err(wrong("a key has 1 to 128 bytes"));
        }
        headers.push((format!("{prefix}{key}"), value));
    }
    if bytes > BYTES {
        return Err(wrong("the data of a call have at most 4096 bytes"));
    }
    Ok(headers)
}

/// The data in the headers of an INVITE; what is too much is left out.
pub(crate) fn read(prefix: &str, headers: &[(String, String)]) -> Data {
    let mut bytes = 0;
    let mut data = Data::new();
    for (name, value) in headers {
        let (Some(start), Some(key)) = (name.get(..prefix.len()), name.get(prefix.len()..)) else {
            continue;
        };
        if !start.eq_ignore_ascii_case(prefix) || key.is_empty() {
            continue;
        }
        bytes += key.len() + value.len();
        if data.len() == PAIRS || bytes > BYTES {
            break;
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        data.insert(decoded(key), decoded(value.trim()));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "X-Data-";

    #[test]
    fn any_text_comes_back_as_it_went() {
        let pairs = [
            ("order", "42"),
            ("Kunde: Größe", "ä; \"b\", <c>\r\nVia: x%41"),
            ("empty", ""),
        ];
        let data: Data = pairs.map(|(key, value)| (key.into(), value.into())).into();
        let mut headers = headers(PREFIX, &data).unwrap();
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(
            headers
                .iter()
                .all(|(key, value)| plain(key) && plain(value))
        );
        assert!(headers.contains(&("X-Data-order".into(), "42".into())));
        headers.push(("Subject".into(), "none of it".into()));
        headers.push(("x-data-lower".into(), " 1 ".into()));
        let mut wanted = data;
        wanted.insert("lower".into(), "1".into());
        assert_eq!(read(PREFIX, &headers), wanted);
    }

    #[test]
    fn too_much_is_refused_on_the_way_out_and_left_out_on_the_way_in() {
        let many: Data = (0..33)
            .map(|key| (key.to_string(), String::new()))
            .collect();
        assert_eq!(headers(PREFIX, &many).unwrap_err().status, 422);
        let long = Data::from([("a".to_owned(), "x".repeat(4096))]);
        assert_eq!(headers(PREFIX, &long).unwrap_err().status, 422);
        let nameless = Data::from([(String::new(), "x".to_owned())]);
        assert_eq!(headers(PREFIX, &nameless).unwrap_err().status, 422);
        let flood: Vec<_> = (0..40)
            .map(|key| (format!("X-Data-{key}"), "v".to_owned()))
            .collect();
        assert_eq!(read(PREFIX, &flood).len(), 32);
        assert!(
            read(
                PREFIX,
                &[
                    ("X-Data-ä".into(), String::new()),
                    ("ä".into(), String::new())
                ]
            )
            .len()
                <= 1
        );
    }
}
