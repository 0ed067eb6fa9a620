//! A browser page in Rust, for load and for tests: HTTP API v1, ICE, DTLS-SRTP and paced RTP, made of str0m.
//!
//! [`Peer`] is the media side as a sans-IO machine; [`Engine`] drives many of them over real UDP sockets on one
//! thread; [`Page`] signs in at a gateway, places or takes calls and reports what it heard; [`load`](load()) runs
//! many pages. What is sent carries a marker in its payload, so that against an echo every packet also measures a
//! round trip.

mod api;
mod dtls;
mod engine;
mod heard;
mod load;
mod page;
mod peer;
mod socket;
mod voice;

pub use api::{Api, Refused, Transport};
pub use engine::{Connection, Engine};
pub use heard::{Heard, RoundTrip};
pub use load::{LoadConfig, LoadReport, load};
pub use page::{Call, CallConfig, CallReport, Page, run_call};
pub use peer::{MediaReport, Peer, PeerConfig, Transmit};
pub use str0m::config::DtlsVersion;
pub use voice::{Codec, Sound};
