//! RTCP packets, read and written (RFC 3550 section 6, RFC 4585, RFC 5104, RFC 5506).
//!
//! What the gateway acts on is typed; everything else (REMB, transport-cc, XR, APP) is
//! [`Rtcp::Other`] and ends here. Our own reader and not `rtcp-types`, which is the second opinion
//! in the tests: cumulative loss is signed here, and no length is trusted.

/// Packets in one compound packet that are read; more is an error.
const MAX_PACKETS: usize = 64;
/// RFC 3550 section 6.4.1: five bits.
const MAX_COUNT: usize = 31;
const MAX_TEXT_BYTES: usize = 255;
const HEADER_BYTES: usize = 4;

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const RTPFB: u8 = 205;
const PSFB: u8 = 206;
const FMT_NACK: u8 = 1;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
/// Application layer feedback (RFC 4585 section 6.4).
const FMT_AFB: u8 = 15;
const REMB: &[u8; 4] = b"REMB";
const CNAME: u8 = 1;

/// Why a packet is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A header, a length or a count runs over the end.
    #[error("RTCP packet is truncated")]
    Truncated,
    /// Not version 2.
    #[error("RTCP version is not 2")]
    Version,
    /// Padding where none may be, or longer than its packet.
    #[error("RTCP padding is wrong")]
    Padding,
    /// More packets than anyone needs.
    #[error("RTCP compound packet holds more than {MAX_PACKETS} packets")]
    TooMany,
}

/// One RTCP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// SR.
    Sender(SenderReport),
    /// RR.
    Receiver(ReceiverReport),
    /// SDES: the chunks.
    Sdes(Vec<SdesChunk>),
    /// BYE.
    Bye {
        /// Who leaves.
        ssrcs: Vec<u32>,
        /// Why, if said.
        reason: Option<String>,
    },
    /// Generic NACK.
    Nack(Nack),
    /// Picture loss indication.
    Pli(Pli),
    /// Full intra request.
    Fir(Fir),
    /// Receiver estimated maximum bitrate.
    Remb(Remb),
    /// Any other packet.
    Other {
        /// Packet type, e.g. 206.
        packet_type: u8,
        /// The five bits beside the version: count, format or subtype.
        format: u8,
    },
}

/// RFC 3550 section 6.4.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderReport {
    /// Sender.
    pub ssrc: u32,
    /// Wall clock at sending, 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    /// The same moment in the stream's RTP clock.
    pub rtp: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload octets sent so far.
    pub octets: u32,
    /// At most 31.
    pub blocks: Vec<ReportBlock>,
}

/// RFC 3550 section 6.4.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverReport {
    /// Who reports.
    pub ssrc: u32,
    /// At most 31.
    pub blocks: Vec<ReportBlock>,
}

/// Reception of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning: 24 bit signed, negative with duplicates.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// RTP clock units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last SR; 0 = none.
    pub last_sr: u32,
    /// Since that SR arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// One chunk of SDES; other items than CNAME are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdesChunk {
    /// Source.
    pub ssrc: u32,
    /// Canonical name, if the chunk has one.
    pub cname: Option<String>,
}

/// RFC 4585 section 6.2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Who asks.
    pub sender: u32,
    /// Whose packets.
    pub media: u32,
    /// Sequence numbers, in the order of the packet.
    pub lost: Vec<u16>,
}

/// RFC 4585 section 6.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// Who asks.
    pub sender: u32,
    /// Whose picture.
    pub media: u32,
}

/// RFC 5104 section 4.3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fir {
    /// Who asks.
    pub sender: u32,
    /// Source and command sequence number of each request.
    pub entries: Vec<(u32, u8)>,
}

/// draft-alvestrand-rmcat-remb section 2.2: no RFC, but what browsers speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remb {
    /// Who estimates.
    pub sender: u32,
    /// Bits per second that all streams together may have.
    pub bitrate: u64,
    /// Whose.
    pub ssrcs: Vec<u32>,
}

/// Reads a compound packet, or a reduced-size one (RFC 5506).
///
/// # Errors
/// See [`RtcpError`]; one bad packet spoils all, as RFC 3550 appendix A.2 advises.
pub fn parse_compound(bytes: &[u8]) -> Result<Vec<Rtcp>, RtcpError> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    loop {
        let [first, packet_type, high, low] = *rest.first_chunk().ok_or(RtcpError::Truncated)?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        let (packet, behind) = rest.split_at_checked(length).ok_or(RtcpError::Truncated)?;
        let mut body = &packet[HEADER_BYTES..];
        if first & 0x20 != 0 {
            body = without_padding(body, behind.is_empty())?;
        }
        if packets.len() == MAX_PACKETS {
            return Err(RtcpError::TooMany);
        }
        packets.push(parse_packet(packet_type, first & 0x1f, body)?);
        if behind.is_empty() {
            return Ok(packets);
        }
        rest = behind;
    }
}

/// RFC 3550 section 6.4.1: only the last packet may be padded, the last byte counts the padding.
fn without_padding(body: &[u8], last: bool) -> Result<&[u8], RtcpError> {
    let count = usize::from(*body.last().ok_or(RtcpError::Padding)?);
    match body.len().checked_sub(count) {
        Some(length) if last && count > 0 => Ok(&body[..length]),
        _ => Err(RtcpError::Padding),
    }
}

fn parse_packet(packet_type: u8, format: u8, body: &[u8]) -> Result<Rtcp, RtcpError> {
    let mut read = Reader(body);
    let count = usize::from(format);
    Ok(match (packet_type, format) {
        (SR, _) => Rtcp::Sender(SenderReport {
            ssrc: read.u32()?,
            ntp: u64::from(read.u32()?) << 32 | u64::from(read.u32()?),
            rtp: read.u32()?,
            packets: read.u32()?,
            octets: read.u32()?,
            blocks: read.blocks(count)?,
        }),
        (RR, _) => Rtcp::Receiver(ReceiverReport {
            ssrc: read.u32()?,
            blocks: read.blocks(count)?,
        }),
        (SDES, _) => Rtcp::Sdes((0..count).map(|_| read.chunk()).collect::<Result<_, _>>()?),
        (BYE, _) => {
            let ssrcs = (0..count).map(|_| read.u32()).collect::<Result<_, _>>()?;
            Rtcp::Bye {
                ssrcs,
                reason: read.reason()?,
            }
        }
        (RTPFB, FMT_NACK) => Rtcp::Nack(Nack {
            sender: read.u32()?,
            media: read.u32()?,
            lost: read.lost()?,
        }),
        (PSFB, FMT_PLI) => Rtcp::Pli(Pli {
            sender: read.u32()?,
            media: read.u32()?,
        }),
        (PSFB, FMT_FIR) => {
            let (sender, _media) = (read.u32()?, read.u32()?);
            Rtcp::Fir(Fir {
                sender,
                entries: read.intra_requests()?,
            })
        }
        (PSFB, FMT_AFB) if body.get(8..12) == Some(REMB) => {
            let (sender, _media, _name) = (read.u32()?, read.u32()?, read.u32()?);
            let [count, high, middle, low] = read.u32()?.to_be_bytes();
            // Six bits of exponent before eighteen of mantissa; more than 64 bits is no limit.
            let mantissa = u64::from(u32::from_be_bytes([0, high & 3, middle, low]));
            let bitrate = mantissa.saturating_mul(1 << (high >> 2));
            let ssrcs = (0..count).map(|_| read.u32()).collect::<Result<_, _>>()?;
            Rtcp::Remb(Remb {
                sender,
                bitrate,
                ssrcs,
            })
        }
        _ => Rtcp::Other {
            packet_type,
            format,
        },
    })
}

/// What is left of a packet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RtcpError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(RtcpError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, RtcpError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, RtcpError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn blocks(&mut self, count: usize) -> Result<Vec<ReportBlock>, RtcpError> {
        (0..count).map(|_| self.block()).collect()
    }

    fn block(&mut self) -> Result<ReportBlock, RtcpError> {
        let ssrc = self.u32()?;
        let loss = self.u32()?;
        Ok(ReportBlock {
            ssrc,
            fraction_lost: loss.to_be_bytes()[0],
            // The shift up and back down extends the sign of the 24 bits.
            cumulative_lost: (loss << 8).cast_signed() >> 8,
            highest_sequence: self.u32()?,
            jitter: self.u32()?,
            last_sr: self.u32()?,
            delay_since_last_sr: self.u32()?,
        })
    }

    /// RFC 3550 section 6.5: items until a zero, then zeros to the next word.
    fn chunk(&mut self) -> Result<SdesChunk, RtcpError> {
        let start = self.0.len();
        let mut chunk = SdesChunk {
            ssrc: self.u32()?,
            cname: None,
        };
        loop {
            let item = self.u8()?;
            if item == 0 {
                let used = start - self.0.len();
                self.take(used.next_multiple_of(4) - used)?;
                return Ok(chunk);
            }
            let text = self.text()?;
            if item == CNAME {
                chunk.cname = Some(text);
            }
        }
    }

    /// A text behind its length.
    fn text(&mut self) -> Result<String, RtcpError> {
        let length = usize::from(self.u8()?);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn reason(&mut self) -> Result<Option<String>, RtcpError> {
        if self.0.is_empty() {
            Ok(None)
        } else {
            self.text().map(Some)
        }
    }

    fn lost(&mut self) -> Result<Vec<u16>, RtcpError> {
        let mut lost = Vec::new();
        while !self.0.is_empty() {
            let [a, b, c, d] = self.u32()?.to_be_bytes();
            let (first, mask) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            lost.push(first);
            lost.extend(
                (0..16)
                    .filter(|bit| mask >> bit & 1 != 0)
                    .map(|bit| first.wrapping_add(bit + 1)),
            );
        }
        Ok(lost)
    }

    fn intra_requests(&mut self) -> Result<Vec<(u32, u8)>, RtcpError> {
        let mut entries = Vec::new();
        while !self.0.is_empty() {
            let ssrc = self.u32()?;
            entries.push((ssrc, self.u32()?.to_be_bytes()[0]));
        }
        Ok(entries)
    }
}

/// Writes the packets one behind the other. Order is the caller's: a report first and an SDES with
/// CNAME (RFC 3550 section 6.1), unless reduced size was negotiated. What the format cannot hold
/// (32nd block, 256th byte of a text) is left out; `Other` is not written.
pub fn write_compound(packets: &[Rtcp]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    for packet in packets {
        write_packet(&mut bytes, packet);
    }
    bytes
}

fn write_packet(bytes: &mut Vec<u8>, packet: &Rtcp) {
    match packet {
        Rtcp::Sender(report) => framed(bytes, SR, report.blocks.len(), |bytes| {
            put(bytes, report.ssrc);
            bytes.extend_from_slice(&report.ntp.to_be_bytes());
            [report.rtp, report.packets, report.octets]
                .into_iter()
                .for_each(|word| put(bytes, word));
            report
                .blocks
                .iter()
                .take(MAX_COUNT)
                .for_each(|block| write_block(bytes, block));
        }),
        Rtcp::Receiver(report) => framed(bytes, RR, report.blocks.len(), |bytes| {
            put(bytes, report.ssrc);
            report
                .blocks
                .iter()
                .take(MAX_COUNT)
                .for_each(|block| write_block(bytes, block));
        }),
        Rtcp::Sdes(chunks) => framed(bytes, SDES, chunks.len(), |bytes| {
            chunks
                .iter()
                .take(MAX_COUNT)
                .for_each(|chunk| write_chunk(bytes, chunk));
        }),
        Rtcp::Bye { ssrcs, reason } => framed(bytes, BYE, ssrcs.len(), |bytes| {
            ssrcs
                .iter()
                .take(MAX_COUNT)
                .for_each(|ssrc| put(bytes, *ssrc));
            if let Some(reason) = reason {
                write_text(bytes, reason);
                pad(bytes);
            }
        }),
        Rtcp::Nack(nack) => framed(bytes, RTPFB, usize::from(FMT_NACK), |bytes| {
            put(bytes, nack.sender);
            put(bytes, nack.media);
            write_lost(bytes, &nack.lost);
        }),
        Rtcp::Pli(pli) => framed(bytes, PSFB, usize::from(FMT_PLI), |bytes| {
            put(bytes, pli.sender);
            put(bytes, pli.media);
        }),
        Rtcp::Fir(fir) => framed(bytes, PSFB, usize::from(FMT_FIR), |bytes| {
            put(bytes, fir.sender);
            put(bytes, 0);
            for (ssrc, sequence) in &fir.entries {
                put(bytes, *ssrc);
                put(bytes, u32::from(*sequence) << 24);
            }
        }),
        Rtcp::Remb(remb) => framed(bytes, PSFB, usize::from(FMT_AFB), |bytes| {
            put(bytes, remb.sender);
            put(bytes, 0);
            bytes.extend_from_slice(REMB);
            write_bitrate(bytes, remb);
        }),
        Rtcp::Other { .. } => {}
    }
}

/// The bitrate loses what its eighteen bits cannot hold.
fn write_bitrate(bytes: &mut Vec<u8>, remb: &Remb) {
    let exponent = (64 - remb.bitrate.leading_zeros()).saturating_sub(18);
    let count = u8::try_from(remb.ssrcs.len()).unwrap_or(u8::MAX);
    let word = u64::from(count) << 24 | u64::from(exponent) << 18 | remb.bitrate >> exponent;
    // Eight, six and eighteen bits.
    put(bytes, word as u32);
    let ssrcs = remb.ssrcs.iter().take(usize::from(count));
    ssrcs.for_each(|ssrc| put(bytes, *ssrc));
}

/// Header, body, and then the length that the body turned out to have.
fn framed(bytes: &mut Vec<u8>, packet_type: u8, count: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    let count = u8::try_from(count.min(MAX_COUNT)).unwrap_or(0);
    bytes.extend_from_slice(&[0x80 | count, packet_type, 0, 0]);
    body(bytes);
    let words = u16::try_from((bytes.len() - start) / 4 - 1).unwrap_or(u16::MAX);
    bytes[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn write_block(bytes: &mut Vec<u8>, block: &ReportBlock) {
    put(bytes, block.ssrc);
    let lost = block
        .cumulative_lost
        .clamp(-0x80_0000, 0x7f_ffff)
        .cast_unsigned()
        & 0xff_ffff;
    put(bytes, u32::from(block.fraction_lost) << 24 | lost);
    [
        block.highest_sequence,
        block.jitter,
        block.last_sr,
        block.delay_since_last_sr,
    ]
    .into_iter()
    .for_each(|word| put(bytes, word));
}

fn write_chunk(bytes: &mut Vec<u8>, chunk: &SdesChunk) {
    put(bytes, chunk.ssrc);
    if let Some(cname) = &chunk.cname {
        bytes.push(CNAME);
        write_text(bytes, cname);
    }
    bytes.push(0);
    pad(bytes);
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text.as_bytes()[..end];
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(text);
}

/// Each entry covers a sequence number and the 16 behind it.
fn write_lost(bytes: &mut Vec<u8>, lost: &[u16]) {
    let mut rest = lost;
    while let [first, behind @ ..] = rest {
        let fits = behind
            .iter()
            .take_while(|number| (1..=16).contains(&number.wrapping_sub(*first)))
            .count();
        let mask = behind[..fits].iter().fold(0_u16, |mask, number| {
            mask | 1 << (number.wrapping_sub(*first) - 1)
        });
        put(bytes, u32::from(*first) << 16 | u32::from(mask));
        rest = &behind[fits..];
    }
}

fn put(bytes: &mut Vec<u8>, word: u32) {
    bytes.extend_from_slice(&word.to_be_bytes());
}

/// Packets are made of words, and all of them start at one.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
#[path = "rtcp_tests.rs"]
mod tests;
