//! Idempotency keys: the first answer is kept and given again, in the same transaction as the state
//! that it speaks of.
//!
//! A record goes through two states. *Underway*: written together with the subject that the request
//! made, so that a crash in the middle leaves something to resume. *Answered*: the bytes of the answer.
//! Rejections by validation never come this far and are not kept. Modelled on what Stripe documents:
//! <https://docs.stripe.com/api/idempotent_requests>

use std::{sync::Arc, time::Duration};

use money::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    call::IdempotencyKey,
    clock::Clock,
    drain::Drain,
    fault::{Fault, Reason},
    store::{Embedded, StoreError},
};

/// The table; add it to a store's migrations.
pub const SCHEMA: &str = "CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    rpc TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    subject TEXT NOT NULL,
    answer BLOB,
    created_at INTEGER NOT NULL,
    answered_at INTEGER,
    PRIMARY KEY (tenant, rpc, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at)";

/// How long an answer is kept at least, in seconds.
pub const KEPT_S: i64 = 24 * 3_600;

/// What a key is unique within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The tenant.
    pub tenant: TenantId,
    /// The RPC's name.
    pub rpc: &'static str,
    /// The caller's key.
    pub key: IdempotencyKey,
}

/// A digest of the canonical request. Where a request carries secrets it must be keyed (HMAC).
pub type Fingerprint = [u8; 32];

/// The digest (SHA-256) of a request without secrets. Equal requests have equal bytes: prost writes fields
/// in order, and the contract's maps are ordered.
pub fn fingerprint(request: &impl prost::Message) -> Fingerprint {
    let digest = ring::digest::digest(&ring::digest::SHA256, &request.encode_to_vec());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: the request is new, and is now on record as underway.
    New,
    /// The request was accepted and not yet answered; this is what it made.
    Underway {
        /// The id given to [`begin`] by the first request.
        subject: String,
    },
    /// The request was answered with these bytes.
    Answered(Vec<u8>),
}

/// Looks a key up and puts it on record if it is new. Call it in the transaction that makes `subject`.
///
/// A record with another fingerprint is a [`Reason::IdempotencyKeyReused`] fault.
pub fn begin(
    connection: &Connection,
    scope: &Scope,
    fingerprint: &Fingerprint,
    subject: &str,
    now: Timestamp,
) -> Result<Known, Reuse> {
    if let Some(known) = find(connection, scope, fingerprint)? {
        return Ok(known);
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO idempotency (tenant, rpc, key, fingerprint, subject, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (tenant, key) = (scope.tenant.as_str(), scope.key.as_str());
    insert.execute(params![tenant, scope.rpc, key, fingerprint, subject, now.as_nanos()])?;
    Ok(Known::New)
}

/// Looks a key up without recording anything.
pub fn find(
    connection: &Connection,
    scope: &Scope,
    fingerprint: &Fingerprint,
) -> Result<Option<Known>, Reuse> {
    let mut select = connection.prepare_cached(
        "SELECT fingerprint, subject, answer FROM idempotency WHERE tenant = ?1 AND rpc = ?2 AND key = ?3",
    )?;
    let found = select
        .query_row(params![scope.tenant.as_str(), scope.rpc, scope.key.as_str()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
        })
        .optional()?;
    match found {
        None => Ok(None),
        Some((first, _, _)) if first != fingerprint => Err(Reuse::OtherRequest),
        Some((_, _, Some(answer))) => Ok(Some(Known::Answered(answer))),
        Some((_, subject, None)) => Ok(Some(Known::Underway { subject })),
    }
}

/// Keeps the answer. Call it in the transaction that makes the answer true. The first answer stays.
pub fn finish(
    connection: &Connection,
    scope: &Scope,
    answer: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE idempotency SET answer = ?4, answered_at = ?5 WHERE tenant = ?1 AND rpc = ?2 AND key = ?3 AND answer IS NULL",
    )?;
    update.execute(params![scope.tenant.as_str(), scope.rpc, scope.key.as_str(), answer, now.as_nanos()])?;
    Ok(())
}

/// How many records one commit deletes at most.
pub const PRUNED_AT_ONCE: u32 = 1_000;
/// How often old records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Deletes records that were answered more than [`KEPT_S`] ago, oldest first, and says how many. A record that is
/// still underway is kept however old it is: someone has to finish what it speaks of.
pub fn prune(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    let oldest = now.as_nanos().saturating_sub(KEPT_S.saturating_mul(1_000_000_000));
    let mut delete = connection.prepare_cached(
        "DELETE FROM idempotency WHERE (tenant, rpc, key) IN (
            SELECT tenant, rpc, key FROM idempotency
            WHERE created_at < ?1 AND answered_at < ?1 ORDER BY created_at LIMIT ?2)",
    )?;
    Ok(delete.execute(params![oldest, PRUNED_AT_ONCE])?)
}

/// The background duty that keeps a store's records from growing without bound. Ends with the drain.
pub async fn pruning(store: Embedded, clock: Arc<dyn Clock>, drain: Drain) {
    let store = &store;
    let gone = |now| async move { store.write(move |connection| prune(connection, now)).await };
    pruning_with(gone, clock, drain).await;
}

/// The same for any store. `prune` does what [`prune`] does, [`PRUNED_AT_ONCE`] at most.
pub async fn pruning_with<F>(prune: impl Fn(Timestamp) -> F, clock: Arc<dyn Clock>, drain: Drain)
where
    F: Future<Output = Result<usize, StoreError>>,
{
    let mut ticks = tokio::time::interval(PRUNE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while drain.unless_started(ticks.tick()).await.is_some() {
        let now = clock.now();
        // A full batch means that there is more.
        while prune(now).await.is_ok_and(|gone| gone == PRUNED_AT_ONCE as usize) && !drain.has_started() {}
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Reuse {
    /// It was used with another request.
    #[error("the key was used with another request")]
    OtherRequest,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for Reuse {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Reuse> for Fault {
    fn from(reuse: Reuse) -> Self {
        match reuse {
            Reuse::OtherRequest => Fault::new(
                Reason::IdempotencyKeyReused,
                "This idempotency key was used before with another request.",
            )
            .violating("Idempotency-Key", "must be a new one for a new request"),
            Reuse::Store(error) => error.into(),
        }
    }
}

/// The first request with this key is still being worked on.
pub fn in_progress() -> Fault {
    Fault::new(
        Reason::IdempotencyInProgress,
        "The first request with this idempotency key is still being worked on.",
    )
    .retry_after_s(1)
}

/// Marks an answer as a stored one.
pub fn mark_replayed<T>(response: &mut tonic::Response<T>) {
    let yes = tonic::metadata::MetadataValue::from_static("true");
    response.metadata_mut().insert("idempotency-replayed", yes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(key: &str) -> Scope {
        Scope { tenant: "acme".parse().unwrap(), rpc: "CreatePayment", key: key.parse().unwrap() }
    }

    #[test]
    fn a_key_goes_from_new_to_underway_to_answered_and_stays() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let begin = |fingerprint: u8, subject: &str| {
            begin(&connection, &scope("k"), &[fingerprint; 32], subject, Timestamp::EPOCH)
        };
        assert_eq!(begin(1, "pay_1").unwrap(), Known::New);
        assert_eq!(begin(1, "pay_2").unwrap(), Known::Underway { subject: "pay_1".into() });
        assert!(matches!(begin(2, "pay_2"), Err(Reuse::OtherRequest)));
        finish(&connection, &scope("k"), b"first", Timestamp::EPOCH).unwrap();
        finish(&connection, &scope("k"), b"second", Timestamp::EPOCH).unwrap();
        assert_eq!(begin(1, "pay_2").unwrap(), Known::Answered(b"first".into()));
        assert!(matches!(begin(2, "pay_2"), Err(Reuse::OtherRequest)));
        assert_eq!(find(&connection, &scope("other"), &[1; 32]).unwrap(), None);
    }

    #[test]
    fn old_answers_go_and_what_is_underway_stays() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        for key in ["answered", "underway"] {
            begin(&connection, &scope(key), &[1; 32], "pay_1", Timestamp::EPOCH).unwrap();
        }
        let late = Timestamp::from_seconds(1_000);
        finish(&connection, &scope("answered"), b"answer", late).unwrap();
        assert_eq!(prune(&connection, Timestamp::from_seconds(KEPT_S + 1_000)).unwrap(), 0, "kept for a day");
        assert_eq!(prune(&connection, Timestamp::from_seconds(KEPT_S + 1_001)).unwrap(), 1);
        assert_eq!(find(&connection, &scope("answered"), &[1; 32]).unwrap(), None);
        assert!(find(&connection, &scope("underway"), &[1; 32]).unwrap().is_some());
    }
}
