//! An edge on a free port, a stand-in for svc-payments behind it, and a small HTTP client.

#![allow(dead_code)] // every test uses its own part

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use edge_gateway::{ApiKeyConfig, AuthConfig, EdgeConfig};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Body, Frame};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use mesh::{Call, Fault, Harness, Parts, Reason, ServiceContext, StartError, service::Running};
use paymesh_proto::payments::v1::{
    self as pb,
    payment_service_server::{PaymentService, PaymentServiceServer},
    webhook_service_server::{WebhookService, WebhookServiceServer},
};
use tokio::sync::Notify;
use tonic::{Response, Status};

/// The `Authorization` header of the tenant `acme`.
pub(crate) const KEY: &str = "Bearer sk_test";

type HttpBody = BoxBody<Bytes, std::convert::Infallible>;

/// Changes the configuration; the harness gives certificates.
type Configure = Box<dyn FnOnce(&mut EdgeConfig, &Harness)>;

/// What a test may change.
pub(crate) struct Options {
    pub(crate) request_timeout_ms: u64,
    pub(crate) header_timeout_ms: u64,
    pub(crate) connections_max: usize,
    pub(crate) http2: bool,
    pub(crate) streams_max: usize,
    pub(crate) stream_duration_max_ms: u64,
    pub(crate) stream_heartbeat_ms: u64,
    /// Stand-ins also for the services that these tests do not call.
    pub(crate) all_services: bool,
    pub(crate) auth: AuthConfig,
    /// Where the time comes from.
    pub(crate) clock: Arc<dyn mesh::Clock>,
    /// Whatever else is to be configured; the directory is there as long as the edge is.
    pub(crate) configure: Configure,
}

/// A running edge.
pub(crate) struct Edge {
    address: SocketAddr,
    running: Running,
    services: Vec<Running>,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, HttpBody>,
    pub(crate) backend: Arc<Signals>,
    harness: Harness,
    _dir: tempfile::TempDir,
}

impl Edge {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            request_timeout_ms: 20_000,
            header_timeout_ms: 10_000,
            connections_max: 100,
            http2: false,
            streams_max: 100,
            stream_duration_max_ms: 60_000,
            stream_heartbeat_ms: 60_000,
            all_services: false,
            auth: AuthConfig::default(),
            clock: Arc::new(mesh::SystemClock),
            configure: Box::new(|_, _| {}),
        };
        change(&mut options);
        let dir = tempfile::tempdir().unwrap();
        let mut harness = Harness::with_clock(dir.path(), Arc::clone(&options.clock)).unwrap();
        let backend = Arc::new(Signals::default());
        let mut services = vec![
            harness.start::<Payments>(SignalsConfig { signals: Some(Arc::clone(&backend)) }).await.unwrap(),
        ];
        for name in ["svc-crypto", "svc-ledger", "svc-tax"] {
            // Port 1 of the loopback has no listener.
            harness.add_upstream(name, "127.0.0.1:1");
        }
        if options.all_services {
            services.push(harness.start::<Crypto>(()).await.unwrap());
            services.push(harness.start::<Ledger>(()).await.unwrap());
            services.push(harness.start::<Tax>(()).await.unwrap());
        }
        let listener = mesh::server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let key = |tenant: &str, key| ApiKeyConfig::of_key(tenant.parse().unwrap(), "test", key);
        let mut config = EdgeConfig {
            listener: Some(listener),
            api_keys: vec![key("acme", "sk_test"), key("globex", "sk_other")],
            request_timeout_ms: options.request_timeout_ms,
            header_timeout_ms: options.header_timeout_ms,
            connections_max: options.connections_max,
            auth: options.auth,
            streams_max: options.streams_max,
            stream_duration_max_ms: options.stream_duration_max_ms,
            stream_heartbeat_ms: options.stream_heartbeat_ms,
            ..EdgeConfig::default()
        };
        (options.configure)(&mut config, &harness);
        let running = harness.start::<edge_gateway::Edge>(config).await.unwrap();
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.http2_only(options.http2).build_http();
        Self { address, running, services, client, backend, harness, _dir: dir }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        Builder { request, client: self.client.clone() }
    }

    /// A POST of JSON with the key of `acme`.
    pub(crate) fn post(&self, path: &str) -> Builder {
        self.request(Method::POST, path)
            .header("authorization", KEY)
            .header("content-type", "application/json")
    }

    /// A GET with the key of `acme`.
    pub(crate) fn get(&self, path: &str) -> Builder {
        self.request(Method::GET, path).header("authorization", KEY)
    }

    /// Where its clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics are.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.running.admin_address
    }

    /// A certificate of the CA that this edge's world has.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn certificate(&self, name: &str) -> mesh::pki::CertificateFiles {
        self.harness.certificate(name).unwrap()
    }

    /// A bare connection.
    pub(crate) async fn connect(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        drop(self.client);
        self.running.stop().await;
        for service in self.services {
            service.stop().await;
        }
    }
}

/// A request being made.
pub(crate) struct Builder {
    request: http::request::Builder,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, HttpBody>,
}

impl Builder {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) async fn send(self) -> Reply {
        self.body(Vec::new()).await
    }

    pub(crate) async fn json(self, body: &serde_json::Value) -> Reply {
        self.body(body.to_string()).await
    }

    pub(crate) async fn body(self, body: impl Into<Bytes>) -> Reply {
        self.exchange(Full::from(body.into()).boxed()).await
    }

    /// Without saying the length beforehand.
    pub(crate) async fn chunked(self, body: Vec<u8>) -> Reply {
        let chunks = body.chunks(64 * 1024).map(Bytes::copy_from_slice).collect();
        self.exchange(Chunks(chunks).boxed()).await
    }

    /// The answer's headers, and its body as it comes.
    pub(crate) async fn open(self) -> Open {
        let body: HttpBody = Full::default().boxed();
        let response = self.client.request(self.request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        Open { status: parts.status, headers: parts.headers, body, read: String::new() }
    }

    async fn exchange(self, body: HttpBody) -> Reply {
        let response = self.client.request(self.request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

/// A body whose length is not known beforehand.
struct Chunks(VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// An answer that is still coming.
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: hyper::body::Incoming,
    read: String,
}

impl Open {
    /// The text up to and with the next `end`; nothing where the body ended before.
    pub(crate) async fn next(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = self.read.find(end) {
                let rest = self.read.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.read, rest));
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            let frame = frame.await.unwrap()?;
            self.read.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Between a test and the stand-in: a call is there; it may go on.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) arrived: Notify,
    pub(crate) go_on: Notify,
    /// A stream's receiver went away.
    pub(crate) cancelled: Notify,
    /// How many messages of the endless stream were asked for.
    pub(crate) sent: std::sync::atomic::AtomicUsize,
    pub(crate) webhook: std::sync::Mutex<Option<(bool, pb::ReceiveWebhookRequest)>>,
}

/// The stand-in's configuration; only made by code.
#[derive(Default, serde::Deserialize)]
pub(crate) struct SignalsConfig {
    #[serde(skip)]
    signals: Option<Arc<Signals>>,
}

/// The stand-in: tells in `metadata` what it was called with; `reference` says how to behave.
struct Payments(Arc<Signals>);

impl mesh::Service for Payments {
    const NAME: &'static str = "svc-payments";
    type Config = SignalsConfig;

    async fn build(config: SignalsConfig, _: &ServiceContext) -> Result<Parts, StartError> {
        let signals = config.signals.unwrap_or_default();
        let webhooks = WebhookServiceServer::new(Self(Arc::clone(&signals)));
        Ok(Parts::new().serve(PaymentServiceServer::new(Self(signals))).serve(webhooks))
    }
}

macro_rules! idle_services {
    ($($service:ident = $name:literal),+) => {$(
        struct $service;
        impl mesh::Service for $service {
            const NAME: &'static str = $name;
            type Config = ();
            async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
                Ok(Parts::new())
            }
        }
    )+};
}

idle_services!(Crypto = "svc-crypto", Ledger = "svc-ledger", Tax = "svc-tax");

fn told<T>(request: &tonic::Request<T>) -> Result<std::collections::BTreeMap<String, String>, Fault> {
    let call = Call::of(request)?;
    let known = ["paymesh-tenant", "x-request-id", "traceparent", "grpc-timeout", "idempotency-key"];
    let usual = ["te", "content-type", "user-agent", "grpc-accept-encoding"];
    let foreign: Vec<&str> = request
        .metadata()
        .keys()
        .map(|key| match key {
            tonic::metadata::KeyRef::Ascii(key) => key.as_str(),
            tonic::metadata::KeyRef::Binary(key) => key.as_str(),
        })
        .filter(|key| !known.contains(key) && !usual.contains(key))
        .collect();
    let seen = [
        ("tenant", call.tenant()?.to_string()),
        ("peer", call.peer().name().to_owned()),
        ("request_id", call.request_id().to_string()),
        ("idempotency_key", call.idempotency_key().map(|key| key.as_str().to_owned()).unwrap_or_default()),
        ("trace_id", format!("{:032x}", call.trace().trace_id)),
        ("has_deadline", call.deadline().is_some().to_string()),
        ("foreign", foreign.join(",")),
    ];
    Ok(seen.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn create_payment(
        &self,
        request: tonic::Request<pb::CreatePaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        let metadata = told(&request)?;
        let asked = request.into_inner();
        match asked.reference.as_str() {
            "busy" => {
                return Err(Fault::new(Reason::IdempotencyInProgress, "Running.").retry_after_s(2).into());
            }
            "invalid" => return Err(Fault::invalid("amount", "must be greater than 0").into()),
            "foreign" => return Err(Status::unavailable("connect to 10.0.0.1 refused")),
            "never" => std::future::pending().await,
            "wait" => {
                self.0.arrived.notify_one();
                self.0.go_on.notified().await;
            }
            _ => {}
        }
        let payment = pb::Payment {
            id: "pay_1".into(),
            status: pb::payment::Status::Authorized.into(),
            amount: asked.amount,
            currency: asked.currency,
            payment_method: asked.payment_method,
            created_at: "2026-01-31T12:00:00Z".parse().ok(),
            metadata,
            ..Default::default()
        };
        let mut response = Response::new(payment);
        if asked.reference == "replayed" {
            response.metadata_mut().insert("idempotency-replayed", "true".parse().unwrap());
        }
        Ok(response)
    }

    async fn get_payment(
        &self,
        _: tonic::Request<pb::GetPaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Fault::new(Reason::PaymentNotFound, "There is no such payment.").into())
    }

    async fn list_payments(
        &self,
        request: tonic::Request<pb::ListPaymentsRequest>,
    ) -> Result<Response<pb::ListPaymentsResponse>, Status> {
        let metadata = told(&request)?;
        let asked = request.into_inner();
        let reference = format!("{}/{}/{}", asked.page_size, asked.status().as_str_name(), asked.reference);
        let payment = pb::Payment { reference, metadata, ..Default::default() };
        Ok(Response::new(pb::ListPaymentsResponse {
            payments: vec![payment],
            next_page_token: String::new(),
        }))
    }

    async fn confirm_payment(
        &self,
        _: tonic::Request<pb::ConfirmPaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resolve_review(
        &self,
        _: tonic::Request<pb::ResolveReviewRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn increment_authorization(
        &self,
        _: tonic::Request<pb::IncrementAuthorizationRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn extend_authorization(
        &self,
        _: tonic::Request<pb::ExtendAuthorizationRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_refund(
        &self,
        _: tonic::Request<pb::GetRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn capture_payment(
        &self,
        _: tonic::Request<pb::CapturePaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_payment(
        &self,
        _: tonic::Request<pb::CancelPaymentRequest>,
    ) -> Result<Response<pb::Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_refund(
        &self,
        _: tonic::Request<pb::CreateRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_refunds(
        &self,
        _: tonic::Request<pb::ListRefundsRequest>,
    ) -> Result<Response<pb::ListRefundsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_payment_events(
        &self,
        _: tonic::Request<pb::ListPaymentEventsRequest>,
    ) -> Result<Response<pb::ListPaymentEventsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchPaymentEventsStream = Events;

    async fn watch_payment_events(
        &self,
        request: tonic::Request<pb::WatchPaymentEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let asked = request.into_inner();
        let kind = asked.payment_id.clone();
        match kind.as_str() {
            "pay_none" => return Err(Fault::new(Reason::PaymentNotFound, "There is no such payment.").into()),
            "pay_silent" => std::future::pending().await,
            _ => {}
        }
        Ok(Response::new(Events { kind, sequence: asked.after_sequence, signals: Arc::clone(&self.0) }))
    }
}

/// Events up to the third, and then what the payment's id says.
pub(crate) struct Events {
    kind: String,
    sequence: i64,
    signals: Arc<Signals>,
}

impl tonic::codegen::tokio_stream::Stream for Events {
    type Item = Result<pb::PaymentEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let endless = self.kind == "pay_endless";
        if self.sequence >= 3 && !endless {
            return match self.kind.as_str() {
                "pay_ends" => Poll::Ready(None),
                "pay_breaks" => {
                    self.kind = "pay_ends".into();
                    let fault = Fault::new(Reason::Unavailable, "Not now.").retry_after_s(2);
                    Poll::Ready(Some(Err(fault.into())))
                }
                "pay_panics" => Poll::Ready(Some(Err(Status::unavailable("connect to 10.0.0.1 refused")))),
                _ => Poll::Pending,
            };
        }
        self.sequence += 1;
        let mut event = pb::PaymentEvent { sequence: self.sequence, ..Default::default() };
        if endless {
            self.signals.sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            event.r#type = "x".repeat(16 * 1024);
        }
        Poll::Ready(Some(Ok(event)))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.signals.cancelled.notify_one();
    }
}

#[tonic::async_trait]
impl WebhookService for Payments {
    async fn receive_webhook(
        &self,
        request: tonic::Request<pb::ReceiveWebhookRequest>,
    ) -> Result<Response<pb::ReceiveWebhookResponse>, Status> {
        let has_tenant = Call::of(&request)?.tenant().is_ok();
        let request = request.into_inner();
        let refused = match request.processor.as_str() {
            "unknown" => Some(Fault::new(Reason::ProcessorNotFound, "There is no such processor.")),
            "unsigned" => Some(Fault::new(Reason::WebhookSignatureInvalid, "Not signed.")),
            _ => None,
        };
        *self.0.webhook.lock().unwrap() = Some((has_tenant, request));
        refused.map_or_else(|| Ok(Response::new(pb::ReceiveWebhookResponse {})), |fault| Err(fault.into()))
    }
}
