//! The RTP header (RFC 3550 section 5.1), as far as an endpoint needs it.

/// Bytes of the fixed header.
const FIXED_BYTES: usize = 12;

/// A header without CSRCs and extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Start of a talk spurt, or first packet of an event.
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// In clock units of the codec.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

impl RtpHeader {
    /// Reads a packet into header and payload, without CSRCs, extension and padding; `None` for what is no RTP.
    pub fn parse(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED_BYTES>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut payload = rest.get(4 * usize::from(fixed[0] & 0x0f)..)?;
        if fixed[0] & 0x10 != 0 {
            let (head, behind) = payload.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            payload = behind.get(4 * words..)?;
        }
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            let length = payload.len().checked_sub(padding.max(1))?;
            payload = &payload[..length];
        }
        let header = Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        Some((header, payload))
    }

    /// Writes header and payload over what the buffer holds.
    pub fn write(&self, payload: &[u8], packet: &mut Vec<u8>) {
        packet.clear();
        packet.push(0x80);
        packet.push((u8::from(self.marker) << 7) | (self.payload_type & 0x7f));
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: RtpHeader = RtpHeader {
        marker: true,
        payload_type: 101,
        sequence: 0xfffe,
        timestamp: 0x0102_0304,
        ssrc: 0xa1b2_c3d4,
    };

    #[test]
    fn what_is_written_is_read() {
        let mut packet = Vec::new();
        HEADER.write(b"voice", &mut packet);
        assert_eq!(RtpHeader::parse(&packet), Some((HEADER, &b"voice"[..])));
    }

    #[test]
    fn csrcs_extension_and_padding_are_stepped_over() {
        let mut packet = Vec::new();
        HEADER.write(&[0; 4 + 4 + 8], &mut packet);
        packet[0] = 0x80 | 0x20 | 0x10 | 1;
        packet[12 + 4 + 3] = 2;
        packet.extend(b"voice\0\0\x03");
        assert_eq!(RtpHeader::parse(&packet), Some((HEADER, &b"voice"[..])));
    }

    #[test]
    fn lengths_that_run_over_the_end_are_refused() {
        let mut packet = Vec::new();
        HEADER.write(b"", &mut packet);
        for (first, tail) in [
            (0x40, &b""[..]),
            (0x81, b"abc"),
            (0x90, b"abc"),
            (0x90, b"\0\0\0\x01abc"),
            (0xa0, b""),
            (0xa0, b"a\x09"),
        ] {
            let mut bad = packet.clone();
            bad[0] = first;
            bad.extend(tail);
            assert_eq!(RtpHeader::parse(&bad), None, "{first:#x} {tail:?}");
        }
        assert_eq!(RtpHeader::parse(&packet[..11]), None);
    }
}
