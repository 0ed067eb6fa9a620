//! The leg against str0m, which plays the browser, under virtual time.

mod bed;
mod browser;
mod flood;
mod handshake;
mod noise;
mod path;
