//! The digest state of one user at one call or registration: answers challenges and reuses nonces.
//!
//! A challenge is answered once per request; the same realm asking again without `stale=true` means that the password
//! is wrong, and the failure is final. Later requests carry the answer at once, with the nonce count raised.

use super::digest::Challenge;
use super::event::Credentials;
use super::message::{Request, Response};
use crate::Random;

/// Most answers to challenges for one request, stale ones included.
const MAX_ROUNDS: usize = 4;
/// Most realms (a registrar and a few proxies on the way).
const MAX_REALMS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Auth {
    credentials: Option<Credentials>,
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    proxy: bool,
    challenge: Challenge,
    count: u32,
    cnonce: String,
}

impl Auth {
    pub(super) fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            known: Vec::new(),
        }
    }

    /// Takes the challenges of a 401 or 407 in. Whether another try makes sense; `answered` are the realms that this
    /// request has already answered.
    pub(super) fn learn(
        &mut self,
        response: &Response,
        answered: &mut Vec<(bool, String)>,
        random: &mut Random,
    ) -> bool {
        if self.credentials.is_none() || answered.len() >= MAX_ROUNDS {
            return false;
        }
        let mut seen: Vec<(bool, String)> = Vec::new();
        for (proxy, name) in [(false, "WWW-Authenticate"), (true, "Proxy-Authenticate")] {
            for challenge in response.headers.get_all(name).filter_map(Challenge::parse) {
                let realm = (proxy, challenge.realm.clone());
                // The topmost that we understand is the one that the server likes best (RFC 8760 section 2.4).
                if seen.contains(&realm) {
                    continue;
                }
                self.known
                    .retain(|known| (known.proxy, &known.challenge.realm) != (realm.0, &realm.1));
                if (answered.contains(&realm) && !challenge.stale) || self.known.len() >= MAX_REALMS
                {
                    return false;
                }
                self.known.push(Known {
                    proxy,
                    challenge,
                    count: 0,
                    cnonce: random.token(16),
                });
                seen.push(realm);
            }
        }
        answered.extend_from_slice(&seen);
        !seen.is_empty()
    }

    /// Writes the answers to all known challenges into a request.
    pub(super) fn apply(&mut self, request: &mut Request) {
        request.headers.remove("Authorization");
        request.headers.remove("Proxy-Authorization");
        let Some(credentials) = &self.credentials else {
            return;
        };
        for known in &mut self.known {
            known.count += 1;
            let answer = known.challenge.answer(
                credentials,
                &request.method,
                &request.uri,
                known.count,
                &known.cnonce,
            );
            let name = if known.proxy {
                "Proxy-Authorization"
            } else {
                "Authorization"
            };
            request.headers.push(name, answer.to_string());
        }
    }
}
