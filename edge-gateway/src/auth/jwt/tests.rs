//! Vectors of the standards, and a token with each mistake.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use money::Timestamp;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{
    jwk::{Algorithm, KeySet},
    token::{ClaimRules, Claims, TOKEN_BYTES_MAX, Token, TokenError},
};

const NOW: i64 = 1_800_000_000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(key: &Value) -> KeySet {
    KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).unwrap()
}

/// Whether the compact form verifies with the key.
fn verifies(key: &Value, algorithm: &str, jws: &str) -> bool {
    let (signed, signature) = jws.rsplit_once('.').unwrap();
    let algorithm = Algorithm::from_name(algorithm).unwrap();
    let (set, signature) = (set(key), URL_SAFE_NO_PAD.decode(signature).unwrap());
    set.find(None, algorithm).is_ok_and(|key| key.verify(algorithm, signed.as_bytes(), &signature))
}

const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

#[test]
fn the_examples_of_the_standards_verify_and_changed_ones_do_not() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{payload}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{payload}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let rsa = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"});
    let p256 = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    // RFC 7515, appendices A.2 and A.3; RFC 8037, appendix A.4.
    for (key, algorithm, jws) in
        [(&rsa, "RS256", &*rs256), (&p256, "ES256", &*es256), (&ed25519, "EdDSA", eddsa)]
    {
        assert!(verifies(key, algorithm, jws), "{algorithm}");
        assert!(!verifies(key, algorithm, &jws.replacen('I', "J", 1)), "{algorithm}");
        for (other, _, _) in [(&rsa, "", ""), (&p256, "", ""), (&ed25519, "", "")] {
            assert_eq!(verifies(other, algorithm, jws), other == key, "{algorithm} with another kind of key");
        }
    }
    assert!(!verifies(&rsa, "RS512", &rs256) && !verifies(&rsa, "PS256", &rs256));
    assert_eq!(Token::parse(&rs256).unwrap().issuer(), Some("joe"));
}

#[test]
fn keys_that_are_not_for_signatures_or_are_too_weak_are_not_used() {
    let rsa = |more: Value| {
        let mut key = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set(&key).len()
    };
    assert_eq!(rsa(json!({"use": "sig", "key_ops": ["verify"], "alg": "RS256"})), 1);
    for wrong in [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "HS256"}),
        json!({"alg": "none"}),
        json!({"alg": "ES256"}),
        json!({"n": "!"}),
    ] {
        assert_eq!(rsa(wrong.clone()), 0, "{wrong}");
    }
    for wrong in [
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!({"kty": 1}),
        json!("text"),
    ] {
        assert_eq!(set(&wrong).len(), 0, "{wrong}");
    }
    assert!(KeySet::parse(b"{}").is_none() && KeySet::parse(b"[]").is_none());
    // A key that the issuer dedicates to one algorithm is for no other of its kind.
    let dedicated = set(&json!({"kty": "RSA", "n": RSA_N, "e": "AQAB", "alg": "PS256", "kid": "a"}));
    assert!(dedicated.find(Some("a"), Algorithm::Ps256).is_ok());
    assert_eq!(dedicated.find(Some("a"), Algorithm::Rs256).err(), Some(TokenError::Algorithm));
    assert_eq!(dedicated.find(Some("b"), Algorithm::Ps256).err(), Some(TokenError::UnknownKey));
}

struct Signer {
    pair: Ed25519KeyPair,
    keys: KeySet,
}

impl Signer {
    fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let x = encode(pair.public_key().as_ref());
        Self { pair, keys: set(&json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one"})) }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature.as_ref()))
    }

    fn check(&self, token: &str) -> Result<Claims, TokenError> {
        let token = Token::parse(token)?;
        let rules = ClaimRules {
            issuer: "https://id.example.com".into(),
            audiences: vec!["paymesh".into(), "https://pay.example.com".into()],
            types: vec!["at+jwt".into()],
            tenant_claim: "tenant".into(),
            tenants: vec!["acme".parse().unwrap(), "initech".parse().unwrap()],
            scopes_max: vec!["payments:*".parse().unwrap(), "tax:read".parse().unwrap()],
            clock_skew_s: 30,
        };
        let key = self.keys.find(token.kid.as_deref(), token.algorithm)?;
        token.verify(key, &rules, Timestamp::from_seconds(NOW))
    }
}

fn with(mut object: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        // Null takes a member away.
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value.clone(),
        }
    }
    object
}

#[test]
fn every_claim_and_header_is_checked() {
    let signer = Signer::new();
    let header = json!({"alg": "EdDSA", "kid": "one", "typ": "at+jwt"});
    let claims = json!({
        "iss": "https://id.example.com", "aud": "paymesh", "sub": "app-1", "tenant": "acme", "exp": NOW + 60,
        "iat": NOW, "scope": "openid payments:read tax:write *",
    });
    let of = |change_header: Value, change_claims: Value| {
        signer
            .check(&signer.sign(&with(header.clone(), &change_header), &with(claims.clone(), &change_claims)))
    };
    let right = of(json!({}), json!({})).unwrap();
    assert_eq!((right.tenant.as_str(), right.subject.as_str()), ("acme", "app-1"));
    let scopes: Vec<&str> = right.scopes.iter().map(crate::auth::scope::Scope::as_str).collect();
    assert_eq!(scopes, ["payments:*", "payments:read", "tax:read"], "no more than the issuer may give");
    for (header, claims) in [
        (json!({"kid": null}), json!({})),
        (json!({"typ": "application/AT+JWT"}), json!({})),
        (json!({"alg": "Ed25519"}), json!({})),
        (json!({}), json!({"aud": ["other", "https://pay.example.com"]})),
        (json!({}), json!({"exp": NOW - 29})),
        (json!({}), json!({"exp": NOW as f64 + 0.5, "nbf": NOW + 30, "iat": NOW + 30})),
        (json!({}), json!({"iat": null, "scope": null})),
    ] {
        assert!(of(header.clone(), claims.clone()).is_ok(), "{header} {claims}");
    }
    assert_eq!(of(json!({}), json!({"scope": null, "scp": ["tax:read"]})).unwrap().scopes.len(), 1);
    for (header, claims, error) in [
        (json!({"alg": "none"}), json!({}), TokenError::Algorithm),
        (json!({"alg": "HS256"}), json!({}), TokenError::Algorithm),
        (json!({"alg": "eddsa"}), json!({}), TokenError::Algorithm),
        (json!({"alg": "RS256"}), json!({}), TokenError::Algorithm),
        (json!({"alg": null}), json!({}), TokenError::Malformed),
        (json!({"kid": "two"}), json!({}), TokenError::UnknownKey),
        (json!({"crit": ["exp"]}), json!({}), TokenError::Critical),
        (json!({"crit": []}), json!({}), TokenError::Critical),
        (json!({"typ": "JWT"}), json!({}), TokenError::Type),
        (json!({"typ": null}), json!({}), TokenError::Type),
        (json!({}), json!({"iss": "https://id.example.com/"}), TokenError::UnknownIssuer),
        (json!({}), json!({"iss": null}), TokenError::UnknownIssuer),
        (json!({}), json!({"aud": "other"}), TokenError::Audience),
        (json!({}), json!({"aud": ["other"]}), TokenError::Audience),
        (json!({}), json!({"aud": null}), TokenError::Audience),
        (json!({}), json!({"exp": NOW - 30}), TokenError::Expired),
        (json!({}), json!({"exp": null}), TokenError::Claims),
        (json!({}), json!({"exp": (NOW + 60).to_string()}), TokenError::Claims),
        (json!({}), json!({"nbf": NOW + 31}), TokenError::NotYetValid),
        (json!({}), json!({"iat": NOW + 31}), TokenError::NotYetValid),
        (json!({}), json!({"tenant": null}), TokenError::Tenant),
        (json!({}), json!({"tenant": "Acme/../globex"}), TokenError::Tenant),
        (json!({}), json!({"tenant": ["acme"]}), TokenError::Tenant),
        (json!({}), json!({"tenant": "globex"}), TokenError::Tenant),
        (json!({}), json!({"sub": null}), TokenError::Claims),
        (json!({}), json!({"sub": ""}), TokenError::Claims),
    ] {
        assert_eq!(of(header.clone(), claims.clone()), Err(error), "{header} {claims}");
    }
}

#[test]
fn texts_that_are_no_tokens_and_signatures_that_are_none_are_refused() {
    let signer = Signer::new();
    let token = signer.sign(
        &json!({"alg": "EdDSA", "typ": "at+jwt"}),
        &json!({"iss": "https://id.example.com", "aud": "paymesh", "sub": "a", "tenant": "acme", "exp": NOW + 60}),
    );
    assert!(signer.check(&token).is_ok());
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(signer.check(&format!("{signed}.")), Err(TokenError::Signature));
    assert_eq!(signer.check(&format!("{signed}.{}", encode([0; 64]))), Err(TokenError::Signature));
    let (first, rest) = token.split_once('.').unwrap();
    for wrong in [
        String::new(),
        "..".into(),
        "a.b".into(),
        format!("{token}="),
        format!("{first}.{rest}.x"),
        format!("{}.{rest}", encode(r#"{"alg":"EdDSA","alg":"none"}"#)),
        format!("{}.{rest}", encode("[]")),
        format!("{first}.{}.", encode("[]")),
    ] {
        assert_eq!(signer.check(&wrong), Err(TokenError::Malformed), "{wrong}");
    }
    let padding = "x".repeat(TOKEN_BYTES_MAX);
    let large = signer.sign(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &json!({"padding": padding}));
    assert_eq!(signer.check(&large), Err(TokenError::TooLarge));
}

/// A public key's bytes are no HMAC secret, and its RSA signatures are not taken by another algorithm.
#[test]
fn algorithms_are_not_confused() {
    use ring::{hmac, rand::SystemRandom, rsa::PublicKeyComponents, signature as s};

    let der =
        base64::engine::general_purpose::STANDARD.decode(include_str!("test_rsa_key.txt").replace('\n', ""));
    let pair = s::RsaKeyPair::from_pkcs8(&der.unwrap()).unwrap();
    let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let key = json!({"kty": "RSA", "n": encode(&n), "e": encode(&e)});
    let sign = |algorithm: &'static dyn s::RsaEncoding, name: &str| {
        let signed = format!("{}.{}", encode(json!({"alg": name}).to_string()), encode("{}"));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(algorithm, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", encode(signature))
    };
    let all: [(&'static dyn s::RsaEncoding, &str); 6] = [
        (&s::RSA_PKCS1_SHA256, "RS256"),
        (&s::RSA_PKCS1_SHA384, "RS384"),
        (&s::RSA_PKCS1_SHA512, "RS512"),
        (&s::RSA_PSS_SHA256, "PS256"),
        (&s::RSA_PSS_SHA384, "PS384"),
        (&s::RSA_PSS_SHA512, "PS512"),
    ];
    for (algorithm, name) in all {
        let jws = sign(algorithm, name);
        for (_, other) in all {
            assert_eq!(verifies(&key, other, &jws), name == other, "{name} taken as {other}");
        }
    }
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode("{}"));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &n), signed.as_bytes());
    assert_eq!(
        Token::parse(&format!("{signed}.{}", encode(tag.as_ref()))).err(),
        Some(TokenError::Algorithm)
    );
}
