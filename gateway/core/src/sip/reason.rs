//! The Reason header (RFC 3326): why a call ends, in BYE, CANCEL and refusals (RFC 8606).

use std::fmt;

use super::message::{Headers, find_param, quote, split_list, unquote};

/// At most so many values of a message are read.
const MAX_CAUSES: usize = 4;
/// A longer text is cut.
const MAX_TEXT: usize = 200;

/// One value of a Reason header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `SIP`, `Q.850` or the like.
    pub protocol: String,
    /// What it means there: a status, or a cause of the telephone network.
    pub code: Option<u16>,
    /// In words.
    pub text: Option<String>,
}

impl Cause {
    /// A SIP status.
    pub fn sip(code: u16, text: &str) -> Self {
        Self {
            protocol: "SIP".into(),
            code: Some(code),
            text: Some(text.to_owned()).filter(|text| !text.is_empty()),
        }
    }

    /// Those of a message.
    pub(super) fn all(headers: &Headers) -> Vec<Self> {
        let values = headers.get_all("Reason");
        let values = values.flat_map(|value| split_list(value, ','));
        values.filter_map(Self::parse).take(MAX_CAUSES).collect()
    }

    fn parse(value: &str) -> Option<Self> {
        let protocol = value.split(';').next()?.trim();
        let text = find_param(value, "text").map(|text| cut(&unquote(text)));
        Some(Self {
            protocol: Some(cut(protocol)).filter(|protocol| !protocol.is_empty())?,
            code: find_param(value, "cause").and_then(|code| code.parse().ok()),
            text: text.filter(|text| !text.is_empty()),
        })
    }
}

/// Without control characters, and not too long.
fn cut(text: &str) -> String {
    let plain = text.chars().filter(|letter| !letter.is_control());
    plain.take(MAX_TEXT).collect()
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(code) = self.code {
            write!(f, ";cause={code}")?;
        }
        if let Some(text) = &self.text {
            write!(f, ";text={}", quote(&cut(text)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_read_and_written_alike() {
        let mut headers = Headers::default();
        headers.push(
            "Reason",
            "Q.850 ;cause=16;text=\"Terminated, normally\", SIP;cause=200",
        );
        headers.push("Reason", ";cause=1");
        headers.push("Reason", "SIP;cause=x;text=\"\"");
        let causes = Cause::all(&headers);
        let written: Vec<String> = causes.iter().map(Cause::to_string).collect();
        assert_eq!(
            written,
            [
                "Q.850;cause=16;text=\"Terminated, normally\"",
                "SIP;cause=200",
                "SIP"
            ]
        );
        let quoted = Cause::sip(500, "a \"b\"\r\nVia: x");
        assert!(!quoted.to_string().contains(['\r', '\n']));
    }
}
