//! The one server stack: every RPC of every service passes through it, in this order:
//! policy, load limit, metadata, scope and span, panic guard, handler, deadline, metrics.
//!
//! What it costs is measured (`bench echo`), so it does per request only what differs per request: a
//! connection's peer is compiled into its policy, handlers and series are found by the RPC's place in a
//! table, the clock's timer is set only for a handler that is not done at once, and a span is made only
//! where the trace is recorded.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::{Code, Status, body::Body};
use tracing::Span;

use crate::{
    body::RequestBody,
    call::Call,
    clock::{Clock, Ids},
    fault::{Fault, Reason},
    identity::SpiffeId,
    limit::{Limiter, Permit, window::Bounds},
    metrics::Metrics,
    policy::{PeerPolicy, Policy, Rpc, Verdict},
    routes::{self, Routes},
    scope::{Scope, within},
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
    pub(crate) limits: Limits,
    pub(crate) message_bytes_max: u32,
}

/// An adaptive limit for each RPC, by [`Rpc::index`]: what is fast in one is slow in another. None for
/// health and reflection: whoever asks how a busy service is must get an answer.
pub(crate) struct Limits(Box<[Option<Arc<Limiter>>]>);

impl Limits {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let limit = |rpc: Rpc| (!rpc.name().starts_with("grpc.")).then(|| Arc::new(Limiter::new(bounds)));
        Self(Rpc::all().map(limit).collect())
    }

    fn enter(&self, rpc: Rpc, in_flight: i64, in_flight_max: u32) -> Result<Option<Permit>, Fault> {
        let Some(Some(limiter)) = self.0.get(rpc.index()) else { return Ok(None) };
        let permit = limiter.enter().filter(|_| in_flight <= i64::from(in_flight_max));
        permit.map(Some).ok_or_else(|| {
            Fault::new(Reason::Overloaded, "Too many requests are under way.").retry_after_s(1)
        })
    }
}

/// One connection's way into the stack: its peer was verified in the handshake.
pub(crate) struct Connection {
    stack: Arc<Stack>,
    peer: PeerPolicy,
}

impl Connection {
    pub(crate) fn new(stack: Arc<Stack>, peer: SpiffeId) -> Self {
        let peer = PeerPolicy::new(&stack.policy, peer);
        Self { stack, peer }
    }
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let verdict = self.peer.decide(request.uri().path());
        let mut under_way = UnderWay::enter(Arc::clone(&self.stack), verdict, began);
        let state = match self.admit(&request, &mut under_way) {
            Ok((rpc, call)) => self.handle(rpc, call, request),
            Err(fault) => State::Refused(Some(Box::new(fault))),
        };
        Answer { under_way, state }
    }
}

impl Connection {
    fn admit(&self, request: &Request<Incoming>, under_way: &mut UnderWay) -> Result<(Rpc, Call), Fault> {
        let (Some(rpc), true) = (under_way.verdict.rpc, under_way.verdict.allowed) else {
            let (service, rpc) = (self.stack.service, under_way.verdict.name());
            tracing::warn!(service, peer = %self.peer.peer(), rpc, "an RPC was denied by policy");
            return Err(Fault::new(Reason::PermissionDenied, "This identity may not call this RPC."));
        };
        under_way.permit = self.stack.limits.enter(rpc, under_way.count, self.stack.in_flight_max)?;
        let fresh = || self.stack.ids.uuid_v7(self.stack.clock.now());
        let call = Call::read(self.peer.peer().clone(), request.headers(), under_way.began, fresh)?;
        Ok((rpc, call))
    }

    fn handle(&self, rpc: Rpc, call: Call, request: Request<Incoming>) -> State {
        let deadline = call.deadline();
        let trace = call.trace();
        let span =
            if trace.sampled && telemetry::is_exporting() { self.span(rpc, &call) } else { Span::none() };
        let (service, has_span) = (self.stack.service, !span.is_none());
        let mut scope = Some(Scope { service, rpc: rpc.name(), call: call.clone(), has_span });
        let mut request = request.map(|body| RequestBody::new(body, self.stack.message_bytes_max));
        request.extensions_mut().insert(call);
        let called = within(&mut scope, || {
            span.in_scope(|| catch_unwind(AssertUnwindSafe(|| self.stack.routes.call(rpc, request))))
        });
        match called {
            Ok(Some(handling)) => {
                State::Handling(Work { handling: Some(handling), deadline, timer: None, scope, span })
            }
            Ok(None) => {
                let fault = Fault::new(Reason::Unimplemented, "This service does not serve that RPC.");
                State::Refused(Some(Box::new(fault)))
            }
            Err(panic) => State::Refused(Some(Box::new(panicked(&*panic)))),
        }
    }

    fn span(&self, rpc: Rpc, call: &Call) -> Span {
        let span = tracing::error_span!(
            "rpc",
            service = self.stack.service,
            rpc = rpc.name(),
            request_id = &**call.request_id(),
            trace_id = format_args!("{:032x}", call.trace().trace_id),
            peer = call.peer().name(),
        );
        telemetry::adopt(&span, call.trace());
        span
    }
}

/// The answer to one request, on its way.
pub(crate) struct Answer {
    under_way: UnderWay,
    state: State,
}

enum State {
    Refused(Option<Box<Fault>>),
    Handling(Work),
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.get_mut();
        let (response, trace_id) = match &mut answer.state {
            State::Refused(fault) => {
                let fault = fault.take().map_or_else(unfinished, |fault| *fault);
                (Status::from(fault).into_http(), None)
            }
            State::Handling(work) => match work.poll(context) {
                Poll::Ready(response) => (response, work.recorded_trace()),
                Poll::Pending => return Poll::Pending,
            },
        };
        answer.under_way.answered(code_of(&response), trace_id);
        Poll::Ready(Ok(response))
    }
}

/// A handler at work.
struct Work {
    /// `None` once it is done.
    handling: Option<routes::Handling>,
    deadline: Option<Instant>,
    /// Set when the handler was not done at once.
    timer: Option<Pin<Box<Sleep>>>,
    scope: Option<Scope>,
    span: Span,
}

impl Work {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let Self { handling, deadline, timer, scope, span } = self;
        within(scope, || {
            let _entered = span.enter();
            let Some(future) = handling else { return Poll::Ready(refused(unfinished())) };
            let response = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Err(panic) => refused(panicked(&*panic)),
                Ok(Poll::Pending) => {
                    let Some(deadline) = *deadline else { return Poll::Pending };
                    let timer =
                        timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    let text = "The request took longer than its deadline.";
                    refused(Fault::new(Reason::DeadlineExceeded, text))
                }
            };
            *handling = None;
            tracing::debug!(code = ?code_of(&response), "an RPC was answered");
            Poll::Ready(response)
        })
    }

    /// The trace that the request's span is recorded in.
    fn recorded_trace(&self) -> Option<u128> {
        self.scope.as_ref().filter(|scope| scope.has_span).map(|scope| scope.call.trace().trace_id)
    }
}

/// What a handler that is given up has to say is said with its request's ids.
impl Drop for Work {
    fn drop(&mut self) {
        if let Some(handling) = self.handling.take() {
            let _entered = self.span.enter();
            within(&mut self.scope, || drop(handling));
        }
    }
}

fn refused(fault: Fault) -> Response<Body> {
    Status::from(fault).into_http()
}

/// What was said in the panic may be anything, so nobody is told.
fn panicked(_panic: &(dyn Any + Send)) -> Fault {
    tracing::error!("a handler panicked");
    Fault::new(Reason::Internal, "Something went wrong on our side.")
}

/// A future is not polled again once it is done; if it is, that is a fault of ours.
fn unfinished() -> Fault {
    Fault::new(Reason::Internal, "The request was answered already.")
}

/// An answer without a status in its headers has it after its message, and is a success.
fn code_of(response: &Response<Body>) -> Code {
    response.headers().get(Status::GRPC_STATUS).map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// Counts a request as under way, also when its caller goes away in the middle.
struct UnderWay {
    stack: Arc<Stack>,
    verdict: Verdict,
    began: Instant,
    count: i64,
    permit: Option<Permit>,
}

impl UnderWay {
    fn enter(stack: Arc<Stack>, verdict: Verdict, began: Instant) -> Self {
        let count = stack.metrics.begin();
        Self { stack, verdict, began, count, permit: None }
    }

    fn answered(&mut self, code: Code, trace_id: Option<u128>) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        self.stack.metrics.answered(self.verdict.rpc, code, took, trace_id);
        match (self.permit.take(), code) {
            (Some(permit), Code::Ok | Code::DeadlineExceeded) => permit.worked(took, now),
            // A refusal is quick, whatever else has to wait.
            (Some(permit), _) => permit.spared(now),
            (None, _) => {}
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.stack.metrics.end();
    }
}
