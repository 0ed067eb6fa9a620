//! Session descriptions of both sides and their negotiation.
