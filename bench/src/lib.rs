//! Everything that calls, measures and compares: the SIP peer of the demo and the tests, the RTP and SRTP generator with its
//! sink, the driver of rtpengine, the veth bed of the comparison, and the times of the XDP program itself.
//!
//! `causeway-bench` (main.rs) is a thin command line over these modules; tests use them as a library.
#![forbid(unsafe_code)]

pub mod audio;
pub mod feed;
pub mod figures;
pub mod kernel;
pub mod load;
pub mod media;
pub mod rtpengine;
pub mod setup;
pub mod signalling;
pub mod sip_peer;
pub mod testrun;
pub mod timing;
pub mod veth;
pub mod webrtc;

use gateway_core::Random;

/// The operating system's randomness.
pub fn os_random() -> Random {
    Random::new(|bytes| getrandom::fill(bytes).expect("the kernel's generator is always there"))
}
