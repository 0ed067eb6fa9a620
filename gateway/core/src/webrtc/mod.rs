//! The browser side of a call: ICE, DTLS and the keys that come out of it (RFC 8445, RFC 7675, RFC 5764).
//!
//! A [`Leg`] is one browser connection. It gets the datagrams that are not media, answers the connectivity checks,
//! runs the DTLS handshake with the address that ICE proved, compares the certificate with the signalled fingerprint,
//! and only then gives the SRTP master keys out. The gateway core owns the legs and routes datagrams to them, by
//! 4-tuple or by [`stun_username_local`]. ICE and DTLS themselves are the crates `is` and `dimpl`; what they leave to
//! the caller is here.

mod certificate;
mod dtls;
mod fingerprint;
mod ice;
mod leg;
#[cfg(test)]
mod tests;
mod transcript;
mod use_srtp;

pub use certificate::{Certificate, CertificateError};
pub use dtls::{DtlsRole, DtlsSettings, Secured};
pub use ice::stun_username_local;
pub(crate) use leg::HANDSHAKE_TIMEOUT;
pub use leg::{Dropped, Leg, LegConfig, LegError, LegEvent, LegOutput, LegState};
pub use use_srtp::{ClientOffer, DTLS_SUITES, narrowed, server_crypto};
