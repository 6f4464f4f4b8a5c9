//! What batching is worth: the same calls one by one, and through the mesh's Batcher as batch RPCs.
//!
//! Both go through the mesh's client to the echo behind the mesh's stack, so their ratio is what the calls
//! of a service to another one gain. With one in flight there is nothing to gather, and nothing to lose.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use mesh::testing::call_of;
use mesh::tls::Identity;
use mesh::{BatchLimits, Batcher, Call, Fault, SpiffeId, Upstream};
use paymesh_proto::echo::v1::echo_service_client::EchoServiceClient;
use paymesh_proto::echo::v1::{BatchEchoMessage, EchoMessage};
use tokio::task::JoinSet;

use crate::cpu;
use crate::echo::server::BehindMesh;
use crate::echo::{PAYLOAD, Pki, SERVER, WARM_UP, telemetry};
use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::{self, Figures};

/// Measure unary calls one by one against the same calls gathered into batch RPCs
///
/// A 64-byte echo behind the mesh's stack, called through the mesh's client with a tenant, ids and trace as
/// services do. `single` is one RPC a call; `coalesced` is `mesh::Batcher` in front of the batch RPC.
#[derive(Debug, Clone, Args)]
pub(crate) struct CoalesceArgs {
    /// Calls in flight
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// How long to measure each, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// How often to measure each, in turn; the median of the rounds' ratios is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Batches under way at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    batches: u32,
    /// What the mesh's stack logs
    #[arg(long, default_value = "info")]
    log: String,
}

/// `bench coalesce`.
pub(crate) fn run(args: &CoalesceArgs) -> Result<(), BenchError> {
    let _telemetry = telemetry::start(&args.log)?;
    let bound = Bound::Time { warm_up: WARM_UP, measured: Duration::from_secs(args.duration) };
    println!("unary echo of {} bytes over mTLS through the mesh's client and stack", PAYLOAD.len());
    println!("{}", report::HEAD);
    let pki = Pki::create()?;
    let server = BehindMesh::start(mesh::run::runtime()?, pki.directory.path())?;
    let peers = Peers::new(&pki, &server)?;
    let both = |in_flight: u32| -> Result<[Vec<Figures>; 2], BenchError> {
        let (mut single, mut coalesced) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            single.push(measure(&peers, Case::Single, in_flight, bound)?);
            coalesced.push(measure(&peers, Case::Coalesced { batches: args.batches }, in_flight, bound)?);
        }
        for (single, coalesced) in single.iter().zip(&coalesced) {
            println!("{}", report::row(&format!("single x {in_flight}"), single));
            println!("{}", report::row(&format!("coalesced x {in_flight}"), coalesced));
        }
        Ok([single, coalesced])
    };
    let [single, coalesced] = both(args.in_flight)?;
    let [one_single, one_coalesced] = both(1)?;
    println!(
        "coalesced / single, calls a second at {}: {}",
        args.in_flight,
        report::ratio(&coalesced, &single)
    );
    println!(
        "coalesced / single, p50 with one in flight: {}",
        report::ratio_p50(&one_coalesced, &one_single)
    );
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Single,
    Coalesced { batches: u32 },
}

/// Who calls whom.
struct Peers {
    caller: Identity,
    server: SpiffeId,
    address: String,
}

impl Peers {
    fn new(pki: &Pki, server: &BehindMesh) -> Result<Self, BenchError> {
        let address = server.address().to_string();
        Ok(Self { caller: pki.caller()?, server: SpiffeId::of(SERVER)?, address })
    }

    /// The mesh's client as every service has it.
    fn upstream(&self) -> Result<Upstream, BenchError> {
        Ok(Upstream::new(&self.caller, &self.server, &self.address)?)
    }
}

fn measure(peers: &Peers, case: Case, in_flight: u32, bound: Bound) -> Result<Figures, BenchError> {
    // One thread calls, as in the echo: the server has the rest of the machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    let before = cpu::used_here();
    let (mut figures, all) = runtime.block_on(async {
        let upstream = peers.upstream()?;
        let caller = match case {
            Case::Single => Caller::Single(EchoServiceClient::new(upstream)),
            Case::Coalesced { batches } => Caller::Coalesced(batcher(upstream, batches)),
        };
        let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
        let call = call_of("acme");
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            workers.spawn(work(caller.clone(), call.clone(), Arc::clone(&run)));
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|_| BenchError::Panicked)??;
        }
        Ok::<_, BenchError>((run.figures(), run.all()))
    })?;
    figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
    Ok(figures)
}

type Question = (Call, EchoMessage);
type Answered = Result<EchoMessage, Fault>;

#[derive(Clone)]
enum Caller {
    Single(EchoServiceClient<Upstream>),
    Coalesced(Batcher<Question, Answered>),
}

impl Caller {
    async fn echo(&mut self, call: &Call, message: EchoMessage) -> Answered {
        match self {
            Self::Single(client) => {
                let answer = client.echo(call.request(message)).await;
                answer.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status))
            }
            Self::Coalesced(batcher) => batcher.call((call.clone(), message)).await?,
        }
    }
}

/// As the clients of a service are made: a batch travels on behalf of its first caller.
fn batcher(upstream: Upstream, batches: u32) -> Batcher<Question, Answered> {
    let client = EchoServiceClient::new(upstream);
    Batcher::on_task(BatchLimits::default(), batches as usize, move |questions: Vec<Question>| {
        let mut client = client.clone();
        let count = questions.len();
        let call = questions.first().map(|(call, _)| call.clone());
        let items = questions.into_iter().map(|(_, message)| message).collect();
        async move {
            let Some(call) = call else { return Vec::new() };
            match client.batch_echo(call.request(BatchEchoMessage { items })).await {
                Ok(answer) => answer.into_inner().items.into_iter().map(Ok).collect(),
                Err(status) => vec![Err(Fault::from_status(&status)); count],
            }
        }
    })
}

async fn work(mut caller: Caller, call: Call, run: Arc<Run>) -> Result<(), BenchError> {
    let payload = Bytes::from_static(PAYLOAD);
    while let Some((_, due)) = run.next(Instant::now()) {
        let answer = caller
            .echo(&call, EchoMessage { payload: payload.clone() })
            .await
            .map_err(|fault| BenchError::Echo(fault.to_string()))?;
        if answer.payload != payload {
            return Err(BenchError::Echo("the answer is not what was sent".to_owned()));
        }
        run.answered(due, Instant::now());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_answered_either_way() {
        let pki = Pki::create().unwrap();
        let server = BehindMesh::start(mesh::run::runtime().unwrap(), pki.directory.path()).unwrap();
        let peers = Peers::new(&pki, &server).unwrap();
        for case in [Case::Single, Case::Coalesced { batches: 2 }] {
            for in_flight in [1, 64] {
                let figures = measure(&peers, case, in_flight, Bound::Count(500)).unwrap();
                assert_eq!(figures.latencies_us.len(), 500);
            }
        }
    }
}
