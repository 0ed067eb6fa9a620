//! The Replaces header (RFC 3891): which dialog a new call takes the place of.

use std::time::Instant;

use super::call::Call;
use super::dialog::Dialog;
use super::event::CallHandle;
use super::message::{Headers, find_param};
use super::reason::Cause;
use super::stack::Stack;

/// A dialog as its other side, or a third party, names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaces {
    call_id: String,
    to_tag: String,
    from_tag: String,
    early_only: bool,
}

impl Replaces {
    /// A dialog of ours as its peer has it.
    pub(super) fn of(dialog: &Dialog) -> Self {
        Self {
            call_id: dialog.call_id.clone(),
            to_tag: dialog.remote_tag.clone(),
            from_tag: dialog.local_tag.clone(),
            early_only: false,
        }
    }

    fn parse(value: &str) -> Option<Self> {
        let call_id = value.split(';').next()?.trim();
        let tag = |name| find_param(value, name).filter(|tag| !tag.is_empty());
        Some(Self {
            call_id: Some(call_id.to_owned()).filter(|call_id| !call_id.is_empty())?,
            to_tag: tag("to-tag")?.to_owned(),
            from_tag: tag("from-tag")?.to_owned(),
            early_only: find_param(value, "early-only").is_some(),
        })
    }

    /// For the headers of a URI: everything that the grammar does not allow there is escaped.
    pub(super) fn escaped(&self) -> String {
        let value = format!(
            "{};to-tag={};from-tag={}",
            self.call_id, self.to_tag, self.from_tag
        );
        let mut text = String::with_capacity(value.len() + 16);
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        text
    }

    /// The header's value among the headers of a URI, unescaped, if it is well formed.
    pub(super) fn in_uri_headers(headers: &str) -> Option<String> {
        let value = headers.split('&').find_map(|header| {
            let (name, value) = header.split_once('=')?;
            name.eq_ignore_ascii_case("Replaces").then_some(value)
        })?;
        let value = unescape(value)?;
        Self::parse(&value).map(|_| value)
    }
}

impl Stack {
    /// The call that a new INVITE asks to replace, or the status that refuses it (RFC 3891 section 3).
    pub(super) fn replaced(&self, headers: &Headers) -> Result<Option<CallHandle>, u16> {
        let mut values = headers.get_all("Replaces");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() || headers.get("Join").is_some() {
            return Err(400);
        }
        let replaces = Replaces::parse(value).ok_or(400_u16)?;
        let call = *self.tags.get(&replaces.to_tag).ok_or(481_u16)?;
        let names = |dialog: &Dialog| {
            dialog.call_id == replaces.call_id && dialog.remote_tag == replaces.from_tag
        };
        match self.calls.get(&call) {
            Some(Call::Established(session)) if names(&session.dialog) => {
                if session.is_leaving() {
                    Err(603)
                } else if replaces.early_only {
                    Err(486)
                } else {
                    Ok(Some(call))
                }
            }
            // Of early dialogs only those that we began (section 3): whoever calls us is not taken from us.
            Some(Call::Calling(calling)) => {
                let mut early = calling.early.iter();
                if !early.any(|early| !early.gone && names(&early.dialog)) {
                    Err(481)
                } else if calling.leaving.is_some() {
                    Err(603)
                } else {
                    Ok(Some(call))
                }
            }
            _ => Err(481),
        }
    }
}

impl Stack {
    /// The new call is accepted: the old one ends with BYE or CANCEL.
    pub(super) fn replace(&mut self, now: Instant, replaced: CallHandle) {
        if matches!(self.calls.get(&replaced), Some(Call::Established(session)) if !session.is_leaving())
        {
            self.send_bye(now, replaced, "another call took its place");
        } else {
            // What rang is no missed call (RFC 3326 section 2).
            let cause = Cause::sip(200, "Call completed elsewhere");
            self.hang_up_for(now, replaced, cause);
        }
    }
}

pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?.to_owned();
        bytes.push(u8::from_str_radix(&digits, 16).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_survives_the_way_through_a_uri() {
        let replaces = Replaces {
            call_id: "a?b&c=1@host;x".into(),
            to_tag: "7743".into(),
            from_tag: "6472".into(),
            early_only: false,
        };
        let escaped = replaces.escaped();
        assert!(!escaped.contains(['?', '&', '=', '@', ';']));
        let headers = format!("Subject=x&replaces={escaped}");
        assert_eq!(
            Replaces::in_uri_headers(&headers).as_deref(),
            Some("a?b&c=1@host;x;to-tag=7743;from-tag=6472")
        );
        for bad in [
            "Replaces=abc",
            "Replaces=a%3Bto-tag%3D1",
            "Replaces=%zz",
            "Replaces=a%0D%0A%3Bto-tag%3D1%3Bfrom-tag%3D2",
            "Subject=x",
        ] {
            assert_eq!(Replaces::in_uri_headers(bad), None, "{bad}");
        }
    }
}
