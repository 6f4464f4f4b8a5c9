//! Reads the journal beside its writer, as far as it is durable: what another session sees is committed.

use money::Timestamp;
use tokio::sync::mpsc;

use super::{Postgres, journal};
use crate::{
    journal::{JournalKey, chain::Header},
    store::ports::{Archive, Frame, JournalError, Sequence},
};

/// Frames that wait for who reads them, beside a page that is being handed over.
const WAITING_MAX: usize = 64;

impl Archive for Postgres {
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

    fn frames(&self, from: Sequence, durable: Sequence) -> mpsc::Receiver<Result<Frame, JournalError>> {
        let (frames, waiting) = mpsc::channel(WAITING_MAX);
        let postgres = self.clone();
        tokio::spawn(async move {
            if let Err(error) = postgres.send(from, durable, &frames).await {
                // Nobody may read any more.
                drop(frames.send(Err(error)).await);
            }
        });
        waiting
    }
}

impl Postgres {
    async fn send(
        &self,
        from: Sequence,
        durable: Sequence,
        frames: &mpsc::Sender<Result<Frame, JournalError>>,
    ) -> Result<(), JournalError> {
        // There is no record 0.
        let mut next = from.max(1);
        while next <= durable {
            let page = self.frames_after(next - 1).await?;
            if page.is_empty() {
                let what = format!("it is missing, and {durable} is durable");
                return Err(JournalError::Damaged { sequence: next, what });
            }
            for frame in page.into_iter().filter(|frame| frame.sequence <= durable) {
                next = frame.sequence + 1;
                if frames.send(Ok(frame)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
