//! One transfer a call: each in an RPC of its own, or gathered by the client.

use std::sync::Arc;
use std::time::Instant;

use mesh::{BatchLimits, Batcher, Fault};
use paymesh_proto::ledger::v1::ledger_service_client::LedgerServiceClient;
use paymesh_proto::ledger::v1::{CreateTransfersRequest, Transfer, TransferResult};
use tokio::task::JoinSet;

use super::peer::Peer;
use super::workload::{Accounts, Workload};
use super::{PER_CALL_MAX, all_created, caller, request};
use crate::cpu;
use crate::echo::Connection;
use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::{self, Figures};

/// How single transfers are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Connections, where each is an RPC of its own.
    pub(super) connections: u32,
    /// Calls under way at once, over all connections.
    pub(super) in_flight: u32,
    /// How they travel.
    pub(super) travel: Travel,
}

/// How a single transfer travels.
#[derive(Debug, Clone, Copy)]
pub(super) enum Travel {
    /// In an RPC of its own.
    Alone,
    /// With what others hand in meanwhile, in this many batches under way at once.
    Coalesced(u32),
}

/// Drives them; figures and bound are of single transfers.
pub(super) fn drive(
    peer: &Peer,
    accounts: &Accounts,
    shape: Shape,
    bound: Bound,
) -> Result<Figures, BenchError> {
    let before = cpu::used_here();
    let (mut figures, all) = caller()?.block_on(async {
        let callers = callers(peer, shape).await?;
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let mut workers = JoinSet::new();
        for (number, caller) in (0..shape.in_flight).zip(callers.iter().cycle()) {
            let workload = Workload::new(accounts.clone(), u64::from(number));
            workers.spawn(work(caller.clone(), workload, Arc::clone(&run)));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|_| BenchError::Panicked)??;
        }
        Ok::<_, BenchError>((run.figures(), run.all()))
    })?;
    figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
    Ok(figures)
}

async fn callers(peer: &Peer, shape: Shape) -> Result<Vec<Caller>, BenchError> {
    match shape.travel {
        Travel::Alone => {
            let mut callers = Vec::new();
            for _ in 0..shape.connections {
                callers.push(Caller::Alone(peer.connect().await?));
            }
            Ok(callers)
        }
        Travel::Coalesced(batches) => Ok(vec![Caller::Coalesced(batcher(peer, batches)?)]),
    }
}

#[derive(Clone)]
enum Caller {
    Alone(LedgerServiceClient<Connection>),
    Coalesced(Batcher<Transfer, Result<TransferResult, Fault>>),
}

impl Caller {
    async fn transfer(&mut self, transfer: Transfer) -> Result<Vec<TransferResult>, BenchError> {
        match self {
            Self::Alone(client) => {
                let request = request(CreateTransfersRequest { transfers: vec![transfer] })?;
                Ok(client.create_transfers(request).await?.into_inner().results)
            }
            Self::Coalesced(batcher) => {
                let refused = |fault: Fault| BenchError::Ledger(fault.to_string());
                Ok(vec![
                    batcher
                        .call(transfer)
                        .await
                        .map_err(Fault::from)
                        .and_then(|result| result)
                        .map_err(refused)?,
                ])
            }
        }
    }
}

/// Within the runtime that calls.
fn batcher(
    peer: &Peer,
    batches: u32,
) -> Result<Batcher<Transfer, Result<TransferResult, Fault>>, BenchError> {
    let client = peer.client()?;
    let limits = BatchLimits { items_max: PER_CALL_MAX as usize, ..BatchLimits::default() };
    Ok(Batcher::on_task(limits, batches as usize, move |transfers: Vec<Transfer>| {
        let mut client = client.clone();
        let count = transfers.len();
        async move {
            let answer = match request(CreateTransfersRequest { transfers }) {
                Ok(request) => client.create_transfers(request).await,
                Err(error) => Err(tonic::Status::internal(error.to_string())),
            };
            match answer {
                Ok(answer) => answer.into_inner().results.into_iter().map(Ok).collect(),
                Err(status) => vec![Err(Fault::from_status(&status)); count],
            }
        }
    }))
}

async fn work(mut caller: Caller, mut workload: Workload, run: Arc<Run>) -> Result<(), BenchError> {
    loop {
        let transfer = workload.transfer();
        let Some((_, due)) = run.next(Instant::now()) else { return Ok(()) };
        all_created(&caller.transfer(transfer).await?, 1)?;
        run.answered(due, Instant::now());
    }
}
