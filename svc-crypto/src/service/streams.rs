//! The RPCs that stream: operations in and outcomes out, and payloads of any size in pieces.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mesh::{Call, Fault};
use paymesh_proto::crypto::v1::{self as proto, large_request::Part};
use tokio::sync::mpsc;
use tonic::{Status, Streaming, codegen::tokio_stream::Stream};

use super::check_count;
use crate::{
    operations::{Large, LargeOperation, Operations},
    store::Store,
};

/// Messages that may wait for a slow reader.
const MESSAGES_WAITING: usize = 4;

/// Messages as they are sent. Dropping it ends the work behind it.
pub struct Messages<T>(mpsc::Receiver<Result<T, Status>>);

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

pub(super) type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// Runs work that sends messages, until it ends or nobody reads them any more.
pub(super) fn messages<T, F>(work: impl FnOnce(Sender<T>) -> F) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING);
    let working = work(sender.clone());
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = working => outcome,
            () = sender.closed() => return,
        };
        if let Err(status) = outcome {
            // Nobody may be left to be told.
            drop(sender.send(Err(status)).await);
        }
    });
    Messages(receiver)
}

pub(super) async fn send<T>(to: &Sender<T>, message: T) -> Result<(), Status> {
    to.send(Ok(message)).await.map_err(|_| Status::cancelled("nobody reads the answers"))
}

/// Batches of one stream whose records may be under way while the next is worked on.
const RECORDS_UNDER_WAY: usize = 8;

/// Operations under the caller's numbers.
pub(super) fn operations<S: Store>(
    operations: Arc<Operations<S>>,
    call: Call,
    mut asked: Streaming<proto::StreamRequest>,
) -> Messages<proto::StreamResponse> {
    messages(move |answers| async move {
        let (done, mut recorded) = mpsc::channel(RECORDS_UNDER_WAY);
        let work = async move {
            while let Some(request) = asked.message().await? {
                check_count("operations", request.operations.len())?;
                let (ids, operations_asked): (Vec<u64>, Vec<proto::Operation>) = request
                    .operations
                    .into_iter()
                    .map(|numbered| (numbered.request_id, numbered.operation.unwrap_or_default()))
                    .unzip();
                let (outcomes, entries) = operations.many(&call, operations_asked).await;
                let record = operations.record(entries);
                let outcomes = ids.into_iter().zip(outcomes).map(|(request_id, outcome)| {
                    proto::stream_response::Numbered { request_id, outcome: Some(outcome) }
                });
                let response = proto::StreamResponse { outcomes: outcomes.collect() };
                // Nobody takes it where its answer could not be given.
                if done.send((response, record)).await.is_err() {
                    break;
                }
            }
            Ok::<(), Status>(())
        };
        let answer = async move {
            while let Some((response, record)) = recorded.recv().await {
                record.await?;
                send(&answers, response).await?;
            }
            Ok::<(), Status>(())
        };
        let (worked, answered) = tokio::join!(work, answer);
        answered.and(worked)
    })
}

/// Plaintext in, an envelope out.
pub(super) fn encrypt<S: Store>(
    operations: Arc<Operations<S>>,
    call: Call,
    asked: Streaming<proto::LargeRequest>,
) -> Messages<proto::LargeResponse> {
    messages(move |answers| async move {
        let (first, asked) = begun(asked).await?;
        let large = operations.encrypt_large(&call, first).await?;
        carry(&operations, large, asked, answers).await
    })
}

/// An envelope in, plaintext out.
pub(super) fn decrypt<S: Store>(
    operations: Arc<Operations<S>>,
    call: Call,
    asked: Streaming<proto::LargeRequest>,
) -> Messages<proto::LargeResponse> {
    messages(move |answers| async move {
        let (first, asked) = begun(asked).await?;
        let large = operations.decrypt_large(&call, first).await?;
        carry(&operations, large, asked, answers).await
    })
}

type Pieces = Streaming<proto::LargeRequest>;

/// What the first message says.
async fn begun(mut asked: Pieces) -> Result<(proto::large_request::Begin, Pieces), Status> {
    match asked.message().await?.and_then(|message| message.part) {
        Some(Part::Begin(first)) => Ok((first, asked)),
        _ => Err(Fault::invalid("begin", "must be the first message of the stream").into()),
    }
}

async fn carry<S: Store, L: LargeOperation>(
    operations: &Operations<S>,
    mut large: Large<L>,
    mut asked: Pieces,
    answers: Sender<proto::LargeResponse>,
) -> Result<(), Status> {
    let mut given = Ok(());
    while let Some(message) = asked.message().await? {
        let Some(Part::Piece(piece)) = message.part else {
            given = Err(Fault::invalid("piece", "must be in every message after the first"));
            break;
        };
        match large.push(&piece).await {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => send(&answers, proto::LargeResponse { piece: piece.into() }).await?,
            Err(fault) => {
                given = Err(fault);
                break;
            }
        }
    }
    match operations.end(large, given).await? {
        rest if rest.is_empty() => Ok(()),
        rest => send(&answers, proto::LargeResponse { piece: rest.into() }).await,
    }
}
