//! The header that credentials come in.

use http::HeaderValue;

use super::*;

fn credential(values: &[&[u8]]) -> Result<String, Failure> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    bearer(&headers).map(str::to_owned)
}

#[test]
fn a_credential_is_one_bearer() {
    assert_eq!(credential(&[b"Bearer a"]), Ok("a".into()));
    assert_eq!(credential(&[b"bearer  a"]), Ok("a".into()));
    assert_eq!(credential(&[]), Err(Failure::Missing));
    for wrong in [&b"Bearer"[..], b"Basic a", b"a", b"Bearer \xff", b"BearerX a"] {
        assert_eq!(credential(&[wrong]), Err(Failure::Malformed));
    }
    assert_eq!(credential(&[b"Bearer a", b"Bearer b"]), Err(Failure::Malformed), "two credentials are none");
}
