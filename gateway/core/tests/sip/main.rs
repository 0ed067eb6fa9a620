//! The SIP stack under virtual time: calls, registration, faults of the link, and odd or broken messages.

mod calls;
mod link;
