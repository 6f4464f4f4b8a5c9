//! Reads the journal beside its writer, as far as it is durable: what another session sees is committed.

use money::Timestamp;

use super::{Postgres, journal};
use crate::{
    journal::{JournalKey, chain::Header},
    store::ports::{Archive, Frame, FrameReader, JournalError, Sequence},
};

impl Archive for Postgres {
    type Reader = PostgresPages;

    fn key(&self) -> &JournalKey {
        &self.key
    }

    async fn find(&self, from: Timestamp, durable: Sequence) -> Result<Sequence, JournalError> {
        let client = self.reader().await.map_err(|error| JournalError::Failed(error.to_string()))?;
        // The first of 1 to `end` that ends at this time or later; the times of records only grow.
        let (mut start, mut end) = (1, durable + 1);
        while start < end {
            let middle = start + (end - start) / 2;
            let header = journal::header(&client, middle).await?;
            let head = header.first_chunk().ok_or_else(|| JournalError::Damaged {
                sequence: middle,
                what: "it ends within its header".to_owned(),
            })?;
            let header = Header::decode(head, self.key.id()).map_err(|error| error.at(middle))?;
            if header.last >= from {
                end = middle;
            } else {
                start = middle + 1;
            }
        }
        Ok(start)
    }

    fn reader(&self, from: Sequence) -> PostgresPages {
        // There is no record 0.
        PostgresPages { postgres: self.clone(), next: from.max(1) }
    }
}

/// Reads by the page: one query each, on a connection that is given back with its answer.
pub struct PostgresPages {
    postgres: Postgres,
    next: Sequence,
}

impl FrameReader for PostgresPages {
    async fn page(&mut self, durable: Sequence) -> Result<Vec<Frame>, JournalError> {
        if self.next > durable {
            return Ok(Vec::new());
        }
        let mut page = self.postgres.frames_after(self.next - 1).await?;
        page.retain(|frame| frame.sequence <= durable);
        let Some(last) = page.last() else {
            let what = format!("it is missing, and {durable} is durable");
            return Err(JournalError::Damaged { sequence: self.next, what });
        };
        self.next = last.sequence + 1;
        Ok(page)
    }
}
