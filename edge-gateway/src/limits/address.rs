//! Where a request comes from, also behind proxies that are trusted to say so.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, header};
use mesh::network::{Network, NetworkError};
use serde::{Deserialize, Serialize};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Longer chains are no proxies of ours.
const HOPS_MAX: usize = 32;

/// Which header the trusted proxies write. The other one is not looked at: a proxy that does not know it
/// passes on what a client invented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Who is trusted to say for whom it speaks.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    trusted: Vec<Network>,
    header: ForwardedHeader,
}

impl Proxies {
    pub(crate) fn new(trusted: &[String], header: ForwardedHeader) -> Result<Self, NetworkError> {
        let trusted: Result<Vec<Network>, _> = trusted.iter().map(|text| text.parse()).collect();
        Ok(Self { trusted: trusted?, header })
    }

    /// Whether this address is one of theirs.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client's address: of those named in the header, read from the right, the first one that is not
    /// a trusted proxy. Whatever is left of it may be invented. What cannot be read ends the search at the
    /// last address known.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines: Vec<&str> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(HOPS_MAX);
        let mut client = peer;
        for hop in hops {
            let address = match self.header {
                ForwardedHeader::XForwardedFor => node(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            let Some(address) = address else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    node(value.trim_matches('"'))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80` (RFC 7239, section 6).
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let legal = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return legal.then(|| address.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?;
    }
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => text.parse::<std::net::SocketAddrV4>().ok().map(|address| IpAddr::V4(*address.ip())),
    }
}

/// What is limited as one: an IPv4 address, or the /64 that an IPv6 client has for itself.
pub(crate) fn of_client(address: IpAddr) -> u128 {
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & NETWORK,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".to_owned(), "fd00::/8".to_owned(), "192.0.2.7".to_owned()];
        let proxies = Proxies::new(&trusted, header).unwrap();
        let name = match header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_static(line));
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_is_the_client() {
        let of = |peer, lines: &[&'static str]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(of("203.0.113.5", &["1.2.3.4"]), "203.0.113.5", "a stranger may say what it likes");
        assert_eq!(of("10.1.1.1", &["6.6.6.6, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(of("10.1.1.1", &["6.6.6.6, 203.0.113.9, 10.2.2.2, 192.0.2.7"]), "203.0.113.9");
        assert_eq!(of("10.1.1.1", &["6.6.6.6", "203.0.113.9", "10.2.2.2"]), "203.0.113.9");
        assert_eq!(of("::ffff:10.1.1.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(of("fd00::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of("10.1.1.1", &["203.0.113.9, nonsense"]), "10.1.1.1", "behind nonsense nothing counts");
        assert_eq!(of("10.1.1.1", &["10.3.3.3"]), "10.3.3.3", "the last one known");
        assert_eq!(of("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn forwarded_is_read_by_its_grammar() {
        let of = |lines: &[&'static str]| client(ForwardedHeader::Forwarded, "10.1.1.1", lines);
        assert_eq!(of(&["for=6.6.6.6, For=\"203.0.113.9:80\";proto=https;by=10.0.0.1"]), "203.0.113.9");
        assert_eq!(of(&["for=\"[2001:db8:cafe::17]:4711\", for=10.9.9.9"]), "2001:db8:cafe::17");
        assert_eq!(of(&["for=203.0.113.9, for=_hidden"]), "10.1.1.1");
        assert_eq!(of(&["proto=https"]), "10.1.1.1");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| of_client(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }
}
