//! The digest of a body (RFC 9530): `Content-Digest: sha-256=:…:`. Pure.

use http::HeaderMap;
use ring::digest::{SHA256, SHA512, digest};
use sfv::{Dictionary, ListEntry, Parser};

/// The header's name.
pub(crate) const CONTENT_DIGEST: &str = "content-digest";

/// What a body has to hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyDigest {
    sha256: Option<Vec<u8>>,
    sha512: Option<Vec<u8>>,
}

impl BodyDigest {
    /// Reads the header; `None` where it has no digest that is known here (section 5).
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let value = joined(headers, CONTENT_DIGEST)?;
        let digests: Dictionary = Parser::new(&value).parse().ok()?;
        let get = |name: &str| match digests.get(name)? {
            ListEntry::Item(item) => item.bare_item.as_byte_sequence().map(<[u8]>::to_vec),
            ListEntry::InnerList(_) => None,
        };
        let digest = Self { sha256: get("sha-256"), sha512: get("sha-512") };
        (digest.sha256.is_some() || digest.sha512.is_some()).then_some(digest)
    }

    /// Whether it is the body's: every digest that was given has to be.
    pub(crate) fn matches(&self, body: &[u8]) -> bool {
        let is = |given: Option<&Vec<u8>>, algorithm| {
            given.is_none_or(|given| digest(algorithm, body).as_ref() == given.as_slice())
        };
        is(self.sha256.as_ref(), &SHA256) && is(self.sha512.as_ref(), &SHA512)
    }
}

/// All values of a field as one; `None` where it is not there or no visible ASCII.
pub(crate) fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Option<Vec<&str>> = headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Option<BodyDigest> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_DIGEST, http::HeaderValue::from_static(value));
        BodyDigest::read(&headers)
    }

    #[test]
    fn the_digests_of_the_standard_match_their_body_and_no_other() {
        // RFC 9530, appendix D; RFC 9421, appendix B.2.
        let body = b"{\"hello\": \"world\"}";
        for (value, fits) in [
            ("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", body.as_slice()),
            (
                "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
                body,
            ),
        ] {
            let digest = read(value).unwrap();
            assert!(digest.matches(fits), "{value}");
            assert!(!digest.matches(b"{\"hello\": \"World\"}"));
        }
        let both = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, sha-512=:AAAA:";
        assert!(!read(both).unwrap().matches(body), "one of two is wrong");
    }

    #[test]
    fn a_digest_that_is_not_known_is_none() {
        for value in ["md5=:AAAA:", "sha-256=AAAA", "sha-256=(:AAAA:)", "sha-256", "=", ""] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(BodyDigest::read(&HeaderMap::new()), None);
    }
}
