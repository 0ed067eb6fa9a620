//! Transactions (RFC 3261 section 17 with the Accepted states of RFC 6026): the only place that retransmits.
//!
//! The machines know nothing of calls: a client transaction hands final responses up with what was sent, a server
//! transaction sends what it is given. The 2xx of an INVITE is end to end: `super::uas` repeats it, and the client
//! transaction only keeps the ACKs to repeat.

mod client;
mod server;

pub(super) use client::{Client, ClientEnd, Received};
pub(super) use server::{Server, merge_key, server_key};

/// A client or server transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TransactionId(pub(super) u64);
