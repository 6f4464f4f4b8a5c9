//! Networks of addresses, as they are written in configuration.

use core::net::IpAddr;
use std::{fmt, str::FromStr};

/// A network, such as `10.0.0.0/8`; an address alone is a network of one. An IPv4 network holds its addresses also as
/// they are mapped into IPv6 (RFC 4291, section 2.5.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    bits: u128,
    mask: u128,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a network such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError;

impl Network {
    /// The addresses whose first `length` bits are those of `address`; `None` if it has fewer.
    pub const fn new(address: IpAddr, length: u32) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest {
            return None;
        }
        let mask = match u128::MAX.checked_shl(longest - length) {
            Some(mask) => mask,
            None => 0,
        };
        Some(Self { bits: bits(address) & mask, mask })
    }

    /// The address alone.
    pub const fn single(address: IpAddr) -> Self {
        Self { bits: bits(address), mask: u128::MAX }
    }

    /// Whether the address is one of this network's.
    pub const fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.bits
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().map_err(|_| NetworkError)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        Self::new(address, length.unwrap_or(longest)).ok_or(NetworkError)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", core::net::Ipv6Addr::from_bits(self.bits), self.mask.leading_ones())
    }
}

const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_checked() {
        for wrong in ["10.0.0.0/33", "fd00::/129", "ten", "10.0.0.0/", "10.0.0.0/-1", ""] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains("8.8.8.8".parse().unwrap()));
        assert!(!everything.contains("2001:db8::1".parse().unwrap()), "IPv4 only");
    }

    #[test]
    fn the_first_bits_decide() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("172.16.9.9/12", "172.31.255.255", "172.32.0.0"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "1.2.3.4", ""),
        ] {
            let read: Network = network.parse().unwrap();
            assert!(read.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(outside.parse().map_or(true, |outside| !read.contains(outside)), "{network} {outside}");
        }
    }
}
