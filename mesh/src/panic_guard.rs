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

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        pin::pin,
        sync::{Arc, Weak},
        task::Poll,
    };

    use super::*;

    /// A future that holds 4 KiB while it waits.
    async fn large(panics: bool) -> usize {
        let room = [1_u8; 4_096];
        tokio::task::yield_now().await;
        assert!(!panics, "planted");
        room.len()
    }

    #[tokio::test]
    async fn a_future_is_boxed_before_it_is_polled_and_its_panic_is_caught_whenever_it_comes() {
        let guarded = guard(large(false));
        assert!(size_of_val(&guarded) <= 4 * size_of::<usize>(), "{}", size_of_val(&guarded));
        assert_eq!(guarded.await, Ok(4_096));
        assert_eq!(guard(large(true)).await, Err(Panicked));
    }

    #[tokio::test]
    async fn what_a_future_holds_ends_with_it() {
        let held = |panics: bool| {
            let held = Arc::new(());
            let seen: Weak<()> = Arc::downgrade(&held);
            let future = async move {
                tokio::task::yield_now().await;
                assert!(!panics, "planted");
                pending::<()>().await;
                drop(held);
            };
            (guard(future), seen)
        };
        let (panicking, seen) = held(true);
        assert_eq!((panicking.await, seen.strong_count()), (Err(Panicked), 0));
        let (given_up, seen) = held(false);
        {
            let mut given_up = pin!(given_up);
            assert!(poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context).is_pending())).await);
            assert_eq!(seen.strong_count(), 1);
        }
        assert_eq!(seen.strong_count(), 0);
    }
}
