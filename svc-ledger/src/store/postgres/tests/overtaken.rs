//! A replica that is overtaken while it reads the books: what it reads does not fit together, and nothing is damaged.

use super::{
    super::replica::{Failure, start},
    Fixture,
    killing::{NOW, account},
    serving::Served,
};

#[tokio::test]
async fn what_does_not_fit_together_is_damage_only_where_nobody_else_wrote_meanwhile() {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let (postgres, _) = fixture.open("first").await;
    // The tables hold more than the journal.
    fixture.run("UPDATE watermark SET sequence = 7").await;
    let lasting = start(&postgres, epoch, false).await.err().unwrap();
    assert!(matches!(lasting, Failure::Lasting(_)), "{lasting:?}");
    // As they may for who read the journal's end before another one took the place and wrote.
    fixture.take_over("second").await;
    let passing = start(&postgres, epoch, false).await.err().unwrap();
    assert!(matches!(passing, Failure::Passing(_)), "{passing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_overtaken_while_it_reads_the_books_leaves_off() {
    let mut fixture = Fixture::new().await;
    fixture.config.query_timeout_ms = 600_000;
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let served = Served::start(&fixture, "first").await;
    fixture.until_blocked(1).await;
    fixture
        .run(
            "UPDATE leadership SET epoch = epoch + 1, leader = 'forced', address = '',
                lease_until = clock_timestamp() + interval '1 hour'",
        )
        .await;
    served.until_told("forced").await;
    // Free again, it is taken again, and the books are asked for once more, though the first answer never came.
    fixture.run("UPDATE leadership SET released = true").await;
    fixture.until_blocked(2).await;
    hold.rollback().await.unwrap();
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1)], NOW).await.unwrap();
    drop(engine);
    served.leave().await;
}
