//! Conditional reads (RFC 9110, section 13): a strong ETag, and 304 where the client has it already.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use ring::digest::{SHA256, digest};

/// The entity tag of these bytes; packed ones are another representation and have their own (RFC 9110,
/// section 8.8.3.3).
pub(crate) fn etag(bytes: &[u8], packed: bool) -> Option<HeaderValue> {
    let digest = digest(&SHA256, bytes);
    let tag = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
    HeaderValue::try_from(format!("\"{tag}{}\"", if packed { "-gzip" } else { "" })).ok()
}

/// Whether `If-None-Match` names this tag. Compared weakly, as that header wants (section 13.1.2).
pub(crate) fn is_known(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    request.get_all(header::IF_NONE_MATCH).iter().any(|line| {
        let line = line.to_str().unwrap_or_default();
        // Our tags hold no comma, so one that is cut in two is none of ours.
        line.trim() == "*"
            || line.split(',').map(str::trim).any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let tag = etag(b"{}", false).unwrap();
        let text = tag.to_str().unwrap();
        assert_ne!(Some(&tag), etag(b"{}", true).as_ref());
        assert_ne!(Some(&tag), etag(b"{ }", false).as_ref());
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, &tag)
        };
        assert!(
            known(text) && known("*") && known(&format!("W/{text}")) && known(&format!("\"a,b\", {text}"))
        );
        assert!(!known("\"other\"") && !known("") && !known(text.trim_matches('"')));
        assert!(!is_known(&HeaderMap::new(), &tag));
    }
}
