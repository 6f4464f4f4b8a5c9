//! The journal's frames one at a time, of which no more than a page is held.

use std::vec;

use super::ports::{Archive, Frame, FrameReader, JournalError, Sequence};

/// Frames in order. Those of a page are held until they were taken.
pub struct Frames<R> {
    reader: R,
    page: vec::IntoIter<Frame>,
}

impl<R: FrameReader> Frames<R> {
    /// From a record on.
    pub fn from<A: Archive<Reader = R>>(archive: &A, from: Sequence) -> Self {
        Self { reader: archive.reader(from), page: Vec::new().into_iter() }
    }

    /// The next one, up to one that is durable; `None` behind it. Never ask for less than before. Where the future
    /// is dropped, nothing is lost.
    pub async fn next(&mut self, durable: Sequence) -> Result<Option<Frame>, JournalError> {
        if self.page.len() == 0 {
            self.page = self.reader.page(durable).await?.into_iter();
        }
        Ok(self.page.next())
    }
}
