//! The RTCP feedback of video: which messages a side takes, and which we list for it (RFC 4585
//! section 4, RFC 5104 section 7).
//!
//! Picture requests are served in every combination: one side's PLI is the other side's FIR where
//! it knows only that. A NACK or REMB can only be passed on, so it is listed where both take it.
//! `transport-cc` is never listed: its sequence numbers stand in a header extension that does not
//! survive the gateway.

/// Messages out of the feedback profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Receiver estimated maximum bitrate (`goog-remb`).
    pub remb: bool,
}

impl Feedback {
    /// Everything that can be passed on.
    pub(super) const ALL: Self = Self {
        nack: true,
        pli: true,
        fir: true,
        remb: true,
    };

    /// From the `a=rtcp-fb` values of a codec.
    pub(super) fn read(values: &[String]) -> Self {
        let has = |wanted: &str| {
            values
                .iter()
                .any(|value| value.eq_ignore_ascii_case(wanted))
        };
        Self {
            nack: has("nack"),
            pli: has("nack pli"),
            fir: has("ccm fir"),
            remb: has("goog-remb"),
        }
    }

    /// What we list for a side that takes `self` itself, when the other side takes `other`.
    pub(super) fn listed(self, other: Self) -> Vec<String> {
        let picture = other.pli || other.fir;
        [
            (self.remb && other.remb, "goog-remb"),
            (self.fir && picture, "ccm fir"),
            (self.nack && other.nack, "nack"),
            (self.pli && picture, "nack pli"),
        ]
        .into_iter()
        .filter(|(listed, _)| *listed)
        .map(|(_, value)| value.to_owned())
        .collect()
    }

    /// The same for the browser: its picture requests are taken in any case.
    pub(super) fn listed_for_web(self, sip: Self) -> Vec<String> {
        self.listed(Self { pli: true, ..sip })
    }
}
