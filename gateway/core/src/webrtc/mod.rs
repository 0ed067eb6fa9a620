//! The browser leg: ICE and DTLS-SRTP.
