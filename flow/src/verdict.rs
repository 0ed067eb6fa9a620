//! What becomes of a packet, and the counted reason for every exit of the fast path.

/// Declares [`Why`] with its metric labels from one list, so that enum, counter index and label cannot drift apart.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// Why a packet left the fast path as it did; the discriminant is the index into the counters map.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Why { $($(#[$doc])* $name,)* }

        impl Why {
            /// All reasons in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Metric label, snake case.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// Forwarded by XDP_TX or, in userspace, by the socket.
    Forwarded => "forwarded",
    /// Forwarded to another interface.
    Redirected => "redirected",
    /// Passed: not Ethernet/IPv4/IPv6/UDP as the fast path reads it.
    NotUdp => "not_udp",
    /// Passed: an IP fragment.
    Fragment => "fragment",
    /// Passed: IPv4 options or IPv6 extension headers.
    IpOptions => "ip_options",
    /// Passed: shorter than its headers say.
    Truncated => "truncated",
    /// Passed: longer than a scratch frame or the MTU of the leaving side.
    TooLong => "too_long",
    /// Passed: no flow has this 4-tuple.
    NoFlow => "no_flow",
    /// Passed: STUN (RFC 7983 first byte 0..=3).
    Stun => "stun",
    /// Passed: DTLS (RFC 7983 first byte 20..=63).
    Dtls => "dtls",
    /// Passed: RTCP (RFC 5761 second byte 192..=223).
    Rtcp => "rtcp",
    /// Passed: first byte of no protocol that we know.
    UnknownProtocol => "unknown_protocol",
    /// Passed: the hash entry names a slot that now belongs to another flow.
    StaleSlot => "stale_slot",
    /// Passed: an SSRC that the flow does not carry.
    UnknownSsrc => "unknown_ssrc",
    /// Dropped: RTP header, CSRC list, extension or padding runs over the end.
    BadRtp => "bad_rtp",
    /// Dropped: payload type that was not negotiated.
    PayloadType => "payload_type",
    /// Dropped: too short for its authentication tag.
    ShortTag => "short_tag",
    /// Dropped: authentication tag wrong (RFC 3711 section 3.3).
    AuthFailed => "auth_failed",
    /// Dropped: index already received (RFC 3711 section 3.3.2).
    Replayed => "replayed",
    /// Dropped: index older than the replay window.
    TooOld => "too_old",
    /// Dropped on the sending side: this index was already used for encryption.
    IndexReused => "index_reused",
    /// Dropped: the frame could not be grown for the tag or shrunk.
    Resize => "resize",
    /// Dropped: IPv4 time to live or IPv6 hop limit used up.
    TtlExpired => "ttl_expired",
    /// Dropped: the helper that moves bytes refused.
    CopyFailed => "copy_failed",
}

/// Number of reasons: the size of the counters map.
pub const REASONS: usize = Why::ALL.len();

/// What becomes of the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the stack, unmodified.
    Pass(Why),
    /// Gone.
    Drop(Why),
    /// Rewritten, out of the interface it came in by.
    Tx,
    /// Rewritten, out of the interface with this index.
    Redirect(u32),
}
