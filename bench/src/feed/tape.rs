//! What is recorded: all packets of a device's life, in the order in which they leave, and the headers in front of them.

use std::net::SocketAddrV4;

use anyhow::{Context as _, ensure};
use flow::{ActionSpec, Scratch};

use super::layout::{HEADERS, PACKET, VALUE};
use crate::load::{Crypt, LoadConfig, MasterKey, Packets, Side};

/// Streams of one recording.
pub(super) const MAX_STREAMS: u32 = 10_000;
/// Packets of one stream: SRTP stays under one rollover counter.
const MAX_PER_STREAM: usize = 60_000;

/// What shall be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Streams, each with an SSRC of its own.
    pub streams: usize,
    /// Packets of each of them.
    pub per_stream: usize,
    /// Payload bytes of a packet.
    pub payload_bytes: usize,
    /// RTP payload type.
    pub payload_type: u8,
    /// Recorded as SRTP under this master key.
    pub key: Option<MasterKey>,
    /// SSRC of the first stream.
    pub first_ssrc: u32,
    /// First sequence number of every stream.
    pub first_sequence: u16,
}

/// The way of a stream's packets to the device.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// MAC of the sender.
    pub source_mac: [u8; 6],
    /// MAC of the device.
    pub destination_mac: [u8; 6],
    /// Sender.
    pub source: SocketAddrV4,
    /// Where the device listens.
    pub destination: SocketAddrV4,
}

impl Front {
    /// Ethernet, IPv4 and UDP headers of a datagram with so many bytes; the rest is room.
    pub(super) fn bytes(&self, payload: usize) -> anyhow::Result<[u8; 64]> {
        let udp = u16::try_from(8 + payload)?;
        let mut bytes = [0; 64];
        bytes[0..6].copy_from_slice(&self.destination_mac);
        bytes[6..12].copy_from_slice(&self.source_mac);
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        let ip = &mut bytes[14..34];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(20 + udp).to_be_bytes());
        // Never a fragment.
        ip[6] = 0x40;
        ip[8] = 64;
        ip[9] = 17;
        ip[12..16].copy_from_slice(&self.source.ip().octets());
        ip[16..20].copy_from_slice(&self.destination.ip().octets());
        let mut sum: u32 = ip
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        bytes[34..36].copy_from_slice(&self.source.port().to_be_bytes());
        bytes[36..38].copy_from_slice(&self.destination.port().to_be_bytes());
        bytes[38..40].copy_from_slice(&udp.to_be_bytes());
        Ok(bytes)
    }
}

/// How many packets of a length lie in a value. The last one begins PACKET bytes before the end or earlier: the source checks that.
pub(super) fn per_value(length: usize) -> usize {
    (VALUE - PACKET) / stride(length) + 1
}

/// Distance of two packets: whole words.
fn stride(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A recording and how it lies in the map.
pub(super) struct Tape {
    recording: Recording,
    packets: Packets,
    /// By stream, where SRTP comes out.
    crypt: Vec<Crypt>,
    scratch: Box<Scratch>,
}

impl Tape {
    pub(super) fn new(recording: &Recording, values: usize) -> anyhow::Result<Self> {
        ensure!(
            recording.streams > 0 && recording.streams <= MAX_STREAMS as usize,
            "{} streams",
            recording.streams
        );
        ensure!(
            recording.per_stream <= MAX_PER_STREAM,
            "{} packets per stream",
            recording.per_stream
        );
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let mut load = LoadConfig::g711(
            recording.streams,
            Side::here(nowhere),
            vec![nowhere],
            Side::here(nowhere),
        );
        load.payload_bytes = recording.payload_bytes;
        load.payload_type = recording.payload_type;
        load.send_key = recording.key;
        load.first_ssrc = recording.first_ssrc;
        load.first_sequence = recording.first_sequence;
        let this = Self {
            recording: recording.clone(),
            packets: Packets::new(&load, recording.streams * recording.per_stream)?,
            crypt: Vec::new(),
            scratch: Box::new(Scratch::new()),
        };
        let (last, _) = this.place(this.packets() - 1);
        ensure!(last < values, "{} packets are too many", this.packets());
        ensure!(
            this.length() + HEADERS <= 1514,
            "packets are longer than Ethernet takes"
        );
        Ok(this)
    }

    pub(super) fn is(&self, recording: &Recording) -> bool {
        self.recording == *recording
    }

    pub(super) fn streams(&self) -> usize {
        self.recording.streams
    }

    pub(super) fn packets(&self) -> usize {
        self.packets.total()
    }

    pub(super) fn first_ssrc(&self) -> u32 {
        self.recording.first_ssrc
    }

    pub(super) fn first_sequence(&self) -> u16 {
        self.recording.first_sequence
    }

    /// Bytes of a packet.
    pub(super) fn length(&self) -> usize {
        self.packets.packet(0).len()
    }

    /// Distance of two packets.
    pub(super) fn stride(&self) -> usize {
        stride(self.length())
    }

    /// In which value a packet lies, and where.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        let per_value = per_value(self.length());
        (index / per_value, index % per_value * self.stride())
    }

    /// Hands out all values.
    pub(super) fn write(
        &self,
        mut set: impl FnMut(u32, &[u8; VALUE]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut value = Box::new([0; VALUE]);
        for index in 0..self.packets() {
            let (number, offset) = self.place(index);
            value[offset..][..self.length()].copy_from_slice(self.packets.packet(index));
            let last = index + 1 == self.packets();
            if last || self.place(index + 1).0 != number {
                set(u32::try_from(number)?, &value).context("writing the recording")?;
            }
        }
        Ok(())
    }

    /// Sets the keys under which packets arrive: one for all streams or one for each; none where RTP arrives. What arrived before is
    /// forgotten.
    pub(super) fn expect(&mut self, keys: &[MasterKey]) -> anyhow::Result<()> {
        self.crypt = match keys {
            [] => Vec::new(),
            keys => (0..self.streams())
                .map(|stream| {
                    let ssrc = self.first_ssrc().wrapping_add(stream as u32);
                    let key = &keys[stream % keys.len()];
                    Crypt::new(ssrc, ActionSpec::Unprotect(key.session()))
                })
                .collect::<anyhow::Result<_>>()?,
        };
        Ok(())
    }

    /// Whether a packet that came out carries what was sent.
    pub(super) fn is_intact(&mut self, index: usize, packet: &[u8]) -> bool {
        let stream = index % self.streams();
        match self.crypt.get_mut(stream) {
            Some(crypt) => crypt
                .turn(packet, &mut self.scratch)
                .is_ok_and(|plain| self.packets.is_intact(index, plain)),
            None => self.packets.is_intact(index, packet),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(payload_bytes: usize) -> Recording {
        Recording {
            streams: 3,
            per_stream: 500,
            payload_bytes,
            payload_type: 0,
            key: None,
            first_ssrc: 7,
            first_sequence: 9,
        }
    }

    #[test]
    fn every_packet_lies_where_the_source_looks_for_it() {
        for bytes in [80, 160, 1100] {
            let tape = Tape::new(&recording(bytes), 100).unwrap();
            let mut values = Vec::new();
            tape.write(|index, value| {
                assert_eq!(index as usize, values.len());
                values.push(*value);
                Ok(())
            })
            .unwrap();
            // As the source walks.
            let (mut value, mut offset) = (0, 0);
            for index in 0..tape.packets() {
                assert_eq!(tape.place(index), (value, offset));
                let packet = &values[value][offset..][..tape.length()];
                assert_eq!(packet, tape.packets.packet(index));
                offset += tape.stride();
                if offset > VALUE - PACKET {
                    (value, offset) = (value + 1, 0);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Tape::new(&recording(160), 3).is_err());
        assert!(Tape::new(&recording(1500), 100).is_err());
    }

    #[test]
    fn the_ip_header_adds_up() {
        let front = Front {
            source_mac: [2; 6],
            destination_mac: [4; 6],
            source: "10.78.1.1:20000".parse().unwrap(),
            destination: "10.78.1.2:40000".parse().unwrap(),
        };
        let bytes = front.bytes(172).unwrap();
        let sum: u32 = bytes[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(bytes[38..40], 180u16.to_be_bytes());
    }
}
