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
    caller::Caller,
    clock::{Clock, Ids},
    fault::{Fault, Reason},
    identity::SpiffeId,
    metrics::Metrics,
    panic_guard,
    policy::{Policies, Rpc, Verdict},
    telemetry,
};

/// What all connections of a service share.
pub(crate) struct Stack {
    pub(crate) service: &'static str,
    pub(crate) routes: Routes,
    pub(crate) policies: Policies,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) in_flight_max: u32,
}

/// One connection's way into the stack.
#[derive(Clone)]
pub(crate) struct Connection {
    stack: Arc<Stack>,
    routes: Routes,
    caller: Arc<Caller>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>>;

impl Connection {
    pub(crate) fn new(stack: Arc<Stack>, caller: Caller) -> Self {
        let routes = stack.routes.clone();
        Self { stack, routes, caller: Arc::new(caller) }
    }

    /// The name of the service that the connection leads to.
    pub(crate) fn service(&self) -> &'static str {
        self.stack.service
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
        let path = request.uri().path();
        let (rpc, admitted) = match self.caller.of(request.headers()) {
            Ok(peer) => {
                let verdict = peer.decide(path);
                (verdict.name(), self.admit(peer.peer(), verdict, &request, under_way.count, began))
            }
            Err(fault) => (Rpc::label(path), Err(fault)),
        };
        let response = match admitted {
            Ok(call) => self.handle(call, request, rpc).await,
            Err(fault) => Status::from(fault).into_http(),
        };
        self.stack.metrics.answered(rpc, code_of(&response), began.elapsed());
        response
    }

    fn admit(
        &self,
        peer: &SpiffeId,
        verdict: Verdict,
        request: &Request<Incoming>,
        in_flight: i64,
        now: Instant,
    ) -> Result<Call, Fault> {
        if !verdict.allowed {
            let (service, rpc) = (self.stack.service, verdict.name());
            tracing::warn!(service, %peer, rpc, "an RPC was denied by policy");
            return Err(Fault::new(Reason::PermissionDenied, "This identity may not call this RPC."));
        }
        if in_flight > i64::from(self.stack.in_flight_max) {
            return Err(Fault::new(Reason::Overloaded, "Too many requests are under way.").retry_after_s(1));
        }
        let fresh = self.stack.ids.uuid_v7(self.stack.clock.now());
        Call::read(peer.clone(), request.headers(), now, fresh)
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
