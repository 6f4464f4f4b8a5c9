//! Which handler answers which RPC: a table by the RPC's place in the contract, made once at the start.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::{body::Body, codegen::BoxFuture, server::NamedService};

use crate::{body::RequestBody, policy::Rpc};

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

    /// Hands a request to its handler; `None` if nothing here serves the RPC.
    pub(crate) fn call(&self, rpc: Rpc, request: Request<RequestBody>) -> Option<Handling> {
        let place = (*self.by_rpc.get(rpc.index())?)?;
        Some(self.handlers.get(place)?.call(request))
    }
}
