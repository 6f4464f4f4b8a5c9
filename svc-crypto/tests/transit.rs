//! The transit engine as root of trust, held against HashiCorp Vault's own (`cargo xtask servers`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use mesh::outbound::Outbound;
use serde_json::{Value, json};
use svc_crypto::{
    domain::{rooted, secret::KeyBytes},
    root::{Failure, RootOfTrust as _, Transit, TransitConfig},
};

const CONTEXT: &[u8] = b"the place of the key";
const TIMEOUT: Duration = Duration::from_secs(30);

/// The server, asked as its root.
struct Server {
    url: String,
    directory: PathBuf,
    outbound: Outbound,
}

impl Server {
    fn open() -> Self {
        let address = std::env::var("PAYMESH_TEST_VAULT_URL")
            .expect("run by `cargo xtask test`, or `cargo xtask servers -- …`");
        let (url, directory) = address.split_once('#').unwrap();
        let directory = PathBuf::from(directory);
        let outbound = Outbound::new([directory.join("ca.pem").as_path()], TIMEOUT, 1 << 20).unwrap();
        Self { url: url.to_owned(), directory, outbound }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let token = fs::read_to_string(self.directory.join("root-token")).unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.url))
            .header("x-vault-token", token.trim())
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let answer = self.outbound.send(request).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    async fn done(&self, method: Method, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// A token that may do only this, in a file.
    async fn token(&self, dir: &Path, name: &str, policy: &str) -> PathBuf {
        self.done(Method::PUT, &format!("sys/policies/acl/{name}"), &json!({ "policy": policy })).await;
        let made = self.done(Method::POST, "auth/token/create", &json!({ "policies": [name] })).await;
        let file = dir.join(name);
        fs::write(&file, made["auth"]["client_token"].as_str().unwrap()).unwrap();
        file
    }
}

fn key(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

/// One test, as a server is sealed in it.
#[tokio::test]
async fn it_wraps_with_the_engine_and_tells_its_refusals_apart() {
    let (server, dir) = (Server::open(), tempfile::tempdir().unwrap());
    let mount = format!("transit-{}", std::process::id());
    server.done(Method::POST, &format!("sys/mounts/{mount}"), &json!({ "type": "transit" })).await;
    server.done(Method::POST, &format!("{mount}/keys/root"), &json!({})).await;
    server.done(Method::POST, &format!("{mount}/keys/rsa"), &json!({ "type": "rsa-2048" })).await;
    server.done(Method::POST, &format!("{mount}/keys/chacha"), &json!({ "type": "chacha20-poly1305" })).await;
    let policy = ["root", "rsa", "chacha", "absent"].map(|key| {
        format!(
            "path \"{mount}/encrypt/{key}\" {{ capabilities = [\"update\"] }}\n\
             path \"{mount}/decrypt/{key}\" {{ capabilities = [\"update\"] }}\n"
        )
    });
    let token = server.token(dir.path(), "may", &policy.concat()).await;
    let config = |key: &str| TransitConfig {
        address: server.url.clone(),
        mount: mount.clone(),
        key: key.into(),
        token_file: Some(token.clone()),
        ca_file: server.directory.join("ca.pem"),
        ..TransitConfig::default()
    };
    let open = |config: &TransitConfig| Transit::new("root.transit", config, TIMEOUT).unwrap();
    let root = open(&config("root"));

    for name in ["chacha", "root"] {
        let root = open(&config(name));
        let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();
        let (stamp, body) = rooted::read(&wrapped).unwrap();
        assert_eq!((stamp.root.as_str(), &*stamp.version), (&*format!("transit:{mount}/{name}"), "1"));
        assert_eq!(root.unwrap(CONTEXT, &wrapped).await.unwrap().expose(), key(7).expose());
        assert_eq!(root.unwrap(b"another place", &wrapped).await.unwrap_err(), Failure::Tampered, "{name}");
        let mut changed = body.to_vec();
        let at = changed.len() - 8;
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = rooted::encode(&stamp, &changed);
        assert_eq!(root.unwrap(CONTEXT, &changed).await.unwrap_err(), Failure::Tampered, "{name}");
    }
    let wrapped = root.wrap(CONTEXT, &key(7)).await.unwrap();

    // A new version of the key wraps, and the old one still unwraps.
    server.done(Method::POST, &format!("{mount}/keys/root/rotate"), &json!({})).await;
    let anew = root.wrap(CONTEXT, &key(7)).await.unwrap();
    assert_eq!(rooted::read(&anew).unwrap().0.version, "2");
    for wrapped in [&wrapped, &anew] {
        assert_eq!(root.unwrap(CONTEXT, wrapped).await.unwrap().expose(), key(7).expose());
    }
    // One that was put out of use is refused, and is no sign of tampering.
    let least = json!({ "min_decryption_version": 2 });
    server.done(Method::POST, &format!("{mount}/keys/root/config"), &least).await;
    assert!(matches!(root.unwrap(CONTEXT, &wrapped).await, Err(Failure::Refused(_))));
    assert_eq!(root.unwrap(CONTEXT, &anew).await.unwrap().expose(), key(7).expose());

    // Keys that are not there, or cannot bind a place, are refused, and none is made.
    for key_name in ["absent", "rsa"] {
        let refused = open(&config(key_name)).wrap(CONTEXT, &key(7)).await.unwrap_err();
        assert!(matches!(refused, Failure::Refused(_)), "{key_name}: {refused}");
    }
    let (status, _) = server.ask(Method::GET, &format!("{mount}/keys/absent"), &json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    // Who may not, may not; a token that is put in the file's place is used at once.
    let none = server.token(dir.path(), "may-not", "path \"nothing\" { capabilities = [\"deny\"] }").await;
    let file = dir.path().join("token");
    fs::copy(&none, &file).unwrap();
    let root = open(&TransitConfig { token_file: Some(file.clone()), ..config("root") });
    assert!(matches!(root.unwrap(CONTEXT, &anew).await, Err(Failure::Refused(_))));
    fs::copy(&token, &file).unwrap();
    assert_eq!(root.unwrap(CONTEXT, &anew).await.unwrap().expose(), key(7).expose());

    // Another authority's server is not asked.
    let other = authority_of_another(dir.path());
    let root = open(&TransitConfig { ca_file: other, ..config("root") });
    assert!(matches!(root.unwrap(CONTEXT, &anew).await, Err(Failure::Unreachable(_))));

    // A server that is sealed itself does not answer, and does again when it is unsealed.
    let root = open(&config("root"));
    server.done(Method::PUT, "sys/seal", &json!({})).await;
    assert!(matches!(root.unwrap(CONTEXT, &anew).await, Err(Failure::Unreachable(_))));
    let unseal = fs::read_to_string(server.directory.join("unseal-key")).unwrap();
    server.done(Method::PUT, "sys/unseal", &json!({ "key": unseal.trim() })).await;
    let until = tokio::time::Instant::now() + TIMEOUT;
    let again = loop {
        match root.unwrap(CONTEXT, &anew).await {
            Err(Failure::Unreachable(_)) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answered => break answered.unwrap(),
        }
    };
    assert_eq!(again.expose(), key(7).expose());
    server.done(Method::DELETE, &format!("sys/mounts/{mount}"), &json!({})).await;
}

/// The authority of somebody else.
fn authority_of_another(dir: &Path) -> PathBuf {
    mesh::pki::CertificateAuthority::open_or_create(&dir.join("other"), mesh::Clock::now(&mesh::SystemClock))
        .unwrap();
    dir.join("other/ca.pem")
}
