//! The SIP stack under virtual time: calls, registration, faults of the link, and odd or broken messages.

mod calls;
mod delayed;
mod faults;
mod forks;
mod link;
mod redirects;
mod refusals;
mod registration;
mod reinvite;
mod reliable;
mod routing;
mod session_timer;
mod timing;
mod update;
mod wire;
