//! What a page says: 20 ms packets of the size and clock of a codec, each with a marker.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Time between two packets.
pub(super) const PACKET_TIME: Duration = Duration::from_millis(20);
/// Packets that may be sent in a row after a pause of the process; more are given up, as a sound card does.
const BURST: u32 = 5;
/// Start of a marker.
const MAGIC: [u8; 4] = *b"CWAY";
/// Magic, owner, microseconds.
const MARKER_BYTES: usize = 16;
/// Silence in mu-law (ITU-T G.711).
const SILENCE: u8 = 0xff;

/// Voice codec that a page offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// G.711 mu-law: 160 bytes a packet.
    Pcmu,
    /// Opus in shape only: 80 bytes a packet (32 kbit/s) at 48 kHz, with a TOC byte.
    Opus,
}

impl Codec {
    /// RTP clock in Hz.
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::Pcmu => 8000,
            Self::Opus => 48000,
        }
    }

    /// Payload of one packet in bytes.
    pub fn payload_bytes(self) -> usize {
        match self {
            Self::Pcmu => 160,
            Self::Opus => 80,
        }
    }

    fn ticks(self) -> u32 {
        self.clock_hz() / 50
    }

    /// The marker does not start a packet: an Opus packet begins with its TOC byte (RFC 6716 section 3.1).
    fn marker_offset(self) -> usize {
        match self {
            Self::Pcmu => 0,
            Self::Opus => 1,
        }
    }
}

/// What a page sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sound {
    /// A marked packet every 20 ms.
    Marked,
    /// What it hears.
    Echo,
    /// Nothing.
    Silent,
}

/// A packet to send.
pub(super) struct Packet {
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) payload: Vec<u8>,
}

/// The outgoing stream.
pub(super) struct Voice {
    codec: Codec,
    owner: u32,
    epoch: Instant,
    /// str0m wants extended sequence numbers that start below 65536.
    sequence: u64,
    timestamp: u32,
    next: Option<Instant>,
    sent: u64,
    skipped: u64,
}

impl Voice {
    pub(super) fn new(codec: Codec, owner: u32, epoch: Instant) -> Self {
        // Starting values of RFC 3550 section 5.1, taken from the owner's random number.
        let sequence = u64::from(owner & 0x7fff);
        Self {
            codec,
            owner,
            epoch,
            sequence,
            timestamp: owner,
            next: None,
            sent: 0,
            skipped: 0,
        }
    }

    /// Begins to speak.
    pub(super) fn start(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// Ends.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The next packet that is due at `now`.
    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Packet> {
        let due = self.next.filter(|&next| next <= now)?;
        let behind = now.duration_since(due).as_micros() / PACKET_TIME.as_micros();
        let skip = u32::try_from(behind)
            .unwrap_or(u32::MAX)
            .saturating_sub(BURST);
        self.skipped += u64::from(skip);
        self.timestamp = self
            .timestamp
            .wrapping_add(self.codec.ticks().wrapping_mul(skip));
        self.next = Some(due + PACKET_TIME * (skip + 1));
        let payload = self.payload(now);
        Some(self.packet(payload))
    }

    /// A packet with a given payload, out of the rhythm (echo).
    pub(super) fn packet(&mut self, payload: Vec<u8>) -> Packet {
        let packet = Packet {
            sequence: self.sequence,
            timestamp: self.timestamp,
            payload,
        };
        self.sequence += 1;
        self.timestamp = self.timestamp.wrapping_add(self.codec.ticks());
        self.sent += 1;
        packet
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The time since the marker in `payload` was sent, if it is one of ours.
    pub(super) fn round_trip(&self, now: Instant, payload: &[u8]) -> Option<Duration> {
        let marker = payload
            .get(self.codec.marker_offset()..)?
            .get(..MARKER_BYTES)?;
        let (magic, rest) = marker.split_at(MAGIC.len());
        let (owner, micros) = rest.split_at(4);
        if magic != MAGIC || owner != self.owner.to_be_bytes() {
            return None;
        }
        let sent = Duration::from_micros(u64::from_be_bytes(micros.try_into().ok()?));
        now.duration_since(self.epoch).checked_sub(sent)
    }

    fn payload(&self, now: Instant) -> Vec<u8> {
        let mut payload = vec![SILENCE; self.codec.payload_bytes()];
        if self.codec == Codec::Opus {
            // CELT, full band, 20 ms, mono, one frame.
            payload[0] = 31 << 3;
        }
        let micros = u64::try_from(now.duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX);
        let marker = &mut payload[self.codec.marker_offset()..][..MARKER_BYTES];
        marker[..4].copy_from_slice(&MAGIC);
        marker[4..8].copy_from_slice(&self.owner.to_be_bytes());
        marker[8..].copy_from_slice(&micros.to_be_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_every_20_ms_and_their_markers_measure() {
        for codec in [Codec::Pcmu, Codec::Opus] {
            let epoch = Instant::now();
            let mut voice = Voice::new(codec, 0xdead_beef, epoch);
            assert!(
                voice.poll_packet(epoch).is_none(),
                "silent before the start"
            );
            voice.start(epoch);
            let first = voice.poll_packet(epoch).unwrap();
            assert!(
                voice
                    .poll_packet(epoch + Duration::from_millis(19))
                    .is_none()
            );
            let second = voice
                .poll_packet(epoch + Duration::from_millis(20))
                .unwrap();
            assert_eq!(second.sequence, first.sequence + 1);
            assert_eq!(
                second.timestamp.wrapping_sub(first.timestamp),
                codec.clock_hz() / 50
            );
            assert_eq!(first.payload.len(), codec.payload_bytes());
            let back = voice.round_trip(epoch + Duration::from_millis(45), &second.payload);
            assert_eq!(back, Some(Duration::from_millis(25)));
            assert_eq!(
                Voice::new(codec, 1, epoch).round_trip(epoch, &second.payload),
                None,
                "not its own"
            );
        }
    }

    #[test]
    fn a_long_pause_is_skipped_and_not_sent_in_a_burst() {
        let epoch = Instant::now();
        let mut voice = Voice::new(Codec::Pcmu, 7, epoch);
        voice.start(epoch);
        voice.poll_packet(epoch).unwrap();
        let late = epoch + Duration::from_secs(2);
        let mut burst = 0;
        while voice.poll_packet(late).is_some() {
            burst += 1;
        }
        assert!(burst <= BURST + 1, "{burst}");
        assert_eq!(voice.sent() + voice.skipped(), 101);
    }
}
