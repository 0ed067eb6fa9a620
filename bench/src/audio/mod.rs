//! Voice samples: G.711, tones to send, and a meter that recognises them again.
//!
//! Why: a test must be able to say "the tone came through", not only "packets came". Used by the SIP peer's media and by tests.

mod g711;
mod meter;
mod tone;

pub use g711::G711;
pub use meter::{Level, Meter};
pub use tone::Tone;

/// Sampling rate of everything here.
pub const SAMPLE_HZ: u32 = 8000;

/// Samples of a 20 ms packet.
pub const PACKET_SAMPLES: usize = 160;

/// Frequency of the peer's tone in Hz.
pub const TONE_HZ: f64 = 440.0;
