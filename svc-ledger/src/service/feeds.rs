//! The journal as others follow it: what happened to a tenant, and the records themselves. Whoever reads slowly
//! costs little: a feed holds a page of frames, what one record says, and two messages, and no thread; and feeds
//! are bounded in number.

use std::sync::Arc;

use mesh::{Fault, Reason};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1::{self as proto, export_journal_response::Record};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::codegen::Bytes;

use super::{
    Rpc,
    streams::{Gone, Messages, Sender, send, stream_until},
    wire,
};
use crate::{
    domain::Event,
    engine::EngineError,
    journal::{Chain, JournalKey},
    store::{
        Frames, Led,
        ports::{Archive, Frame, FrameReader, Happened, JournalError, Sequence},
    },
};

/// The most movements of one message.
const MOVEMENTS_MAX: usize = 1_000;

/// The most bytes of frames in one message of an export. A frame that is longer comes in parts of so many.
const EXPORT_BYTES: usize = 256 << 10;

/// When to ask again while all places are taken, in seconds.
const FULL_RETRY_AFTER_S: u32 = 5;

/// Places for feeds, of all callers together.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    max: u32,
}

impl Places {
    pub(super) fn new(max: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(max as usize)), max }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let text = format!(
                "{} feeds are open, as many as may be: end one that is not needed, try again later, or set \
                 feeds_max of the ledger higher.",
                self.max
            );
            Fault::new(Reason::Overloaded, text).retry_after_s(FULL_RETRY_AFTER_S)
        })
    }
}

impl<S: Led> Rpc<S> {
    /// What happened to a tenant from a time on, and what comes.
    pub(super) fn watched(
        &self,
        tenant: TenantId,
        from: Timestamp,
    ) -> Result<Messages<proto::WatchTransfersResponse>, Fault> {
        const GO_ON: &str = "watch again from one more than the last timestamp_ns that came";
        // Not the engine itself: whoever follows must not keep it from ending.
        let durable = self.store.engine()?.durable();
        let place = self.feeds.enter()?;
        let archive = self.store.archive();
        let messages = stream_until(&self.drain, GO_ON, move |to| async move {
            if let Err(Gone) = watch(&archive, &tenant, from, durable, &to).await? {
                return Ok(());
            }
            let text = format!("This ledger is no longer served here: {GO_ON}.");
            Err(Fault::new(Reason::Unavailable, text).retry_after_s(1))
        });
        Ok(messages.holding(place))
    }

    /// The journal's records, as they are kept.
    pub(super) fn exported(
        &self,
        request: &proto::ExportJournalRequest,
    ) -> Result<Messages<proto::ExportJournalResponse>, Fault> {
        const GO_ON: &str = "export again from one more than the last sequence that came whole";
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
        let place = self.feeds.enter()?;
        let archive = self.store.archive();
        let messages = stream_until(&self.drain, GO_ON, move |messages| async move {
            let frames = Frames::from(&archive, from);
            Ok(export(frames, archive.key(), to, &messages).await?)
        });
        Ok(messages.holding(place))
    }
}

/// Tells what happened until the engine is gone, or the reader.
async fn watch<A: Archive>(
    archive: &A,
    tenant: &TenantId,
    from: Timestamp,
    mut durable: watch::Receiver<Sequence>,
    to: &Sender<proto::WatchTransfersResponse>,
) -> Result<Result<(), Gone>, EngineError> {
    let begin = *durable.borrow();
    let from_record = archive.find(from, begin).await.map_err(EngineError::reading)?;
    let mut frames = Frames::from(archive, from_record);
    let mut chain = None;
    loop {
        let through = *durable.borrow_and_update();
        while let Some(frame) = frames.next(through).await.map_err(EngineError::reading)? {
            let happened = open(&mut chain, archive.key(), &frame).map_err(EngineError::reading)?;
            if tell(to, tenant, from, &happened).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        if durable.changed().await.is_err() {
            return Ok(Ok(()));
        }
    }
}

/// Sends frames, up to a record, in messages of bounded size; each is verified before.
async fn export<R: FrameReader>(
    mut frames: Frames<R>,
    key: &JournalKey,
    to: Sequence,
    messages: &Sender<proto::ExportJournalResponse>,
) -> Result<(), EngineError> {
    let (mut records, mut bytes, mut chain) = (Vec::new(), 0, None);
    while let Some(frame) = frames.next(to).await.map_err(EngineError::reading)? {
        let chain = standing(&mut chain, key, &frame).map_err(EngineError::reading)?;
        chain.verify(&frame.bytes).map_err(EngineError::reading)?;
        for record in parts(frame, chain.link().hash.to_vec().into()) {
            if bytes + record.frame.len() > EXPORT_BYTES && !records.is_empty() {
                let records = std::mem::take(&mut records);
                bytes = 0;
                if send(messages, proto::ExportJournalResponse { records }).await.is_err() {
                    return Ok(());
                }
            }
            bytes += record.frame.len();
            records.push(record);
        }
    }
    if !records.is_empty() {
        // The last message; whether it is read is not our concern any more.
        let _ = send(messages, proto::ExportJournalResponse { records }).await;
    }
    Ok(())
}

/// A frame as one record, or as several where it is longer than a message may be.
fn parts(frame: Frame, hash: Bytes) -> impl Iterator<Item = Record> {
    let Frame { sequence, bytes, .. } = frame;
    let bytes = Bytes::from_owner(bytes);
    (0..bytes.len()).step_by(EXPORT_BYTES).map(move |from| {
        let to = bytes.len().min(from + EXPORT_BYTES);
        Record { sequence, hash: hash.clone(), frame: bytes.slice(from..to), continues: to < bytes.len() }
    })
}

/// The chain before the next record; of the first, what came before it is not looked at.
fn standing<'chain>(
    chain: &'chain mut Option<Chain>,
    key: &JournalKey,
    frame: &Frame,
) -> Result<&'chain mut Chain, JournalError> {
    match chain {
        Some(chain) => Ok(chain),
        none => Ok(none.insert(Chain::before(key.clone(), &frame.bytes)?)),
    }
}

/// Opens the next record.
pub(super) fn open(
    chain: &mut Option<Chain>,
    key: &JournalKey,
    frame: &Frame,
) -> Result<Happened, JournalError> {
    standing(chain, key, frame)?.open(&frame.bytes)
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

#[cfg(test)]
mod tests;
