//! A call leg in its three ages; each state holds what is valid in it and nothing else.
//!
//! Calling (our INVITE) -2xx-> Established; Ringing (the peer's INVITE) -our 2xx-> Established; Established -BYE-> gone.

use super::auth::Auth;
use super::dialog::Dialog;
use super::early::Early;
use super::event::{CallHandle, Event};
use super::exchange::Exchange;
use super::io::Io;
use super::reason::Cause;
use super::redirect::Redirects;
use super::reliable::Reliable;
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
    pub(super) local_tag: String,
    pub(super) contact_user: String,
    /// Our offer; without one the INVITE asks for the peer's.
    pub(super) offer: Option<String>,
    /// The attempt under way; none while a name is resolved.
    pub(super) transaction: Option<TransactionId>,
    /// Why the call is being taken back, if it is.
    pub(super) leaving: Option<Leaving>,
    pub(super) cancel_sent: bool,
    /// For the CANCEL.
    pub(super) cause: Option<Cause>,
    pub(super) ring: Option<TimerId>,
    /// The early dialogs of all forks, in the order in which they came.
    pub(super) early: Vec<Early>,
    pub(super) redirects: Redirects,
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
    pub(super) exchange: Exchange,
    /// Whether the INVITE had an offer.
    pub(super) offered: bool,
    pub(super) reliable: Reliable,
    /// The call that ends when this one is accepted.
    pub(super) replaces: Option<CallHandle>,
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
        self.reliable.cancel_timers(io);
        self.exchange.cancel_timers(io);
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

    pub(super) fn contact_user(&self) -> &str {
        match self {
            Self::Calling(calling) => &calling.contact_user,
            Self::Ringing(ringing) => &ringing.dialog.contact_user,
            Self::Established(session) => &session.dialog.contact_user,
        }
    }

    /// The dialog with the peer of that tag.
    pub(super) fn with_tag(&mut self, remote_tag: &str) -> Option<(&mut Dialog, &mut Exchange)> {
        let (dialog, exchange) = match self {
            Self::Calling(calling) => {
                let early = calling.early.iter_mut();
                let early = early.filter(|early| !early.gone);
                early
                    .map(|early| (&mut early.dialog, &mut early.exchange))
                    .find(|(dialog, _)| dialog.remote_tag == remote_tag)?
            }
            Self::Ringing(ringing) => (&mut ringing.dialog, &mut ringing.exchange),
            Self::Established(session) => (&mut session.dialog, &mut session.exchange),
        };
        (dialog.remote_tag == remote_tag).then_some((dialog, exchange))
    }

    /// The dialog of a fork of our INVITE; all others are number 0.
    pub(super) fn of_fork(&mut self, fork: usize) -> Option<(&mut Dialog, &mut Exchange)> {
        match self {
            Self::Calling(calling) => {
                let early = calling.early.get_mut(fork)?;
                Some((&mut early.dialog, &mut early.exchange))
            }
            Self::Ringing(ringing) => Some((&mut ringing.dialog, &mut ringing.exchange)),
            Self::Established(session) => {
                (session.fork == fork).then_some((&mut session.dialog, &mut session.exchange))
            }
        }
    }

    /// The dialog in which the peer waits for an answer of the call logic.
    pub(super) fn asked(&mut self) -> Option<(&mut Dialog, &mut Exchange)> {
        let (dialog, exchange) = match self {
            Self::Calling(calling) => calling
                .early
                .iter_mut()
                .map(|early| (&mut early.dialog, &mut early.exchange))
                .find(|(_, exchange)| exchange.incoming.is_some())?,
            Self::Ringing(ringing) => (&mut ringing.dialog, &mut ringing.exchange),
            Self::Established(session) => (&mut session.dialog, &mut session.exchange),
        };
        exchange.incoming.is_some().then_some((dialog, exchange))
    }

    /// Digest state and the number of our last request in the dialog of a fork.
    pub(super) fn auth(&mut self, fork: usize) -> Option<(&mut Auth, &mut u32)> {
        match self {
            Self::Calling(calling) => {
                let Calling { auth, early, .. } = &mut **calling;
                Some((auth, &mut early.get_mut(fork)?.dialog.local_cseq))
            }
            Self::Established(session) => {
                let Session { auth, dialog, .. } = &mut **session;
                Some((auth, &mut dialog.local_cseq))
            }
            Self::Ringing(_) => None,
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
        let (reason, causes) = (reason.to_owned(), Vec::new());
        let event = Event::Ended {
            call,
            by_peer,
            reason,
            causes,
        };
        self.end_call(call, event);
    }
}
