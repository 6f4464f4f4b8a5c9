//! The checks that read everything there is, and say how far they have come.

use mesh::Fault;
use paymesh_proto::ledger::v1 as proto;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    Rpc,
    feeds::open,
    streams::{Messages, send, stream_until},
};
use crate::{
    engine::EngineError,
    journal::{Chain, Link},
    store::{
        Frames, Led, Progress, audit,
        ports::{Archive as _, JournalError, Sequence},
    },
};

/// How many records pass between two messages of a check.
const REPORT_EVERY: Sequence = 256;

/// What is said to whoever waits for one when the service stops.
const GO_ON: &str = "begin the check anew";

impl<S: Led> Rpc<S> {
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
        Ok(stream_until(&self.drain, GO_ON, move |messages| async move {
            let records_total = (durable + 1).saturating_sub(from);
            let mut said = proto::VerifyJournalResponse { records_total, ..Default::default() };
            let mut frames = Frames::from(&archive, from);
            let mut chain: Option<Chain> =
                (from == 1).then(|| Chain::new(archive.key().clone(), Link::EMPTY));
            while let Some(frame) = frames.next(durable).await.transpose() {
                match frame.and_then(|frame| open(&mut chain, archive.key(), &frame)) {
                    Ok(happened) => {
                        said.records += 1;
                        (said.sequence, said.hash) = (happened.sequence, happened.hash.to_vec().into());
                    }
                    Err(error @ (JournalError::Damaged { .. } | JournalError::Foreign(_))) => {
                        said.offence = error.to_string();
                    }
                    Err(error) => return Err(EngineError::reading(error).into()),
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
        stream_until(&self.drain, GO_ON, move |messages| async move {
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
