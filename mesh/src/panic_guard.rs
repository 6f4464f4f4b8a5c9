//! Keeps a panic to the request that it happened in, and what is said in it to itself.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// From now on a panic of this process is a line in the log that says where it was, with the ids of the RPC
/// that was being worked on. The standard hook would write what is said in the panic to stderr, and that may be
/// anything: a card number that could not be parsed.
pub fn log_where_only() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(location, thread = thread.name().unwrap_or_default(), "a panic");
    }));
}

/// A panic that was caught. What was said in it may be anything, so nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// What `work` returns, or that it panicked. Whatever it was working on may be half done and must not be
/// used again.
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_payload| Panicked)
}

/// The future's output, or that it panicked: a panic in a handler costs its own request and no other on the
/// connection.
///
/// It is boxed at once: a future that becomes a task is moved several times on its way there, and this one may
/// be many kilobytes.
pub fn guard<F: Future>(future: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    let mut future = Box::pin(future);
    poll_fn(move |context| match catch(|| future.as_mut().poll(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => std::task::Poll::Ready(Err(panicked)),
    })
}
