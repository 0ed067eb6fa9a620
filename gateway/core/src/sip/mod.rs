//! The SIP user agent stack: wire front, transactions (RFC 3261 section 17, RFC 6026), dialogs, digest, registration.
//!
//! [`Stack`] is the whole user agent, sans-IO: the daemon hands it datagrams, stream bytes, resolved names and the
//! time, and drains [`Output`]s. [`message`] and [`digest`] are of use by themselves: the bench crate's registrar and
//! proxy build on them.

mod auth;
mod call;
mod config;
mod delayed;
mod dialog;
pub mod digest;
mod early;
mod event;
mod exchange;
mod extra;
mod in_dialog;
mod io;
pub mod message;
mod outgoing;
mod receive;
mod redirect;
mod refresh;
mod register;
mod reinvite;
mod reliable;
mod session;
mod stack;
mod timers;
mod transaction;
mod uac;
mod uas;
mod update;
mod uri;

pub use config::{Config, ConnectionId, Listen, OutboundProxy, Peer, Transport};
pub use event::{
    CallHandle, Credentials, Event, Invite, Output, QueryId, Register, RegistrationHandle, Resolve,
    SipError, Transmit,
};
pub use stack::Stack;
pub use uri::{SipUri, UnsupportedTransport};
