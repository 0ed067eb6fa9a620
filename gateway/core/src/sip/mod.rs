//! The SIP user agent stack.
