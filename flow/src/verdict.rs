//! What becomes of a packet, and the counted reason for every exit of the fast path.

/// Declares [`Why`] with its metric labels from one list, so that enum, counter index and label
/// cannot drift apart.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $label:literal $kind:ident,)*) => {
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

            /// What becomes of a packet for this reason.
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$name => Outcome::$kind,)* }
            }
        }
    };
}

reasons! {
    /// Forwarded by XDP_TX or, in userspace, by the socket.
    Forwarded => "forwarded" Forwarded,
    /// Forwarded to another interface.
    Redirected => "redirected" Forwarded,
    /// Handed to the flow of another call of this host, where it is counted again.
    Hairpin => "hairpin" Forwarded,
    /// Handed to the CPU of its flow, where it is counted again.
    Spread => "spread" Forwarded,
    /// Passed: not Ethernet/IPv4/IPv6/UDP as the fast path reads it.
    NotUdp => "not_udp" Passed,
    /// Passed: an IP fragment.
    Fragment => "fragment" Passed,
    /// Passed: IPv4 options or IPv6 extension headers.
    IpOptions => "ip_options" Passed,
    /// Passed: shorter than its headers say.
    Truncated => "truncated" Passed,
    /// Passed: longer than a scratch frame or the MTU of the leaving side.
    TooLong => "too_long" Passed,
    /// Passed: no flow has this 4-tuple.
    NoFlow => "no_flow" Passed,
    /// Passed: STUN (RFC 7983 first byte 0..=3).
    Stun => "stun" Passed,
    /// Passed: DTLS (RFC 7983 first byte 20..=63).
    Dtls => "dtls" Passed,
    /// Passed: RTCP (RFC 5761 second byte 192..=223).
    Rtcp => "rtcp" Passed,
    /// Passed: first byte of no protocol that we know.
    UnknownProtocol => "unknown_protocol" Passed,
    /// Passed: the hash entry names a slot that now belongs to another flow.
    StaleSlot => "stale_slot" Passed,
    /// Passed: the maps were filled by a daemon with other layouts, or by none yet.
    WrongAbi => "wrong_abi" Passed,
    /// Passed: an SSRC that the flow does not carry.
    UnknownSsrc => "unknown_ssrc" Passed,
    /// Dropped: STUN without a flow, over what one source may send.
    StunBudget => "stun_over_budget" Dropped,
    /// Dropped: a DTLS ClientHello without a flow, over what one source may send.
    HelloBudget => "hello_over_budget" Dropped,
    /// Dropped: any other packet to a media port without a flow, over what one source may send.
    OtherBudget => "other_over_budget" Dropped,
    /// Dropped: RTP header, CSRC list or padding runs over the end.
    BadRtp => "bad_rtp" Dropped,
    /// Dropped: the header extension runs over the end (RFC 3550 section 5.3.1).
    BadExtension => "bad_extension" Dropped,
    /// Dropped: payload type that was not negotiated.
    PayloadType => "payload_type" Dropped,
    /// Dropped: too short for its authentication tag.
    ShortTag => "short_tag" Dropped,
    /// Dropped: authentication tag wrong (RFC 3711 section 3.3).
    AuthFailed => "auth_failed" Dropped,
    /// Dropped: index already received (RFC 3711 section 3.3.2).
    Replayed => "replayed" Dropped,
    /// Dropped: index older than the replay window.
    TooOld => "too_old" Dropped,
    /// Dropped on the sending side: this index was already used for encryption.
    IndexReused => "index_reused" Dropped,
    /// Dropped: the sequence number jumped; the next in order restarts the stream (RFC 3550 A.1).
    SequenceJump => "sequence_jump" Dropped,
    /// Dropped: more packets than the medium may have by what was negotiated.
    OverRate => "over_rate" Dropped,
    /// Dropped: the frame could not be grown for the tag or shrunk.
    Resize => "resize" Dropped,
    /// Dropped: the leaving interface is not among those to redirect to.
    NoDevice => "no_device" Dropped,
    /// Dropped: no flow of this host took over what another one had rewritten for it.
    HairpinMiss => "hairpin_miss" Dropped,
    /// Dropped: the program for the flow's suites is not there.
    NoProgram => "no_program" Dropped,
    /// Dropped: IPv4 time to live or IPv6 hop limit used up.
    TtlExpired => "ttl_expired" Dropped,
    /// Dropped: the helper that moves bytes refused.
    CopyFailed => "copy_failed" Dropped,
}

/// What becomes of a packet, by its reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Sent on.
    Forwarded,
    /// Left to the stack or the daemon, unmodified.
    Passed,
    /// Gone.
    Dropped,
}

/// Number of reasons: the size of the counters map.
pub const REASONS: usize = Why::ALL.len();

/// What becomes of a packet, with all that is needed to do it.
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
    /// As it came, to the CPU that forwards its flow; in the kernel only.
    Spread,
    /// Rewritten as it would have arrived at another flow of this host: to be looked up and
    /// forwarded once more.
    Again,
}

impl From<Why> for Verdict {
    /// The verdict on a packet that is not forwarded.
    #[inline(always)]
    fn from(why: Why) -> Self {
        match why.outcome() {
            Outcome::Dropped => Self::Drop(why),
            Outcome::Passed | Outcome::Forwarded => Self::Pass(why),
        }
    }
}

impl Verdict {
    /// The reason under which the verdict is counted.
    #[inline(always)]
    pub const fn why(self) -> Why {
        match self {
            Self::Pass(why) | Self::Drop(why) => why,
            Self::Tx => Why::Forwarded,
            Self::Redirect(_) => Why::Redirected,
            Self::Spread => Why::Spread,
            Self::Again => Why::Hairpin,
        }
    }
}
