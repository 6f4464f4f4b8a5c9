//! What a request's headers say of its body and of its idempotency.

use http::{HeaderMap, header};
use mesh::{Fault, IdempotencyKey, Reason, call::IDEMPOTENCY_KEY_HEADER};

use crate::transcode::Idempotency;

/// The key that the request carries, as the RPC demands.
pub(super) fn idempotency_key(
    rule: Idempotency,
    headers: &HeaderMap,
) -> Result<Option<IdempotencyKey>, Fault> {
    if rule == Idempotency::None {
        return Ok(None);
    }
    let mut given = headers.get_all(IDEMPOTENCY_KEY_HEADER).iter();
    match (given.next(), given.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default().parse().map(Some),
        (Some(_), Some(_)) => {
            Err(Fault::new(Reason::IdempotencyKeyInvalid, "The idempotency key cannot be used.")
                .violating("Idempotency-Key", "must be given once"))
        }
        (None, _) if rule == Idempotency::Required => {
            let message =
                "This operation moves money: send an Idempotency-Key header, so that a retry is safe.";
            Err(Fault::new(Reason::IdempotencyKeyRequired, message).violating(
                "Idempotency-Key",
                "is required: 1 to 255 visible ASCII characters, a new one per operation",
            ))
        }
        (None, _) => Ok(None),
    }
}

/// `application/json` or a type built on it (RFC 6839), in UTF-8. No type at all is taken as JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
            charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_told_by_its_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        for right in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(of(right), "{right}");
        }
        for wrong in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "application/jsonx",
            "",
        ] {
            assert!(!of(wrong), "{wrong}");
        }
        assert!(is_json(&HeaderMap::new()));
    }

    #[test]
    fn the_idempotency_key_follows_the_rpcs_promise() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY_HEADER, HeaderValue::from_static(value));
            }
            headers
        };
        let reason = |rule, values: &[&'static str]| match idempotency_key(rule, &headers(values)) {
            Ok(key) => Ok(key.map(|key| key.as_str().to_owned())),
            Err(fault) => Err((fault.reason(), fault.violations()[0].field.clone())),
        };
        let field = || "Idempotency-Key".to_owned();
        assert_eq!(reason(Idempotency::Required, &["k"]), Ok(Some("k".into())));
        assert_eq!(reason(Idempotency::Required, &[]), Err((Reason::IdempotencyKeyRequired, field())));
        assert_eq!(reason(Idempotency::Optional, &[]), Ok(None));
        assert_eq!(reason(Idempotency::Optional, &["a b"]), Err((Reason::IdempotencyKeyInvalid, field())));
        assert_eq!(reason(Idempotency::Required, &[""]), Err((Reason::IdempotencyKeyInvalid, field())));
        assert_eq!(reason(Idempotency::Required, &["a", "b"]), Err((Reason::IdempotencyKeyInvalid, field())));
        assert_eq!(reason(Idempotency::None, &["a b"]), Ok(None));
    }
}
