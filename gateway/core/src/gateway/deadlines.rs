//! The earliest deadline over all calls and sessions, without a scan.

use crate::api::{CallId, SessionId};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Whose deadline.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Owner {
    Call(CallId),
    Session(SessionId),
}

/// One deadline per owner, ordered.
#[derive(Default)]
pub(crate) struct Deadlines {
    ordered: BTreeSet<(Instant, Owner)>,
    of: HashMap<Owner, Instant>,
}

impl Deadlines {
    /// Replaces the owner's deadline; `None` removes it.
    pub(crate) fn set(&mut self, owner: Owner, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of.insert(owner.clone(), at),
            None => self.of.remove(&owner),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.ordered.remove(&(before, owner.clone()));
        }
        if let Some(at) = at {
            self.ordered.insert((at, owner));
        }
    }

    /// The earliest.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.ordered.first().map(|(at, _)| *at)
    }

    /// Takes out one owner whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Owner> {
        if self.earliest()? > now {
            return None;
        }
        let (_, owner) = self.ordered.pop_first()?;
        self.of.remove(&owner);
        Some(owner)
    }
}
