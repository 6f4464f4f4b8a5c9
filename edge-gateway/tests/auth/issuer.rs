//! An OpenID Connect provider: its discovery document, its keys, and tokens signed with them.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A private key and its name.
pub(crate) enum Key {
    Es256(String, EcdsaKeyPair),
    EdDsa(String, Ed25519KeyPair),
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub(crate) fn es256(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self::Es256(kid.to_owned(), pair.unwrap())
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(kid.to_owned(), Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn public(&self) -> Value {
        match self {
            Self::Es256(kid, pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y})
            }
            Self::EdDsa(kid, pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(pair.public_key().as_ref())})
            }
        }
    }

    /// A token of these claims; `change` is laid over the usual header.
    pub(crate) fn sign(&self, change: &Value, claims: &Value) -> String {
        let (alg, kid) = match self {
            Self::Es256(kid, _) => ("ES256", kid),
            Self::EdDsa(kid, _) => ("EdDSA", kid),
        };
        let mut header = json!({"alg": alg, "kid": kid, "typ": "at+jwt"});
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = match self {
            Self::Es256(_, pair) => {
                pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
            }
            Self::EdDsa(_, pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", encode(signature))
    }
}

#[derive(Default)]
struct State {
    base: String,
    keys: Mutex<Vec<Value>>,
    /// Then every answer is 503.
    down: Mutex<bool>,
    /// Laid over the discovery document.
    discovery: Mutex<Value>,
    key_requests: AtomicUsize,
    /// Then its keys are only sent when they are let go.
    held: AtomicBool,
    let_go: Notify,
    /// Somebody waits for the keys.
    asked: Notify,
}

/// A provider that runs.
pub(crate) struct Provider {
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        Self::start_with(keys, None).await
    }

    /// A provider that is `localhost`, over HTTPS; answers also with its certificate in PEM.
    pub(crate) async fn start_https(keys: &[&Key]) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self::start_with(keys, Some(acceptor)).await, made.cert.pem())
    }

    async fn start_with(keys: &[&Key], tls: Option<TlsAcceptor>) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = match tls {
            Some(_) => format!("https://localhost:{}/realms/one", address.port()),
            None => format!("http://{address}/realms/one"),
        };
        let state = Arc::new(State { base, discovery: Mutex::new(json!({})), ..State::default() });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request: Request<Incoming>| {
                    let state = Arc::clone(&state);
                    async move {
                        if request.uri().path().ends_with("/keys") && state.held.load(Ordering::SeqCst) {
                            state.asked.notify_one();
                            state.let_go.notified().await;
                        }
                        Ok::<_, Infallible>(answer(&state, &request))
                    }
                });
                let tls = tls.clone();
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    match tls {
                        None => http.serve_connection(TokioIo::new(stream), service).await.ok(),
                        Some(tls) => {
                            let stream = tls.accept(stream).await.ok()?;
                            http.serve_connection(TokioIo::new(stream), service).await.ok()
                        }
                    }
                });
            }
        });
        let provider = Self { state, task };
        provider.publish(keys);
        provider
    }

    pub(crate) fn url(&self) -> String {
        self.state.base.clone()
    }

    /// From now on these are its keys.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        *self.state.keys.lock().unwrap() = keys.iter().map(|key| key.public()).collect();
    }

    pub(crate) fn go_down(&self, down: bool) {
        *self.state.down.lock().unwrap() = down;
    }

    /// From now on, who asks for its keys waits until they are let go.
    pub(crate) fn hold_keys(&self) {
        self.state.held.store(true, Ordering::SeqCst);
    }

    /// Waits until somebody waits for its keys.
    pub(crate) async fn asked(&self) {
        self.state.asked.notified().await;
    }

    pub(crate) fn let_keys_go(&self) {
        self.state.held.store(false, Ordering::SeqCst);
        self.state.let_go.notify_waiters();
    }

    /// Lays these members over its discovery document.
    pub(crate) fn discover(&self, change: Value) {
        *self.state.discovery.lock().unwrap() = change;
    }

    /// How often its keys were asked for.
    pub(crate) fn key_requests(&self) -> usize {
        self.state.key_requests.load(Ordering::SeqCst)
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let body = |value: Value| Response::new(Full::from(value.to_string()));
    let refused = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if *state.down.lock().unwrap() {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    }
    let base = &state.base;
    match request.uri().path() {
        "/realms/one/.well-known/openid-configuration" => {
            let mut document =
                json!({"issuer": base, "jwks_uri": format!("{base}/keys"), "response_types_supported": []});
            let change = state.discovery.lock().unwrap().clone();
            document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            body(document)
        }
        "/realms/one/keys" => {
            state.key_requests.fetch_add(1, Ordering::SeqCst);
            body(json!({"keys": *state.keys.lock().unwrap()}))
        }
        _ => refused(StatusCode::NOT_FOUND),
    }
}
