//! What answers behind the edge: svc-payments by name, and a payment made of the request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use mesh::{Parts, Service, ServiceContext, StartError};
use paymesh_proto::payments::v1::{CreatePaymentRequest, Payment, payment};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

/// How much it can do.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Capacity {
    /// How many requests it works on at once; the others wait. 0: all, and each is answered at once.
    pub(crate) workers: usize,
    /// How long each takes, in milliseconds.
    pub(crate) work_ms: u64,
}

/// The stand-in as a service of the mesh.
#[derive(Debug)]
pub(crate) struct Payments;

impl Service for Payments {
    const NAME: &'static str = "svc-payments";
    type Config = Capacity;

    async fn build(capacity: Capacity, _context: &ServiceContext) -> Result<Parts, StartError> {
        let workers = (capacity.workers > 0).then(|| Arc::new(Semaphore::new(capacity.workers)));
        Ok(Parts::new().serve(AnyRpc { workers, work: Duration::from_millis(capacity.work_ms) }))
    }
}

/// Answers each RPC of the payment service with a payment: CreatePayment with one made of the request.
#[derive(Debug, Clone)]
struct AnyRpc {
    workers: Option<Arc<Semaphore>>,
    work: Duration,
}

impl NamedService for AnyRpc {
    const NAME: &'static str = "paymesh.payments.v1.PaymentService";
}

impl<B> tower::Service<Request<B>> for AnyRpc
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send>
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { workers, work } = self.clone();
        Box::pin(async move {
            if let Some(workers) = workers {
                let _worker = workers.acquire().await;
                tokio::time::sleep(work).await;
            }
            if request.uri().path().ends_with("/CreatePayment") {
                let codec = ProstCodec::<Payment, CreatePaymentRequest>::default();
                return Ok(Grpc::new(codec).unary(Create, request).await);
            }
            Ok(Grpc::new(ProstCodec::<Payment, ()>::default()).unary(Get, request).await)
        })
    }
}

struct Get;

impl UnaryService<()> for Get {
    type Response = Payment;
    type Future = <Create as UnaryService<CreatePaymentRequest>>::Future;

    fn call(&mut self, _: tonic::Request<()>) -> Self::Future {
        Create.call(tonic::Request::new(CreatePaymentRequest::default()))
    }
}

struct Create;

impl UnaryService<CreatePaymentRequest> for Create {
    type Response = Payment;
    type Future = std::future::Ready<Result<tonic::Response<Payment>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<CreatePaymentRequest>) -> Self::Future {
        let request = request.into_inner();
        std::future::ready(Ok(tonic::Response::new(Payment {
            id: "pay_01a1fc12efbe7ca2ace2db909d55521c".to_owned(),
            status: payment::Status::Captured.into(),
            amount: request.amount,
            amount_authorized: request.amount,
            amount_captured: request.amount,
            currency: request.currency,
            payment_method: request.payment_method,
            capture_method: payment::CaptureMethod::Automatic.into(),
            reference: request.reference,
            sequence: 3,
            ..Payment::default()
        })))
    }
}
