//! Offer and answer inside one dialog (RFC 3264, RFC 3311 section 5, RFC 6337): who has an offer open, and in what message.
//!
//! One exchange at a time: 1. that of the INVITE itself, over its reliable provisional responses, 2xx and ACK; 2. changes
//! by re-INVITE, UPDATE or PRACK, of the peer (`incoming`) or ours (`change`).

use super::io::Io;
use super::timers::TimerId;
use super::transaction::TransactionId;

/// The state of one dialog's description.
#[derive(Default)]
pub(super) struct Exchange {
    /// Whose offer of the INVITE itself has no answer that may be relied on.
    pub(super) open: Option<Side>,
    /// What the peer offers or asks for, until `answer_reinvite`.
    pub(super) incoming: Option<Incoming>,
    pub(super) change: Change,
    /// What comes after a refresh that is under way.
    pub(super) next: Option<Wish>,
    /// The last description that we sent: a refresh repeats it.
    pub(super) local: Option<String>,
    /// The peer's last one.
    pub(super) remote: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Us,
    Peer,
}

/// A request of the peer that changes the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) transaction: TransactionId,
    pub(super) by: By,
    /// Whether it has an offer; else it asks for ours.
    pub(super) offered: bool,
}

/// What carries a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Reinvite,
    Update,
    Prack,
}

/// What we want changed.
pub(super) struct Wish {
    /// Our offer; none asks for the peer's.
    pub(super) sdp: Option<String>,
    pub(super) by: By,
    /// Nothing is to change: the session is kept alive (RFC 4028).
    pub(super) refresh: bool,
}

/// Our own change.
#[derive(Default)]
pub(super) enum Change {
    #[default]
    None,
    Sent {
        wish: Wish,
        tries: u8,
    },
    /// After glare, or while the peer's change is open.
    Waiting {
        wish: Wish,
        tries: u8,
        timer: Option<TimerId>,
    },
    /// The 2xx to that INVITE has the peer's offer; our ACK, which answers it, is due.
    Offered {
        invite: TransactionId,
        initial: bool,
        timer: Option<TimerId>,
    },
}

impl Exchange {
    /// An exchange that the INVITE opens.
    pub(super) fn opened_by(side: Option<Side>) -> Self {
        Self {
            open: side,
            ..Self::default()
        }
    }

    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        if let Change::Waiting { timer, .. } | Change::Offered { timer, .. } = &mut self.change {
            io.timers.cancel(timer);
        }
    }

    /// Whether an offer of ours waits for its answer.
    pub(super) fn is_ours_open(&self) -> bool {
        self.open == Some(Side::Us)
            || matches!(
                self.change,
                Change::Sent {
                    wish: Wish { refresh: false, .. }
                        | Wish {
                            by: By::Reinvite,
                            ..
                        },
                    ..
                }
            )
    }

    /// Whether an offer of the peer waits for ours.
    pub(super) fn is_theirs_open(&self) -> bool {
        self.open == Some(Side::Peer)
            || self.incoming.is_some()
            || matches!(self.change, Change::Offered { .. })
    }

    pub(super) fn forget_incoming(&mut self, transaction: TransactionId) {
        self.incoming = self
            .incoming
            .filter(|incoming| incoming.transaction != transaction);
    }
}
