//! Randomness handed in from outside, so that scenarios under virtual time repeat and production uses the OS generator.

use std::sync::{Arc, Mutex, PoisonError};

/// A source of unpredictable bytes; the daemon passes the operating system's, tests a seeded one.
pub struct Random(Arc<Mutex<dyn Fill>>);

/// The function behind it, shared by the forks.
trait Fill: Send {
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Fill for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}

impl Random {
    /// Wraps a function that fills the whole slice.
    pub fn new(fill: impl FnMut(&mut [u8]) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(fill)))
    }

    /// Fills the slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        // A panic while filling leaves nothing half done that the next caller could see.
        let mut source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        source.fill(bytes);
    }

    /// A second source that draws from this one's function, for a part that keeps its own.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// A uniform 32 bit number (SSRCs, sequence offsets, tags).
    pub fn u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// A uniform 64 bit number.
    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    /// A random UUID as a URN (RFC 9562 section 5.4).
    pub fn uuid_urn(&mut self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = hex::encode(bytes);
        let groups = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        format!("urn:uuid:{}", groups.join("-"))
    }

    /// `length` characters of `[A-Za-z0-9+/]` without bias: 6 bits each, all legal in ICE (RFC 8445 section 5.3).
    pub fn ice_chars(&mut self, length: usize) -> String {
        self.chars(
            length,
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        )
    }

    /// `length` characters of `[A-Za-z0-9_-]` without bias: 6 bits each, legal in URLs, SIP tags and branches.
    pub fn token(&mut self, length: usize) -> String {
        self.chars(
            length,
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
        )
    }

    fn chars(&mut self, length: usize, alphabet: &[u8; 64]) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
            .iter()
            .map(|byte| char::from(alphabet[usize::from(byte & 63)]))
            .collect()
    }
}
