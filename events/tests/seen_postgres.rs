//! Noting events in PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::time::Duration;

use events::{PostgresSeen, Seen as _, seen::POSTGRES_TABLE};
use mesh::testing::postgres::Schema;
use money::{EventId, Timestamp};
use tokio::time::timeout;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn seen<C>(transaction: &C) -> PostgresSeen<'_, C> {
    PostgresSeen { transaction, consumer: "test", now: NOW }
}

#[tokio::test]
async fn of_two_that_take_the_same_event_at_once_one_has_its_effect() {
    let schema = Schema::new(&format!("events_{}", Uuid::new_v4().simple()));
    let (mut one, mut other) = (schema.client().await, schema.client().await);
    one.batch_execute(&format!("CREATE SCHEMA {}; {POSTGRES_TABLE}", schema.name())).await.unwrap();
    let events = [1, 2].map(|id| EventId::new(Uuid::from_u128(id)));

    // The one that is second waits: whether it is new depends on whether the first one commits.
    for commits in [false, true] {
        let event = events[usize::from(commits)];
        let first = one.transaction().await.unwrap();
        assert!(seen(&first).first_time(event).await.unwrap());
        let second = other.transaction().await.unwrap();
        {
            let mut seen = seen(&second);
            let mut waiting = std::pin::pin!(seen.first_time(event));
            assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
            if commits {
                first.commit().await.unwrap();
            } else {
                first.rollback().await.unwrap();
            }
            assert_eq!(waiting.await.unwrap(), !commits);
        }
        second.commit().await.unwrap();
    }
    assert!(!seen(&one).first_time(events[0]).await.unwrap());
    assert_eq!(seen(&one).forget(NOW).await.unwrap(), 0);
    assert_eq!(seen(&one).forget(Timestamp::from_seconds(1_800_000_001)).await.unwrap(), 2);
}
