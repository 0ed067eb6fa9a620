//! The SIP user agent stack: wire front, transactions (RFC 3261 section 17, RFC 6026), dialogs, digest, registration.
//!
//! [`Stack`] is the whole user agent, sans-IO: the daemon hands it datagrams, stream bytes, resolved names and the
//! time, and drains [`Output`]s.

mod config;
pub mod digest;
mod event;
pub mod message;
mod stack;
mod uri;

pub use config::{Config, ConnectionId, Listen, OutboundProxy, Peer, Transport};
pub use event::{
    CallHandle, Credentials, Event, Invite, Output, QueryId, Register, RegistrationHandle, Resolve,
    SipError, Transmit,
};
pub use stack::Stack;
pub use uri::SipUri;
