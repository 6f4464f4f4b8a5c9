//! Calls, each an RPC: of one encryption, gathered by the client crate, or of a batch.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crypto_client::CryptoClient;
use mesh::testing::call_of;
use paymesh_proto::crypto::v1::BatchRequest;
use paymesh_proto::crypto::v1::crypto_service_client::CryptoServiceClient;
use tokio::task::JoinSet;

use super::ground::Ground;
use super::{BatchShape, DEADLINE, answered, caller, encrypt, is_sealed, operation};
use crate::echo::{Connection, PAYLOAD, with_metadata};
use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

/// How single encryptions travel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Travel {
    /// Each in an RPC of its own, over so many connections.
    Alone(u32),
    /// With what others ask meanwhile.
    Coalesced,
}

#[derive(Clone)]
enum Caller {
    Alone(CryptoServiceClient<Connection>),
    Coalesced(CryptoClient),
}

/// Drives single encryptions of so many bytes, `in_flight` at once.
pub(super) fn drive(
    ground: &Ground,
    bytes: u32,
    in_flight: u32,
    travel: Travel,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    caller()?.block_on(async {
        let callers = match travel {
            Travel::Alone(connections) => {
                let mut callers = Vec::new();
                for _ in 0..connections {
                    callers.push(Caller::Alone(ground.connect().await?));
                }
                callers
            }
            Travel::Coalesced => vec![Caller::Coalesced(CryptoClient::new(ground.upstream()?))],
        };
        let plaintext = Bytes::from(vec![0xa5; bytes as usize]);
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let mut workers = JoinSet::new();
        for (_, caller) in (0..in_flight).zip(callers.iter().cycle()) {
            workers.spawn(work(caller.clone(), plaintext.clone(), Arc::clone(&run)));
        }
        all(workers).await?;
        Ok((run.figures(), run.all()))
    })
}

async fn work(mut caller: Caller, plaintext: Bytes, run: Arc<Run>) -> Result<(), BenchError> {
    let call = call_of("acme");
    let tenant = call.tenant().map_err(|fault| BenchError::Crypto(fault.to_string()))?.clone();
    while let Some((_, due)) = run.next(Instant::now()) {
        let answer = match &mut caller {
            Caller::Alone(client) => {
                client.encrypt(with_metadata(encrypt(&plaintext), DEADLINE)?).await?.into_inner()
            }
            Caller::Coalesced(client) => {
                let answer = client.encrypt(&call, &tenant, encrypt(&plaintext)).await;
                answer.map_err(|fault| BenchError::Crypto(fault.to_string()))?
            }
        };
        answered(&answer, plaintext.len())?;
        run.answered(due, Instant::now());
    }
    Ok(())
}

/// Drives batches, one under way for each caller, each on a connection of its own.
pub(super) fn drive_batches(
    ground: &Ground,
    shape: BatchShape,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    caller()?.block_on(async {
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let mut workers = JoinSet::new();
        for _ in 0..shape.callers {
            workers.spawn(batches(ground.connect().await?, shape.per_call, Arc::clone(&run)));
        }
        all(workers).await?;
        Ok((run.figures(), run.all()))
    })
}

async fn batches(
    mut client: CryptoServiceClient<Connection>,
    per_call: u32,
    run: Arc<Run>,
) -> Result<(), BenchError> {
    let plaintext = Bytes::from_static(PAYLOAD);
    loop {
        // Before the clock starts: a client has its plaintexts when it calls.
        let operations = (0..per_call).map(|_| operation(&plaintext)).collect();
        let request = with_metadata(BatchRequest { operations }, DEADLINE)?;
        let Some((_, due)) = run.next(Instant::now()) else { return Ok(()) };
        let outcomes = client.batch(request).await?.into_inner().outcomes;
        if outcomes.len() != per_call as usize {
            return Err(BenchError::Crypto(format!("{per_call} operations had {} outcomes", outcomes.len())));
        }
        for outcome in &outcomes {
            is_sealed(outcome.result.as_ref(), plaintext.len())?;
        }
        run.answered(due, Instant::now());
    }
}

/// Waits for all workers; the first error ends it.
pub(super) async fn all(mut workers: JoinSet<Result<(), BenchError>>) -> Result<(), BenchError> {
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|_| BenchError::Panicked)??;
    }
    Ok(())
}
