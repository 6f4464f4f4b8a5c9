//! A double of the transit engine, to be away, to refuse and to be broken off at will. What the real one does is held
//! against the real one in `tests/transit.rs`.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use svc_crypto::root::{RootConfig, TransitConfig};

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it should.
    Serving,
    /// That it is sealed itself.
    Sealed,
    /// That the token may not.
    Forbidden,
    /// As it should, but it does not look at the associated data.
    Unbound,
    /// As a key of chacha20-poly1305 does.
    ChaCha,
    /// As it should so many times, and then that it is sealed.
    ServingTimes(u32),
}

struct State {
    mode: Mode,
    version: u32,
    asked: u32,
    /// Ciphertext → plaintext and associated data.
    made: HashMap<String, (Value, Value)>,
}

/// The double. It ends with the test.
#[derive(Clone)]
pub(crate) struct Double {
    address: String,
    token_file: PathBuf,
    state: Arc<Mutex<State>>,
}

const TOKEN: &str = "s.a-token-of-the-double";

impl Double {
    /// Listens on loopback; the token that it takes is in a file in `dir`.
    pub(crate) async fn start(dir: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let token_file = dir.join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let state = State { mode: Mode::Serving, version: 1, asked: 0, made: HashMap::new() };
        let double = Self { address, token_file, state: Arc::new(Mutex::new(state)) };
        let serving = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let double = double.clone();
                        async move { Ok::<_, Infallible>(double.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        double
    }

    pub(crate) fn becomes(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    /// The key gets a new version.
    pub(crate) fn rotates(&self) {
        self.state.lock().unwrap().version += 1;
    }

    pub(crate) fn asked(&self) -> u32 {
        self.state.lock().unwrap().asked
    }

    /// The configuration of a root that is a key of it.
    pub(crate) fn root(&self, key: &str) -> RootConfig {
        let transit = TransitConfig {
            address: self.address.clone(),
            key: key.into(),
            token_file: Some(self.token_file.clone()),
            ..TransitConfig::default()
        };
        RootConfig { transit: Some(transit), ..RootConfig::default() }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let refused = |status: StatusCode, why: &str| (status, json!({ "errors": [why] }));
        match &mut state.mode {
            Mode::ServingTimes(0) => state.mode = Mode::Sealed,
            Mode::ServingTimes(left) => *left -= 1,
            _ => {}
        }
        let (status, answer) = match state.mode {
            Mode::Sealed => refused(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"),
            Mode::Forbidden => refused(StatusCode::FORBIDDEN, "permission denied"),
            _ if head.headers.get("x-vault-token").is_none_or(|token| token != TOKEN) => {
                refused(StatusCode::FORBIDDEN, "permission denied")
            }
            _ => match head.uri.path().strip_prefix("/v1/transit/").and_then(|path| path.split_once('/')) {
                Some(("encrypt", key)) => {
                    let ciphertext = format!("vault:v{}:{key}+{}", state.version, state.asked);
                    let made = (body["plaintext"].clone(), body["associated_data"].clone());
                    state.made.insert(ciphertext.clone(), made);
                    (StatusCode::OK, json!({ "data": { "ciphertext": ciphertext } }))
                }
                Some(("decrypt", _)) => {
                    let ciphertext = body["ciphertext"].as_str().unwrap();
                    match state.made.get(ciphertext) {
                        Some((plaintext, context))
                            if *context == body["associated_data"] || state.mode == Mode::Unbound =>
                        {
                            (StatusCode::OK, json!({ "data": { "plaintext": plaintext } }))
                        }
                        _ if state.mode == Mode::ChaCha => refused(
                            StatusCode::BAD_REQUEST,
                            "chacha20poly1305: message authentication failed",
                        ),
                        _ => refused(StatusCode::BAD_REQUEST, "cipher: message authentication failed"),
                    }
                }
                _ => refused(StatusCode::NOT_FOUND, "no handler for route"),
            },
        };
        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status;
        response
    }
}
