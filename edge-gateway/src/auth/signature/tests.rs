//! The test vectors of RFC 9421, appendix B, and what a signature has to cover.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Request;
use ring::hmac;

use super::*;
use crate::auth::keys::SignatureRecord;

const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----";
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf
w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END PUBLIC KEY-----";
const SHARED_SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

fn parse(input: &str) -> InnerList {
    let inputs: Dictionary = Parser::new(input).parse().unwrap();
    match inputs.into_iter().next().unwrap().1 {
        ListEntry::InnerList(list) => list,
        ListEntry::Item(_) => panic!("no inner list"),
    }
}

/// The `test-request` of appendix B.2.
fn test_request() -> Parts {
    let request = Request::post("/foo?param=Value&Pet=dog")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header("content-digest", "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:")
        .header("content-length", "18");
    request.body(()).unwrap().into_parts().0
}

fn public(algorithm: SignatureAlgorithm, pem: &str) -> VerifyingKey {
    let record = SignatureRecord { algorithm, public_key: Some(pem.into()) };
    VerifyingKey::new(&record, &[0; 32]).unwrap()
}

#[test]
fn the_bases_and_signatures_of_appendix_b() {
    let decode = |text| STANDARD.decode(text).unwrap();
    // B.2.5: HMAC, whose secret is longer than ours.
    let covered = parse(
        r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
    );
    let base = signature_base(&covered, &test_request(), "https").unwrap();
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &decode(SHARED_SECRET));
    assert!(
        hmac::verify(&key, base.as_bytes(), &decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=")).is_ok()
    );
    // B.2.6: Ed25519.
    let covered = parse(
        r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
    );
    let base = signature_base(&covered, &test_request(), "https").unwrap();
    let key = public(SignatureAlgorithm::Ed25519, ED25519_PEM);
    let signature =
        decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==");
    assert!(key.verify(base.as_bytes(), &signature));
    assert!(!key.verify(base.replace("POST", "PUT").as_bytes(), &signature));
    // B.2.3: all of a request; RSA itself is not offered.
    let covered = parse(
        r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
    );
    let base = signature_base(&covered, &test_request(), "https").unwrap();
    assert!(
        base.contains("\n\"@path\": /foo\n\"@query\": ?param=Value&Pet=dog\n\"@authority\": example.com\n")
    );
    // B.2.4: ECDSA, over a response, so its base is given.
    let base = "\"@status\": 200\n\"content-type\": application/json\n\"content-digest\": sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:\n\"content-length\": 23\n\"@signature-params\": (\"@status\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-ecc-p256\"";
    let key = public(SignatureAlgorithm::EcdsaP256Sha256, P256_PEM);
    let signature =
        decode("wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==");
    assert!(key.verify(base.as_bytes(), &signature));
}

#[test]
fn derived_components_are_those_of_section_2() {
    let mut parts = test_request();
    parts.headers.insert("host", http::HeaderValue::from_static("WWW.Example.com:443"));
    let covered = parse(r#"s=("@target-uri" "@request-target" "@scheme" "@authority")"#);
    assert_eq!(
        signature_base(&covered, &parts, "https").unwrap(),
        "\"@target-uri\": https://www.example.com/foo?param=Value&Pet=dog\n\"@request-target\": /foo?param=Value&Pet=dog\n\
         \"@scheme\": https\n\"@authority\": www.example.com\n\
         \"@signature-params\": (\"@target-uri\" \"@request-target\" \"@scheme\" \"@authority\")"
    );
    for wrong in [
        r#"s=("@query-param";name="Pet")"#,
        r#"s=("@status")"#,
        r#"s=("date";sf)"#,
        r#"s=("date" "date")"#,
        r#"s=("Date")"#,
        r#"s=("x-none")"#,
        "s=(date)",
    ] {
        assert!(signature_base(&parse(wrong), &parts, "https").is_err(), "{wrong}");
    }
}

const NOW: i64 = 1_800_000_000;
const ID: &str = "abcdefghijklmnop";

/// Signs with HMAC what `covered` says.
fn signed(mut parts: Parts, covered: &str) -> Parts {
    let input = format!("sig1={covered}");
    let base = signature_base(&parse(&input), &parts, "https").unwrap_or_default();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), base.as_bytes());
    let signature = format!("sig1=:{}:", STANDARD.encode(tag.as_ref()));
    parts.headers.insert("signature-input", input.parse().unwrap());
    parts.headers.insert("signature", signature.parse().unwrap());
    parts
}

fn check(parts: &Parts) -> Result<Signed, SignatureError> {
    let record = SignatureRecord { algorithm: SignatureAlgorithm::HmacSha256, public_key: None };
    let key = VerifyingKey::new(&record, &[7; 32]).unwrap();
    let rules = SignatureRules { scheme: "https", tolerance_s: 60 };
    verify(parts, ID.parse().unwrap(), &key, &rules, Timestamp::from_seconds(NOW))
}

#[test]
fn a_signature_must_cover_what_matters_and_be_fresh() {
    let all = r#"("@method" "@target-uri" "content-digest")"#;
    let usual = format!(r#"created={NOW};nonce="12345678";keyid="{ID}""#);
    let of = |covered: &str, parameters: &str| {
        check(&signed(test_request(), &format!("{covered};{parameters}"))).map(|_| ())
    };
    assert_eq!(of(all, &usual), Ok(()));
    assert_eq!(of(r#"("@method" "@authority" "@path" "@query" "content-digest")"#, &usual), Ok(()));
    assert_eq!(of(all, &format!(r#"{usual};alg="hmac-sha256""#)), Ok(()));
    for covered in [
        r#"("@target-uri" "content-digest")"#,
        r#"("@method" "content-digest")"#,
        r#"("@method" "@authority" "@path" "content-digest")"#,
        "()",
    ] {
        assert_eq!(of(covered, &usual), Err(SignatureError::Components), "{covered}");
    }
    for (parameters, error) in [
        (format!(r#"created={};nonce="12345678";keyid="{ID}""#, NOW - 61), SignatureError::Stale),
        (format!(r#"created={};nonce="12345678";keyid="{ID}""#, NOW + 61), SignatureError::Stale),
        (format!("{usual};expires={NOW}"), SignatureError::Stale),
        (format!(r#"{usual};expires="x""#), SignatureError::Parameters),
        (format!(r#"nonce="12345678";keyid="{ID}""#), SignatureError::Parameters),
        (format!(r#"created={NOW};keyid="{ID}""#), SignatureError::Parameters),
        (format!(r#"created={NOW};nonce="1234567";keyid="{ID}""#), SignatureError::Parameters),
        (format!(r#"{usual};alg="ed25519""#), SignatureError::Parameters),
        (format!("{usual};alg=1"), SignatureError::Parameters),
        (format!(r#"created={NOW};nonce="12345678";keyid="{}""#, "b".repeat(16)), SignatureError::Missing),
    ] {
        assert_eq!(of(all, &parameters), Err(error), "{parameters}");
    }
}

#[test]
fn nothing_that_was_signed_can_be_changed() {
    let covered = format!(
        r#"("@method" "@target-uri" "content-digest" "idempotency-key");created={NOW};nonce="12345678";keyid="{ID}""#
    );
    let mut parts = test_request();
    parts.headers.insert("idempotency-key", http::HeaderValue::from_static("k-1"));
    let right = signed(parts, &covered);
    let found = check(&right).unwrap();
    assert_eq!((found.nonce.as_str(), found.body.check(b"{\"hello\": \"world\"}")), ("12345678", Ok(())));
    assert_eq!(found.body.check(b"{\"hello\": \"World\"}"), Err(SignatureError::Body));
    let changed = |change: fn(&mut Parts)| {
        let mut parts = right.clone();
        change(&mut parts);
        check(&parts).map(|_| ())
    };
    let wrong = Err(SignatureError::Wrong);
    assert_eq!(changed(|parts| parts.method = http::Method::PUT), wrong);
    assert_eq!(changed(|parts| parts.uri = "/foo?param=Value".parse().unwrap()), wrong);
    assert_eq!(
        changed(|parts| {
            parts.headers.insert("idempotency-key", http::HeaderValue::from_static("k-2"));
        }),
        wrong
    );
    assert_eq!(
        changed(|parts| {
            parts.headers.insert("content-digest", http::HeaderValue::from_static("sha-256=:AAAA:"));
        }),
        wrong
    );
    assert_eq!(
        changed(|parts| {
            let input = parts.headers["signature-input"].to_str().unwrap().replace("12345678", "87654321");
            parts.headers.insert("signature-input", input.parse().unwrap());
        }),
        wrong
    );
    let missing = Err(SignatureError::Missing);
    assert_eq!(changed(|parts| drop(parts.headers.remove("signature"))), missing);
    assert_eq!(changed(|parts| drop(parts.headers.remove("signature-input"))), missing);
    let malformed = Err(SignatureError::Malformed);
    assert_eq!(
        changed(|parts| {
            parts.headers.insert("signature", http::HeaderValue::from_static("sig1=\"text\""));
        }),
        malformed
    );
    assert_eq!(
        changed(|parts| {
            let twice = parts.headers["signature-input"].to_str().unwrap();
            let twice = format!("{twice}, {}", twice.replacen("sig1", "sig2", 1));
            parts.headers.insert("signature-input", twice.parse().unwrap());
        }),
        malformed
    );
    // An idempotency key that was not signed is one that anybody may have put there.
    let mut added = signed(test_request(), &covered.replace(" \"idempotency-key\"", ""));
    assert!(check(&added).is_ok());
    added.headers.insert("idempotency-key", http::HeaderValue::from_static("k-1"));
    assert_eq!(check(&added), Err(SignatureError::Components));
}

#[test]
fn a_body_without_a_signed_digest_is_refused() {
    let covered = format!(r#"("@method" "@target-uri");created={NOW};nonce="12345678";keyid="{ID}""#);
    let found = check(&signed(test_request(), &covered)).unwrap();
    assert_eq!(found.body.check(b""), Ok(()));
    assert_eq!(found.body.check(b"{}"), Err(SignatureError::Body));
}

#[test]
fn a_public_key_must_be_one_of_its_algorithm() {
    use SignatureAlgorithm::{EcdsaP256Sha256, Ed25519, HmacSha256};
    for (algorithm, key) in [
        (Ed25519, Some(P256_PEM)),
        (EcdsaP256Sha256, Some(ED25519_PEM)),
        (Ed25519, Some("AAAA")),
        (Ed25519, None),
        (HmacSha256, Some(ED25519_PEM)),
    ] {
        let record = SignatureRecord { algorithm, public_key: key.map(Into::into) };
        assert!(VerifyingKey::check(&record).is_err(), "{record:?}");
    }
}
