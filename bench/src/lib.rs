pub mod kernel;
pub mod testrun;
pub mod webrtc;
