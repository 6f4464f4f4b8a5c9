//! The RPCs that stream: batches of transfers both ways, the feed of what happened, the journal, and the checks
//! that say how far they have come.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use mesh::{Call, Fault};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1 as proto;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Status, Streaming, codegen::tokio_stream::Stream};

use super::{Rpc, bounded, wire};
use crate::{
    domain::Event,
    engine::EngineError,
    journal::{Chain, Link},
    store::{
        Led, Progress, audit,
        ports::{Archive, Frame, Happened, JournalError, Sequence},
    },
};

/// Messages that may wait for a slow reader.
const MESSAGES_WAITING: usize = 4;

/// Batches of one stream that may be under way: while one becomes durable, the next is read and executed.
const BATCHES_UNDER_WAY: usize = 4;

/// The most movements of one message.
const MOVEMENTS_MAX: usize = 1_000;

/// The most bytes of frames in one message, but for a frame that is longer.
const EXPORT_BYTES: usize = 1 << 20;

/// How many records pass between two messages of a check.
const REPORT_EVERY: Sequence = 256;

/// Messages as they are sent. Dropping it ends the work behind it.
pub(crate) struct Messages<T>(mpsc::Receiver<Result<T, Status>>);

impl<T> Stream for Messages<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// The reader went away: nothing more is worth doing.
struct Gone;

async fn send<T>(to: &Sender<T>, message: T) -> Result<(), Gone> {
    to.send(Ok(message)).await.map_err(|_| Gone)
}

/// Runs work that sends messages, until it ends or nobody reads them any more.
fn stream<T, F>(work: impl FnOnce(Sender<T>) -> F) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING);
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
    Messages(receiver)
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

    /// What happened to a tenant from a time on, and what comes.
    pub(super) fn watched(
        &self,
        tenant: TenantId,
        from: Timestamp,
    ) -> Result<Messages<proto::WatchTransfersResponse>, Fault> {
        // Not the engine itself: whoever follows must not keep it from ending.
        let mut durable = self.store.engine()?.durable();
        let archive = self.store.archive();
        Ok(stream(move |to| async move {
            let begin = *durable.borrow();
            let mut next = archive.find(from, begin).await.map_err(EngineError::from)?;
            loop {
                let through = *durable.borrow_and_update();
                let mut frames = archive.frames(next, through);
                let mut chain: Option<Chain> = None;
                while let Some(frame) = frames.recv().await {
                    let frame = frame.map_err(EngineError::from)?;
                    let happened = open(&mut chain, &archive, &frame).map_err(EngineError::from)?;
                    next = happened.sequence + 1;
                    if tell(&to, &tenant, from, &happened).await.is_err() {
                        return Ok(());
                    }
                }
                // The engine's end is the stream's: whoever follows comes again.
                if durable.changed().await.is_err() {
                    return Err(EngineError::Closed.into());
                }
            }
        }))
    }

    /// The journal's records, as they are kept.
    pub(super) fn exported(
        &self,
        request: &proto::ExportJournalRequest,
    ) -> Result<Messages<proto::ExportJournalResponse>, Fault> {
        let durable = *self.store.engine()?.durable().borrow();
        let from = request.from_sequence.max(1);
        let to = match request.to_sequence {
            0 => durable,
            to if to <= durable => to,
            _ => {
                let text = format!("must be 0 or at most {durable}, the last durable record");
                return Err(Fault::invalid("to_sequence", text));
            }
        };
        if from > to.saturating_add(1) {
            return Err(Fault::invalid("from_sequence", format!("must be at most {}", to.saturating_add(1))));
        }
        let archive = self.store.archive();
        Ok(stream(move |messages| async move {
            let mut frames = archive.frames(from, to);
            let (mut records, mut bytes) = (Vec::new(), 0);
            while let Some(frame) = frames.recv().await {
                let frame = frame.map_err(EngineError::from)?;
                bytes += frame.bytes.len();
                records.push(proto::export_journal_response::Record {
                    sequence: frame.sequence,
                    hash: frame.hash.to_vec().into(),
                    frame: frame.bytes.to_vec().into(),
                });
                if bytes >= EXPORT_BYTES {
                    let records = std::mem::take(&mut records);
                    bytes = 0;
                    if send(&messages, proto::ExportJournalResponse { records }).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !records.is_empty() {
                // The last message; whether it is read is not our concern any more.
                let _ = send(&messages, proto::ExportJournalResponse { records }).await;
            }
            Ok(())
        }))
    }

    /// The check of the journal's hashes.
    pub(super) fn verified(
        &self,
        request: proto::VerifyJournalRequest,
        turn: OwnedSemaphorePermit,
    ) -> Result<Messages<proto::VerifyJournalResponse>, Fault> {
        let durable = *self.store.engine()?.durable().borrow();
        let from = request.from_sequence.max(1);
        if from > durable.saturating_add(1) {
            return Err(Fault::invalid(
                "from_sequence",
                format!("must be at most {}", durable.saturating_add(1)),
            ));
        }
        let archive = self.store.archive();
        Ok(stream(move |messages| async move {
            let records_total = (durable + 1).saturating_sub(from);
            let mut said = proto::VerifyJournalResponse { records_total, ..Default::default() };
            let mut frames = archive.frames(from, durable);
            let mut chain: Option<Chain> =
                (from == 1).then(|| Chain::new(archive.key().clone(), Link::EMPTY));
            while let Some(frame) = frames.recv().await {
                match frame.and_then(|frame| open(&mut chain, &archive, &frame)) {
                    Ok(happened) => {
                        said.records += 1;
                        (said.sequence, said.hash) = (happened.sequence, happened.hash.to_vec().into());
                    }
                    Err(error @ (JournalError::Damaged { .. } | JournalError::Foreign(_))) => {
                        said.offence = error.to_string();
                    }
                    Err(error) => return Err(EngineError::from(error).into()),
                }
                if !said.offence.is_empty() {
                    break;
                }
                // A reader that is slow is told less often, and does not hold the check up.
                if said.records.is_multiple_of(REPORT_EVERY)
                    && let Err(mpsc::error::TrySendError::Closed(_)) = messages.try_send(Ok(said.clone()))
                {
                    return Ok(());
                }
            }
            if said.offence.is_empty() && said.records < records_total {
                said.offence = format!("the journal ends with record {}", said.sequence);
            }
            said.done = true;
            drop(turn);
            let _ = send(&messages, said).await;
            Ok(())
        }))
    }

    /// The audit of the live ledger.
    pub(super) fn audited(&self, turn: OwnedSemaphorePermit) -> Messages<proto::AuditResponse> {
        let store = self.store.clone();
        stream(move |messages| async move {
            let report = |progress: Progress| {
                if progress.records.is_multiple_of(REPORT_EVERY) {
                    // One that waits for a slow reader says enough.
                    match messages.try_send(Ok(audit_response(progress, false))) {
                        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
                        Err(mpsc::error::TrySendError::Closed(_)) => false,
                    }
                } else {
                    true
                }
            };
            let progress = audit(&store, report).await?;
            drop(turn);
            let _ = send(&messages, audit_response(progress, true)).await;
            Ok(())
        })
    }
}

/// Opens the next record; of the first, what came before it is not looked at.
fn open<A: Archive>(chain: &mut Option<Chain>, archive: &A, frame: &Frame) -> Result<Happened, JournalError> {
    let mut follows = match chain.take() {
        Some(chain) => chain,
        None => Chain::before(archive.key().clone(), &frame.bytes)?,
    };
    let happened = follows.open(&frame.bytes);
    *chain = Some(follows);
    happened
}

fn audit_response(progress: Progress, done: bool) -> proto::AuditResponse {
    let Progress { found, records, records_total } = progress;
    proto::AuditResponse {
        ok: found.offences.is_empty(),
        accounts: found.accounts,
        transfers: found.transfers,
        offences: found.offences,
        done,
        records,
        records_total,
    }
}

/// Tells of the movements of a tenant in a record, from a time on.
async fn tell(
    to: &Sender<proto::WatchTransfersResponse>,
    tenant: &TenantId,
    from: Timestamp,
    happened: &Happened,
) -> Result<(), Gone> {
    use proto::watch_transfers_response::{Lapse, Movement, movement};
    let mine = happened.events.iter().filter_map(|event| match event {
        Event::Made { transfer, .. } if transfer.tenant == *tenant && transfer.timestamp >= from => {
            Some(movement::Movement::Transfer(wire::transfer(transfer)))
        }
        Event::Expired { timestamp, pending, .. } if pending.tenant == *tenant && *timestamp >= from => {
            let lapse = Lapse { timestamp_ns: timestamp.as_nanos(), pending_id: pending.id.to_string() };
            Some(movement::Movement::Lapse(lapse))
        }
        _ => None,
    });
    let mut movements = Vec::new();
    for movement in mine {
        movements.push(Movement { movement: Some(movement) });
        if movements.len() == MOVEMENTS_MAX {
            send(to, proto::WatchTransfersResponse { movements: std::mem::take(&mut movements) }).await?;
        }
    }
    if movements.is_empty() {
        return Ok(());
    }
    send(to, proto::WatchTransfersResponse { movements }).await
}
