//! The journal as a table of frames. One statement, and with it one transaction, checks the epoch and
//! writes: a writer that was replaced writes nothing, however late its statement comes to run.

use mesh::StoreError;
use tokio_postgres::{Client, Row, Statement};

use super::{
    Epoch,
    leadership::look,
    place::Place,
    session::{Server, as_bigint, failed, from_bigint, said, was_refused},
};
use crate::{
    journal::chain::HEADER_BYTES,
    store::ports::{Frame, Hash, Journal, JournalError, PAGE_BYTES, Sequence},
};

/// The row of `leadership` is locked until the commit, so that a takeover either comes first, and nothing is
/// written, or waits for this commit, and reads what it wrote. FOR SHARE reads the row's newest version
/// (READ COMMITTED), also when it had to wait for it.
pub(super) const APPEND: &str = "WITH mine AS MATERIALIZED (SELECT FROM leadership WHERE epoch = $1 FOR SHARE)
    INSERT INTO journal (sequence, epoch, hash, frame)
    SELECT sequence, $1, hash, frame FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS new (sequence, hash, frame)
    WHERE EXISTS (SELECT FROM mine)";

/// In pages of bounded size, but for a frame that is larger by itself.
const READ: &str = "SELECT journal.sequence, journal.hash, journal.frame FROM journal JOIN (
        SELECT sequence, sum(octet_length(frame)) OVER (ORDER BY sequence) - octet_length(frame) AS before
        FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2
    ) AS page USING (sequence) WHERE page.before < $3 ORDER BY journal.sequence";

/// Frames of one page at most.
const PAGE_FRAMES_MAX: i64 = 1_024;

/// Appends as the leader of one epoch.
pub struct PostgresJournal {
    client: Client,
    append: Statement,
    epoch: Epoch,
    place: Place,
    stopped: bool,
}

impl PostgresJournal {
    /// A session of its own to append in.
    pub(super) async fn open(server: &Server, epoch: Epoch, place: Place) -> Result<Self, StoreError> {
        Self::open_with(server, epoch, place, APPEND).await
    }

    /// As [`Self::open`], with another statement: a test's, to see that it is caught.
    pub(super) async fn open_with(
        server: &Server,
        epoch: Epoch,
        place: Place,
        append: &str,
    ) -> Result<Self, StoreError> {
        let client = server.connect_writer(epoch).await?;
        let append = client.prepare(append).await.map_err(failed)?;
        Ok(Self { client, append, epoch, place, stopped: false })
    }

    async fn write(&self, frames: &[Frame]) -> Result<(), JournalError> {
        let number = |number| as_bigint(number).map_err(|error| JournalError::Failed(error.to_string()));
        let epoch = number(self.epoch)?;
        let sequences = frames.iter().map(|frame| number(frame.sequence)).collect::<Result<Vec<i64>, _>>()?;
        let hashes: Vec<&[u8]> = frames.iter().map(|frame| frame.hash.as_slice()).collect();
        let bytes: Vec<&[u8]> = frames.iter().map(|frame| &*frame.bytes).collect();
        match self.client.execute(&self.append, &[&epoch, &sequences, &hashes, &bytes]).await {
            Ok(0) => Err(JournalError::Fenced { leader: self.leader().await }),
            Ok(written) if written == frames.len() as u64 => Ok(()),
            Ok(written) => {
                Err(JournalError::Unknown(format!("{written} of {} frames were written", frames.len())))
            }
            Err(error) if was_refused(&error) => Err(JournalError::Failed(said(&error))),
            Err(error) => Err(JournalError::Unknown(said(&error))),
        }
    }

    async fn leader(&self) -> String {
        look(&self.client).await.map_or_else(|_| "not known".to_owned(), |seen| seen.leader)
    }
}

impl Journal for PostgresJournal {
    async fn append(&mut self, frames: &[Frame]) -> Result<(), JournalError> {
        if self.stopped {
            return Err(JournalError::Failed("it was stopped by an earlier error".to_owned()));
        }
        if frames.is_empty() {
            return Ok(());
        }
        // Also when this is dropped while the answer is under way, which is then not known.
        self.stopped = true;
        self.write(frames).await?;
        self.stopped = false;
        Ok(())
    }

    fn confirm(&self) -> Result<(), JournalError> {
        if self.place.leads_in(self.epoch) {
            Ok(())
        } else {
            Err(JournalError::Fenced { leader: self.place.leader() })
        }
    }
}

/// The frames that follow a record, as many as one page holds and are as they should be; none at the journal's
/// end.
pub(super) async fn read(client: &Client, after: Sequence) -> Result<Vec<Frame>, JournalError> {
    let failed = |error: tokio_postgres::Error| JournalError::Failed(said(&error));
    let from = as_bigint(after).map_err(|error| JournalError::Failed(error.to_string()))?;
    let bytes = i64::try_from(PAGE_BYTES).unwrap_or(i64::MAX);
    let rows = client.query(READ, &[&from, &PAGE_FRAMES_MAX, &bytes]).await.map_err(failed)?;
    let mut frames = Vec::with_capacity(rows.len());
    for (row, expected) in rows.iter().zip(after + 1..) {
        match read_row(row, expected) {
            Ok(frame) => frames.push(frame),
            // It comes again when it is the first that is asked for.
            Err(_) if !frames.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(frames)
}

fn read_row(row: &Row, expected: Sequence) -> Result<Frame, JournalError> {
    let damaged = |what: &str| JournalError::Damaged { sequence: expected, what: what.to_owned() };
    if from_bigint(row.get(0)).map_err(|error| JournalError::Failed(error.to_string()))? != expected {
        return Err(damaged("it is missing"));
    }
    let hash: Hash = row.get::<_, &[u8]>(1).try_into().map_err(|_| damaged("its hash has a wrong length"))?;
    Ok(Frame { sequence: expected, hash, bytes: row.get::<_, &[u8]>(2).into() })
}

/// The last record's place; 0 for the empty journal.
pub(super) async fn head(client: &Client) -> Result<Sequence, StoreError> {
    let row =
        client.query_one("SELECT coalesce(max(sequence), 0) FROM journal", &[]).await.map_err(failed)?;
    from_bigint(row.get(0))
}

/// The header of a record that is durable.
pub(super) async fn header(client: &Client, sequence: Sequence) -> Result<Vec<u8>, JournalError> {
    let failed = |error: tokio_postgres::Error| JournalError::Failed(said(&error));
    let at = as_bigint(sequence).map_err(|error| JournalError::Failed(error.to_string()))?;
    let bytes = i32::try_from(HEADER_BYTES).unwrap_or(i32::MAX);
    let find = "SELECT substring(frame FROM 1 FOR $2) FROM journal WHERE sequence = $1";
    let found = client.query_opt(find, &[&at, &bytes]).await.map_err(failed)?;
    let missing = || JournalError::Damaged { sequence, what: "it is missing".to_owned() };
    found.ok_or_else(missing)?.try_get(0).map_err(failed)
}
