//! Bencoding: integers, byte strings, lists and dictionaries.

use std::collections::BTreeMap;

/// Depth of what is read; answers have three levels.
const MAX_DEPTH: u8 = 16;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i..e`
    Integer(i64),
    /// `length:bytes`
    Bytes(Vec<u8>),
    /// `l..e`
    List(Vec<Self>),
    /// `d..e`, keys in order.
    Dictionary(BTreeMap<Vec<u8>, Self>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }

    /// A list of strings.
    pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// A string in a dictionary.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Dictionary(entries) => match entries.get(key.as_bytes())? {
                Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
                Self::Integer(_) | Self::List(_) | Self::Dictionary(_) => None,
            },
            Self::Integer(_) | Self::Bytes(_) | Self::List(_) => None,
        }
    }

    /// Writes the value behind what the buffer holds.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Integer(number) => out.extend(format!("i{number}e").bytes()),
            Self::Bytes(bytes) => write_bytes(bytes, out),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_bytes(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }

    /// Reads one value that takes all the bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (value, rest) = read(bytes, 0)?;
        rest.is_empty().then_some(value)
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{}:", bytes.len()).bytes());
    out.extend(bytes);
}

fn read(bytes: &[u8], depth: u8) -> Option<(Value, &[u8])> {
    if depth > MAX_DEPTH {
        return None;
    }
    match bytes.split_first()? {
        (b'i', rest) => {
            let (number, rest) = split(rest, b'e')?;
            Some((Value::Integer(number.parse().ok()?), rest))
        }
        (b'l', mut rest) => {
            let mut values = Vec::new();
            while rest.first()? != &b'e' {
                let (value, behind) = read(rest, depth + 1)?;
                values.push(value);
                rest = behind;
            }
            Some((Value::List(values), &rest[1..]))
        }
        (b'd', mut rest) => {
            let mut entries = BTreeMap::new();
            while rest.first()? != &b'e' {
                let (key, behind) = read_bytes(rest)?;
                let (value, behind) = read(behind, depth + 1)?;
                entries.insert(key.to_vec(), value);
                rest = behind;
            }
            Some((Value::Dictionary(entries), &rest[1..]))
        }
        _ => {
            let (text, rest) = read_bytes(bytes)?;
            Some((Value::Bytes(text.to_vec()), rest))
        }
    }
}

fn read_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split(bytes, b':')?;
    rest.split_at_checked(length.parse().ok()?)
}

fn split(bytes: &[u8], end: u8) -> Option<(&str, &[u8])> {
    let place = bytes.iter().position(|byte| *byte == end)?;
    let text = std::str::from_utf8(&bytes[..place]).ok()?;
    Some((text, &bytes[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_all_kinds_are_written_and_read() {
        let value = Value::Dictionary(
            [
                (b"sdp".to_vec(), Value::text("v=0\r\n")),
                (b"list".to_vec(), Value::list(["a", ""])),
                (b"number".to_vec(), Value::Integer(-42)),
            ]
            .into(),
        );
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        assert_eq!(bytes, b"d4:listl1:a0:e6:numberi-42e3:sdp5:v=0\r\ne");
        assert_eq!(Value::parse(&bytes), Some(value.clone()));
        assert_eq!(value.get("sdp"), Some("v=0\r\n"));
        assert_eq!(value.get("number"), None);
    }

    #[test]
    fn broken_bytes_are_refused() {
        let deep = [[b'l'; 100], [b'e'; 100]].concat();
        for bytes in [
            &b""[..],
            b"i12",
            b"ie",
            b"5:abc",
            b"99999999999999999999:a",
            b"l1:a",
            b"d1:ae",
            b"di1e1:ae",
            b"1:ab",
            b"x",
            &deep,
        ] {
            assert_eq!(Value::parse(bytes), None, "{bytes:?}");
        }
    }
}
