//! Azure Key Vault against a double of it, which refuses whatever is not shaped as the API's documents say.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::*;

const VERSIONS: [&str; 2] = ["78deebed173b48e48f55abf87ed4cf71", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"];
const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT: &str = "0c3fd2a8-8a60-43f4-8f9c-2d35ee0ff2c5";
const SECRET: &str = "a~secret+with/signs=&%";
const CONTEXT: &[u8] = b"the place of the key";

#[derive(Default)]
struct State {
    /// Which of the versions is the newest.
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
        let kid = |version: &str| format!("https://payments.vault.azure.net/keys/paymesh/{version}");
        match (&head.method, &segments[..]) {
            (&Method::GET, ["keys", "paymesh"]) => {
                (200, json!({ "key": { "kid": kid(VERSIONS[state.newest]), "kty": "RSA" } }))
            }
            (&Method::POST, ["keys", "paymesh", version, operation]) if VERSIONS.contains(version) => {
                let Ok(Value::Object(asked)) = serde_json::from_slice(body) else { return bad("body") };
                let (alg, value) = (asked["alg"].as_str().unwrap(), asked["value"].as_str().unwrap());
                let bytes = URL_SAFE_NO_PAD.decode(value);
                if content_type != Some("application/json") || alg != "RSA-OAEP-256" || bytes.is_err() {
                    return bad("alg or value");
                }
                match *operation {
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
    assert_eq!(root.name().as_str(), "azure:127.0.0.1/paymesh");
    let first = root.wrap(CONTEXT, &key(7)).await.unwrap();
    double.0.lock().unwrap().newest = 1;
    let second = root.wrap(CONTEXT, &key(7)).await.unwrap();
    for (wrapped, version) in [(&first, VERSIONS[0]), (&second, VERSIONS[1])] {
        assert_eq!(rooted::read(wrapped).unwrap().0.version, version);
        assert_eq!(root.unwrap(CONTEXT, wrapped).await.unwrap().expose(), key(7).expose());
        assert_eq!(root.unwrap(b"another place", wrapped).await.unwrap_err(), Failure::Tampered);
    }
    let (stamp, body) = rooted::read(&second).unwrap();
    let mut changed = body.to_vec();
    changed[3] ^= 1;
    assert_eq!(root.unwrap(CONTEXT, &rooted::encode(&stamp, &changed)).await.unwrap_err(), Failure::Tampered);
    let other = Stamp::new(stamp.root.clone(), VERSIONS[0]).unwrap();
    assert_eq!(root.unwrap(CONTEXT, &rooted::encode(&other, body)).await.unwrap_err(), Failure::Tampered);
    assert_eq!(double.0.lock().unwrap().logins, 1, "a token is used for as long as it is good");

    let pinned = open(&AzureConfig { key_version: Some(VERSIONS[0].into()), ..config });
    let wrapped = pinned.wrap(CONTEXT, &key(8)).await.unwrap();
    assert_eq!(rooted::read(&wrapped).unwrap().0.version, VERSIONS[0]);
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
    assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
    assert_eq!(double.0.lock().unwrap().logins, 2);
    double.0.lock().unwrap().revoked = true;
    std::fs::write(&file, "another").unwrap();
    assert!(matches!(root.unwrap(CONTEXT, &wrapped).await, Err(Failure::Refused(_))));
}

#[tokio::test]
async fn being_away_and_refusing_are_told_apart() {
    let (double, dir) = (Double::default(), tempfile::tempdir().unwrap());
    let root = open(&config(&double.start().await, dir.path()));
    let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();
    for (status, away) in [(429, true), (500, true), (503, true), (403, false), (404, false), (301, false)] {
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
