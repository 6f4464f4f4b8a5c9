//! From what is stored to an engine: the state at the watermark, then what the journal says happened after it.

use std::time::Instant;

use money::Timestamp;

use super::{Epoch, Postgres, PostgresIndex, PostgresJournal};
use crate::{
    engine::Beginning,
    journal::{Chain, Link},
    store::{
        Frames,
        ports::{JournalError, Sequence},
        recovery::{Recovery, RecoveryError},
    },
};

impl Postgres {
    /// All that an engine needs to go on in an epoch that this replica leads. Must be called after the replica
    /// was told that it leads: only then is nothing more written by anybody else.
    ///
    /// What the index lacks is left to the engine, which can serve the sooner; or taken up here, where an
    /// engine could not have it taken up.
    pub async fn begin(
        &self,
        epoch: Epoch,
        index_first: bool,
    ) -> Result<Beginning<PostgresJournal, PostgresIndex>, RecoveryError> {
        let began = Instant::now();
        let index = self.index(epoch)?;
        // Nobody else writes any more, so that their order does not matter.
        let (journal, head, snapshot) = tokio::try_join!(self.journal(epoch), self.head(), self.snapshot())?;
        let (accounts, reservations) = (snapshot.accounts.len(), snapshot.reservations.len());
        let recovery = Recovery::begin(snapshot, index).await?;
        recovery.refuse_contradictions()?;
        let mut recovery = if index_first { recovery } else { recovery.leave_the_rest() };
        let from = recovery.from();
        let mut chain = Chain::new(self.key.clone(), self.link_before(from).await?);
        let mut frames = Frames::from(self, from);
        while let Some(frame) = frames.next(head).await? {
            let record = chain.open(&frame.bytes)?;
            if record.hash != frame.hash {
                let what = "the hash beside it is another one".to_owned();
                return Err(JournalError::Damaged { sequence: frame.sequence, what }.into());
            }
            recovery.take(record).await?;
        }
        let (book, index, unindexed) = recovery.finish().await?;
        let (records, took) = (head + 1 - from, began.elapsed());
        tracing::info!(epoch, accounts, reservations, records, ?took, "the ledger was read");
        Ok(Beginning { book, chain, journal, index, unindexed })
    }

    /// Where a chain stands that is to go on with a record. Its hash is checked by that record, which is over it.
    async fn link_before(&self, from: Sequence) -> Result<Link, RecoveryError> {
        let Some(before) = from.checked_sub(1).filter(|before| *before > 0) else { return Ok(Link::EMPTY) };
        let page = self.frames_after(before - 1).await?;
        match page.first() {
            // The time of the record before the first one that is read is not needed: that one has its own.
            Some(frame) => Ok(Link { sequence: before, hash: frame.hash, last: Timestamp::EPOCH }),
            None => Err(JournalError::Damaged { sequence: before, what: "it is missing".to_owned() }.into()),
        }
    }
}
