//! What a new leader begins with: accounts and open reservations as they were at the watermark.

use std::sync::Arc;

use deadpool_postgres::Pool;
use mesh::StoreError;
use money::Timestamp;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::{
    index::rows::{ACCOUNT, TRANSFER, account, transfer},
    session::{failed, from_bigint, reader},
};
use crate::store::ports::Snapshot;

/// Rows that are fetched at once.
const PAGE: i64 = 16_384;

/// Reads all of it, as of one moment.
pub(super) async fn load(pool: &Pool) -> Result<Snapshot, StoreError> {
    let mut client = reader(pool).await?;
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

    let page = format!("SELECT {ACCOUNT} FROM accounts WHERE number > $1 ORDER BY number LIMIT $2");
    let page = transaction.prepare(&page).await.map_err(failed)?;
    let mut after = i64::MIN;
    loop {
        let rows = transaction.query(&page, &[&after, &PAGE]).await.map_err(failed)?;
        let Some(last) = rows.last() else { break };
        after = last.get(0);
        for row in &rows {
            snapshot.accounts.push(account(row)?);
        }
    }

    let columns = TRANSFER.replace("id,", "transfers.id,");
    let page = format!(
        "SELECT {columns} FROM (SELECT id FROM reservations WHERE state = 0 AND id > $1 ORDER BY id LIMIT $2) AS open
         JOIN transfers ON transfers.id = open.id ORDER BY open.id"
    );
    let page = transaction.prepare(&page).await.map_err(failed)?;
    let mut after = Uuid::nil();
    loop {
        let rows = transaction.query(&page, &[&after, &PAGE]).await.map_err(failed)?;
        let Some(last) = rows.last() else { break };
        after = last.get(1);
        for row in &rows {
            snapshot.reservations.push(Arc::new(transfer(row, 0)?));
        }
    }
    transaction.commit().await.map_err(failed)?;
    // In the order in which they were made, as they would have been replayed.
    snapshot.reservations.sort_unstable_by_key(|reservation| reservation.timestamp);
    Ok(snapshot)
}
