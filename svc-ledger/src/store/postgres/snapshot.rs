//! What a new leader begins with: accounts and open reservations as they were at the watermark.

use std::sync::Arc;

use mesh::StoreError;
use money::Timestamp;
use tokio::task::spawn_blocking;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::{
    index::rows::{ACCOUNT, TRANSFER, account, transfer},
    session::{Purpose, Server, failed, from_bigint},
};
use crate::store::ports::Snapshot;

/// Rows that are fetched at once.
const PAGE: i32 = 16_384;

/// Reads all of it, as of one moment; accounts in no order.
pub(super) async fn load(server: &Server) -> Result<Snapshot, StoreError> {
    let mut client = server.connect(Purpose::Load).await?;
    // What is read page by page is of one commit. It writes nothing, so that nothing can conflict with it.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(failed)?;
    let mark = transaction
        .query_one("SELECT sequence, hash, last_event FROM watermark", &[])
        .await
        .map_err(failed)?;
    let hash = mark.get::<_, &[u8]>(1).try_into();
    let mut snapshot = Snapshot {
        sequence: from_bigint(mark.get(0))?,
        hash: hash.map_err(|_| StoreError::Corrupt("the watermark's hash has a wrong length".to_owned()))?,
        last: Timestamp::from_nanos(mark.get(2)),
        accounts: Vec::new(),
        reservations: Vec::new(),
    };

    let accounts = format!("SELECT {ACCOUNT} FROM accounts");
    snapshot.accounts = all(&transaction, &accounts, account).await?;
    let columns = TRANSFER.replace("id,", "transfers.id,");
    let open = format!(
        "SELECT {columns} FROM reservations JOIN transfers ON transfers.id = reservations.id
         WHERE reservations.state = 0"
    );
    snapshot.reservations = all(&transaction, &open, |row| transfer(row, 0).map(Arc::new)).await?;
    transaction.commit().await.map_err(failed)?;
    // In the order in which they were made, as they would have been replayed.
    snapshot.reservations.sort_unstable_by_key(|reservation| reservation.timestamp);
    Ok(snapshot)
}

/// The rows of a statement, which is executed once, whatever their number. A page is read while the next is
/// under way.
async fn all<T: Send + 'static>(
    transaction: &Transaction<'_>,
    statement: &str,
    read: fn(&Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let portal = transaction.bind(statement, &[]).await.map_err(failed)?;
    let mut items = Vec::new();
    let mut page = transaction.query_portal(&portal, PAGE).await.map_err(failed)?;
    while !page.is_empty() {
        let rows = std::mem::take(&mut page);
        let reading = spawn_blocking(move || rows.iter().map(read).collect::<Result<Vec<T>, _>>());
        page = transaction.query_portal(&portal, PAGE).await.map_err(failed)?;
        let read = reading.await.map_err(|_| StoreError::Corrupt("a row cannot be read".to_owned()))?;
        items.extend(read?);
    }
    Ok(items)
}
