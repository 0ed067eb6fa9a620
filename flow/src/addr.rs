//! Addresses and ports as they stand in a packet: network order, byte arrays, no bare integers.
//!
//! Why: packet bytes are copied straight into keys and templates, on the host and in BPF, so there
//! is no place left for a byte-order mistake. Every map key and entry of this crate is made of
//! these.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address of 16 bytes in network order; IPv4 stands in its mapped form `::ffff:a.b.c.d` (RFC
/// 4291 section 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// The mapped form of an IPv4 address in network order.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// Whether this is an IPv4 address in mapped form.
    pub fn is_v4(&self) -> bool {
        self.0[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        let [.., a, b, c, d] = addr.0;
        if addr.is_v4() {
            Self::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            Self::V6(Ipv6Addr::from(addr.0))
        }
    }
}

/// A UDP port in network order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port(pub [u8; 2]);

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self(port.to_be_bytes())
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        Self::from_be_bytes(port.0)
    }
}

/// A transport address: 18 bytes, alignment 1, no padding.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// IPv6 or mapped IPv4.
    pub addr: Addr,
    /// UDP port.
    pub port: Port,
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self {
            addr: socket.ip().into(),
            port: socket.port().into(),
        }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.addr.into(), endpoint.port.into())
    }
}

const _: () = assert!(size_of::<Endpoint>() == 18 && align_of::<Endpoint>() == 1);
