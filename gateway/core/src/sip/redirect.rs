//! Redirected calls (RFC 3261 sections 8.1.3.4 and 19.1.4): 300, 301 and 302 to our INVITE.
//!
//! The Contacts are tried in the order of their q values, each URI once and at most [`Config::max_redirects`] in all; Call-ID,
//! From and To stay. A target that fails gives way to the next, but 6xx ends the search (section 16.7).
//!
//! [`Config::max_redirects`]: super::Config::max_redirects

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::call::Call;
use super::message::{NameAddr, Response};
use super::outgoing::{Failure, Outgoing, Owner};
use super::stack::Stack;
use super::uri::SipUri;

/// Where else a call may be placed.
#[derive(Default)]
pub(super) struct Redirects {
    targets: VecDeque<String>,
    /// What was or will be tried, without regard to what a proxy made of it.
    seen: HashSet<String>,
}

impl Redirects {
    /// Takes the Contacts of a redirection in, the best first, ahead of what older ones left.
    fn take(&mut self, from: &str, response: &Response, most: usize) {
        self.seen.insert(key(from));
        let secure = from.starts_with("sips:");
        let mut contacts: Vec<(u16, String)> = response
            .headers
            .get_all("Contact")
            .filter_map(NameAddr::parse)
            .filter_map(|contact| Some((quality(&contact), usable(&contact.uri, secure)?)))
            .collect();
        contacts.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        let fresh = contacts.into_iter().map(|(_, uri)| uri).filter(|uri| {
            // The first that was tried is the page's own.
            self.seen.len() <= most && self.seen.insert(key(uri))
        });
        let fresh: Vec<String> = fresh.collect();
        for uri in fresh.into_iter().rev() {
            self.targets.push_front(uri);
        }
    }
}

impl Stack {
    /// Follows a redirection, or goes on to the next target after a refusal; gives the request back where there is none.
    pub(super) fn redirect(
        &mut self,
        now: Instant,
        outgoing: Box<Outgoing>,
        response: &Response,
    ) -> Option<Box<Outgoing>> {
        let most = self.io.config.max_redirects;
        let Owner::Invite(call) = outgoing.owner else {
            return Some(outgoing);
        };
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return Some(outgoing);
        };
        match response.status {
            300..=302 => calling
                .redirects
                .take(&outgoing.request.uri, response, most),
            303..600 => {}
            _ => return Some(outgoing),
        }
        self.next_target(now, outgoing)
    }

    /// An attempt that got no answer; other targets may.
    pub(super) fn give_up(&mut self, now: Instant, outgoing: Outgoing, failure: Failure) {
        if let Some(outgoing) = self.next_target(now, Box::new(outgoing)) {
            self.request_failed(now, outgoing.owner, failure);
        }
    }

    fn next_target(&mut self, now: Instant, mut outgoing: Box<Outgoing>) -> Option<Box<Outgoing>> {
        let Owner::Invite(call) = outgoing.owner else {
            return Some(outgoing);
        };
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return Some(outgoing);
        };
        let target = calling.redirects.targets.pop_front();
        let Some(uri) = target.filter(|_| calling.leaving.is_none()) else {
            return Some(outgoing);
        };
        // The forks of the INVITE before have ended with it.
        calling.early.iter_mut().for_each(|early| early.gone = true);
        calling.transaction = None;
        calling.cseq += 1;
        let request = &mut outgoing.request;
        request
            .headers
            .set("CSeq", format!("{} INVITE", calling.cseq));
        request.uri = uri;
        calling.auth.apply(request);
        outgoing.start_over();
        self.send(now, *outgoing);
        None
    }
}

/// A URI that we can send to, without the headers that it might put into the request. A call to `sips` stays secure (RFC 5630
/// section 3.1.3).
fn usable(uri: &str, secure: bool) -> Option<String> {
    let mut uri = SipUri::parse(uri)?;
    uri.headers = None;
    let scheme = uri.scheme == "sips" || (uri.scheme == "sip" && !secure);
    let fits = scheme && !uri.host.is_empty() && uri.transport().is_ok();
    fits.then(|| uri.to_string())
}

/// Equal for equivalent URIs, near enough: users differ by case, hosts do not.
fn key(uri: &str) -> String {
    match SipUri::parse(uri) {
        Some(uri) => format!(
            "{}@{}:{}",
            uri.user.unwrap_or_default(),
            uri.host.to_ascii_lowercase(),
            uri.port.unwrap_or(5060)
        ),
        None => uri.to_owned(),
    }
}

/// The q value in thousandths; 1 where there is none.
fn quality(contact: &NameAddr) -> u16 {
    let value = contact
        .param("q")
        .and_then(|q| q.trim().parse::<f32>().ok());
    value.map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
}
