//! What the RPCs that stream have in common, and batches of transfers both ways.
//!
//! What a stream does when the service drains is decided here: [`stream_until`] for those that would go on, and
//! for batches once what has begun was answered. So none holds up a stop, and each says where its caller goes on.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use mesh::{Call, Drain, Fault};
use paymesh_proto::ledger::v1 as proto;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Status, Streaming, codegen::tokio_stream::Stream};

use super::{Rpc, bounded, wire};
use crate::store::Led;

/// Messages that may wait for a slow reader, beside the one that is being made.
const MESSAGES_WAITING: usize = 1;

/// Batches of one stream that may be under way: while one becomes durable, the next is read and executed.
const BATCHES_UNDER_WAY: usize = 4;

/// Messages as they are sent. Dropping it ends the work behind it.
pub(crate) struct Messages<T> {
    waiting: mpsc::Receiver<Result<T, Status>>,
    /// Held until the last message was taken.
    _place: Option<OwnedSemaphorePermit>,
}

impl<T> Messages<T> {
    /// Takes up a place for as long as there may be messages.
    pub(super) fn holding(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }
}

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.waiting.poll_recv(context)
    }
}

pub(super) type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// The reader went away: nothing more is worth doing.
pub(super) struct Gone;

pub(super) async fn send<T>(to: &Sender<T>, message: T) -> Result<(), Gone> {
    to.send(Ok(message)).await.map_err(|_| Gone)
}

/// Runs work that sends messages, until it ends or nobody reads them any more.
fn stream<T, F>(work: impl FnOnce(Sender<T>) -> F) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (sender, waiting) = mpsc::channel(MESSAGES_WAITING);
    let working = work(sender.clone());
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = working => outcome,
            () = sender.closed() => return,
        };
        if let Err(fault) = outcome {
            // Nobody may be left to be told.
            drop(sender.send(Err(fault.into())).await);
        }
    });
    Messages { waiting, _place: None }
}

/// The same for work that ends with the drain at the latest. `go_on` says from where its caller goes on
/// elsewhere ([`Fault::stopping`]).
pub(super) fn stream_until<T, F>(
    drain: &Drain,
    go_on: &'static str,
    work: impl FnOnce(Sender<T>) -> F,
) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let drain = drain.clone();
    stream(|sender| {
        let working = work(sender);
        async move { drain.or_stopping(working, go_on).await }
    })
}

/// The answer to a batch that is under way.
type Answer = Pin<Box<dyn Future<Output = Result<proto::StreamTransfersResponse, Fault>> + Send>>;

/// The answer of the batch that came first.
async fn first(under_way: &mut VecDeque<Answer>) -> Result<proto::StreamTransfersResponse, Fault> {
    match under_way.front_mut() {
        Some(first) => first.await,
        None => std::future::pending().await,
    }
}

impl<S: Led> Rpc<S> {
    /// Batches in, answers out, in order; several under way at once.
    pub(super) fn transfers_streamed(
        &self,
        call: Call,
        mut batches: Streaming<proto::StreamTransfersRequest>,
    ) -> Messages<proto::StreamTransfersResponse> {
        const GO_ON: &str = "send the batches without an answer again, with the same ids";
        let rpc = self.clone();
        stream(move |answers| async move {
            let mut under_way: VecDeque<Answer> = VecDeque::with_capacity(BATCHES_UNDER_WAY);
            let mut end = None;
            loop {
                tokio::select! {
                    biased;
                    answer = first(&mut under_way), if !under_way.is_empty() => {
                        under_way.pop_front();
                        if send(&answers, answer?).await.is_err() {
                            return Ok(());
                        }
                    }
                    // Before the next batch, of which there may be no end.
                    () = rpc.drain.started(), if end.is_none() => end = Some(Err(Fault::stopping(GO_ON))),
                    next = batches.message(), if end.is_none() && under_way.len() < BATCHES_UNDER_WAY => {
                        let begun = match next {
                            Ok(Some(batch)) => rpc.begin_batch(&call, batch).map(Some),
                            Ok(None) => Ok(None),
                            Err(status) => Err(Fault::from_status(&status)),
                        };
                        match begun {
                            Ok(Some(answer)) => under_way.push_back(answer),
                            // Those before are answered first, and none after is begun.
                            Ok(None) => end = Some(Ok(())),
                            Err(fault) => end = Some(Err(fault)),
                        }
                    }
                    else => return end.unwrap_or(Ok(())),
                }
            }
        })
    }

    /// Puts a batch into the ledger's queue, behind those before it.
    fn begin_batch(&self, call: &Call, request: proto::StreamTransfersRequest) -> Result<Answer, Fault> {
        let proto::StreamTransfersRequest { batch, transfers } = request;
        bounded("transfers", transfers.len())?;
        let items = wire::new_transfers(call, &self.words, transfers)?;
        let results = self.store.engine()?.submit(items, self.clock.now())?;
        Ok(Box::pin(async move {
            let results = results.await?.into_iter().map(wire::transfer_result).collect();
            Ok(proto::StreamTransfersResponse { batch, results })
        }))
    }
}
