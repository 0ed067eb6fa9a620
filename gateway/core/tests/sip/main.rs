//! The SIP stack under virtual time: calls, registration, faults of the link, and odd or broken messages.

mod calls;
mod delayed;
mod faults;
mod forks;
mod in_call;
mod link;
mod redirects;
mod refer;
mod refusals;
mod registration;
mod reinvite;
mod reliable;
mod routing;
mod servers;
mod session_timer;
mod standalone;
mod timing;
mod torture;
mod update;
mod wire;
