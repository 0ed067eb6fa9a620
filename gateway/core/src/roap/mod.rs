//! The other browser protocol: pages written for the Genesys browser library speak ROAP over `/sign_in`, `/wait`, `/message` and
//! `/sign_out`.
//!
//! [`Page`] is the translator of one signed-in page, sans-IO: texts of the page become [`Ask`]s, which the shell puts to the gateway as
//! requests of API v1; its replies and the events of the session become texts for the page's next `/wait`. So a call of such a page is a
//! call like any other, and nothing of the call logic knows this protocol. The page names a call by its peer; a call keeps the peer's
//! name by which the page learnt of it.

mod message;
mod page;
#[cfg(test)]
mod tests;

pub use message::{Attached, Malformed};
pub use page::{Ask, AskKind, Page, Text};
