//! The packets of a load, made beforehand, and the check of those that arrive.

use flow::{
    ActionSpec, Egress, Endpoint, ExtensionMap, FlowEntry, FlowKey, FlowSpec, FlowState, FlowStats,
    MediumSpec, PayloadMap, Scratch, SrtpKeys, StreamSource, StreamSpec, Suite, forward_payload,
};
use gateway_core::rtp::MasterKeys;
use std::net::SocketAddr;

use super::LoadConfig;
use crate::media::RtpHeader;

const TIMESTAMP_STEP: u32 = 160;
const HEADER_BYTES: usize = 12;

/// Master key and salt, as `inline:` of SDES carries them (RFC 4568 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    bytes: [u8; Suite::MAX_KEY_BYTES + Suite::MAX_SALT_BYTES],
}

impl MasterKey {
    /// A key for measurements: known, and so of no use for anything secret.
    pub const MEASUREMENT: Self = Self::known(Suite::AesCm128HmacSha1_80, 1);

    /// Keys of a suite for measurements; another `number`, other keys.
    pub const fn known(suite: Suite, number: u8) -> Self {
        let mut bytes = [0; Suite::MAX_KEY_BYTES + Suite::MAX_SALT_BYTES];
        let mut place = 0;
        while place < suite.key_bytes() + suite.salt_bytes() {
            bytes[place] = number.wrapping_add(place as u8);
            place += 1;
        }
        Self { suite, bytes }
    }

    /// A key as it was signalled; `None` if its length is not the suite's.
    pub fn new(suite: Suite, signalled: &[u8]) -> Option<Self> {
        let mut key = Self::known(suite, 0);
        let length = key.bytes().len();
        (signalled.len() == length).then(|| key.bytes[..length].copy_from_slice(signalled))?;
        Some(key)
    }

    /// Whose keys they are.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt behind it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.suite.key_bytes() + self.suite.salt_bytes()]
    }

    /// What DTLS would export where the client had this key and the server the other (RFC 5764 section 4.2).
    pub fn export(&self, server: &Self) -> Vec<u8> {
        let halves = [self, server].map(|key| key.bytes().split_at(key.suite.key_bytes()));
        let keys = halves.iter().flat_map(|(key, _)| *key);
        keys.chain(halves.iter().flat_map(|(_, salt)| *salt))
            .copied()
            .collect()
    }

    /// Session keys for the datapath.
    pub fn session(&self) -> SrtpKeys {
        let (key, salt) = self.bytes().split_at(self.suite.key_bytes());
        let master = MasterKeys::new(self.suite, key, salt);
        master.expect("lengths of the suite").rtp()
    }
}

/// All packets in the order in which they leave: packet n belongs to stream n modulo the number of streams.
pub(crate) struct Packets {
    bytes: Vec<u8>,
    packet_bytes: usize,
    streams: usize,
    first_ssrc: u32,
    first_sequence: u16,
    payload_type: u8,
    payload_bytes: usize,
    total: usize,
}

impl Packets {
    pub(crate) fn new(config: &LoadConfig, total: usize) -> anyhow::Result<Self> {
        let tag = config.send_key.map_or(0, |key| key.suite().tag_bytes());
        let packet_bytes = HEADER_BYTES + config.payload_bytes + tag;
        let mut this = Self {
            bytes: Vec::with_capacity(total * packet_bytes),
            packet_bytes,
            streams: config.streams,
            first_ssrc: config.first_ssrc,
            first_sequence: config.first_sequence,
            payload_type: config.payload_type,
            payload_bytes: config.payload_bytes,
            total,
        };
        let mut crypt = match &config.send_key {
            Some(key) => (0..config.streams)
                .map(|stream| Crypt::new(this.ssrc(stream), ActionSpec::Protect(key.session())))
                .collect::<anyhow::Result<_>>()?,
            None => Vec::new(),
        };
        let mut scratch = Box::new(Scratch::new());
        let mut packet = Vec::with_capacity(packet_bytes);
        for index in 0..total {
            this.write(index, &mut packet);
            match crypt.get_mut(index % config.streams) {
                Some(crypt) => this.bytes.extend(crypt.turn(&packet, &mut scratch)?),
                None => this.bytes.extend(&packet),
            }
        }
        Ok(this)
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// A packet as it is sent.
    pub(crate) fn packet(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.packet_bytes..][..self.packet_bytes]
    }

    fn ssrc(&self, stream: usize) -> u32 {
        self.first_ssrc.wrapping_add(stream as u32)
    }

    /// Which packet this is, by SSRC and sequence number; `None` if it is none of ours.
    pub(crate) fn index_of(&self, packet: &[u8]) -> Option<usize> {
        let (header, _) = packet.split_first_chunk::<HEADER_BYTES>()?;
        if header[0] >> 6 != 2 {
            return None;
        }
        let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let stream = ssrc.wrapping_sub(self.first_ssrc) as usize;
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let place = usize::from(sequence.wrapping_sub(self.first_sequence));
        let index = place * self.streams + stream;
        (stream < self.streams && index < self.total).then_some(index)
    }

    /// Writes the plain packet.
    fn write(&self, index: usize, packet: &mut Vec<u8>) {
        let place = index / self.streams;
        let header = RtpHeader {
            marker: false,
            payload_type: self.payload_type,
            sequence: self.first_sequence.wrapping_add(place as u16),
            timestamp: (place as u32).wrapping_mul(TIMESTAMP_STEP),
            ssrc: self.ssrc(index % self.streams),
        };
        header.write(&[], packet);
        let payload = 0..self.payload_bytes;
        packet.extend(payload.map(|byte| (byte.wrapping_mul(7).wrapping_add(index)) as u8));
    }

    /// Whether a plain packet is what was sent, headers aside that a gateway may set anew (payload type, timestamp).
    pub(crate) fn is_intact(&self, index: usize, packet: &[u8]) -> bool {
        let mut expected = Vec::with_capacity(HEADER_BYTES + self.payload_bytes);
        self.write(index, &mut expected);
        packet.len() == expected.len() && packet[HEADER_BYTES..] == expected[HEADER_BYTES..]
    }
}

/// Protects or unprotects the packets of one SSRC.
pub(crate) struct Crypt {
    entry: FlowEntry,
    state: FlowState,
    stats: FlowStats,
}

impl Crypt {
    pub(crate) fn new(ssrc: u32, action: ActionSpec) -> anyhow::Result<Self> {
        let nowhere = Endpoint::from(SocketAddr::from(([127, 0, 0, 1], 9)));
        let mut streams = [None; flow::STREAMS];
        streams[0] = Some(StreamSpec {
            source: StreamSource::Signalled(ssrc),
            medium: 0,
            ssrc_out: ssrc,
            clock_hz: 8000,
        });
        let spec = FlowSpec {
            key: FlowKey {
                local: nowhere,
                remote: nowhere,
            },
            action,
            streams,
            payloads: PayloadMap::single((0..128).map(|number| (number, number))),
            media: [
                Some(MediumSpec {
                    egress_local: nowhere,
                    egress_remote: nowhere,
                    dscp: 0,
                    max_packets_per_s: 0,
                }),
                None,
            ],
            extensions: ExtensionMap::EMPTY,
        };
        Ok(Self {
            entry: FlowEntry::new(&spec, 1, &[Some(Egress::socket(u16::MAX)), None])?,
            state: FlowState::new(),
            stats: FlowStats::new(),
        })
    }

    /// The packet's other form.
    pub(crate) fn turn<'a>(
        &mut self,
        packet: &[u8],
        scratch: &'a mut Scratch,
    ) -> anyhow::Result<&'a [u8]> {
        scratch.bytes_mut()[..packet.len()].copy_from_slice(packet);
        let leaving = forward_payload(
            &self.entry,
            &mut self.state,
            &mut self.stats,
            scratch,
            packet.len(),
            1,
        );
        let leaving = leaving.map_err(|why| anyhow::anyhow!("SRTP refused a packet: {why:?}"))?;
        Ok(&scratch.bytes()[..leaving.bytes])
    }
}

impl Drop for Crypt {
    fn drop(&mut self) {
        self.entry.wipe();
    }
}
