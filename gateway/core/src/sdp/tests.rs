//! Scenarios over both sides.
