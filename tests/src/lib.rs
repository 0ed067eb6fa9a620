//! What the tests of this package share: frames, expected results, peers, namespaces.
#![forbid(unsafe_code)]

pub mod oracle;
pub mod packet;
pub mod table;
