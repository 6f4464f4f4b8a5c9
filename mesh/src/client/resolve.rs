//! From `host:port` to addresses. DNS answers for a headless service with the addresses of all its pods.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc};

/// What a lookup comes to.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks names up.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses that the name has now.
    fn resolve(&self, host: Arc<str>, port: u16) -> Resolving;
}

/// The system's own way: files, DNS.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: Arc<str>, port: u16) -> Resolving {
        Box::pin(async move { Ok(tokio::net::lookup_host((&*host, port)).await?.collect()) })
    }
}

/// Where a service is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// An address given as a number: it stays.
    Fixed(SocketAddr),
    /// A name, to be looked up every so often.
    Named(Arc<str>, u16),
}

impl Target {
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Fixed(address));
        }
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if !host.is_empty() && !host.contains(':') => {
                Some(Self::Named(host.into(), port))
            }
            _ => None,
        }
    }
}

/// Whether these addresses can be those of one instance: one of each kind at most, as a host has that speaks
/// IPv4 and IPv6.
pub(super) fn is_one_instance(found: &[SocketAddr]) -> bool {
    let kinds = [SocketAddr::is_ipv4, SocketAddr::is_ipv6];
    kinds.iter().all(|kind| {
        let mut of_kind = found.iter().filter(|address| kind(address));
        of_kind.next().is_none_or(|first| of_kind.all(|other| other == first))
    })
}

/// The addresses to use from now on: those in use that still exist come first, so that a bound on their
/// number does not change them without need.
pub(super) fn select(in_use: &[SocketAddr], found: &[SocketAddr], most: usize) -> Vec<SocketAddr> {
    let mut selected: Vec<SocketAddr> = in_use.iter().filter(|a| found.contains(a)).copied().collect();
    for address in found {
        if !selected.contains(address) {
            selected.push(*address);
        }
    }
    selected.truncate(most.max(1));
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u8]) -> Vec<SocketAddr> {
        numbers.iter().map(|n| ([10, 0, 0, *n], 50_051).into()).collect()
    }

    #[test]
    fn targets_are_names_or_numbers() {
        assert_eq!(Target::read("127.0.0.1:80"), Some(Target::Fixed(([127, 0, 0, 1], 80).into())));
        assert!(matches!(Target::read("[::1]:80"), Some(Target::Fixed(_))));
        assert_eq!(Target::read("svc.ns.svc:80"), Some(Target::Named("svc.ns.svc".into(), 80)));
        for invalid in ["", "svc", ":80", "svc:http", "::1:80", "svc:99999"] {
            assert_eq!(Target::read(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn one_instance_has_one_address_of_each_kind() {
        let v6 = |text: &str| SocketAddr::new(text.parse().unwrap(), 50_051);
        assert!(is_one_instance(&of(&[])) && is_one_instance(&of(&[1])) && is_one_instance(&of(&[1, 1])));
        assert!(is_one_instance(&[v6("fd00::1"), of(&[1])[0]]));
        assert!(!is_one_instance(&of(&[1, 2])) && !is_one_instance(&[v6("fd00::1"), v6("fd00::2")]));
        assert!(!is_one_instance(&[v6("fd00::1"), of(&[1])[0], of(&[2])[0]]));
    }

    #[test]
    fn addresses_in_use_stay_and_their_number_is_bounded() {
        assert_eq!(select(&of(&[3, 1]), &of(&[1, 2, 3, 4, 2]), 9), of(&[3, 1, 2, 4]));
        assert_eq!(select(&of(&[3, 1]), &of(&[5, 3, 6]), 2), of(&[3, 5]));
        assert_eq!(select(&[], &of(&[1, 2]), 0), of(&[1]));
    }
}
