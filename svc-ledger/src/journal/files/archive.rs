//! The reader as the engine asks for it: each page is read on a thread that may block, which then is free.

use money::Timestamp;

use super::reader::{FilePages, JournalReader};
use crate::{
    journal::key::JournalKey,
    store::ports::{Archive, Frame, FrameReader, JournalError, Sequence},
};

impl Archive for JournalReader {
    type Reader = FilePages;

    fn key(&self) -> &JournalKey {
        self.key()
    }

    async fn find(&self, from: Timestamp, durable: Sequence) -> Result<Sequence, JournalError> {
        let reader = self.clone();
        let finding = tokio::task::spawn_blocking(move || reader.find(from, durable));
        finding.await.unwrap_or_else(|_| Err(JournalError::Failed("a search panicked".to_owned())))
    }

    fn reader(&self, from: Sequence) -> FilePages {
        FilePages::new(self.clone(), from)
    }
}

impl FrameReader for FilePages {
    async fn page(&mut self, durable: Sequence) -> Result<Vec<Frame>, JournalError> {
        // A copy, so that this one stands where it stood if nobody waits for the page any more.
        let mut pages = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let page = pages.read(durable);
            (pages, page)
        });
        let read = reading.await.map_err(|_| JournalError::Failed("a reading panicked".to_owned()));
        let (pages, page) = read?;
        *self = pages;
        page
    }
}
