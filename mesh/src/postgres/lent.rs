//! Connections that a pool lends for one piece of work.

use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use tokio::time::timeout;

use super::failed;
use crate::store::StoreError;

/// Has `work` done on a connection of the pool. `most`: how long it may take, with the wait for a connection. The
/// server bounds a statement too, but may be out of reach.
///
/// A connection on which it did not come to its end, because it took too long or the caller went away, is closed and
/// never lent again: what is under way on it would be waited for by whoever came next.
///
/// # Errors
/// [`StoreError::Server`], and what `work` fails with.
pub async fn within<T, E: From<StoreError>>(
    pool: &Pool,
    most: Duration,
    work: impl AsyncFnOnce(&mut Object) -> Result<T, E>,
) -> Result<T, E> {
    let working = async {
        let mut lent = Lent(Some(pooled(pool).await?));
        let Some(connection) = &mut lent.0 else { return Err(late().into()) };
        let done = work(connection).await;
        // Back to the pool, which looks whether it is closed.
        drop(lent.0.take());
        done
    };
    timeout(most, working).await.map_err(|_| late())?
}

fn late() -> StoreError {
    StoreError::Server("it does not answer in time".to_owned())
}

/// A connection of a pool, for whoever sees to it that nothing is left under way on it.
///
/// # Errors
/// [`StoreError::Server`].
pub async fn pooled(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => failed(error),
        // The pool's own errors hold no value.
        other => StoreError::Server(format!("no connection: {other}")),
    })
}

/// Closes its connection when dropped with it.
struct Lent(Option<Object>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}
