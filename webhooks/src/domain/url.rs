//! Where an endpoint is, and whether it may be called.
//!
//! A URL is read by the WHATWG's rules, as a browser would: `0x7f.1`, `2130706433` and `0177.0.0.1` are all
//! `127.0.0.1` before anything is decided. It is kept as it came out of that, so that whoever reads it next reads the
//! same.

use core::net::IpAddr;
use std::fmt;

use ::url::{Host, Url};
use http::Uri;
use serde::{Deserialize, Serialize};

use super::address::{AddressPolicy, Reach};

/// The longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// Why a URL is no endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Too long, or no URL.
    #[error(
        "must be a URL of at most {URL_BYTES_MAX} characters, without spaces, control characters and '\\'"
    )]
    Malformed,
    /// Another scheme.
    #[error("must begin with https://")]
    Scheme,
    /// A user or password.
    #[error("must not have a user or a password")]
    Userinfo,
    /// A fragment, which is never sent.
    #[error("must not have a fragment")]
    Fragment,
    /// A host's name that ends with a point.
    #[error("must not have a host that ends with a point")]
    TrailingPoint,
    /// A port that is not called.
    #[error("must have a port that may be called")]
    Port,
    /// An address that is not called.
    #[error("must not lead to an address that is not public")]
    Address,
}

/// The URL of an endpoint, in its one normal form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EndpointUrl {
    uri: Uri,
    host: EndpointHost,
}

/// Whom a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointHost {
    /// A name, to be resolved: ASCII, lower case, as punycode where it is not.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl EndpointUrl {
    /// Reads a URL. What it leads to is checked by [`CallPolicy`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        // A URL parser drops and changes these silently.
        if text.len() > URL_BYTES_MAX
            || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(UrlError::Malformed);
        }
        let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(UrlError::Scheme);
        }
        // Also an empty one: `https://@host/`.
        let (_, rest) = text.split_once("://").ok_or(UrlError::Malformed)?;
        let written = rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'));
        if written || !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Userinfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let host = match url.host().ok_or(UrlError::Malformed)? {
            Host::Domain(name) if name.ends_with('.') => return Err(UrlError::TrailingPoint),
            Host::Domain(name) => EndpointHost::Name(name.to_owned()),
            Host::Ipv4(address) => EndpointHost::Address(address.into()),
            Host::Ipv6(address) => EndpointHost::Address(address.into()),
        };
        let uri: Uri = url.as_str().parse().map_err(|_| UrlError::Malformed)?;
        // The one who sends reads the URL with another parser: it has to read the same.
        let same = uri.host() == url.host_str()
            && uri.scheme_str() == Some(url.scheme())
            && uri.port_u16() == url.port()
            && url.as_str().len() <= URL_BYTES_MAX;
        if same { Ok(Self { uri, host }) } else { Err(UrlError::Malformed) }
    }

    /// The URL as it is sent to.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whom it names.
    pub fn host(&self) -> &EndpointHost {
        &self.host
    }

    /// Whether it is called over TLS.
    pub fn https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The port, also where it is not written.
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.https() { 443 } else { 80 })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.uri, f)
    }
}

/// The path and the query may hold the receiver's secrets: only whom it names is shown.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.host, self.port())
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        Self::parse(&text)
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.to_string()
    }
}

/// What may be called.
#[derive(Debug, Clone)]
pub struct CallPolicy {
    /// Which addresses.
    pub addresses: AddressPolicy,
    /// Which ports, whatever the address.
    pub ports: Vec<u16>,
    /// Whether addresses that the operator allows may be called in clear.
    pub http_allowed: bool,
}

impl CallPolicy {
    /// Whether this URL may be called, as far as that can be said before its host is resolved.
    pub fn check_url(&self, url: &EndpointUrl) -> Result<(), UrlError> {
        if !url.https() && !self.http_allowed {
            return Err(UrlError::Scheme);
        }
        if !self.ports.contains(&url.port()) {
            return Err(UrlError::Port);
        }
        match url.host() {
            EndpointHost::Name(_) => Ok(()),
            EndpointHost::Address(address) => self.check_addresses(url, &[*address]),
        }
    }

    /// Whether these are addresses that this URL's host may have: one that may not be called condemns them all, as
    /// whoever answers so is up to something. None is not enough.
    pub fn check_addresses(&self, url: &EndpointUrl, addresses: &[IpAddr]) -> Result<(), UrlError> {
        let may = |address: &IpAddr| match self.addresses.reach(*address) {
            Reach::Public => url.https(),
            Reach::Allowed => true,
            Reach::Refused => false,
        };
        if !addresses.is_empty() && addresses.iter().all(may) { Ok(()) } else { Err(UrlError::Address) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str], http_allowed: bool) -> CallPolicy {
        CallPolicy {
            addresses: AddressPolicy::new(allowed).unwrap(),
            ports: vec![443, 8443, 80],
            http_allowed,
        }
    }

    fn checked(policy: &CallPolicy, text: &str) -> Result<String, UrlError> {
        let url = EndpointUrl::parse(text)?;
        policy.check_url(&url)?;
        Ok(url.to_string())
    }

    #[test]
    fn a_url_has_one_form() {
        let policy = policy(&[], false);
        for (given, kept) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://EXAMPLE.com:443/Hook?a=b", "https://example.com/Hook?a=b"),
            ("https://example.com:8443/a/../b", "https://example.com:8443/b"),
            ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
            ("https://1.1.1.1/", "https://1.1.1.1/"),
            ("https://0x01.0x01.0x01.0x01/", "https://1.1.1.1/"),
            ("https://[2606:4700::1111]/a|b", "https://[2606:4700::1111]/a|b"),
        ] {
            assert_eq!(checked(&policy, given), Ok(kept.to_owned()), "{given}");
            let url = EndpointUrl::parse(given).unwrap();
            assert_eq!(EndpointUrl::parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_what_is_wrong() {
        let policy = policy(&[], false);
        let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
        for (url, error) in [
            ("", UrlError::Malformed),
            ("example.com/hook", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https:example.com", UrlError::Malformed),
            ("https://exa mple.com/", UrlError::Malformed),
            ("https://example.com/\n", UrlError::Malformed),
            ("https://example.com\\@10.0.0.1/", UrlError::Malformed),
            ("https://example.com:99999/", UrlError::Malformed),
            ("https://1.2.3.4.5/", UrlError::Malformed),
            ("https://[fe80::1%25eth0]/", UrlError::Malformed),
            (&long, UrlError::Malformed),
            ("http://example.com/", UrlError::Scheme),
            ("ftp://example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("https://user@example.com/", UrlError::Userinfo),
            ("https://user:password@example.com/", UrlError::Userinfo),
            ("https://@example.com/", UrlError::Userinfo),
            ("https:///user@example.com/", UrlError::Userinfo),
            ("https://example.com/#x", UrlError::Fragment),
            ("https://example.com./", UrlError::TrailingPoint),
            ("https://example.com:22/", UrlError::Port),
            ("https://example.com:0/", UrlError::Port),
            ("https://127.0.0.1/", UrlError::Address),
            ("https://127.1/", UrlError::Address),
            ("https://0177.0.0.1/", UrlError::Address),
            ("https://0x7f.0.0.1/", UrlError::Address),
            ("https://2130706433/", UrlError::Address),
            ("https://127.0.0.1./", UrlError::Address),
            ("https://①②⑦.0.0.1/", UrlError::Address),
            ("https://0/", UrlError::Address),
            ("https://169.254.169.254/latest/meta-data/", UrlError::Address),
            ("https://[::1]/", UrlError::Address),
            ("https://[::ffff:10.0.0.1]/", UrlError::Address),
            ("https://[64:ff9b::10.0.0.1]/", UrlError::Address),
        ] {
            assert_eq!(checked(&policy, url), Err(error), "{url}");
        }
    }

    #[test]
    fn in_clear_only_what_the_operator_allows_is_called() {
        let allowed = policy(&["10.0.0.0/8"], true);
        assert!(checked(&allowed, "http://10.0.0.1/").is_ok());
        assert!(checked(&allowed, "https://10.0.0.1/").is_ok());
        assert_eq!(checked(&allowed, "http://1.1.1.1/"), Err(UrlError::Address));
        assert_eq!(checked(&policy(&["10.0.0.0/8"], false), "http://10.0.0.1/"), Err(UrlError::Scheme));
        let named = EndpointUrl::parse("http://example.com/").unwrap();
        assert_eq!(allowed.check_url(&named), Ok(()), "its addresses decide");
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(allowed.check_addresses(&named, &[address("10.0.0.1")]), Ok(()));
        assert_eq!(allowed.check_addresses(&named, &[address("1.1.1.1")]), Err(UrlError::Address));
    }

    #[test]
    fn one_address_that_may_not_be_called_condemns_all() {
        let policy = policy(&[], false);
        let url = EndpointUrl::parse("https://example.com/").unwrap();
        let check = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            policy.check_addresses(&url, &addresses)
        };
        assert_eq!(check(&["1.1.1.1", "2606:4700::1"]), Ok(()));
        assert_eq!(check(&["1.1.1.1", "10.0.0.1"]), Err(UrlError::Address));
        assert_eq!(check(&["::1", "1.1.1.1"]), Err(UrlError::Address));
        assert_eq!(check(&[]), Err(UrlError::Address));
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        let url = EndpointUrl::parse("https://example.com/T0000/B0000?token=secret").unwrap();
        assert_eq!(format!("{url:?}"), r#"Name("example.com"):443"#);
    }
}
