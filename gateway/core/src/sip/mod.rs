//! The SIP user agent stack: wire front, transactions (RFC 3261 section 17, RFC 6026), dialogs, digest, registration.
//!
//! [`Stack`] is the whole user agent, sans-IO: the daemon hands it datagrams, stream bytes, resolved names and the
//! time, and drains [`Output`]s. [`message`] and [`digest`] are of use by themselves: the bench crate's registrar and
//! proxy build on them.

mod auth;
mod call;
mod config;
mod dialog;
pub mod digest;
mod event;
mod io;
pub mod message;
mod outgoing;
mod receive;
mod register;
mod reinvite;
mod session;
mod stack;
mod timers;
mod transaction;
mod uac;
mod uas;
mod uri;

pub use config::{Config, ConnectionId, Listen, OutboundProxy, Peer, Transport};
pub use event::{
    CallHandle, Credentials, Event, Invite, Output, QueryId, Register, RegistrationHandle, Resolve,
    SipError, Transmit,
};
pub use stack::Stack;
pub use uri::{SipUri, UnsupportedTransport};
