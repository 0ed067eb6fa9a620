//! The brain of the gateway: call, SIP, SDP, ICE/DTLS and RTCP state machines, without I/O, sockets or a clock.
//!
//! The contract is that of sans-IO protocols: hand in one input with the time at which it happened, drain the outputs until
//! there are none, sleep until the earliest deadline, repeat. The daemon (`gateway`) is the only caller in production; tests
//! call it under virtual time.
#![forbid(unsafe_code)]

pub mod api;
mod bridge;
mod call;
pub mod gateway;
mod random;
pub mod roap;
pub mod rtp;
pub mod sdp;
mod session;
pub mod sip;
pub mod sip_page;
pub mod trunk;
pub mod webrtc;

pub use random::Random;
