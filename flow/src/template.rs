//! The headers of the packets that leave, as ready bytes, with the sums of what does not change in
//! their checksums. Made once per entry on the host; [`crate::rewrite`] sets the rest per packet.

use crate::entry::Egress;
use crate::{Endpoint, MediumSpec};

/// Bytes of Ethernet header with one VLAN tag, IPv6 and UDP header: the longest that leaves.
const HEADER_BYTES: usize = 14 + 4 + 40 + 8;
/// Room for it in words.
pub(crate) const HEADER_WORDS: usize = 18;

const _: () = assert!(HEADER_BYTES <= 4 * HEADER_WORDS);

/// Headers with lengths and checksums zero.
pub(crate) struct Template {
    bytes: [u8; 4 * HEADER_WORDS],
    /// Bytes of all headers.
    pub(crate) length: usize,
    /// Bytes before the IP header.
    pub(crate) network_offset: usize,
    transport_offset: usize,
    four: bool,
}

impl Template {
    pub(crate) fn new(spec: &MediumSpec, egress: &Egress) -> Self {
        let (local, remote) = (&spec.egress_local, &spec.egress_remote);
        let four = local.addr.is_v4();
        let mut out = Self {
            bytes: [0; 4 * HEADER_WORDS],
            length: 0,
            network_offset: 0,
            transport_offset: 0,
            four,
        };
        out.put(&egress.destination_mac);
        out.put(&egress.source_mac);
        if let Some(tci) = egress.vlan {
            out.put(&[0x81, 0x00]);
            out.put(&tci.to_be_bytes());
        }
        out.put(if four { &[0x08, 0x00] } else { &[0x86, 0xdd] });
        out.network_offset = out.length;
        if four {
            out.put_ipv4(spec.dscp << 2, local, remote);
        } else {
            out.put_ipv6(spec.dscp << 2, local, remote);
        }
        out.transport_offset = out.length;
        out.put(&local.port.0);
        out.put(&remote.port.0);
        out.put(&[0; 4]);
        out
    }

    /// Sum of the IPv4 header without length, time to live and checksum, in memory order; 0 for IPv6.
    pub(crate) fn network_sum(&self) -> u32 {
        let end = if self.four {
            self.transport_offset
        } else {
            self.network_offset
        };
        sum(&self.bytes[self.network_offset..end])
    }

    /// Sum of the pseudo header without length, and of the ports, in memory order.
    pub(crate) fn transport_sum(&self) -> u32 {
        let addresses = if self.four { 8 } else { 32 };
        sum(&self.bytes[self.transport_offset - addresses..self.length]) + sum(&[0, 17])
    }

    /// The headers as words in memory order.
    pub(crate) fn words(&self) -> [u32; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        words
    }

    /// Never fragmented (RFC 6864: identification has no meaning then); protocol UDP.
    fn put_ipv4(&mut self, traffic_class: u8, local: &Endpoint, remote: &Endpoint) {
        self.put(&[0x45, traffic_class, 0, 0, 0, 0, 0x40, 0, 0, 17, 0, 0]);
        self.put(&local.addr.0[12..]);
        self.put(&remote.addr.0[12..]);
    }

    fn put_ipv6(&mut self, traffic_class: u8, local: &Endpoint, remote: &Endpoint) {
        self.put(&[
            0x60 | (traffic_class >> 4),
            traffic_class << 4,
            0,
            0,
            0,
            0,
            17,
            0,
        ]);
        self.put(&local.addr.0);
        self.put(&remote.addr.0);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// Sum of 16-bit words as they stand in memory (RFC 1071 section 2 (B): the order of bytes does not matter).
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u32::from(u16::from_ne_bytes(*pair)))
        .sum()
}
