//! The one server stack: every RPC of every service passes through it, in this order:
//! policy, load limit, metadata, scope and span, panic guard, handler, deadline, metrics. Where the answer is
//! a stream, [`Streamed`] goes on with them until its end.
//!
//! What it costs is measured (`bench echo`), so it does per request only what differs per request: a
//! connection's peer is compiled into its policy, handlers and series are found by the RPC's place in a
//! table, the clock's timer is set only for a handler that is not done at once, and a span is made only
//! where the trace is recorded.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::{Code, Status, body::Body};
use tracing::Span;

use crate::{
    admission::Admission,
    body::RequestBody,
    call::Call,
    caller::Caller,
    clock::{Clock, Ids},
    drain::Drain,
    fault::{Fault, Reason},
    limit::{Permit, window::Ended},
    metrics::Metrics,
    panic_guard,
    policy::{PeerPolicy, Policies, Rpc, Verdict},
    refusals::Refusals,
    routes::{self, Stages},
    scope::{Scope, within},
    streamed::Streamed,
    telemetry,
    turn::{Turn, Turns},
};

/// What all connections of a service share.
pub(crate) struct Stack {
    pub(crate) service: &'static str,
    pub(crate) routes: Arc<Stages>,
    pub(crate) policies: Policies,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) in_flight_max: u32,
    pub(crate) admission: Arc<Admission>,
    pub(crate) message_bytes_max: u32,
    pub(crate) refusals: Refusals,
    /// Begins once all who watch the service's health can read that it stops. They would stay for ever.
    pub(crate) parting: Drain,
}

/// One connection's way into the stack.
pub(crate) struct Connection {
    stack: Arc<Stack>,
    caller: Caller,
    turns: Turns,
}

impl Connection {
    pub(crate) fn new(stack: Arc<Stack>, caller: Caller) -> Self {
        Self { stack, caller, turns: Turns::default() }
    }

    /// Whose turn it is.
    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// The name of the service that the connection leads to.
    pub(crate) fn service(&self) -> &'static str {
        self.stack.service
    }
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let (peer, path) = (self.caller.of(request.headers()), request.uri().path());
        let verdict = peer.as_ref().map_or_else(|_| Verdict::denied(path), |peer| peer.decide(path));
        let mut under_way = UnderWay::enter(Arc::clone(&self.stack), verdict, began);
        let admitted = match peer {
            Ok(peer) => self.admit(&peer, &request, &mut under_way),
            Err(fault) => {
                self.stack.refusals.nameless(self.stack.service, verdict.rpc);
                Err(fault)
            }
        };
        let state = match admitted {
            Ok((rpc, call)) => self.handle(rpc, call, request),
            Err(fault) => State::Refused(Some(Box::new(fault))),
        };
        Answer { under_way: Some(under_way), turn: Some(self.turns.begin()), state }
    }
}

impl Connection {
    fn admit(
        &self,
        peer: &PeerPolicy,
        request: &Request<Incoming>,
        under_way: &mut UnderWay,
    ) -> Result<(Rpc, Call), Fault> {
        let peer = peer.peer();
        let (Some(rpc), true) = (under_way.verdict.rpc, under_way.verdict.allowed) else {
            self.stack.refusals.denied(self.stack.service, peer, under_way.verdict.rpc);
            return Err(Fault::new(Reason::PermissionDenied, "This identity may not call this RPC."));
        };
        under_way.permit = self.stack.admission.enter(rpc, under_way.count, self.stack.in_flight_max)?;
        let fresh = || self.stack.ids.uuid_v7(self.stack.clock.now());
        let call = Call::read(peer.clone(), request.headers(), under_way.began, fresh)?;
        Ok((rpc, call))
    }

    fn handle(&self, rpc: Rpc, call: Call, request: Request<Incoming>) -> State {
        let deadline = call.deadline();
        let trace = call.trace();
        let span = if telemetry::is_recorded(trace) { self.span(rpc, &call) } else { Span::none() };
        let (service, has_span) = (self.stack.service, !span.is_disabled());
        let rpc_name = rpc.name().into();
        let mut scope =
            Some(Scope { service, rpc: rpc_name, call: call.clone(), credential: None, has_span });
        let mut request = request.map(|body| RequestBody::new(body, self.stack.message_bytes_max));
        request.extensions_mut().insert(call);
        let called = within(&mut scope, || {
            let _entered = span.enter();
            panic_guard::catch(|| self.stack.routes.call(rpc, request)).unwrap_or_else(|_| Err(panicked()))
        });
        match called {
            Ok(Some(handling)) => {
                let around = Surroundings { deadline, timer: None, scope, span };
                State::Handling(Work { handling: Some(handling), around })
            }
            Ok(None) => {
                let fault = Fault::new(Reason::Unimplemented, "This service does not serve that RPC.");
                State::Refused(Some(Box::new(fault)))
            }
            Err(fault) => State::Refused(Some(Box::new(fault))),
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
    /// `None` once it has gone on to the answer's stream.
    under_way: Option<UnderWay>,
    /// Ends with it, or goes on to the answer's stream, too.
    turn: Option<Turn>,
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
        let (response, mut work) = match &mut answer.state {
            State::Refused(fault) => {
                let fault = fault.take().map_or_else(unfinished, |fault| *fault);
                (refused(fault), None)
            }
            State::Handling(work) => match work.poll(context) {
                Poll::Ready(response) => (response, Some(work)),
                Poll::Pending => return Poll::Pending,
            },
        };
        let turn = answer.turn.take();
        let code = code_in(response.headers());
        if let (Some(work), None) = (&mut work, code)
            && let Some(under_way) = answer.under_way.take_if(|under_way| under_way.streams())
        {
            return Poll::Ready(Ok(stream(response, under_way, work.around.take(), turn)));
        }
        if let Some(under_way) = &mut answer.under_way {
            // An answer without a status in its headers has it after its message, and is a success.
            let trace_id = work.and_then(|work| work.around.recorded_trace());
            under_way.answered(code.unwrap_or(Code::Ok), trace_id);
        }
        Poll::Ready(Ok(response))
    }
}

fn stream(
    response: Response<Body>,
    under_way: UnderWay,
    around: Surroundings,
    turn: Option<Turn>,
) -> Response<Body> {
    let rpc = under_way.verdict.rpc;
    let parting = rpc.filter(|rpc| rpc.is_standard()).map(|_| under_way.stack.parting.clone());
    response.map(|body| Body::new(Streamed::new(body, under_way, around, parting, turn)))
}

/// What goes with all the work on one request.
pub(crate) struct Surroundings {
    deadline: Option<Instant>,
    /// Set when something was not done at once.
    timer: Option<Pin<Box<Sleep>>>,
    pub(crate) scope: Option<Scope>,
    pub(crate) span: Span,
}

impl Surroundings {
    fn take(&mut self) -> Self {
        Self {
            deadline: self.deadline,
            timer: self.timer.take(),
            scope: self.scope.take(),
            span: std::mem::replace(&mut self.span, Span::none()),
        }
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(crate) fn is_too_late(&mut self, context: &mut Context<'_>) -> bool {
        has_passed(self.deadline, &mut self.timer, context)
    }

    /// The trace that the request's span is recorded in.
    pub(crate) fn recorded_trace(&self) -> Option<u128> {
        self.scope.as_ref().filter(|scope| scope.has_span).map(|scope| scope.call.trace().trace_id)
    }
}

/// The timer is made when it is first asked for.
fn has_passed(
    deadline: Option<Instant>,
    timer: &mut Option<Pin<Box<Sleep>>>,
    context: &mut Context<'_>,
) -> bool {
    let Some(deadline) = deadline else { return false };
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
    timer.as_mut().poll(context).is_ready()
}

/// A handler at work.
struct Work {
    /// `None` once it is done.
    handling: Option<routes::Handling>,
    around: Surroundings,
}

impl Work {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let Self { handling, around: Surroundings { deadline, timer, scope, span } } = self;
        within(scope, || {
            let _entered = span.enter();
            let Some(future) = handling else { return Poll::Ready(refused(unfinished())) };
            let response = match panic_guard::catch(|| future.as_mut().poll(context)) {
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(never))) => match never {},
                Ok(Poll::Pending) if has_passed(*deadline, timer, context) => refused(too_late()),
                Ok(Poll::Pending) => return Poll::Pending,
                Err(_) => refused(panicked()),
            };
            *handling = None;
            tracing::debug!(code = ?code_in(response.headers()).unwrap_or(Code::Ok), "an RPC was answered");
            Poll::Ready(response)
        })
    }
}

/// What a handler that is given up has to say is said with its request's ids.
impl Drop for Work {
    fn drop(&mut self) {
        if let Some(handling) = self.handling.take() {
            let Surroundings { scope, span, .. } = &mut self.around;
            within(scope, || {
                let _entered = span.enter();
                drop(handling);
            });
        }
    }
}

pub(crate) fn refused(fault: Fault) -> Response<Body> {
    Status::from(fault).into_http()
}

/// To be called in the scope of the request.
pub(crate) fn panicked() -> Fault {
    tracing::error!("a handler panicked");
    Fault::new(Reason::Internal, "Something went wrong on our side.")
}

pub(crate) fn too_late() -> Fault {
    Fault::new(Reason::DeadlineExceeded, "The request took longer than its deadline.")
}

/// A future is not polled again once it is done; if it is, that is a fault of ours.
fn unfinished() -> Fault {
    Fault::new(Reason::Internal, "The request was answered already.")
}

/// The code that a head or trailers hold.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// Counts a request as under way, also when its caller goes away in the middle.
pub(crate) struct UnderWay {
    stack: Arc<Stack>,
    verdict: Verdict,
    began: Instant,
    /// How many of its kind there are.
    count: i64,
    permit: Option<Permit>,
    is_answered: bool,
}

impl UnderWay {
    fn enter(stack: Arc<Stack>, verdict: Verdict, began: Instant) -> Self {
        let count = stack.metrics.begin(verdict.rpc.is_some_and(Rpc::streams));
        Self { stack, verdict, began, count, permit: None, is_answered: false }
    }

    fn streams(&self) -> bool {
        self.verdict.rpc.is_some_and(Rpc::streams)
    }

    pub(crate) fn answered(&mut self, code: Code, trace_id: Option<u128>) {
        self.is_answered = true;
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        self.stack.metrics.answered(self.verdict.rpc, code, took, trace_id);
        let Some(permit) = self.permit.take() else { return };
        let how = match code {
            Code::Ok => Ended::After(took),
            Code::DeadlineExceeded | Code::Cancelled => Ended::NotBefore(took),
            // A refusal is quick, whatever else has to wait.
            _ => Ended::Spared,
        };
        permit.ended(how, now);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answered(Code::Cancelled, None);
        }
        self.stack.metrics.end(self.streams());
    }
}
