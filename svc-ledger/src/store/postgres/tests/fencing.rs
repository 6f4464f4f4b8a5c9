//! A writer that was replaced writes nothing: not afterwards, and not when it was caught in the middle.

use tokio::time::timeout;

use super::{Fixture, PATIENCE, frame};
use crate::store::{
    ports::{Journal as _, JournalError},
    postgres::{
        journal,
        journal::APPEND,
        leadership::{Member, look, take},
        session::Purpose,
    },
};

/// Forgets to ask who leads.
const UNCHECKED: &str = "INSERT INTO journal (sequence, epoch, hash, frame)
    SELECT sequence, $1, hash, frame FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS new (sequence, hash, frame)";

/// Asks, but lets the answer become untrue before the commit.
const UNLOCKED: &str = "WITH mine AS MATERIALIZED (SELECT FROM leadership WHERE epoch = $1)
    INSERT INTO journal (sequence, epoch, hash, frame)
    SELECT sequence, $1, hash, frame FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS new (sequence, hash, frame)
    WHERE EXISTS (SELECT FROM mine)";

/// Locks the row, but not against a takeover, which changes no key.
const WEAKLY_LOCKED: &str = "WITH mine AS MATERIALIZED (SELECT FROM leadership WHERE epoch = $1 FOR KEY SHARE)
    INSERT INTO journal (sequence, epoch, hash, frame)
    SELECT sequence, $1, hash, frame FROM unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS new (sequence, hash, frame)
    WHERE EXISTS (SELECT FROM mine)";

/// What a scenario found wrong.
type Verdict = Result<(), String>;

fn want(holds: bool, what: &str) -> Verdict {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// After a takeover the old writer appends.
async fn appends_too_late(append: &str) -> Verdict {
    let fixture = Fixture::new().await;
    let first = fixture.take_over("first").await;
    let mut old = fixture.journal_with(first, append).await;
    old.append(&[frame(1)]).await.unwrap();
    let second = fixture.take_over("second").await;
    assert_eq!(second, first + 1);
    let late = old.append(&[frame(2), frame(3)]).await;
    let again = old.append(&[frame(2)]).await;
    let frames = fixture.frames().await;
    let mut new = fixture.journal(second).await;
    let next = new.append(&[frame(2)]).await;
    want(frames == [(1, 1)], "something of it is there")?;
    want(
        matches!(late, Err(JournalError::Fenced { ref leader }) if leader == "second"),
        "it is told who leads",
    )?;
    want(matches!(again, Err(JournalError::Failed(_))), "nothing more may be appended")?;
    want(next.is_ok(), "the new writer goes on")
}

/// A takeover is under way, and the old writer's append has to wait for it.
async fn waits_for_a_takeover(append: &str) -> Verdict {
    let fixture = Fixture::new().await;
    let first = fixture.take_over("first").await;
    let mut old = fixture.journal_with(first, append).await;
    let mut client = fixture.client().await;
    let takeover = client.transaction().await.unwrap();
    takeover.execute("UPDATE leadership SET epoch = epoch + 1, leader = 'second'", &[]).await.unwrap();
    let mut appending = tokio::spawn(async move { old.append(&[frame(1)]).await });
    let late = tokio::select! {
        () = fixture.until_blocked(1) => {
            takeover.commit().await.unwrap();
            timeout(PATIENCE, appending).await.unwrap()
        }
        told = &mut appending => {
            takeover.commit().await.unwrap();
            told
        }
    };
    let late = late.unwrap();
    let frames = fixture.frames().await;
    want(frames.is_empty(), "something of it is there")?;
    want(matches!(late, Err(JournalError::Fenced { .. })), "it is told")
}

/// The old writer has looked at the epoch, and is held up before its commit. Whatever it is told afterwards,
/// the new leader, who reads the journal right after it has taken over, knows the same.
async fn is_held_up_while_it_writes(append: &str) -> Verdict {
    let fixture = Fixture::new().await;
    let first = fixture.take_over("first").await;
    let mut old = fixture.journal_with(first, append).await;
    fixture.end_lease().await;
    // An index entry that is neither there nor not: whoever wants the same key waits for its end.
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("INSERT INTO journal VALUES (2, 99, decode(repeat('00', 32), 'hex'), '')", &[])
        .await
        .unwrap();
    let appending = tokio::spawn(async move { old.append(&[frame(1), frame(2)]).await });
    fixture.until_blocked(1).await;

    let server = fixture.server();
    // Without its limit on waiting, beyond which it would end the old writer's session.
    let lead = server.connect(Purpose::Migrate).await.unwrap();
    let mut read = Box::pin(async {
        let member = Member { name: "second".to_owned(), address: String::new() };
        let of = look(&lead).await.unwrap().epoch;
        take(&lead, &server, &member, of).await.unwrap().unwrap();
        journal::head(&lead).await.unwrap()
    });
    let head = tokio::select! {
        // It waits for the writer, as it should, which may go on now.
        () = fixture.until_blocked(2) => {
            hold.rollback().await.unwrap();
            timeout(PATIENCE, read).await.unwrap()
        }
        head = &mut read => {
            hold.rollback().await.unwrap();
            head
        }
    };
    let told = timeout(PATIENCE, appending).await.unwrap().unwrap();
    match told {
        Ok(()) => want(head == 2, "it was acknowledged, and the new leader does not know it"),
        Err(_) => want(head == 0, "it was refused, and is there"),
    }
}

#[tokio::test]
async fn an_append_after_a_takeover_is_fenced_and_leaves_nothing() {
    appends_too_late(APPEND).await.unwrap();
    assert!(appends_too_late(UNCHECKED).await.is_err(), "an append that does not check would be seen");
}

#[tokio::test]
async fn an_append_that_waited_for_a_takeover_is_fenced() {
    waits_for_a_takeover(APPEND).await.unwrap();
    assert!(waits_for_a_takeover(UNCHECKED).await.is_err(), "an append that does not check would be seen");
    assert!(waits_for_a_takeover(UNLOCKED).await.is_err(), "nor does one that reads what is being replaced");
}

#[tokio::test]
async fn an_append_under_way_at_a_takeover_is_known_to_the_new_leader_or_fails() {
    is_held_up_while_it_writes(APPEND).await.unwrap();
    for planted in [UNCHECKED, UNLOCKED, WEAKLY_LOCKED] {
        let verdict = is_held_up_while_it_writes(planted).await;
        assert!(verdict.is_err(), "an acknowledged frame that nobody knows would be seen: {planted}");
    }
}

#[tokio::test]
async fn a_hanging_writers_session_is_ended_by_who_takes_over() {
    let fixture = Fixture::new().await;
    let first = fixture.take_over("first").await;
    let mut old = fixture.journal(first).await;
    fixture.end_lease().await;
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("INSERT INTO journal VALUES (1, 99, decode(repeat('00', 32), 'hex'), '')", &[])
        .await
        .unwrap();
    let appending = tokio::spawn(async move { old.append(&[frame(1)]).await });
    fixture.until_blocked(1).await;
    // The old writer never goes on, and still holds the row that says who leads.
    let second = timeout(PATIENCE, fixture.take_over_ended("second")).await.unwrap();
    assert_eq!(second, first + 1);
    let told = timeout(PATIENCE, appending).await.unwrap().unwrap();
    assert!(matches!(told, Err(JournalError::Unknown(_))), "{told:?}");
    hold.rollback().await.unwrap();
    assert_eq!(fixture.frames().await, []);
}

#[tokio::test]
async fn renewals_do_not_disturb_appends() {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let mut journal = fixture.journal(epoch).await;
    let client = fixture.client().await;
    let renewing = tokio::spawn(async move {
        loop {
            client.execute("UPDATE leadership SET lease_until = clock_timestamp()", &[]).await.unwrap();
        }
    });
    for sequence in 1..=500 {
        journal.append(&[frame(sequence)]).await.unwrap();
    }
    renewing.abort();
    let _ = renewing.await;
}

#[tokio::test]
async fn what_is_written_cannot_be_changed_and_a_place_is_taken_once() {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let mut journal = fixture.journal(epoch).await;
    journal.append(&[]).await.unwrap();
    journal.append(&[frame(1), frame(2)]).await.unwrap();
    for change in ["UPDATE journal SET frame = ''", "DELETE FROM journal", "TRUNCATE journal"] {
        let refused = fixture.admin.batch_execute(change).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("append-only"), "{change}");
    }
    let mut other = fixture.journal(epoch).await;
    let twice = other.append(&[frame(3), frame(2)]).await;
    assert!(matches!(twice, Err(JournalError::Failed(_))), "{twice:?}");
    assert_eq!(fixture.frames().await, [(1, 1), (2, 1)], "all or nothing");
}
