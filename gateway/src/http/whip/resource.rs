//! The calls of WHIP clients by the name in their URL, and what a PATCH means for each.

use super::fragment::{self, Fragment};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::api::{CallId, Problem, SessionId};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All of them; as many as there are sessions at most.
#[derive(Default)]
pub(crate) struct Resources(Mutex<HashMap<String, Resource>>);

/// One client's call.
#[derive(Clone)]
pub(super) struct Resource {
    pub(super) session: SessionId,
    pub(super) call: CallId,
    /// The description with which ICE was started last.
    offer: String,
    /// Number of ICE restarts: the entity tag.
    restarts: u32,
}

/// What a PATCH asks for.
pub(super) enum Change {
    /// More candidates of the ICE session that runs.
    Candidates,
    /// A restart, with the description that says so.
    Restart(String),
}

/// The name of a client's call: as hard to guess as its session's token, which it does not tell.
pub(super) fn name(token: &str) -> String {
    let mut hash = Sha256::new_with_prefix(b"whip resource ");
    hash.update(token);
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

impl Resources {
    pub(super) fn insert(&self, name: String, resource: Resource) {
        self.table().insert(name, resource);
    }

    pub(super) fn get(&self, name: &str) -> Option<Resource> {
        self.table().get(name).cloned()
    }

    pub(super) fn remove(&self, name: &str) -> Option<Resource> {
        self.table().remove(name)
    }

    /// ICE was restarted with this description; the new entity tag.
    pub(super) fn restarted(&self, name: &str, offer: String) -> Option<String> {
        let mut table = self.table();
        let resource = table.get_mut(name)?;
        resource.offer = offer;
        resource.restarts += 1;
        Some(resource.tag())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Resource>> {
        // Every change is complete in itself: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    pub(super) fn new(session: SessionId, call: CallId, offer: String) -> Self {
        Self {
            session,
            call,
            offer,
            restarts: 0,
        }
    }

    /// The entity tag of the ICE session (RFC 9725 section 4.3.1).
    pub(super) fn tag(&self) -> String {
        format!("\"{}\"", self.restarts)
    }

    /// What a fragment means to this call: other credentials than the running ones restart ICE, for which the tag has to be `*`.
    pub(super) fn change(&self, fragment: &Fragment, if_match: &str) -> Result<Change, Problem> {
        let stale = || {
            let detail = "If-Match names another ICE session than the one that runs";
            Problem::new(412, "stale", "Another ICE session", detail)
        };
        let running = fragment::credentials(&self.offer);
        match &fragment.credentials {
            Some(new) if Some(new) != running.as_ref() => {
                if if_match == "*" {
                    Ok(Change::Restart(fragment::restarted(
                        &self.offer,
                        new,
                        &fragment.candidates,
                    )))
                } else {
                    Err(stale())
                }
            }
            _ if if_match == "*" || if_match == self.tag() => Ok(Change::Candidates),
            _ => Err(stale()),
        }
    }
}
