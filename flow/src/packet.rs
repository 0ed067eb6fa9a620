//! Reading of an arriving frame down to its UDP payload, every access checked against the frame's end.
//!
//! Why hand-written: general parsers branch in ways that the verifier refuses. Whatever is not
//! plain Ethernet with at most one 802.1Q tag, IPv4 without options or IPv6 without extension
//! headers, unfragmented, UDP, goes up to the stack.

use crate::scratch::Scratch;
use crate::{Addr, Endpoint, FlowKey, Port, Why};

/// A frame: a slice on the host, the XDP context in the kernel.
pub trait Frame {
    /// Bytes of the frame.
    fn length(&self) -> usize;
    /// `N` bytes from `offset` on; `None` if they run over the end.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Copies `length` bytes (at least 1, at most the size of `words`) from `offset` on; false if
    /// they run over the end.
    fn load<const N: usize>(&self, offset: usize, length: usize, words: &mut [u32; N]) -> bool;
    /// Takes `bytes` away at the front (adds them where negative).
    fn shorten(&mut self, bytes: i32) -> bool;
    /// Writes the first `length` bytes (at least 1) of `words` at `offset`; false if they run over the end.
    fn store<const N: usize>(&mut self, offset: usize, words: &[u32; N], length: usize) -> bool;
}

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const PROTOCOL_UDP: u8 = 17;
const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;

/// What an IP header says.
struct Network {
    local: Addr,
    remote: Addr,
    ttl: u8,
    /// Bytes of this header.
    header_bytes: usize,
    /// Bytes after it.
    payload_bytes: usize,
}

/// Reads the frame's headers; afterwards [`Scratch::key`] is its 4-tuple.
///
/// # Errors
/// The reason to pass the frame to the stack.
#[inline(never)]
pub fn arrive<F: Frame>(frame: &F, scratch: &mut Scratch) -> Result<(), Why> {
    let mut ethertype = frame.bytes::<2>(ETHERNET_BYTES - 2).ok_or(Why::Truncated)?;
    let mut offset = ETHERNET_BYTES;
    if ethertype == ETHERTYPE_VLAN {
        ethertype = frame.bytes::<2>(offset + 2).ok_or(Why::Truncated)?;
        offset += VLAN_BYTES;
    }
    let network = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, offset)?,
        ETHERTYPE_IPV6 => ipv6(frame, offset)?,
        _ => return Err(Why::NotUdp),
    };
    offset += network.header_bytes;
    let [source, destination, udp_bytes] = split(frame.bytes::<6>(offset).ok_or(Why::Truncated)?);
    let udp_bytes = u16::from_be_bytes(udp_bytes) as usize;
    offset += UDP_BYTES;
    if udp_bytes != network.payload_bytes
        || udp_bytes < UDP_BYTES
        || offset + udp_bytes - UDP_BYTES > frame.length()
    {
        return Err(Why::Truncated);
    }
    let arrival = &mut scratch.arrival;
    arrival.key = FlowKey {
        local: Endpoint {
            addr: network.local,
            port: Port(destination),
        },
        remote: Endpoint {
            addr: network.remote,
            port: Port(source),
        },
    };
    arrival.header_bytes = offset as u32;
    arrival.payload_bytes = (udp_bytes - UDP_BYTES) as u32;
    arrival.frame_bytes = frame.length() as u32;
    arrival.ttl = u32::from(network.ttl);
    // A datagram of less than two bytes is nothing that we know; 0xff is no first byte of RFC 7983.
    let [first, second] = frame.bytes::<2>(offset).unwrap_or([0xff; 2]);
    arrival.first = u32::from(first);
    arrival.second = u32::from(second);
    Ok(())
}

#[inline(always)]
fn split([a, b, c, d, e, f]: [u8; 6]) -> [[u8; 2]; 3] {
    [[a, b], [c, d], [e, f]]
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, offset: usize) -> Result<Network, Why> {
    let header = frame.bytes::<IPV4_BYTES>(offset).ok_or(Why::Truncated)?;
    if header[0] >> 4 != 4 {
        return Err(Why::NotUdp);
    }
    if header[9] != PROTOCOL_UDP {
        return Err(Why::NotUdp);
    }
    if header[0] & 15 != 5 {
        return Err(Why::IpOptions);
    }
    // More fragments, or an offset.
    if header[6] & 0x3f != 0 || header[7] != 0 {
        return Err(Why::Fragment);
    }
    let total = u16::from_be_bytes([header[2], header[3]]) as usize;
    Ok(Network {
        local: Addr::v4([header[16], header[17], header[18], header[19]]),
        remote: Addr::v4([header[12], header[13], header[14], header[15]]),
        ttl: header[8],
        header_bytes: IPV4_BYTES,
        payload_bytes: total.checked_sub(IPV4_BYTES).ok_or(Why::Truncated)?,
    })
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &F, offset: usize) -> Result<Network, Why> {
    let [version, _, _, _, high, low, next, ttl] =
        frame.bytes::<8>(offset).ok_or(Why::Truncated)?;
    if version >> 4 != 6 {
        return Err(Why::NotUdp);
    }
    match next {
        PROTOCOL_UDP => {}
        44 => return Err(Why::Fragment),
        // Hop-by-hop, routing, authentication, destination options, mobility, HIP, shim6.
        0 | 43 | 51 | 60 | 135 | 139 | 140 => return Err(Why::IpOptions),
        _ => return Err(Why::NotUdp),
    }
    Ok(Network {
        local: Addr(frame.bytes::<16>(offset + 24).ok_or(Why::Truncated)?),
        remote: Addr(frame.bytes::<16>(offset + 8).ok_or(Why::Truncated)?),
        ttl,
        header_bytes: IPV6_BYTES,
        payload_bytes: u16::from_be_bytes([high, low]) as usize,
    })
}
