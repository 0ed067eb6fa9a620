//! What an application may put into requests of ours: URIs and headers of its own.

use super::event::SipError;
use super::message::is_token;
use super::uri::SipUri;

/// Headers that the stack writes itself.
const RESERVED: [&str; 24] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Allow",
    "Require",
    "Supported",
    "Authorization",
    "Proxy-Authorization",
    "User-Agent",
    "Session-Expires",
    "Min-SE",
    "RSeq",
    "RAck",
    "Event",
    "Refer-To",
];

/// A URI with a host, of one of those schemes.
pub(super) fn usable_uri(uri: &str, schemes: &[&str]) -> Result<SipUri, SipError> {
    SipUri::parse(uri)
        .filter(|parsed| schemes.contains(&parsed.scheme.as_str()) && !parsed.host.is_empty())
        .ok_or_else(|| SipError::BadUri(uri.to_owned()))
}

/// Refuses what is not the answer to a challenge.
pub(super) fn check_authorization(headers: &[(String, String)]) -> Result<(), SipError> {
    let fits = |(name, value): &&(String, String)| {
        let known = ["Authorization", "Proxy-Authorization"];
        known.iter().any(|known| known.eq_ignore_ascii_case(name))
            && !value.contains(['\r', '\n', '\0'])
    };
    match headers.iter().find(|header| !fits(header)) {
        Some((name, _)) => Err(SipError::BadHeader(name.clone())),
        None => Ok(()),
    }
}

/// Refuses headers that would change what the stack says, and values that would break the message.
pub(super) fn check_extra(headers: &[(String, String)]) -> Result<(), SipError> {
    for (name, value) in headers {
        let token = !name.is_empty() && name.bytes().all(is_token);
        let reserved = RESERVED
            .iter()
            .any(|reserved| reserved.eq_ignore_ascii_case(name));
        // One letter is the compact form of one of them.
        if !token || name.len() == 1 || reserved || value.contains(['\r', '\n', '\0']) {
            return Err(SipError::BadHeader(name.clone()));
        }
    }
    Ok(())
}
