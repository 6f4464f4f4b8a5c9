//! Requests are tried where they arrive: in the task of their connection, before they get tasks of their own.
//!
//! Most answers need nobody else: what is decided from the request alone, and every refusal. A task for each
//! of them would cost an allocation, a place in a queue, and often a wake-up of another core that takes it
//! and then fights for the connection's lock. So a request is polled once where it arrived; only if it has
//! to wait does it become a task. All that arrived together is answered together, in one write.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Waker},
    time::{Duration, Instant},
};

/// How long a connection's task may be kept by the requests that arrived on it together. Those that are
/// left then become tasks, which other cores may take.
const PATIENCE: Duration = Duration::from_micros(200);

type Arrived = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests that arrived on one connection while it was polled: the executor to give to its server.
/// [`Self::attend`] must be called after each poll of the connection.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<Vec<Arrived>>>);

impl fmt::Debug for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Arrivals")
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Arrivals {
    fn execute(&self, future: F) {
        self.lock().push(Box::pin(future));
    }
}

impl Arrivals {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arrived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls what has arrived, each once. What is not done then, or not begun in time, becomes a task.
    pub(crate) fn attend(&self) {
        let mut arrived = mem::take(&mut *self.lock());
        if arrived.is_empty() {
            return;
        }
        let began = (arrived.len() > 1).then(Instant::now);
        let mut all = arrived.drain(..);
        for mut request in all.by_ref() {
            // Nobody need be woken: who is not done is polled again at once, as a task.
            if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                tokio::spawn(request);
            }
            if began.is_some_and(|began| began.elapsed() >= PATIENCE) {
                break;
            }
        }
        all.for_each(|request| drop(tokio::spawn(request)));
        let mut next = self.lock();
        if next.is_empty() {
            // Its room serves the next ones.
            *next = arrived;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::rt::Executor as _;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_quick_is_done_where_it_arrived() {
        let (arrivals, done) = (Arrivals::default(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let done = Arc::clone(&done);
            arrivals.execute(async move {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(done.load(Ordering::Relaxed), 0, "nothing runs while the connection is polled");
        arrivals.attend();
        assert_eq!(done.load(Ordering::Relaxed), 3);
        assert!(arrivals.lock().is_empty());
    }

    #[tokio::test]
    async fn what_has_to_wait_becomes_a_task_that_is_woken() {
        let arrivals = Arrivals::default();
        let (ask, asked) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        arrivals.execute(async move {
            let _ = asked.await;
            let _ = tell.send(7);
        });
        arrivals.attend();
        ask.send(()).unwrap();
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn who_takes_long_does_not_hold_up_the_others() {
        let arrivals = Arrivals::default();
        let began = Instant::now();
        arrivals.execute(async move { while began.elapsed() < 2 * PATIENCE {} });
        let (tell, mut told) = oneshot::channel();
        arrivals.execute(async move {
            let _ = tell.send(());
        });
        arrivals.attend();
        assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty), "it is a task now");
        told.await.unwrap();
    }
}
