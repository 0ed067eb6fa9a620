//! Frames and RTP packets for the packet table, built and read without any code of the `flow`
//! crate's packet path, so that a mistake there cannot hide in what is expected of it.

use flow::{Addr, Egress, FlowKey, Frame, MediumSpec};

/// MAC addresses of arriving frames: ours, the peer's.
const ARRIVING_MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// An RTP packet in its parts (RFC 3550 section 5.1).
#[derive(Clone, Debug)]
pub struct Rtp {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources.
    pub csrcs: Vec<u32>,
    /// Header extension: profile and whole words.
    pub extension: Option<(u16, Vec<u32>)>,
    /// Payload.
    pub payload: Vec<u8>,
    /// Padding octets, the last one counting them.
    pub padding: u8,
}

impl Rtp {
    /// A plain audio packet.
    pub fn new(ssrc: u32, sequence: u16, payload_bytes: usize) -> Self {
        Self {
            marker: false,
            payload_type: 0,
            sequence,
            timestamp: u32::from(sequence).wrapping_mul(160),
            ssrc,
            csrcs: Vec::new(),
            extension: None,
            payload: (0..payload_bytes)
                .map(|k| (k * 7 + usize::from(sequence)) as u8)
                .collect(),
            padding: 0,
        }
    }

    /// The packet as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let padding = u8::from(self.padding > 0) << 5;
        let extension = u8::from(self.extension.is_some()) << 4;
        out.push(0x80 | padding | extension | self.csrcs.len() as u8);
        out.push(u8::from(self.marker) << 7 | self.payload_type);
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.timestamp.to_be_bytes());
        out.extend(self.ssrc.to_be_bytes());
        for csrc in &self.csrcs {
            out.extend(csrc.to_be_bytes());
        }
        if let Some((profile, words)) = &self.extension {
            out.extend(profile.to_be_bytes());
            out.extend((words.len() as u16).to_be_bytes());
            for word in words {
                out.extend(word.to_be_bytes());
            }
        }
        out.extend(&self.payload);
        if self.padding > 0 {
            out.resize(out.len() + usize::from(self.padding) - 1, 0);
            out.push(self.padding);
        }
        out
    }
}

/// An arriving frame in its parts; the UDP checksum is wrong on purpose, since nothing may trust it.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// Tag control information of the 802.1Q tag.
    pub vlan: Option<u16>,
    /// 4-tuple.
    pub key: FlowKey,
    /// IPv4 time to live or IPv6 hop limit.
    pub ttl: u8,
    /// UDP payload.
    pub payload: Vec<u8>,
}

impl Arriving {
    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let udp = udp_bytes(&self.key, &self.payload, 0xdead);
        let (ethertype, mut network) = network_bytes(
            &self.key.remote.addr,
            &self.key.local.addr,
            0,
            self.ttl,
            &udp,
            false,
        );
        let mut out = ethernet(ARRIVING_MACS, self.vlan, ethertype);
        out.append(&mut network);
        out
    }
}

/// The frame that has to leave for `payload`, all checksums valid.
pub fn leaving(medium: &MediumSpec, egress: &Egress, ttl: u8, payload: &[u8]) -> Vec<u8> {
    // The arriving key of the peer that gets the packet.
    let key = FlowKey {
        local: medium.egress_remote,
        remote: medium.egress_local,
    };
    let (source, destination) = (medium.egress_local.addr, medium.egress_remote.addr);
    let mut pseudo = Vec::new();
    for addr in [source, destination] {
        pseudo.extend(address(&addr));
    }
    let blank = udp_bytes(&key, payload, 0);
    pseudo.extend((blank.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 17]);
    pseudo.extend(&blank);
    let checksum = match internet_checksum(&pseudo) {
        0 => 0xffff,
        checksum => checksum,
    };
    let udp = udp_bytes(&key, payload, checksum);
    let (ethertype, mut network) =
        network_bytes(&source, &destination, medium.dscp << 2, ttl, &udp, true);
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&egress.destination_mac);
    macs[6..].copy_from_slice(&egress.source_mac);
    let mut out = ethernet(macs, egress.vlan, ethertype);
    out.append(&mut network);
    out
}

fn ethernet(macs: [u8; 12], vlan: Option<u16>, ethertype: [u8; 2]) -> Vec<u8> {
    let mut out = macs.to_vec();
    if let Some(tci) = vlan {
        out.extend([0x81, 0x00]);
        out.extend(tci.to_be_bytes());
    }
    out.extend(ethertype);
    out
}

fn address(addr: &Addr) -> &[u8] {
    if addr.is_v4() { &addr.0[12..] } else { &addr.0 }
}

fn udp_bytes(key: &FlowKey, payload: &[u8], checksum: u16) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(key.remote.port.0);
    udp.extend(key.local.port.0);
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend(checksum.to_be_bytes());
    udp.extend(payload);
    udp
}

/// IP header and what follows it, with the EtherType.
fn network_bytes(
    source: &Addr,
    destination: &Addr,
    traffic_class: u8,
    ttl: u8,
    udp: &[u8],
    leaves: bool,
) -> ([u8; 2], Vec<u8>) {
    let mut out = Vec::new();
    if source.is_v4() {
        out.extend([0x45, traffic_class]);
        out.extend((20 + udp.len() as u16).to_be_bytes());
        // Arriving packets have some identification, leaving ones are never fragmented.
        out.extend(if leaves {
            [0, 0, 0x40, 0]
        } else {
            [0x12, 0x34, 0, 0]
        });
        out.extend([ttl, 17, 0, 0]);
        out.extend(address(source));
        out.extend(address(destination));
        let checksum = internet_checksum(&out);
        out[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(udp);
        ([0x08, 0x00], out)
    } else {
        out.extend([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0]);
        out.extend((udp.len() as u16).to_be_bytes());
        out.extend([17, ttl]);
        out.extend(address(source));
        out.extend(address(destination));
        out.extend(udp);
        ([0x86, 0xdd], out)
    }
}

/// RFC 1071, the slow and plain way.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame in memory, with the head room that XDP has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFrame(pub Vec<u8>);

impl Frame for HostFrame {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }

    fn load<const N: usize>(&self, offset: usize, length: usize, words: &mut [u32; N]) -> bool {
        let Some(bytes) = self.0.get(offset..offset + length) else {
            return false;
        };
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
            let mut padded = [0; 4];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_ne_bytes(padded);
        }
        true
    }

    fn shorten(&mut self, bytes: i32) -> bool {
        if bytes < 0 {
            self.0.splice(..0, vec![0; bytes.unsigned_abs() as usize]);
        } else {
            self.0.drain(..bytes as usize);
        }
        true
    }

    fn store<const N: usize>(&mut self, offset: usize, words: &[u32; N], length: usize) -> bool {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (Some(to), Some(from)) = (self.0.get_mut(offset..offset + length), bytes.get(..length))
        else {
            return false;
        };
        to.copy_from_slice(from);
        true
    }
}
