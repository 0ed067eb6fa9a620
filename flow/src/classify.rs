//! Which protocol a datagram on a media port is (RFC 7983 section 7, RFC 5761 section 4). Pure;
//! called per packet.

/// Protocol of a datagram by its first two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// First byte 0..=3.
    Stun,
    /// First byte 20..=63.
    Dtls,
    /// First byte 128..=191, second 192..=223.
    Rtcp,
    /// First byte 128..=191 otherwise.
    Rtp,
    /// Anything else: ZRTP, TURN channels, QUIC, noise.
    Other,
}

/// Tells the protocols that share a port apart.
#[inline(always)]
pub const fn classify(first: u8, second: u8) -> Protocol {
    match first {
        0..=3 => Protocol::Stun,
        20..=63 => Protocol::Dtls,
        128..=191 => match second {
            192..=223 => Protocol::Rtcp,
            _ => Protocol::Rtp,
        },
        _ => Protocol::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_of_rfc_7983_and_5761() {
        for (first, second, expected) in [
            (0, 0, Protocol::Stun),
            (3, 0, Protocol::Stun),
            (4, 0, Protocol::Other),
            (19, 0, Protocol::Other),
            (20, 254, Protocol::Dtls),
            (63, 0, Protocol::Dtls),
            (64, 0, Protocol::Other),
            (127, 0, Protocol::Other),
            (128, 0, Protocol::Rtp),
            (128, 191, Protocol::Rtp),
            (128, 192, Protocol::Rtcp),
            (191, 223, Protocol::Rtcp),
            (191, 224, Protocol::Rtp),
            (192, 200, Protocol::Other),
            (255, 0, Protocol::Other),
        ] {
            assert_eq!(classify(first, second), expected, "{first} {second}");
        }
    }
}
