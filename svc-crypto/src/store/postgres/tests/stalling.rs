//! Replicas, and ways to the server, that stand still.

use std::time::Duration;

use mesh::StoreError;
use tokio::time::timeout;

use super::{PostgresConfig, PostgresStore, config, open, racing::key, way};
use crate::store::{AuditLog as _, Kept, Store as _, contract::audit_key};

/// Far less than what a statement, or a transaction, may take here.
const PATIENCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_replica_that_stands_still_amid_a_change_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (way, by_way) = way(&config(dir.path())).await;
    let mut changes = 0;
    for pieces in 0..100 {
        // A replica for each, with a session, and a key that is there.
        let still = PostgresStore::new(&by_way).unwrap();
        let before = key(&format!("k{pieces}"));
        assert_eq!(still.keep_key(before.clone()).await.unwrap(), Kept::Done);
        way.stand_still_after(pieces);
        let mut changing = tokio::spawn(async move { still.keep_key(before.disable().unwrap()).await });
        let stood_still = tokio::select! {
            () = way.stands_still() => true,
            kept = &mut changing => {
                assert_eq!(kept.unwrap().unwrap(), Kept::Done);
                false
            }
        };
        let kept = timeout(PATIENCE, store.keep_key(key(&format!("other{pieces}")))).await;
        assert_eq!(kept.unwrap_or_else(|_| panic!("held up after {pieces}")).unwrap(), Kept::Done);
        changing.abort();
        if !stood_still {
            changes = pieces;
            break;
        }
    }
    assert!(changes > 0, "at last it was not stopped any more");
}

#[tokio::test]
async fn a_connection_on_which_something_is_under_way_is_not_lent_again() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).keep_key(key("k")).await.unwrap();
    let (way, by_way) = way(&config(dir.path())).await;
    let one = PostgresConfig { pool_max: 1, query_timeout_ms: 3_000, ..by_way };
    let store = PostgresStore::new(&one).unwrap();
    let log = store.audit_log(audit_key());
    let read = || store.named_key("acme".parse().unwrap(), key("k").name);
    read().await.unwrap().unwrap();
    assert_eq!(way.connections(), 1);

    // It takes too long.
    way.stand_still();
    let late = read().await;
    assert!(matches!(late, Err(StoreError::Server(_))), "{late:?}");
    read().await.unwrap().unwrap();
    way.stand_still();
    log.last_before(money::Timestamp::EPOCH).await.unwrap_err();
    log.last_before(money::Timestamp::EPOCH).await.unwrap();

    // Who asked goes away.
    way.stand_still();
    assert!(timeout(Duration::from_millis(50), read()).await.is_err());
    read().await.unwrap().unwrap();
    assert_eq!(way.connections(), 4);
}
