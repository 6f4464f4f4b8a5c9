//! An RPC that answers with a stream is under way until its last message: what holds for every RPC holds for
//! it until then. And one that its caller gives up is counted, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use mesh::{
    Harness, Metrics, Parts, Running, Service, ServiceContext, StartError, Upstream, testing::call_of,
};
use paymesh_proto::payments::v1::{
    CancelPaymentRequest, CapturePaymentRequest, ConfirmPaymentRequest, CreatePaymentRequest,
    CreateRefundRequest, ExtendAuthorizationRequest, GetPaymentRequest, GetRefundRequest,
    IncrementAuthorizationRequest, ListPaymentEventsRequest, ListPaymentEventsResponse, ListPaymentsRequest,
    ListPaymentsResponse, ListRefundsRequest, ListRefundsResponse, Payment, PaymentEvent, Refund,
    ResolveReviewRequest, WatchPaymentEventsRequest,
    payment_service_client::PaymentServiceClient,
    payment_service_server::{PaymentService, PaymentServiceServer},
};
use tonic::{Code, Request, Response, Status, Streaming, codegen::tokio_stream::Stream};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const WATCH: &str = "paymesh.payments.v1.PaymentService/WatchPaymentEvents";
const GET: &str = "paymesh.payments.v1.PaymentService/GetPayment";
/// What a panic says, and nobody may hear.
const SECRET: &str = "4242424242424242";

#[derive(Default, Clone, serde::Deserialize)]
struct Config {
    #[serde(skip)]
    metrics: Arc<OnceLock<Metrics>>,
}

struct Streams;

impl Service for Streams {
    const NAME: &'static str = "svc-payments";
    type Config = Config;

    async fn build(config: Config, context: &ServiceContext) -> Result<Parts, StartError> {
        let _ = config.metrics.set(context.metrics().clone());
        Ok(Parts::new().serve(PaymentServiceServer::new(Handler)))
    }
}

struct Handler;

/// One message, then what the id of the payment asks for.
struct Events {
    then: String,
    sent: bool,
    paused: bool,
}

impl Stream for Events {
    type Item = Result<PaymentEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.sent, true) {
            let scope = mesh::scope::current().map(|scope| scope.rpc.into_owned());
            return Poll::Ready(Some(Ok(PaymentEvent {
                payment_id: scope.unwrap_or_default(),
                ..PaymentEvent::default()
            })));
        }
        if !std::mem::replace(&mut self.paused, true) {
            // So that the message goes out before the end comes.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match &*self.then {
            "fail" => Poll::Ready(Some(Err(Status::not_found("it is gone")))),
            "panic" => panic!("planted {SECRET}"),
            "wait" => Poll::Pending,
            "flood" => {
                let payment_id = "x".repeat(64 << 10);
                Poll::Ready(Some(Ok(PaymentEvent { payment_id, ..PaymentEvent::default() })))
            }
            _ => Poll::Ready(None),
        }
    }
}

#[tonic::async_trait]
impl PaymentService for Handler {
    type WatchPaymentEventsStream = Events;

    async fn watch_payment_events(
        &self,
        request: Request<WatchPaymentEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        Ok(Response::new(Events { then: request.into_inner().payment_id, sent: false, paused: false }))
    }

    async fn get_payment(&self, _: Request<GetPaymentRequest>) -> Result<Response<Payment>, Status> {
        std::future::pending().await
    }

    async fn create_payment(&self, _: Request<CreatePaymentRequest>) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_payments(
        &self,
        _: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn confirm_payment(&self, _: Request<ConfirmPaymentRequest>) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resolve_review(&self, _: Request<ResolveReviewRequest>) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn increment_authorization(
        &self,
        _: Request<IncrementAuthorizationRequest>,
    ) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn extend_authorization(
        &self,
        _: Request<ExtendAuthorizationRequest>,
    ) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_refund(&self, _: Request<GetRefundRequest>) -> Result<Response<Refund>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn capture_payment(&self, _: Request<CapturePaymentRequest>) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_payment(&self, _: Request<CancelPaymentRequest>) -> Result<Response<Payment>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn create_refund(&self, _: Request<CreateRefundRequest>) -> Result<Response<Refund>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_refunds(
        &self,
        _: Request<ListRefundsRequest>,
    ) -> Result<Response<ListRefundsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_payment_events(
        &self,
        _: Request<ListPaymentEventsRequest>,
    ) -> Result<Response<ListPaymentEventsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Ground {
    dir: tempfile::TempDir,
    running: Running,
    upstream: Upstream,
    metrics: Arc<OnceLock<Metrics>>,
}

impl Ground {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(dir.path()).unwrap();
        let config = Config::default();
        let metrics = Arc::clone(&config.metrics);
        let running = harness.start::<Streams>(config).await.unwrap();
        let upstream = harness.upstream("operator", &running).unwrap();
        Self { dir, running, upstream, metrics }
    }

    /// A stream that has sent its first message.
    async fn watch(&self, then: &str, timeout: Duration) -> Streaming<PaymentEvent> {
        let message = WatchPaymentEventsRequest { payment_id: then.to_owned(), ..Default::default() };
        let mut request = call_of("acme").request(message);
        request.set_timeout(timeout);
        let mut client = PaymentServiceClient::new(self.upstream.clone());
        let mut stream = client.watch_payment_events(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.payment_id, WATCH, "the stream is in the scope of its RPC");
        stream
    }

    /// Waits until so many of the RPC have ended with the code, and no RPC is under way.
    async fn counted(&self, rpc: &str, code: &str, count: u32) {
        let requests = format!("rpc=\"{rpc}\",code=\"{code}\"}} {count}\n");
        let duration =
            format!("paymesh_rpc_server_duration_seconds_count{{service=\"svc-payments\",rpc=\"{rpc}\"}}");
        let holds = |text: &str| text.contains(&requests) && text.contains(&duration) && in_flight(text) == 0;
        self.until(&requests, holds).await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let metrics = self.metrics.get().unwrap();
        for _ in 0..10_000 {
            if holds(&metrics.text()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what} never came: {}", metrics.text());
    }
}

fn in_flight(text: &str) -> i64 {
    let line = text.lines().find(|line| line.starts_with("paymesh_rpc_server_in_flight{")).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_streams_code_is_the_one_that_comes_last() {
    let ground = Ground::new().await;
    let mut stream = ground.watch("end", LONG).await;
    assert!(stream.message().await.unwrap().is_none());
    ground.counted(WATCH, "OK", 1).await;
    let mut stream = ground.watch("fail", LONG).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::NotFound);
    ground.counted(WATCH, "NOT_FOUND", 1).await;
    ground.running.stop().await;
}

#[tokio::test]
async fn a_panic_in_a_stream_costs_that_stream_alone() {
    let ground = Ground::new().await;
    let mut other = ground.watch("wait", LONG).await;
    let mut stream = ground.watch("panic", LONG).await;
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!format!("{status:?}").contains(SECRET));
    let next = tokio::time::timeout(Duration::from_millis(50), other.message()).await;
    assert!(next.is_err(), "the other stream of the connection goes on: {next:?}");
    drop(other);
    ground.counted(WATCH, "INTERNAL", 1).await;
    ground.running.stop().await;
}

#[tokio::test]
async fn a_stream_has_a_deadline() {
    let ground = Ground::new().await;
    let mut stream = ground.watch("wait", Duration::from_millis(300)).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    ground.until("the end", |text| in_flight(text) == 0).await;
    ground.running.stop().await;
}

#[tokio::test]
async fn a_stream_is_under_way_until_its_caller_leaves_and_then_counts_as_cancelled() {
    let ground = Ground::new().await;
    let stream = ground.watch("wait", LONG).await;
    ground.until("one in flight", |text| in_flight(text) == 1).await;
    drop(stream);
    ground.counted(WATCH, "CANCELLED", 1).await;
    ground.running.stop().await;
}

#[tokio::test]
async fn what_a_service_keeps_is_for_its_own_eyes() {
    use std::os::unix::fs::PermissionsExt as _;
    let ground = Ground::new().await;
    let about = std::fs::metadata(ground.dir.path().join(Streams::NAME)).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o700);
    ground.running.stop().await;
}

#[tokio::test]
async fn a_unary_call_that_is_given_up_counts_as_cancelled() {
    let ground = Ground::new().await;
    let mut client = PaymentServiceClient::new(ground.upstream.clone());
    let request = call_of("acme").request(GetPaymentRequest::default());
    let call = tokio::spawn(async move { client.get_payment(request).await.map(drop) });
    ground.until("one in flight", |text| in_flight(text) == 1).await;
    call.abort();
    ground.counted(GET, "CANCELLED", 1).await;
    ground.running.stop().await;
}

/// A load balancer that watches a service's health stays until it is sent away.
#[tokio::test]
async fn who_watches_a_services_health_does_not_hold_up_its_end() {
    let ground = Ground::new().await;
    let mut health = HealthClient::new(ground.upstream.clone());
    let mut watching =
        health.watch(call_of("acme").request(HealthCheckRequest::default())).await.unwrap().into_inner();
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(ground.running.stop());
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // Long before the drain's deadline, which would end it, too.
    let ended = tokio::time::timeout(Duration::from_secs(10), watching.message()).await;
    assert_eq!(ended.expect("the watch ends").unwrap_err().code(), Code::Unavailable);
    tokio::time::timeout(Duration::from_secs(10), stopping).await.expect("the drain ends").unwrap();
}

/// A stream that it does not read fills its window; then not even the stream's end reaches it.
#[tokio::test]
async fn who_takes_nothing_of_its_stream_does_not_hold_up_the_end() {
    let ground = Ground::new().await;
    let untaken = ground.watch("flood", LONG).await;
    // Long before the drain's deadline, which would end it, too.
    let stopped = tokio::time::timeout(Duration::from_secs(20), ground.running.stop()).await;
    stopped.expect("the drain ends");
    drop(untaken);
}
