//! What the SQL stores take for granted of PostgreSQL, asked of a real one.
//!
//! The server comes from `PAYMESH_TEST_POSTGRES_URL`. There is no skipping without it: a store that
//! was not tested is not known to work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel, NoTls};

const VARIABLE: &str = "PAYMESH_TEST_POSTGRES_URL";
/// `server_version_num` of the oldest version that the stores are written for.
const VERSION_MIN: i32 = 130_000;
/// Far more than any step here needs; only a wrong test waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect() -> Client {
    let url = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set; run `cargo xtask test`, or `cargo xtask servers -- cargo test`")
    });
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to {VARIABLE}: {error}"));
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_server_is_new_enough_and_keeps_text_as_utf8() {
    let client = connect().await;
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
            &[],
        )
        .await
        .unwrap();
    let (version, encoding): (i32, String) = (row.get(0), row.get(1));
    assert!(version >= VERSION_MIN, "PostgreSQL {version} is older than {VERSION_MIN}");
    assert_eq!(encoding, "UTF8");
}

#[tokio::test]
async fn amounts_of_every_size_come_back_as_they_went_in() {
    let client = connect().await;
    client
        .batch_execute("CREATE TEMPORARY TABLE amounts (id bigint PRIMARY KEY, amount bigint NOT NULL)")
        .await
        .unwrap();
    let amounts = [i64::MIN, -1, 0, 1, money::AMOUNT_MAX, i64::MAX];
    let ids: Vec<i64> = (0..).take(amounts.len()).collect();
    let inserted = client
        .execute(
            "INSERT INTO amounts SELECT * FROM unnest($1::bigint[], $2::bigint[])",
            &[&ids, &amounts.as_slice()],
        )
        .await
        .unwrap();
    assert_eq!(inserted, 6);
    let rows = client.query("SELECT amount FROM amounts ORDER BY id", &[]).await.unwrap();
    let read: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(read, amounts);
}

#[tokio::test]
async fn an_amount_beyond_its_type_is_an_error_and_changes_nothing() {
    let client = connect().await;
    client
        .batch_execute(
            "CREATE TEMPORARY TABLE amounts (id bigint PRIMARY KEY, amount bigint NOT NULL);
             INSERT INTO amounts VALUES (1, 9223372036854775807)",
        )
        .await
        .unwrap();
    let error = client.execute("UPDATE amounts SET amount = amount + 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::NUMERIC_VALUE_OUT_OF_RANGE));
    let row = client.query_one("SELECT amount FROM amounts", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), i64::MAX);
}

/// Two accounts in a table of their own schema, which goes away with the fixture.
struct Accounts {
    admin: Client,
    schema: String,
}

impl Accounts {
    async fn create() -> Self {
        let admin = connect().await;
        let schema = format!("smoke_{}", uuid::Uuid::new_v4().simple());
        let create = format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.accounts (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
             INSERT INTO {schema}.accounts VALUES (1, 1000), (2, 1000)"
        );
        admin.batch_execute(&create).await.unwrap();
        Self { admin, schema }
    }

    async fn client(&self) -> Client {
        let client = connect().await;
        client.batch_execute(&format!("SET search_path = {}", self.schema)).await.unwrap();
        client
    }

    /// Balances by id, and the end of the schema.
    async fn finish(self) -> Vec<i64> {
        let balances = format!("SELECT balance FROM {}.accounts ORDER BY id", self.schema);
        let rows = self.admin.query(&balances, &[]).await.unwrap();
        self.admin.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.schema)).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

const LOCK_BOTH: &str = "SELECT id, balance FROM accounts WHERE id = ANY($1) ORDER BY id FOR UPDATE";
const ADD: &str = "UPDATE accounts SET balance = balance + $2 WHERE id = $1";

/// Moves an amount in one transaction that locks both rows in the order of their ids.
async fn transfer(client: &mut Client, from: i64, to: i64, amount: i64) {
    let transaction =
        client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await.unwrap();
    let locked = transaction.query(LOCK_BOTH, &[&[from, to].as_slice()]).await.unwrap();
    let ids: Vec<i64> = locked.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, [1, 2], "rows are locked in the order of their ids, whatever the direction");
    transaction.execute(ADD, &[&from, &-amount]).await.unwrap();
    transaction.execute(ADD, &[&to, &amount]).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_locked_row_makes_the_other_wait_and_then_see_what_was_committed() {
    let accounts = Accounts::create().await;
    let (mut first, mut second) = (accounts.client().await, accounts.client().await);

    let holder =
        first.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await.unwrap();
    holder.query(LOCK_BOTH, &[&[1_i64, 2].as_slice()]).await.unwrap();
    holder.execute(ADD, &[&1_i64, &-1000_i64]).await.unwrap();

    // While the first holds the rows, the second cannot have them ...
    second.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    let refused = second.query(LOCK_BOTH, &[&[1_i64, 2].as_slice()]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));

    // ... and once the first commits, the second reads its result, not what was there when it asked.
    second.batch_execute("SET lock_timeout = 0").await.unwrap();
    let waiter = tokio::spawn(async move {
        let transaction =
            second.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await.unwrap();
        let rows = transaction.query(LOCK_BOTH, &[&[1_i64, 2].as_slice()]).await.unwrap();
        let balances: Vec<i64> = rows.iter().map(|row| row.get("balance")).collect();
        transaction.commit().await.unwrap();
        balances
    });
    wait_until_blocked(&accounts).await;
    assert!(!waiter.is_finished());
    holder.commit().await.unwrap();
    let seen = timeout(PATIENCE, waiter).await.unwrap().unwrap();
    assert_eq!(seen, [0, 1000]);
    assert_eq!(accounts.finish().await, [0, 1000]);
}

/// Asks the server itself whether a session waits for a lock on this test's table.
async fn wait_until_blocked(accounts: &Accounts) {
    let asked = "SELECT count(*) FROM pg_locks blocked JOIN pg_locks held ON held.pid = blocked.pid
                 WHERE NOT blocked.granted AND held.relation = $1::text::regclass";
    let table = format!("{}.accounts", accounts.schema);
    let blocked = async {
        while accounts.admin.query_one(asked, &[&table]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, blocked).await.expect("the second session waits for the first one's rows");
}

#[tokio::test]
async fn opposite_transfers_in_id_order_neither_deadlock_nor_lose_money() {
    const ROUNDS: i64 = 50;
    let accounts = Accounts::create().await;
    let (mut one, mut other) = (accounts.client().await, accounts.client().await);
    let there = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            transfer(&mut one, 1, 2, 7).await;
        }
    });
    let back = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            transfer(&mut other, 2, 1, 5).await;
        }
    });
    timeout(PATIENCE, async { (there.await.unwrap(), back.await.unwrap()) }).await.unwrap();
    assert_eq!(accounts.finish().await, [1000 - ROUNDS * 2, 1000 + ROUNDS * 2]);
}
