//! The index as tables. It is also where a new leader finds the accounts: their balances are kept here, as
//! they were after the last record that was taken up.

mod apply;
mod changes;
mod query;
pub(super) mod rows;

use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use mesh::StoreError;
use money::Timestamp;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row, types::ToSql};
use uuid::Uuid;

use self::query::{Extent, Query, page};
use super::{
    Epoch,
    session::{self, Server, as_bigint, failed, from_bigint},
};
use crate::{
    domain::{AccountId, Known, Transfer, TransferId},
    store::ports::{
        AccountFilter, BalanceAt, BalanceFilter, Happened, Index, Page, Period, TransferFilter, Watermark,
    },
};

const APPLIED: &str = "SELECT sequence, hash FROM watermark";

const BURNED: &str = "SELECT id, tenant FROM burned WHERE id = ANY($1)";

const BALANCES: &str =
    "SELECT at, debits_pending, debits_posted, credits_pending, credits_posted FROM history
    WHERE account = (SELECT number FROM accounts WHERE id = $1 AND tenant = $2) AND at BETWEEN $3 AND $4";

/// The index of the epoch that this replica leads. Cheap to clone.
#[derive(Clone)]
pub struct PostgresIndex {
    server: Server,
    pool: Pool,
    /// One connection, for whoever decides what is written.
    deciding: Pool,
    epoch: i64,
    /// One transaction at a time; none where the last one did not end well.
    writer: Arc<Mutex<Option<Client>>>,
}

impl PostgresIndex {
    pub(super) fn new(server: Server, pool: Pool, epoch: Epoch) -> Result<Self, StoreError> {
        // Of this epoch alone: who decided in an earlier one may still wait for an answer.
        let deciding = server.pool(1).map_err(|error| StoreError::Server(error.to_string()))?;
        Ok(Self { server, pool, deciding, epoch: as_bigint(epoch)?, writer: Arc::default() })
    }

    async fn reader(&self) -> Result<Object, StoreError> {
        session::reader(&self.pool).await
    }

    /// The rows of a walk, as far as there are any, and what it came to.
    async fn walk<T>(
        &self,
        query: &Query,
        read: impl Fn(&Row, usize) -> Result<T, StoreError>,
    ) -> Result<(Vec<T>, Extent), StoreError> {
        let client = self.reader().await?;
        let rows = client.query_typed(&query.text, &query.parameters()).await.map_err(failed)?;
        let extent = |row: &Row| Extent { walk: query.walk, walked: row.get(0), last: row.get(1) };
        let extent = rows.first().map_or(Extent { walk: query.walk, walked: 0, last: None }, extent);
        // After the extent; a row without anything found has no time.
        let found = rows.iter().filter(|row| row.get::<_, Option<i64>>(2).is_some());
        Ok((found.map(|row| read(row, 2)).collect::<Result<_, _>>()?, extent))
    }
}

const fn is_empty(period: Period) -> bool {
    period.from.as_nanos() > period.to.as_nanos()
}

const fn nothing<T>() -> Page<T> {
    Page { items: Vec::new(), resume: None }
}

impl Index for PostgresIndex {
    fn for_writes(&self) -> Self {
        Self { pool: self.deciding.clone(), ..self.clone() }
    }

    async fn applied(&self) -> Result<Watermark, StoreError> {
        let row = self.reader().await?.query_one(APPLIED, &[]).await.map_err(failed)?;
        watermark(&row)
    }

    async fn apply(&self, records: Vec<Happened>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.lock().await;
        // Put back only when all went well: what failed, or was cut short, takes its session with it.
        let mut client = match writer.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.server.connect_writer(from_bigint(self.epoch)?).await?,
        };
        apply::apply(&mut client, self.epoch, &records).await?;
        *writer = Some(client);
        Ok(())
    }

    async fn known(&self, ids: Vec<TransferId>) -> Result<Vec<(TransferId, Known)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = ids.into_iter().map(rows::transfer_uuid).collect();
        let client = self.reader().await?;
        let columns = rows::TRANSFER.replace("id,", "transfers.id,");
        let made = format!(
            "SELECT {columns}, reservations.state FROM transfers
             LEFT JOIN reservations ON reservations.id = transfers.id WHERE transfers.id = ANY($1)"
        );
        let (made, burned) =
            tokio::try_join!(client.prepare_cached(&made), client.prepare_cached(BURNED)).map_err(failed)?;
        // Both are under way at once.
        let asked: [&(dyn ToSql + Sync); 1] = [&ids];
        let (made, burned) =
            tokio::try_join!(client.query(&made, &asked), client.query(&burned, &asked)).map_err(failed)?;
        let mut known = Vec::with_capacity(made.len() + burned.len());
        for row in &made {
            let transfer = Arc::new(rows::transfer(row, 0)?);
            let id = transfer.id;
            known.push(match row.get::<_, Option<i16>>(14) {
                Some(state) => (id, Known::Reserved(transfer, rows::state(state)?)),
                None => (id, Known::Made(transfer)),
            });
        }
        for row in &burned {
            known.push((rows::transfer_id(row.get(0))?, Known::Failed(rows::parsed(row, 1, "a tenant")?)));
        }
        Ok(known)
    }

    async fn transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, StoreError> {
        if is_empty(filter.period) {
            return Ok(nothing());
        }
        let (items, extent) = self.walk(&query::transfers(&filter), rows::transfer).await?;
        Ok(page(items, |transfer| transfer.timestamp, extent, filter.period, filter.window))
    }

    async fn accounts(&self, filter: AccountFilter) -> Result<Page<AccountId>, StoreError> {
        if is_empty(filter.period) {
            return Ok(nothing());
        }
        let read = |row: &Row, first: usize| {
            let number = Timestamp::from_nanos(row.get(first));
            rows::account_id(row.get(first + 1)).map(|id| (number, id))
        };
        let (found, extent) = self.walk(&query::accounts(&filter), read).await?;
        let page = page(found, |(number, _)| *number, extent, filter.period, filter.window);
        let items = page.items.into_iter().map(|(_, id)| id).collect();
        Ok(Page { items, resume: page.resume })
    }

    async fn balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, StoreError> {
        if is_empty(filter.period) {
            return Ok(nothing());
        }
        let limit = i64::try_from(filter.window.limit)
            .map_or(query::WALK_MAX, |limit| limit.clamp(1, query::WALK_MAX));
        let order = if filter.window.newest_first { "DESC" } else { "ASC" };
        let client = self.reader().await?;
        let statement = client
            .prepare_cached(&format!("{BALANCES} ORDER BY at {order} LIMIT $5"))
            .await
            .map_err(failed)?;
        let (account, tenant) = (rows::account_uuid(filter.account), filter.tenant.as_str());
        let (from, to) = (filter.period.from.as_nanos(), filter.period.to.as_nanos());
        let rows =
            client.query(&statement, &[&account, &tenant, &from, &to, &limit]).await.map_err(failed)?;
        let at = |row: &Row| BalanceAt {
            timestamp: Timestamp::from_nanos(row.get(0)),
            balances: rows::balances(row, 1),
        };
        let items: Vec<BalanceAt> = rows.iter().map(at).collect();
        let extent = Extent { walk: limit, walked: 0, last: None };
        Ok(page(items, |at| at.timestamp, extent, filter.period, filter.window))
    }
}

/// Reads sequence and hash.
fn watermark(row: &Row) -> Result<Watermark, StoreError> {
    let hash = row.get::<_, &[u8]>(1).try_into();
    let hash = hash.map_err(|_| StoreError::Corrupt("the watermark's hash has a wrong length".to_owned()))?;
    Ok(Watermark { sequence: from_bigint(row.get(0))?, hash })
}
