//! Full batches by a few callers at once.

use std::sync::Arc;
use std::time::Instant;

use mesh::Upstream;
use paymesh_proto::ledger::v1::CreateTransfersRequest;
use paymesh_proto::ledger::v1::ledger_service_client::LedgerServiceClient;
use tokio::task::JoinSet;

use super::peer::Peer;
use super::workload::{Accounts, Workload};
use super::{all_created, caller, request};
use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

/// How batches are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Callers, each with a batch under way.
    pub(super) callers: u32,
    /// Transfers in each.
    pub(super) per_call: u32,
}

/// Drives them; figures and bound are of batches, and so is the number of all that were answered. `seed` is
/// another one for each drive of one ledger.
pub(super) fn drive(
    peer: &Peer,
    accounts: &Accounts,
    shape: Shape,
    bound: Bound,
    seed: u64,
) -> Result<(Figures, u64), BenchError> {
    caller()?.block_on(async {
        let client = peer.client()?;
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let mut workers = JoinSet::new();
        for number in 0..shape.callers {
            let workload = Workload::new(accounts.clone(), (seed << 32) | u64::from(number));
            workers.spawn(work(client.clone(), workload, shape.per_call, Arc::clone(&run)));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|_| BenchError::Panicked)??;
        }
        Ok((run.figures(), run.all()))
    })
}

async fn work(
    mut client: LedgerServiceClient<Upstream>,
    mut workload: Workload,
    per_call: u32,
    run: Arc<Run>,
) -> Result<(), BenchError> {
    loop {
        // Before the clock starts: a client has its transfers when it calls.
        let request = request(CreateTransfersRequest { transfers: workload.batch(per_call) })?;
        let Some((_, due)) = run.next(Instant::now()) else { return Ok(()) };
        let answer = client.create_transfers(request).await?.into_inner();
        all_created(&answer.results, per_call as usize)?;
        run.answered(due, Instant::now());
    }
}
