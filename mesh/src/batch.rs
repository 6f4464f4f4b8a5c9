//! The one batching primitive: callers hand in single items, one worker hands them on as batches,
//! each caller gets its own answer.
//!
//! An idle system waits for nothing: the first item is sent at once. Items gather only while a batch
//! is under way, so that a fixed cost (an fsync, a round trip) is shared by all that arrived meanwhile.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::{mpsc, oneshot};

use crate::fault::{Fault, Reason};

/// How much a [`Batcher`] takes.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// The most items handed on at once.
    pub items_max: usize,
    /// The most items waiting; more are refused with [`BatchError::Full`].
    pub queue_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { items_max: 1024, queue_max: 16_384 }
    }
}

/// Why an item was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The queue is full. The item was not taken.
    #[error("the queue is full")]
    Full,
    /// The worker is gone. Whether the item was carried out is not known.
    #[error("the batch worker has stopped")]
    Closed,
    /// The batch that the item was in panicked. Whether the item was carried out is not known.
    #[error("the batch ended without an answer")]
    Broken,
}

impl From<BatchError> for Fault {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Full => {
                Fault::new(Reason::Overloaded, "Too many requests are waiting; try again later.")
                    .retry_after_s(1)
            }
            BatchError::Closed => Fault::new(Reason::Unavailable, "The service is stopping; try again."),
            BatchError::Broken => Fault::new(Reason::Internal, "Something went wrong on our side."),
        }
    }
}

type Item<Req, Resp> = (Req, oneshot::Sender<Resp>);

/// Where single items become batches. Cheap to clone; the worker ends when the last clone is gone.
pub struct Batcher<Req, Resp> {
    queue: mpsc::Sender<Item<Req, Resp>>,
}

impl<Req, Resp> Clone for Batcher<Req, Resp> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<Req: Send + 'static, Resp: Send + 'static> Batcher<Req, Resp> {
    /// The worker is a thread of its own: for batches that block (a disk, an embedded store).
    ///
    /// `work` answers every item of the batch, in order. What was handed in is done, also where nobody waits
    /// for it any more: whoever reads after a write finds it. A panic costs the batch it happened in
    /// ([`BatchError::Broken`]), and the worker goes on: `work` must not be left half-way by one.
    pub fn on_thread<W>(name: &str, limits: BatchLimits, mut work: W) -> std::io::Result<Self>
    where
        W: FnMut(Vec<Req>) -> Vec<Resp> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel(limits.queue_max.max(1));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut batch = Vec::new();
            while waiting.blocking_recv_many(&mut batch, limits.items_max.max(1)) > 0 {
                let (requests, callers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                if let Some(answers) = guarded(|| work(requests)) {
                    answer(callers, answers);
                }
            }
        })?;
        Ok(Self { queue })
    }

    /// The worker is a task: for batches that wait (an RPC, an SQL round trip). Up to `concurrency`
    /// batches are under way at once, so that one slow round trip does not hold back the next.
    ///
    /// `work` answers every item of the batch, in order. An item whose caller goes away before its batch is
    /// made is not sent. A panic in `work` or in its future costs the batch it happened in
    /// ([`BatchError::Broken`]), and the worker goes on.
    pub fn on_task<W, F>(limits: BatchLimits, concurrency: usize, work: W) -> Self
    where
        W: Fn(Vec<Req>) -> F + Send + 'static,
        F: Future<Output = Vec<Resp>> + Send + 'static,
    {
        let (queue, mut waiting) = mpsc::channel(limits.queue_max.max(1));
        tokio::spawn(async move {
            let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(concurrency.max(1)));
            let mut batch = Vec::new();
            // The slot is awaited first: whatever arrives meanwhile makes the next batch larger.
            while let Ok(slot) = std::sync::Arc::clone(&slots).acquire_owned().await {
                if waiting.recv_many(&mut batch, limits.items_max.max(1)).await == 0 {
                    return;
                }
                let Some((requests, callers)) = wanted(&mut batch) else { continue };
                let Some(batch_under_way) = guarded(|| work(requests)) else { continue };
                tokio::spawn(async move {
                    answer(callers, batch_under_way.await);
                    drop(slot);
                });
            }
        });
        Self { queue }
    }

    /// Hands in one item and waits for its answer.
    pub async fn call(&self, request: Req) -> Result<Resp, BatchError> {
        let answered = self.submit(request)?.await;
        // The worker of a live queue has dropped it: its batch was broken off.
        answered.map_err(|error| if self.queue.is_closed() { BatchError::Closed } else { error })
    }

    /// Hands in one item now; what is returned waits for its answer. An item of [`Batcher::on_thread`] is done
    /// also where that is dropped.
    pub fn submit(&self, request: Req) -> Result<Submitted<Resp>, BatchError> {
        let (caller, answer) = oneshot::channel();
        self.queue.try_send((request, caller)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Closed,
        })?;
        Ok(Submitted(answer))
    }
}

/// An item that was handed in: waits for its answer, or for [`BatchError::Broken`].
#[derive(Debug)]
pub struct Submitted<Resp>(oneshot::Receiver<Resp>);

impl<Resp> Future for Submitted<Resp> {
    type Output = Result<Resp, BatchError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| BatchError::Broken)
    }
}

/// The items that somebody waits for, and who; `None` if there are none. Whoever has gone away while its item
/// was waiting wants nothing done any more.
#[allow(clippy::type_complexity)] // two lists
fn wanted<Req, Resp>(batch: &mut Vec<Item<Req, Resp>>) -> Option<(Vec<Req>, Vec<oneshot::Sender<Resp>>)> {
    batch.retain(|(_, caller)| !caller.is_closed());
    (!batch.is_empty()).then(|| batch.drain(..).unzip())
}

/// What the work gives, unless it panics. What was said in the panic may be anything, so only that it
/// happened is told.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_| tracing::error!("a batch panicked")).ok()
}

/// A caller that has gone away is no error; a caller without an answer sees [`BatchError::Broken`].
fn answer<Resp>(callers: Vec<oneshot::Sender<Resp>>, answers: Vec<Resp>) {
    debug_assert_eq!(callers.len(), answers.len(), "a batch answers each of its items");
    for (caller, answer) in callers.into_iter().zip(answers) {
        let _ = caller.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn one_item_is_sent_at_once_and_what_arrives_meanwhile_is_gathered() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let batcher = Batcher::on_task(BatchLimits::default(), 1, {
            let (sizes, started, release) = (Arc::clone(&sizes), Arc::clone(&started), Arc::clone(&release));
            move |items: Vec<u32>| {
                sizes.lock().unwrap().push(items.len());
                let (started, release) = (Arc::clone(&started), Arc::clone(&release));
                async move {
                    started.notify_one();
                    release.notified().await;
                    items.into_iter().map(|n| n * 2).collect()
                }
            }
        });
        let first = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.call(1).await }
        });
        started.notified().await;
        let rest: Vec<_> = (2..=10)
            .map(|n| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.call(n).await })
            })
            .collect();
        while batcher.queue.max_capacity() - batcher.queue.capacity() < 9 {
            tokio::task::yield_now().await;
        }
        release.notify_one();
        assert_eq!(first.await.unwrap(), Ok(2));
        started.notified().await;
        release.notify_one();
        for (n, answer) in (2..=10).zip(rest) {
            assert_eq!(answer.await.unwrap(), Ok(n * 2), "each caller gets its own answer");
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 9]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_sent() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let batcher = Batcher::on_task(BatchLimits::default(), 1, {
            let (done, entered, leave) = (Arc::clone(&done), Arc::clone(&entered), Arc::clone(&leave));
            move |items: Vec<u8>| {
                done.lock().unwrap().push(items.clone());
                entered.notify_one();
                let leave = Arc::clone(&leave);
                async move {
                    leave.notified().await;
                    items
                }
            }
        });
        let call = |n| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.call(n).await })
        };
        let waiting = |count| {
            let batcher = batcher.clone();
            async move {
                while batcher.queue.max_capacity() - batcher.queue.capacity() < count {
                    tokio::task::yield_now().await;
                }
            }
        };
        let first = call(1);
        entered.notified().await;
        let gone = [call(2), call(3)];
        waiting(2).await;
        for caller in gone {
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
        }
        let last = call(4);
        waiting(3).await;
        leave.notify_one();
        entered.notified().await;
        leave.notify_one();
        assert_eq!((first.await.unwrap(), last.await.unwrap()), (Ok(1), Ok(4)));
        assert_eq!(*done.lock().unwrap(), [[1], [4]]);
    }

    #[tokio::test]
    async fn a_batch_that_panics_takes_no_other_with_it() {
        let work = |items: Vec<u8>| {
            assert!(items != [13], "planted");
            items
        };
        let limits = BatchLimits::default();
        let batchers = [
            Batcher::on_thread("test", limits, work).unwrap(),
            Batcher::on_task(limits, 1, move |items| std::future::ready(work(items))),
            Batcher::on_task(limits, 1, move |items| async move { work(items) }),
        ];
        for batcher in batchers {
            for _ in 0..3 {
                assert_eq!(batcher.call(13).await, Err(BatchError::Broken));
                assert_eq!(batcher.call(1).await, Ok(1), "the worker goes on");
            }
        }
        assert_eq!(Fault::from(BatchError::Broken).reason(), Reason::Internal);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let (enter, leave) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
        let limits = BatchLimits { items_max: 1, queue_max: 1 };
        let batcher = Batcher::on_thread("test", limits, move |items: Vec<u8>| {
            enter.0.send(()).unwrap();
            leave.1.recv().unwrap();
            items
        })
        .unwrap();
        let running = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.call(1).await }
        });
        let entered = tokio::task::spawn_blocking(move || {
            enter.1.recv().unwrap();
            enter.1
        });
        let _entered = entered.await.unwrap();
        let waiting = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.call(2).await }
        });
        while batcher.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.call(3).await, Err(BatchError::Full));
        (0..2).for_each(|_| leave.0.send(()).unwrap());
        assert_eq!((running.await.unwrap(), waiting.await.unwrap()), (Ok(1), Ok(2)));
    }
}
