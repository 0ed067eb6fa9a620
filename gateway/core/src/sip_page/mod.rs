//! SIP over WebSocket (RFC 7118): pages whose library is a SIP user agent itself (JsSIP, SIP.js).
//!
//! [`Phone`] is the translator of one such page, sans-IO: its SIP messages become [`Ask`]s, which the shell puts to the gateway as
//! requests of API v1; replies and events of the session become SIP messages for the page. So a call of such a page is a call like
//! any other, and the SIP that it speaks ends here: towards the SIP server the gateway's own stack speaks.
//!
//! Passwords stay in the page: a REGISTER is passed on with the page's Authorization, an INVITE that the server challenges is refused
//! with the challenge and comes again with the answer (RFC 3261 section 22).
//!
//! A WebSocket delivers in order or is over, so nothing is sent twice here and no request has a timer of its own: what never comes to
//! an end, ends with the connection (RFC 7118 section 5.3) or with the gateway's limits for calls.

mod delayed;
mod message;
mod phone;
mod requests;
mod responses;
mod talk;
#[cfg(test)]
mod tests;

pub use phone::{Ask, AskKind, Phone};
