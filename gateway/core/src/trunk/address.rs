//! Networks that calls come from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An address, or all that begin like it: `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `192.0.2.1`, `192.0.2.0/24` or the like with IPv6.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(most), |prefix| prefix.parse().ok())?;
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// The one address.
    pub(super) fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// Whether an address is in it; an IPv4 address that is written as IPv6 is the IPv4 address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        let (own, other) = (self.address.to_canonical(), address.to_canonical());
        let skip = match (own, other) {
            (IpAddr::V4(_), IpAddr::V4(_)) => 96,
            (IpAddr::V6(_), IpAddr::V6(_)) => 0,
            _ => return false,
        };
        let prefix = match (self.address, own) {
            (IpAddr::V6(_), IpAddr::V4(_)) => self.prefix,
            _ => self.prefix + skip,
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        (bits(own) ^ bits(other)) & mask == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => Ipv6Addr::to_bits(address.to_ipv6_mapped()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_have_their_addresses() {
        let has = |network: &str, address: &str| {
            Network::parse(network)
                .unwrap()
                .has(address.parse().unwrap())
        };
        assert!(has("192.0.2.1", "192.0.2.1"));
        assert!(!has("192.0.2.1", "192.0.2.2"));
        assert!(has("192.0.2.0/24", "192.0.2.255"));
        assert!(has("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(!has("192.0.2.0/24", "192.0.3.0"));
        assert!(has("0.0.0.0/0", "203.0.113.7"));
        assert!(!has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("2001:db8::/32", "2001:db8:1::1"));
        assert!(!has("2001:db8::/32", "2001:db9::1"));
        assert!(has("::/0", "2001:db8::1"));
        for bad in [
            "",
            "192.0.2.1/33",
            "192.0.2/24",
            "example.org",
            "::/129",
            "1.2.3.4/-1",
        ] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
