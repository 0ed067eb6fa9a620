//! A call leg in its three ages; each state holds what is valid in it and nothing else.
//!
//! Calling (our INVITE) -2xx-> Established; Ringing (the peer's INVITE) -our 2xx-> Established; Established -BYE-> gone.

use std::collections::HashSet;

use super::auth::Auth;
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::io::Io;
use super::session::Session;
use super::stack::Stack;
use super::timers::TimerId;
use super::transaction::TransactionId;

pub(super) enum Call {
    Calling(Box<Calling>),
    Ringing(Box<Ringing>),
    Established(Box<Session>),
}

/// Our INVITE has no final response.
pub(super) struct Calling {
    pub(super) auth: Auth,
    pub(super) cseq: u32,
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) contact_user: String,
    /// The attempt under way; none while a name is resolved.
    pub(super) transaction: Option<TransactionId>,
    /// Why the call is being taken back, if it is.
    pub(super) leaving: Option<Leaving>,
    pub(super) cancel_sent: bool,
    pub(super) ring: Option<TimerId>,
    /// Tags of the early dialogs.
    pub(super) early: HashSet<String>,
}

/// Why we take our INVITE back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    HungUp,
    RangTooLong,
}

/// The peer's INVITE has no final response.
pub(super) struct Ringing {
    pub(super) transaction: TransactionId,
    pub(super) dialog: Dialog,
    /// Whether the INVITE had an offer.
    pub(super) offered: bool,
    /// The last provisional response above 100, to be repeated.
    pub(super) provisional: Option<super::message::Response>,
    pub(super) repeat: Option<TimerId>,
    /// The end of our patience with whoever should answer.
    pub(super) ring: Option<TimerId>,
}

impl Ringing {
    pub(super) fn cancel_timers(&mut self, io: &mut Io) {
        io.timers.cancel(&mut self.repeat);
        io.timers.cancel(&mut self.ring);
    }
}

impl Call {
    pub(super) fn local_tag(&self) -> &str {
        match self {
            Self::Calling(calling) => &calling.local_tag,
            Self::Ringing(ringing) => &ringing.dialog.local_tag,
            Self::Established(session) => &session.dialog.local_tag,
        }
    }
}

impl Stack {
    /// Forgets a call and says so; its transactions live out their time.
    pub(super) fn end_call(&mut self, call: CallHandle, event: Event) {
        let Some(mut ended) = self.calls.remove(&call) else {
            return;
        };
        self.tags.remove(ended.local_tag());
        match &mut ended {
            Call::Calling(calling) => self.io.timers.cancel(&mut calling.ring),
            Call::Ringing(ringing) => ringing.cancel_timers(&mut self.io),
            Call::Established(session) => session.cancel_timers(&mut self.io),
        }
        self.io.event(event);
    }

    pub(super) fn ended(&mut self, call: CallHandle, by_peer: bool, reason: &str) {
        self.end_call(
            call,
            Event::Ended {
                call,
                by_peer,
                reason: reason.to_owned(),
            },
        );
    }
}
