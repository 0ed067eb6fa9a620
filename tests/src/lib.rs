//! The test bed: namespaces, the daemon and the real peers as processes, a browser that is driven without any library,
//! and the packet table that every datapath has to agree on.
//!
//! Everything here cleans up after itself on drop, also when a test panics, and every wait has a limit. The targets in
//! `tests/` start the daemon as a process and see it only as its users do: HTTP, SIP, media, metrics.
#![forbid(unsafe_code)]

pub mod authority;
pub mod balancer;
pub mod baresip;
pub mod browser;
pub mod capture;
pub mod corpus;
pub mod daemon;
pub mod datapath;
pub mod dns;
#[cfg(test)]
mod features;
pub mod files;
pub mod firefox;
pub mod http;
pub mod kamailio;
pub mod netns;
pub mod oracle;
pub mod packet;
pub mod page;
pub mod process;
pub mod sbc;
pub mod sipp;
pub mod stun;
pub mod table;
pub mod tone;
pub mod turn;
pub mod wait;
pub mod xdp_pass;
