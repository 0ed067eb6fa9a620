//! RTCP, SRTCP and key derivation.
