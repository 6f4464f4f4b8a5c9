//! The one server stack: every RPC of every service passes through it, in this order:
//! policy, metadata, load limit, span, deadline, panic guard, handler, metrics.

use std::{future::Future, pin::Pin, sync::Arc, time::Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service as _;
use tracing::Instrument as _;

use crate::{
    call::Call,
    clock::{Clock, Ids},
    fault::{Fault, Reason},
    identity::SpiffeId,
    metrics::Metrics,
    panic_guard,
    policy::{PeerPolicy, Policy},
    telemetry,
    watched::Watched,
};

/// What all connections of a service share.
pub(crate) struct Stack {
    pub(crate) service: &'static str,
    pub(crate) routes: Routes,
    pub(crate) policy: Watched<Policy>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) in_flight_max: u32,
}

/// One connection's way into the stack: its peer was verified in the handshake.
#[derive(Clone)]
pub(crate) struct Connection {
    stack: Arc<Stack>,
    routes: Routes,
    peer: Arc<PeerPolicy>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>>;

impl Connection {
    pub(crate) fn new(stack: Arc<Stack>, peer: SpiffeId) -> Self {
        let routes = stack.routes.clone();
        let peer = Arc::new(PeerPolicy::new(&stack.policy, peer));
        Self { stack, routes, peer }
    }
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let connection = self.clone();
        Box::pin(async move { Ok(connection.answer(request).await) })
    }
}

impl Connection {
    async fn answer(mut self, request: Request<Incoming>) -> Response<Body> {
        let began = Instant::now();
        let under_way = InFlight::enter(&self.stack.metrics);
        let verdict = self.peer.decide(request.uri().path());
        let rpc = verdict.name();
        let admitted = if verdict.allowed {
            self.admit(&request, under_way.count, began)
        } else {
            tracing::warn!(service = self.stack.service, peer = %self.peer.peer(), rpc, "an RPC was denied by policy");
            Err(Fault::new(Reason::PermissionDenied, "This identity may not call this RPC."))
        };
        let response = match admitted {
            Ok(call) => self.handle(call, request, rpc).await,
            Err(fault) => Status::from(fault).into_http(),
        };
        self.stack.metrics.answered(rpc, code_of(&response), began.elapsed());
        response
    }

    fn admit(&self, request: &Request<Incoming>, in_flight: i64, now: Instant) -> Result<Call, Fault> {
        if in_flight > i64::from(self.stack.in_flight_max) {
            return Err(Fault::new(Reason::Overloaded, "Too many requests are under way.").retry_after_s(1));
        }
        let fresh = self.stack.ids.uuid_v7(self.stack.clock.now());
        Call::read(self.peer.peer().clone(), request.headers(), now, fresh)
    }

    async fn handle(
        &mut self,
        call: Call,
        mut request: Request<Incoming>,
        rpc: &'static str,
    ) -> Response<Body> {
        // At this level, whatever is logged within carries the request's ids, however little is logged.
        let span = tracing::error_span!(
            "rpc",
            service = self.stack.service,
            rpc,
            request_id = &**call.request_id(),
            trace_id = format_args!("{:032x}", call.trace().trace_id),
            peer = call.peer().name(),
        );
        telemetry::adopt(&span, call.trace());
        let deadline = call.deadline();
        request.extensions_mut().insert(call);
        let handled = panic_guard::guard(self.routes.call(request.map(Body::new)));
        let answered = async {
            let handled = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), handled).await,
                None => Ok(handled.await),
            };
            let response = match handled {
                Ok(Ok(Ok(response))) => response,
                Ok(Ok(Err(never))) => match never {},
                Ok(Err(_panic)) => {
                    tracing::error!("a handler panicked");
                    Status::from(Fault::new(Reason::Internal, "Something went wrong on our side."))
                        .into_http()
                }
                Err(_elapsed) => {
                    let fault =
                        Fault::new(Reason::DeadlineExceeded, "The request took longer than its deadline.");
                    Status::from(fault).into_http()
                }
            };
            tracing::debug!(code = ?code_of(&response), "an RPC was answered");
            response
        };
        answered.instrument(span).await
    }
}

/// An answer without a status in its headers has it after its message, and is a success.
fn code_of(response: &Response<Body>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// Counts a request as under way, also when its caller goes away in the middle.
struct InFlight {
    metrics: Metrics,
    count: i64,
}

impl InFlight {
    fn enter(metrics: &Metrics) -> Self {
        let count = metrics.begin();
        Self { metrics: metrics.clone(), count }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.end();
    }
}
