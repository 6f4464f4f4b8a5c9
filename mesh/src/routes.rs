//! Which handler answers which RPC: a table by the RPC's place in the contract, made once at the start, and for a
//! service that has to wait for something before it can work, once more when that has come.

use std::{
    convert::Infallible,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Request, Response};
use tonic::{body::Body, codegen::BoxFuture, server::NamedService};

use crate::{body::RequestBody, fault::Fault, policy::Rpc};

/// What a handler answers with.
pub(crate) type Handling = BoxFuture<Response<Body>, Infallible>;

/// A generated server. Its future is boxed already, so that it is not boxed again.
pub trait Handler:
    tower::Service<
        Request<RequestBody>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<Response<Body>, Infallible>,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Handler for S where
    S: tower::Service<
            Request<RequestBody>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<Response<Body>, Infallible>,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A [`Handler`] of any type. Generated servers are always ready and share what they clone.
trait AnyHandler: Send + Sync {
    fn call(&self, request: Request<RequestBody>) -> Handling;
}

impl<S: Handler> AnyHandler for S {
    fn call(&self, request: Request<RequestBody>) -> Handling {
        tower::Service::call(&mut self.clone(), request)
    }
}

/// All that a service serves.
#[derive(Default)]
pub(crate) struct Routes {
    handlers: Vec<Box<dyn AnyHandler>>,
    /// By [`Rpc::index`]: the handler's place.
    by_rpc: Vec<Option<usize>>,
}

impl Routes {
    /// Adds a gRPC service with all of its RPCs.
    pub(crate) fn add<S: Handler>(&mut self, handler: S) {
        self.by_rpc.resize(Rpc::count(), None);
        let place = self.handlers.len();
        self.handlers.push(Box::new(handler));
        for rpc in Rpc::all().filter(|rpc| rpc.service() == S::NAME) {
            self.by_rpc[rpc.index()] = Some(place);
        }
    }

    fn handler(&self, rpc: Rpc) -> Option<&dyn AnyHandler> {
        let place = (*self.by_rpc.get(rpc.index())?)?;
        Some(&**self.handlers.get(place)?)
    }
}

/// Services that are served later, and what their callers are told until then.
pub(crate) type Awaited = (Vec<&'static str>, fn() -> Fault);

/// What is served from the start, and what is served later.
pub(crate) struct Stages {
    now: Routes,
    later: OnceLock<Routes>,
    /// The gRPC services that are served later, and what their callers are told until then.
    awaited: Option<Awaited>,
    ready: AtomicBool,
}

impl Stages {
    /// These, and where something is `awaited`, later more.
    pub(crate) fn new(now: Routes, awaited: Option<Awaited>) -> Self {
        Self { now, later: OnceLock::new(), ready: AtomicBool::new(awaited.is_none()), awaited }
    }

    /// What was awaited has come. Only the first time counts.
    pub(crate) fn open(&self, routes: Routes) {
        let _ = self.later.set(routes);
        self.ready.store(true, Ordering::Release);
    }

    /// Whether nothing is awaited any more.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Hands a request to its handler; `None` if nothing here serves the RPC.
    ///
    /// # Errors
    /// What callers are told of an RPC that is served later.
    pub(crate) fn call(&self, rpc: Rpc, request: Request<RequestBody>) -> Result<Option<Handling>, Fault> {
        // Before looking: what comes between looking and asking would be told that there is no such RPC.
        let was_ready = self.is_ready();
        let later = || self.later.get()?.handler(rpc);
        if let Some(handler) = self.now.handler(rpc).or_else(later) {
            return Ok(Some(handler.call(request)));
        }
        match &self.awaited {
            Some((services, refusal)) if services.contains(&rpc.service()) && !was_ready => Err(refusal()),
            _ => Ok(None),
        }
    }
}
