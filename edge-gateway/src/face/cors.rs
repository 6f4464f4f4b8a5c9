//! Cross-origin requests: the CORS protocol of the Fetch standard, for origins that are named exactly.

use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use mesh::StartError;

use super::config::CorsConfig;
use crate::body::{Answer, full};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// What a page may send, and what clients of gRPC-web send besides.
const SENT: &str = "authorization, content-type, content-digest, idempotency-key, if-none-match, last-event-id, \
                    signature, signature-input, traceparent, x-request-id";
const SENT_BY_GRPC_WEB: &str = "grpc-timeout, x-grpc-web, x-user-agent";
/// What a page may read, and what clients of gRPC-web read besides.
const EXPOSED: &str = "allow, deprecation, etag, idempotency-replayed, ratelimit, ratelimit-policy, retry-after, \
                       sunset, www-authenticate, x-request-id";
const EXPOSED_TO_GRPC_WEB: &str = "grpc-message, grpc-status, grpc-status-details-bin";

/// Who may call from a page.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: HashSet<HeaderValue>,
    max_age: HeaderValue,
    request_headers: HeaderValue,
    exposed: HeaderValue,
}

impl Cors {
    /// `None` where no origin may.
    pub(crate) fn new(config: &CorsConfig, grpc_web: bool) -> Result<Option<Self>, StartError> {
        let origins: Result<HashSet<HeaderValue>, StartError> =
            config.origins.iter().map(|origin| origin_of(origin)).collect();
        let origins = origins?;
        let max_age = HeaderValue::from(config.max_age_s);
        let list = |names: &[&str]| {
            HeaderValue::try_from(names.join(", "))
                .map_err(|_| StartError::Config("http.cors: a list of headers is none".to_owned()))
        };
        let more = usize::from(grpc_web);
        let request_headers = list(&[SENT, SENT_BY_GRPC_WEB][..=more])?;
        let exposed = list(&[EXPOSED, EXPOSED_TO_GRPC_WEB][..=more])?;
        Ok((!origins.is_empty()).then_some(Self { origins, max_age, request_headers, exposed }))
    }

    /// The answer to a browser that asks before it sends the page's request. Such a question carries no
    /// credential, and the answer tells nothing of what there is.
    pub(crate) fn preflight(&self, parts: &Parts) -> Option<Answer> {
        let asks = parts.method == Method::OPTIONS
            && parts.headers.contains_key(header::ORIGIN)
            && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let mut answer = Response::new(full(""));
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        if self.allowed(&parts.headers).is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.request_headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Method"));
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        Some(answer)
    }

    /// Lets the page read the answer, if its origin may. Also without an `Origin`, caches are told that the
    /// answer depends on it.
    pub(crate) fn allow(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed(request) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.exposed.clone());
        }
    }

    fn allowed(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        self.origins.get(request.get(header::ORIGIN)?)
    }
}

/// `https://host` or `https://host:port`, or the same with http: an origin has no path, and a wildcard or
/// `null` would be everyone.
fn origin_of(text: &str) -> Result<HeaderValue, StartError> {
    let wrong = || {
        let message =
            "http.cors.origins: each must be an origin as browsers send it, such as https://shop.example";
        StartError::Config(message.to_owned())
    };
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let legal = matches!(uri.scheme_str(), Some("https" | "http"))
        && uri.authority().is_some_and(|authority| {
            !authority.as_str().contains(['@', '*'])
                && authority.as_str().bytes().all(|b| !b.is_ascii_uppercase())
        })
        && !text.ends_with('/')
        && text.matches('/').count() == 2
        && uri.query().is_none();
    if legal { HeaderValue::from_str(text).map_err(|_| wrong()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Result<Option<Cors>, StartError> {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Cors::new(&CorsConfig { origins, ..CorsConfig::default() }, false)
    }

    #[test]
    fn origins_are_exact() {
        for wrong in [
            "*",
            "null",
            "https://*.example",
            "https://shop.example/",
            "shop.example",
            "https://shop.example/path",
            "ftp://shop.example",
            "https://Shop.example",
            "https://a@b.example",
            "",
        ] {
            assert!(cors(&[wrong]).is_err(), "{wrong}");
        }
        assert!(cors(&[]).unwrap().is_none(), "off by default");
        let cors = cors(&["https://shop.example", "http://localhost:3000"]).unwrap().unwrap();
        let allowed = |origin: &'static str| {
            let mut request = HeaderMap::new();
            request.insert(header::ORIGIN, HeaderValue::from_static(origin));
            let mut answer = HeaderMap::new();
            cors.allow(&request, &mut answer);
            assert_eq!(answer["vary"], "Origin");
            assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
            answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed("https://shop.example").as_deref(), Some("https://shop.example"));
        assert_eq!(allowed("http://localhost:3000").as_deref(), Some("http://localhost:3000"));
        for stranger in
            ["https://shop.example.evil", "http://shop.example", "https://evil-shop.example", "null"]
        {
            assert_eq!(allowed(stranger), None, "{stranger}");
        }
    }
}
