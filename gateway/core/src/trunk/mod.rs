//! Trunks: the SIP servers that calls go to and come from, and what is agreed with each of them.
//!
//! The default trunk is what `[sip]` and `[media]` say; `[[trunk]]` adds others. A call goes to the first trunk that has its
//! destination, else to the default one; it comes from the trunk that has its source, else from the one that the called page
//! registers at. `gateway` asks [`Trunks`] for both, and a call keeps its [`Trunk`] to its end.

mod address;
mod numbers;
mod table;

use crate::api::{Callee, Header};
use crate::sdp::{CodecPolicy, SrtpPolicy};
use crate::sip;
use std::time::Duration;

pub use address::Network;
pub use numbers::{Numbers, Rewrite};
pub(crate) use table::{Over, Trunks};

/// At most so many headers of an INVITE are shown to a page.
const MAX_HEADERS: usize = 32;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// Its name in metrics, logs and the admin view.
    pub name: String,
    /// The next hops of requests outside of dialogs, the first choice in front; none: the host of the address that is called.
    pub proxies: sip::Proxies,
    /// What stands in the place of the gateway's own domain in addresses of calls over this trunk.
    pub domain: Option<String>,
    /// Answers the server's challenges where the caller has no credentials of its own there.
    pub credentials: Option<sip::Credentials>,
    /// Which addresses are called over it.
    pub destinations: Vec<Callee>,
    /// Where its calls come from, beside those of its proxies that are addresses.
    pub sources: Vec<Network>,
    /// Codecs that its calls may use, in order of preference.
    pub codecs: CodecPolicy,
    /// SRTP with keys from the descriptions (SDES).
    pub srtp: SrtpPolicy,
    /// Headers that pages may send, and that they are shown.
    pub headers: HeaderPolicy,
    /// How numbers are rewritten.
    pub numbers: Numbers,
    /// Calls at once; none: only the gateway's own limit.
    pub calls: Option<usize>,
    /// Calls per second, both ways together; none: any.
    pub calls_per_second: Option<u32>,
    /// What becomes of a REFER of the server.
    pub refer: ReferPolicy,
    /// How often its targets are asked for signs of life by OPTIONS.
    pub watch: Option<Duration>,
}

/// Names of headers, where a star at the end stands for any rest (`X-*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// What a page may put into its INVITE.
    pub to_sip: Vec<String>,
    /// What a page is shown of an INVITE for it.
    pub to_page: Vec<String>,
}

/// What becomes of a REFER of the SIP side, which asks us to call somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferPolicy {
    /// 603.
    #[default]
    Refuse,
    /// The page is asked.
    Page,
    /// The gateway calls, and the page's media goes over to the new call when that is answered.
    Follow,
}

impl Trunk {
    /// The URI that is called for an address.
    pub(crate) fn callee(&self, address: &str, domain: &str) -> String {
        self.rewritten(address, domain, &self.numbers.callee)
    }

    /// The URI of the caller, for From.
    pub(crate) fn caller(&self, address: &str, domain: &str) -> String {
        self.rewritten(address, domain, &self.numbers.caller)
    }

    /// The caller of an incoming call, for the page.
    pub(crate) fn incoming_caller(&self, uri: String) -> String {
        match sip::SipUri::parse(&uri) {
            Some(parsed) => {
                match numbers::user(parsed.user.as_deref(), &self.numbers.incoming_caller) {
                    Some(user) => sip::SipUri {
                        user: Some(user),
                        ..parsed
                    }
                    .to_string(),
                    None => uri,
                }
            }
            None => uri,
        }
    }

    /// The user that an incoming call is for.
    pub(crate) fn incoming_callee(&self, user: &str) -> String {
        numbers::user(Some(user), &self.numbers.incoming_callee).unwrap_or_else(|| user.to_owned())
    }

    fn rewritten(&self, address: &str, domain: &str, rules: &[Rewrite]) -> String {
        let Some(mut uri) = sip::SipUri::parse(address) else {
            return address.to_owned();
        };
        if let Some(user) = numbers::user(uri.user.as_deref(), rules) {
            uri.user = Some(user);
        }
        if let Some(own) = &self.domain
            && uri.host.eq_ignore_ascii_case(domain)
        {
            uri.host.clone_from(own);
        }
        uri.to_string()
    }
}

impl HeaderPolicy {
    /// The first of a page's headers that it may not send.
    pub(crate) fn refuses<'a>(&self, headers: &'a [Header]) -> Option<&'a str> {
        let mut names = headers.iter().map(|header| header.name.as_str());
        names.find(|name| !lists(&self.to_sip, name))
    }

    /// What a page is shown of the headers of an INVITE.
    pub(crate) fn shown(&self, headers: &[(String, String)]) -> Vec<Header> {
        let shown = headers
            .iter()
            .filter(|(name, _)| lists(&self.to_page, name));
        let shown = shown.map(|(name, value)| Header {
            name: name.clone(),
            value: value.clone(),
        });
        shown.take(MAX_HEADERS).collect()
    }
}

fn lists(names: &[String], name: &str) -> bool {
    names.iter().any(|listed| match listed.strip_suffix('*') {
        Some(start) => name
            .get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start)),
        None => listed.eq_ignore_ascii_case(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_compare_without_case_and_a_star_stands_for_any_rest() {
        let policy = HeaderPolicy {
            to_sip: vec!["X-*".into(), "Subject".into()],
            to_page: vec!["x-ticket".into()],
        };
        let header = |name: &str| Header {
            name: name.into(),
            value: "1".into(),
        };
        assert_eq!(policy.refuses(&[header("x-a"), header("SUBJECT")]), None);
        assert_eq!(
            policy.refuses(&[header("X-a"), header("Priority")]),
            Some("Priority")
        );
        let headers = [
            ("X-Ticket".to_owned(), "7".to_owned()),
            ("X-Other".into(), "8".into()),
        ];
        assert_eq!(policy.shown(&headers).len(), 1);
        assert_eq!(
            HeaderPolicy::default().refuses(&[header("X-a")]),
            Some("X-a")
        );
    }
}
