//! What answers behind the edge: svc-payments by name, and a payment made of the request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use mesh::{Parts, Service, ServiceContext, StartError};
use paymesh_proto::payments::v1::{CreatePaymentRequest, Payment, payment};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

/// The stand-in as a service of the mesh.
#[derive(Debug)]
pub(super) struct Payments;

impl Service for Payments {
    const NAME: &'static str = "svc-payments";
    type Config = ();

    async fn build((): (), _context: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(AnyRpc))
    }
}

/// Answers each RPC of the payment service as if it were CreatePayment.
#[derive(Debug, Clone)]
struct AnyRpc;

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
        Box::pin(async move {
            let codec = ProstCodec::<Payment, CreatePaymentRequest>::default();
            Ok(Grpc::new(codec).unary(Create, request).await)
        })
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
