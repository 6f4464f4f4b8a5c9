//! A receiver of webhooks: hyper over TLS on loopback, which does what it is told.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The name in the receivers' certificates.
pub(crate) const HOST: &str = "hooks.example";

/// What a receiver does with a webhook.
#[derive(Clone)]
pub(crate) enum Does {
    /// Answers: status, headers, body.
    Answers(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Never answers.
    Hangs,
    /// Says 200 and the beginning of a body that does not go on.
    HangsInBody,
    /// Says 200 and does not stop talking.
    TalksOn,
    /// Closes the connection without an answer.
    BreaksOff,
    /// Says back what it was sent.
    Echoes,
}

/// A webhook as it came.
pub(crate) struct Came {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Bytes,
}

/// A receiver.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    came: Arc<Mutex<Vec<Came>>>,
    ca: PathBuf,
    _dir: tempfile::TempDir,
}

impl Receiver {
    pub(crate) async fn start(does: Does) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (Arc::clone(&came), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, does, seen) = (acceptor.clone(), does.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| answer(does.clone(), Arc::clone(&seen), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, connections, came, ca, _dir: dir }
    }

    /// The file of the authority of its certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.ca.clone()
    }

    /// What came since it was asked last.
    pub(crate) fn came(&self) -> Vec<Came> {
        std::mem::take(&mut *self.came.lock().unwrap())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    does: Does,
    seen: Arc<Mutex<Vec<Came>>>,
    request: Request<Incoming>,
) -> Result<Answer, &'static str> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| "no body")?.to_bytes();
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let path = head.uri.to_string();
    seen.lock().unwrap().push(Came { method: head.method.to_string(), path, headers, body: body.clone() });
    let ok = |body| Ok(Response::new(body));
    match does {
        Does::Answers(status, headers, text) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            Ok(response.body(Full::new(Bytes::from(text)).boxed()).unwrap())
        }
        Does::Hangs => std::future::pending().await,
        Does::BreaksOff => Err("breaks off"),
        Does::HangsInBody => ok(Talk { says: Some("beginning".into()), on: false }.boxed()),
        Does::TalksOn => ok(Talk { says: Some(vec![b'x'; 10_000].into()), on: true }.boxed()),
        Does::Echoes => ok(Full::new(body).boxed()),
    }
}

/// A body that says the same, once or for ever, and never ends.
struct Talk {
    says: Option<Bytes>,
    on: bool,
}

impl Body for Talk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let says = if self.on { self.says.clone() } else { self.says.take() };
        says.map_or(std::task::Poll::Pending, |says| std::task::Poll::Ready(Some(Ok(Frame::data(says)))))
    }
}

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
