//! The reader as the engine asks for it: on a thread that may block, a few records ahead of who receives them.

use money::Timestamp;
use tokio::sync::mpsc::{self, Receiver};

use super::reader::JournalReader;
use crate::{
    journal::key::JournalKey,
    store::ports::{Archive, Frame, JournalError, Sequence},
};

/// How many records are read ahead. A record may be long, so that they are few.
const AHEAD: usize = 4;

impl Archive for JournalReader {
    fn key(&self) -> &JournalKey {
        self.key()
    }

    async fn find(&self, from: Timestamp, durable: Sequence) -> Result<Sequence, JournalError> {
        let reader = self.clone();
        let finding = tokio::task::spawn_blocking(move || reader.find(from, durable));
        finding.await.unwrap_or_else(|_| Err(JournalError::Failed("a search panicked".to_owned())))
    }

    fn frames(&self, from: Sequence, durable: Sequence) -> Receiver<Result<Frame, JournalError>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reader = self.clone();
        tokio::task::spawn_blocking(move || {
            let opened = reader.frames(from, durable);
            let (frames, error) = opened.map_or_else(|error| (None, Some(Err(error))), |f| (Some(f), None));
            for frame in error.into_iter().chain(frames.into_iter().flatten()) {
                if sender.blocking_send(frame).is_err() {
                    // Nobody wants the rest.
                    break;
                }
            }
        });
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[tokio::test]
    async fn the_end_of_a_journal_that_should_go_on_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let reader = JournalReader::new(dir.path(), samples::key(1));
        assert!(Archive::frames(&reader, 1, 0).recv().await.is_none());
        let mut frames = Archive::frames(&reader, 1, 2);
        assert!(matches!(frames.recv().await, Some(Err(JournalError::Damaged { sequence: 1, .. }))));
        assert!(frames.recv().await.is_none());
    }
}
