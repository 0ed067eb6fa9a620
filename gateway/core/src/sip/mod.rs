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
mod info;
mod io;
pub mod message;
mod outbox;
mod outgoing;
mod ping;
mod reason;
mod receive;
mod redirect;
mod refer;
mod refresh;
mod register;
mod reinvite;
mod relay;
mod reliable;
mod replaces;
mod session;
mod sources;
mod stack;
mod standalone;
mod timers;
mod transaction;
mod uac;
mod uas;
mod update;
mod uri;
mod watch;

pub use config::{Config, ConnectionId, Listen, OutboundProxy, Peer, Proxies, Transport};
pub use event::{
    CallHandle, Content, Control, Credentials, Event, InstantMessage, Invite, MessageHandle,
    MessageSummary, Output, QueryId, Refer, Register, RegistrationHandle, RelayHandle,
    RelayedRegister, RequestHandle, Resolve, SipError, Transmit, Watch, WatchHandle,
};
pub use reason::Cause;
pub(crate) use replaces::unescape;
pub use stack::Stack;
pub use uri::{SipUri, UnsupportedTransport};
