//! All deadlines of the stack in one ordered map: set, cancel and earliest are O(log n).

use std::collections::BTreeMap;
use std::time::Instant;

use super::event::{CallHandle, QueryId, RegistrationHandle, WatchHandle};
use super::outgoing::Hop;
use super::transaction::TransactionId;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// Timers A and E.
    ClientRetransmit(TransactionId),
    /// Timers B, D, F, K and M.
    ClientEnd(TransactionId),
    /// Timer G.
    ServerRetransmit(TransactionId),
    /// Timers H, I, J and L.
    ServerEnd(TransactionId),
    /// A timer of a call.
    Call(CallHandle, CallTimer),
    /// Refresh, retry or end of a binding.
    Registration(RegistrationHandle),
    /// A name was not resolved in time.
    Query(QueryId),
    /// The targets of a server are due to be asked.
    Watch(WatchHandle),
    /// A connection is due for a ping, or its pong.
    Ping(Hop),
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallTimer {
    /// The called party rings too long, or does not end the INVITE after CANCEL.
    Ring,
    /// Repeat the provisional response (RFC 3261 section 13.3.1.1).
    Provisional,
    /// Repeat the 2xx until ACK.
    Answer,
    /// No ACK for our 2xx.
    NoAck,
    /// Try the re-INVITE again after 491.
    Glare,
    /// Repeat the reliable provisional response until PRACK.
    Reliable,
    /// No PRACK for our reliable provisional response.
    NoPrack,
    /// The call logic does not answer the offer in a 2xx.
    AckDue,
    /// Refresh the session.
    Refresh,
    /// No word of our transfer.
    Transfer,
    /// The transfer that the peer asked for took too long.
    Referral,
    /// The session was not refreshed.
    Expire,
    /// The peer did not end a call that another one took the place of.
    Retire,
}

/// A set deadline, for cancelling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Instant, u64);

/// The set deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    pending: BTreeMap<TimerId, Deadline>,
    count: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, deadline: Deadline) -> TimerId {
        self.count += 1;
        let id = TimerId(at, self.count);
        self.pending.insert(id, deadline);
        id
    }

    /// Cancels a deadline and forgets it; fine if it has passed.
    pub(super) fn cancel(&mut self, timer: &mut Option<TimerId>) {
        if let Some(id) = timer.take() {
            self.pending.remove(&id);
        }
    }

    pub(super) fn earliest(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(id, _)| id.0)
    }

    /// The next deadline that has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Deadline> {
        let entry = self
            .pending
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}
