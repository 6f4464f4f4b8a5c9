//! What the face does to answers.

use http::{Request, Response};
use http_body_util::BodyExt as _;

use super::*;
use crate::body::StreamError;

const RPC: &str = "paymesh.payments.v1.PaymentService/ListPayments";

fn face(change: impl FnOnce(&mut HttpConfig)) -> Face {
    let mut config = HttpConfig::default();
    change(&mut config);
    let pool = paymesh_proto::descriptor_pool();
    let methods: Vec<(Arc<str>, MethodDescriptor)> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| (format!("{}/{}", method.parent_service().full_name(), method.name()).into(), method))
        .collect();
    Face::new(&config, methods.iter().map(|(name, method)| (name, method))).unwrap()
}

fn request(method: Method, headers: &[(&'static str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/v1/payments");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn json(length: usize) -> Answer {
    let mut answer = Response::new(full(vec![b'a'; length]));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn finish(face: &Face, request: &Parts, kind: Kind, answer: Answer) -> Answer {
    face.finish(request, &RPC.into(), kind, false, answer)
}

fn text<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn length(answer: Answer) -> usize {
    answer.into_body().collect().await.unwrap().to_bytes().len()
}

#[tokio::test]
async fn a_read_that_is_known_already_is_a_304_without_a_body() {
    let face = face(|_| {});
    let first = finish(&face, &request(Method::GET, &[]), Kind::Rpc, json(100));
    let tag = text(&first, "etag").unwrap().to_owned();
    let again = request(Method::GET, &[("if-none-match", &tag)]);
    let answer = finish(&face, &again, Kind::Rpc, json(100));
    assert_eq!((answer.status(), text(&answer, "etag")), (StatusCode::NOT_MODIFIED, Some(&*tag)));
    assert_eq!(text(&answer, "cache-control"), Some("no-store"));
    assert_eq!(length(answer).await, 0);
    let changed = finish(&face, &again, Kind::Rpc, json(101));
    assert_eq!((changed.status(), length(changed).await), (StatusCode::OK, 101));
    let head = request(Method::HEAD, &[("if-none-match", &tag)]);
    assert_eq!(finish(&face, &head, Kind::Rpc, json(100)).status(), StatusCode::NOT_MODIFIED);
    for (method, kind) in [(Method::POST, Kind::Rpc), (Method::GET, Kind::Probe)] {
        let answer = finish(&face, &request(method, &[("if-none-match", "*")]), kind, json(100));
        assert_eq!((answer.status(), text(&answer, "etag")), (StatusCode::OK, None));
    }
}

#[tokio::test]
async fn only_large_reads_without_secrets_are_packed() {
    let face = face(|_| {});
    let takes = [("accept-encoding", "gzip")];
    let packed = finish(&face, &request(Method::GET, &takes), Kind::Rpc, json(5_000));
    assert_eq!(
        (text(&packed, "content-encoding"), text(&packed, "vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    let (packed_tag, packed_length) = (text(&packed, "etag").unwrap().to_owned(), length(packed).await);
    assert!(packed_length < 500);
    let plain = finish(&face, &request(Method::GET, &[]), Kind::Rpc, json(5_000));
    assert_eq!(text(&plain, "vary"), Some("Accept-Encoding"), "also where it was not packed");
    assert_ne!(text(&plain, "etag"), Some(&*packed_tag), "another representation");
    assert_eq!(length(plain).await, 5_000);

    let encoding = |method, kind, answer| {
        let answer = finish(&face, &request(method, &takes), kind, answer);
        text(&answer, "content-encoding").map(str::to_owned)
    };
    assert_eq!(encoding(Method::GET, Kind::Rpc, json(1_000)), None, "too small");
    assert_eq!(encoding(Method::POST, Kind::Rpc, json(5_000)), None, "it reflects what was sent");
    assert_eq!(encoding(Method::GET, Kind::Document, json(5_000)).as_deref(), Some("gzip"));
    let mut refused = json(5_000);
    *refused.status_mut() = StatusCode::NOT_FOUND;
    assert_eq!(encoding(Method::GET, Kind::Rpc, refused), None);
    let tokens = "paymesh.crypto.v1.CryptoService/Decrypt".into();
    let secret = face.finish(&request(Method::GET, &takes), &tokens, Kind::Rpc, false, json(5_000));
    let marked = face.sensitive.contains(&tokens);
    assert_eq!(text(&secret, "content-encoding").is_none(), marked, "as the contract marks it");
    assert!(!face.sensitive.is_empty(), "some answers hold secrets");
}

#[tokio::test]
async fn streams_are_left_as_they_are() {
    let face = face(|_| {});
    let frames =
        http_body_util::Full::from("a".repeat(5_000)).map_err(|never| -> StreamError { match never {} });
    let answer: Answer = Response::new(Either::Right(frames.boxed_unsync()));
    let answer = finish(&face, &request(Method::GET, &[("accept-encoding", "gzip")]), Kind::Rpc, answer);
    assert_eq!((text(&answer, "content-encoding"), text(&answer, "etag")), (None, None));
    assert_eq!(length(answer).await, 5_000);
}

#[test]
fn every_answer_protects_itself_and_may_say_otherwise() {
    let face = face(|_| {});
    let answer = finish(&face, &request(Method::POST, &[]), Kind::Rpc, json(1));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(text(&answer, name), Some(value), "{name}");
    }
    assert_eq!(
        text(&answer, "strict-transport-security"),
        None,
        "not over plain HTTP (RFC 6797, section 7.2)"
    );
    let request = request(Method::GET, &[]);
    let secure = face.finish(&request, &RPC.into(), Kind::Rpc, true, json(1));
    assert_eq!(text(&secure, "strict-transport-security"), Some("max-age=31536000"));
    let mut page = json(1);
    page.headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
    let page = finish(&face, &request, Kind::Document, page);
    assert_eq!(text(&page, "content-security-policy"), Some("default-src 'self'"));
    assert_eq!(text(&page, "cache-control"), Some("no-cache"), "kept, and asked about each time");
}

#[test]
fn heads_have_a_size() {
    let face = face(|config| {
        config.uri_bytes_max = 12;
        config.header_bytes_max = 20;
    });
    let reason = |request: &Parts| face.check_size(request).err().map(|fault| fault.reason());
    assert_eq!(reason(&request(Method::GET, &[("accept", "a")])), None);
    assert_eq!(
        reason(&request(Method::GET, &[("accept", "fifteen letters")])),
        Some(Reason::HeadersTooLarge)
    );
    let mut long = request(Method::GET, &[]);
    long.uri = "/v1/payments?".parse().unwrap();
    assert_eq!(reason(&long), Some(Reason::UriTooLong));
}

#[test]
fn browsers_are_answered_before_they_ask() {
    let face = face(|config| config.cors.origins = vec!["https://shop.example".to_owned()]);
    let asks = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let request = request(Method::OPTIONS, &headers);
        let answer = face.preflight(&request).unwrap();
        finish(&face, &request, Kind::Rpc, answer)
    };
    let answer = asks("https://shop.example");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(text(&answer, "access-control-allow-origin"), Some("https://shop.example"));
    assert!(text(&answer, "access-control-allow-headers").unwrap().contains("idempotency-key"));
    assert_eq!(text(&answer, "access-control-max-age"), Some("600"));
    let stranger = asks("https://evil.example");
    assert_eq!(text(&stranger, "access-control-allow-origin"), None);
    assert_eq!(text(&stranger, "access-control-allow-methods"), None);
    assert!(face.preflight(&request(Method::OPTIONS, &[("origin", "https://shop.example")])).is_none());
    let default =
        super::Face::new(&HttpConfig::default(), std::iter::empty::<(&Arc<str>, &MethodDescriptor)>());
    let headers = [("origin", "https://shop.example"), ("access-control-request-method", "POST")];
    assert!(default.unwrap().preflight(&request(Method::OPTIONS, &headers)).is_none(), "off by default");
}
