//! The SIP stack under virtual time: calls, registration, faults of the link, and odd or broken messages.

mod calls;
mod faults;
mod link;
mod refusals;
mod registration;
mod reinvite;
mod routing;
mod timing;
mod wire;
