//! Which addresses may be called. Whoever names an endpoint chooses the address that this process connects to, from
//! inside of our network (server-side request forgery): so only what is public is called, unless the operator
//! allows more.
//!
//! The networks are those of IANA's special-purpose registries (RFC 6890) that are not globally reachable, or are
//! ways into one that is not; for IPv6 it is the other way round: only global unicast (2000::/3, RFC 4291) is public,
//! and of that not all.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh::network::{Network, NetworkError};

/// IPv4 networks that are not public.
const CLOSED_V4: &[Network] = &[
    v4([0, 0, 0, 0], 8),        // this network (RFC 791)
    v4([10, 0, 0, 0], 8),       // private (RFC 1918)
    v4([100, 64, 0, 0], 10),    // shared by carriers (RFC 6598); Alibaba's metadata at 100.100.100.200
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // Azure's platform: a public address that leads to the host
    v4([169, 254, 0, 0], 16),   // link-local (RFC 3927): most clouds' metadata
    v4([172, 16, 0, 0], 12),    // private (RFC 1918)
    v4([192, 0, 0, 0], 24),     // protocol assignments (RFC 6890); Oracle's metadata at 192.0.0.192
    v4([192, 0, 2, 0], 24),     // documentation (RFC 5737)
    v4([192, 31, 196, 0], 24),  // AS112 (RFC 7535)
    v4([192, 52, 193, 0], 24),  // AMT (RFC 7450)
    v4([192, 88, 99, 0], 24),   // 6to4 relays (RFC 7526)
    v4([192, 168, 0, 0], 16),   // private (RFC 1918)
    v4([192, 175, 48, 0], 24),  // AS112 (RFC 7534)
    v4([198, 18, 0, 0], 15),    // benchmarking (RFC 2544)
    v4([198, 51, 100, 0], 24),  // documentation (RFC 5737)
    v4([203, 0, 113, 0], 24),   // documentation (RFC 5737)
    v4([224, 0, 0, 0], 4),      // multicast (RFC 5771)
    v4([240, 0, 0, 0], 4),      // reserved, and the broadcast address (RFC 1112)
];

/// What of global unicast is not public.
const CLOSED_V6: &[Network] = &[
    v6([0x2001, 0, 0], 23), // protocol assignments (RFC 2928): Teredo, benchmarking, ORCHID
    v6([0x2001, 0xdb8, 0], 32), // documentation (RFC 3849)
    v6([0x2002, 0, 0], 16), // 6to4 (RFC 7526): leads to any IPv4 address
    v6([0x2620, 0x4f, 0x8000], 48), // AS112 (RFC 7534)
    v6([0x3fff, 0, 0], 20), // documentation (RFC 9637)
];

const GLOBAL_UNICAST: Network = v6([0x2000, 0, 0], 3);
/// Networks without IPv4 reach IPv4 hosts under these addresses (RFC 6052): each is as public as the IPv4 address
/// that it ends with.
const NAT64: Network = v6([0x64, 0xff9b, 0], 96);

const fn v4(octets: [u8; 4], length: u32) -> Network {
    network(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(octets))), length)
}

/// By its first three groups.
const fn v6(groups: [u16; 3], length: u32) -> Network {
    network(IpAddr::V6(Ipv6Addr::new(groups[0], groups[1], groups[2], 0, 0, 0, 0, 0)), length)
}

/// A length that is too long would be an address alone; the tests look at each network's ends.
const fn network(address: IpAddr, length: u32) -> Network {
    match Network::new(address, length) {
        Some(network) => network,
        None => Network::single(address),
    }
}

/// What may be done with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody may call it.
    Public,
    /// The operator allows to call it.
    Allowed,
    /// It may not be called.
    Refused,
}

/// Which addresses may be called.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    allowed: Vec<Network>,
}

impl AddressPolicy {
    /// What is public, and these networks.
    pub fn new<T: AsRef<str>>(allowed: &[T]) -> Result<Self, NetworkError> {
        let allowed: Result<_, _> = allowed.iter().map(|text| text.as_ref().parse()).collect();
        Ok(Self { allowed: allowed? })
    }

    /// What may be done with this address.
    pub fn reach(&self, address: IpAddr) -> Reach {
        if self.allowed.iter().any(|network| network.contains(address)) {
            Reach::Allowed
        } else if is_public(address) {
            Reach::Public
        } else {
            Reach::Refused
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(_) => !CLOSED_V4.iter().any(|network| network.contains(address)),
        IpAddr::V6(v6) if NAT64.contains(address) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(_) => {
            GLOBAL_UNICAST.contains(address) && !CLOSED_V6.iter().any(|network| network.contains(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach(allowed: &[&str], address: &str) -> Reach {
        AddressPolicy::new(allowed).unwrap().reach(address.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_refused_to_its_first_and_last_address() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("168.63.129.16", "168.63.129.16"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.31.196.0", "192.31.196.255"),
            ("192.52.193.0", "192.52.193.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("192.175.48.0", "192.175.48.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::1"),
            ("::7f00:1", "::8.8.8.8"),                         // IPv4-compatible
            ("::ffff:10.0.0.1", "::ffff:169.254.169.254"),     // IPv4-mapped
            ("::ffff:0:10.0.0.1", "::ffff:0:8.8.8.8"),         // IPv4-translated
            ("64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"), // NAT64
            ("64:ff9b::7f00:1", "64:ff9b::a83f:8110"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"), // NAT64 of one's own
            ("100::", "100::ffff:ffff:ffff:ffff"),                 // discarded
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:0:a00:1::", "2001:2::1"), // Teredo, benchmarking
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2002:7f00:1::", "2002:a9fe:a9fe::"),
            ("2620:4f:8000::", "2620:4f:8000::1"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("4000::", "5f00::1"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fd00:ec2::254", "fd20:ce::254"), // Amazon's and Google's metadata
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff::1"), // site-local
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(reach(&[], first), Reach::Refused, "{first}");
            assert_eq!(reach(&[], last), Reach::Refused, "{last}");
        }
    }

    #[test]
    fn what_is_public_is_called() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::",
            "2001:4860:4860::8888",
            "2620:4f:7fff::1",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1",
            "3ffe::1",
            "3fff:1000::",
        ] {
            assert_eq!(reach(&[], address), Reach::Public, "{address}");
        }
    }

    #[test]
    fn the_operator_may_allow_more() {
        let allowed = ["10.1.0.0/16", "fd00:1::/32"];
        for (address, expected) in [
            ("10.1.2.3", Reach::Allowed),
            ("::ffff:10.1.2.3", Reach::Allowed),
            ("fd00:1::7", Reach::Allowed),
            ("10.2.2.3", Reach::Refused),
            ("fd00:2::7", Reach::Refused),
            ("64:ff9b::10.1.2.3", Reach::Refused),
            ("127.0.0.1", Reach::Refused),
            ("8.8.8.8", Reach::Public),
        ] {
            assert_eq!(reach(&allowed, address), expected, "{address}");
        }
        assert_eq!(AddressPolicy::new(&["10.1/16"]).unwrap_err(), NetworkError);
    }

    proptest! {
        /// However an IPv4 address is dressed up in IPv6, it is not more public than it is.
        #[test]
        fn no_form_of_an_address_makes_it_public(bits in any::<u32>(), form in 0..6_u8) {
            let plain = Ipv4Addr::from_bits(bits);
            let low = u128::from(bits);
            let dressed = Ipv6Addr::from_bits(match form {
                0 => 0xffff << 32 | low,
                1 => low,
                2 => 0xffff << 48 | low,
                3 => 0x64_ff9b << 96 | low,
                4 => 0x2002 << 112 | low << 80,
                _ => 0x2001 << 112 | low ^ 0xffff_ffff,
            });
            let policy = AddressPolicy::default();
            if policy.reach(dressed.into()) == Reach::Public {
                prop_assert_eq!(policy.reach(plain.into()), Reach::Public);
            }
        }
    }
}
