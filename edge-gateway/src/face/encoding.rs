//! gzip (RFC 1952), both ways: answers for clients that take it, bodies of clients that send it.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http::{HeaderMap, header};

/// Why a request's body cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpacking {
    /// It is in an encoding other than gzip.
    Unknown,
    /// It is not what it says it is.
    Malformed,
    /// It would be larger than allowed.
    TooLarge,
}

/// The body as it was before it was encoded. Unpacks no more than `bytes_max`, however much there would be.
pub(crate) fn unpacked(headers: &HeaderMap, body: Bytes, bytes_max: usize) -> Result<Bytes, Unpacking> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(body) };
    let coding = coding.to_str().unwrap_or_default().trim();
    if codings.next().is_some() {
        return Err(Unpacking::Unknown);
    }
    if coding.eq_ignore_ascii_case("identity") {
        return Ok(body);
    }
    if !coding.eq_ignore_ascii_case("gzip") && !coding.eq_ignore_ascii_case("x-gzip") {
        return Err(Unpacking::Unknown);
    }
    let mut unpacked = Vec::new();
    let read_max = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let reading = MultiGzDecoder::new(&body[..]).take(read_max).read_to_end(&mut unpacked);
    match reading {
        _ if unpacked.len() > bytes_max => Err(Unpacking::TooLarge),
        Ok(_) => Ok(unpacked.into()),
        Err(_) => Err(Unpacking::Malformed),
    }
}

/// The bytes as gzip, quickly rather than tightly.
pub(crate) fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut packed = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::fast());
    packed.write_all(bytes).ok()?;
    packed.finish().ok().map(Bytes::from)
}

/// Whether the client takes gzip (RFC 9110, section 12.5.3): named, or by `*`, with a weight that is not 0.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, None);
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    for element in lines.flat_map(|line| line.to_str().unwrap_or_default().split(',')) {
        let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
        let weight = parameters.trim().strip_prefix("q=").or(parameters.trim().strip_prefix("Q="));
        let wanted = weight.is_none_or(|weight| weight.bytes().any(|byte| matches!(byte, b'1'..=b'9')));
        match coding.trim() {
            "*" => any = Some(wanted),
            coding if coding.eq_ignore_ascii_case("gzip") => named = Some(wanted),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: http::HeaderName, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn accept_encoding_is_read_by_its_weights() {
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&with(header::ACCEPT_ENCODING, value)), takes, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_was_packed_is_unpacked_up_to_the_limit() {
        let plain = Bytes::from(vec![b'a'; 10_000]);
        let packed = gzip(&plain).unwrap();
        assert!(packed.len() < 200);
        let headers = with(header::CONTENT_ENCODING, "gzip");
        assert_eq!(unpacked(&headers, packed.clone(), 10_000), Ok(plain.clone()));
        assert_eq!(unpacked(&headers, packed.clone(), 9_999), Err(Unpacking::TooLarge));
        assert_eq!(unpacked(&headers, packed.slice(..50), 10_000), Err(Unpacking::Malformed));
        assert_eq!(unpacked(&headers, plain.clone(), 10_000), Err(Unpacking::Malformed));
        let identity = with(header::CONTENT_ENCODING, "identity");
        assert_eq!(unpacked(&identity, plain.clone(), 10), Ok(plain.clone()));
        for other in ["br", "gzip, gzip", "deflate", ""] {
            let headers = with(header::CONTENT_ENCODING, other);
            assert_eq!(unpacked(&headers, plain.clone(), 10_000), Err(Unpacking::Unknown), "{other}");
        }
    }

    /// A thousandfold: 16 MiB in 72 KiB, and more of the same behind it.
    #[test]
    fn a_bomb_is_not_unpacked() {
        let member = gzip(&vec![0; 16 * 1024 * 1024]).unwrap();
        let bomb = Bytes::from([&member[..], &member[..]].concat());
        let headers = with(header::CONTENT_ENCODING, "gzip");
        assert_eq!(unpacked(&headers, bomb, 1024 * 1024), Err(Unpacking::TooLarge));
    }
}
