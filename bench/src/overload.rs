//! Overload: what a service, and the edge before it, still do when three times as much comes as can be done.
//!
//! The service has a fixed capacity: a few workers that each take a fixed time, and whoever comes meanwhile
//! waits. The load is open: requests come evenly, whatever becomes of those before.
#![allow(clippy::float_arithmetic, reason = "rates and ratios for people; no amount is computed here")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use edge_gateway::EdgeConfig;
use hdrhistogram::Histogram;
use http::{StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{Harness, Parts, Service, ServiceContext, StartError};
use paymesh_proto::echo::v1::echo_service_server::{EchoService, EchoServiceServer};
use paymesh_proto::echo::v1::{BatchEchoMessage, EchoMessage};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status};

use crate::echo::{self, EchoClient};
use crate::edge::{self, Ground, stand_in::Capacity};
use crate::error::BenchError;
use crate::report;

/// Measure what a service with a bounded capacity does when more comes than it can do
///
/// Its peak is measured by a closed load first; then requests come at 1 and 3 times that rate, each with a
/// deadline of a second: over gRPC to the service itself, then over REST (HTTP/2) to an edge before such a
/// service, where a refusal is a 429. The run fails if less than 0.8 of the peak is answered in time at 3 times the
/// rate, or if one refusal in a hundred takes 50 ms or longer.
#[derive(Debug, Clone, Args)]
pub(crate) struct OverloadArgs {
    /// How long each load lasts, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(2..=600))]
    duration: u64,
}

const WORKERS: usize = 4;
const WORK: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 4;
/// What must be left of the peak.
const GOODPUT_MIN: f64 = 0.8;
const REFUSAL_MAX: Duration = Duration::from_millis(50);

/// An echo that only so many can be at.
struct Bounded(Semaphore);

#[tonic::async_trait]
impl EchoService for Bounded {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        let _worker = self.0.acquire().await.map_err(|_| Status::internal("no workers"))?;
        tokio::time::sleep(WORK).await;
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

struct BoundedService;

impl Service for BoundedService {
    const NAME: &'static str = echo::SERVER;
    type Config = ();

    async fn build((): (), _context: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(Bounded(Semaphore::new(WORKERS)))))
    }
}

/// What became of the requests of one load.
struct Outcome {
    answered: u64,
    refusals_us: Histogram<u64>,
    late: u64,
    time: Duration,
}

impl Outcome {
    fn new() -> Self {
        Self { answered: 0, refusals_us: report::histogram(), late: 0, time: Duration::ZERO }
    }

    fn goodput(&self) -> f64 {
        self.answered as f64 / self.time.as_secs_f64()
    }

    fn add(&mut self, result: Result<(), Code>, took: Duration) -> Result<(), BenchError> {
        match result {
            Ok(()) if took <= DEADLINE => self.answered += 1,
            Ok(()) | Err(Code::DeadlineExceeded | Code::Cancelled) => self.late += 1,
            Err(Code::ResourceExhausted) => report::add(&mut self.refusals_us, took),
            Err(code) => return Err(BenchError::Echo(format!("an answer was {code:?}"))),
        }
        Ok(())
    }
}

/// `bench overload`.
pub(crate) fn run(args: &OverloadArgs) -> Result<(), BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
    let runtime = mesh::run::runtime()?;
    let mut harness = Harness::new(directory.path())?;
    let running = runtime.block_on(harness.start::<BoundedService>(()))?;
    let duration = Duration::from_secs(args.duration);
    let measured = measure(&Way::Grpc(&harness, running.address), duration);
    runtime.block_on(running.stop());
    let service = tell("a service", &measured?);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let capacity = Capacity { workers: WORKERS, work_ms: millis(WORK) };
    let config = EdgeConfig { request_timeout_ms: millis(DEADLINE), ..EdgeConfig::default() };
    let ground = Ground::start(capacity, config)?;
    let measured = measure(&Way::Rest(&ground.url), duration);
    ground.stop();
    service.and(tell("the edge before such a service", &measured?))
}

/// Prints what was measured, and judges it.
fn tell(what: &str, (peak, loads): &Measured) -> Result<(), BenchError> {
    println!("{what}");
    println!("peak: {:.0} a second, {WORKERS} workers of {} ms", peak.goodput(), WORK.as_millis());
    println!("load   in time/s   of peak     refused        late   refusal p50 / p99 / longest");
    for (times, load) in loads {
        let at = |quantile| report::ms_at(&load.refusals_us, quantile);
        println!(
            "{times:>3}x {:>11.0} {:>9.2} {:>11} {:>11}   {} / {} / {}",
            load.goodput(),
            load.goodput() / peak.goodput(),
            load.refusals_us.len(),
            load.late,
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
    loads.iter().try_for_each(|(times, load)| judge(*times, load, peak))
}

fn judge(times: u32, load: &Outcome, peak: &Outcome) -> Result<(), BenchError> {
    let left = load.goodput() / peak.goodput();
    if left < GOODPUT_MIN {
        return Err(BenchError::Missed(format!("at {times}x {left:.2} of the peak, not {GOODPUT_MIN}")));
    }
    let slowest = Duration::from_micros(load.refusals_us.value_at_quantile(0.99));
    if slowest >= REFUSAL_MAX {
        let text = format!("at {times}x a refusal took {slowest:?}, not under {REFUSAL_MAX:?}");
        return Err(BenchError::Missed(text));
    }
    Ok(())
}

type Measured = (Outcome, Vec<(u32, Outcome)>);

/// How a load gets there.
enum Way<'a> {
    Grpc(&'a Harness, SocketAddr),
    Rest(&'a str),
}

impl Way<'_> {
    async fn connect(&self) -> Result<Client, BenchError> {
        match self {
            Self::Grpc(harness, address) => Ok(Client::Grpc(echo::client_of(harness, *address).await?)),
            Self::Rest(url) => {
                let failed = || BenchError::io("connecting to the edge");
                let stream = TcpStream::connect(url.trim_start_matches("http://")).await.map_err(failed())?;
                // Otherwise a request may wait for the acknowledgement of the one before.
                stream.set_nodelay(true).map_err(failed())?;
                let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = connected.map_err(|error| BenchError::Edge(error.to_string()))?;
                tokio::spawn(connection);
                Ok(Client::Rest(sender, format!("{url}/v1/payments/pay_01a1fc12efbe7ca2ace2db909d55521c")))
            }
        }
    }
}

#[derive(Clone)]
enum Client {
    Grpc(EchoClient),
    Rest(http2::SendRequest<Empty<Bytes>>, String),
}

impl Client {
    /// Asks once; how it was answered, as a code of gRPC.
    async fn ask(self) -> Result<(), Code> {
        match self {
            Self::Grpc(mut client) => {
                let message = EchoMessage { payload: Bytes::from_static(b"overload") };
                let request = echo::with_metadata(message, DEADLINE).map_err(|_| Code::Internal)?;
                client.echo(request).await.map(drop).map_err(|status| status.code())
            }
            Self::Rest(mut sender, url) => {
                let key = format!("Bearer {}", edge::API_KEY);
                let request = http::Request::get(url).header(AUTHORIZATION, key).body(Empty::new());
                let request = request.map_err(|_| Code::Internal)?;
                sender.ready().await.map_err(|_| Code::Unknown)?;
                let answer = sender.send_request(request).await.map_err(|_| Code::Unknown)?;
                let status = answer.status();
                answer.into_body().collect().await.map_err(|_| Code::Unknown)?;
                match status {
                    StatusCode::OK => Ok(()),
                    StatusCode::TOO_MANY_REQUESTS => Err(Code::ResourceExhausted),
                    StatusCode::GATEWAY_TIMEOUT => Err(Code::DeadlineExceeded),
                    _ => Err(Code::Internal),
                }
            }
        }
    }
}

fn measure(way: &Way<'_>, duration: Duration) -> Result<Measured, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(way.connect().await?);
        }
        let peak = closed(&clients, duration / 2).await?;
        let mut loads = Vec::new();
        for times in [1, 3] {
            let every = Duration::from_secs_f64(1.0 / (peak.goodput() * f64::from(times)));
            loads.push((times, open(&clients, every, duration).await?));
        }
        Ok((peak, loads))
    })
}

/// Twice as many callers as workers, each with one request after the other.
async fn closed(clients: &[Client], duration: Duration) -> Result<Outcome, BenchError> {
    let until = Instant::now() + duration;
    let mut callers = JoinSet::new();
    for client in clients.iter().cycle().take(WORKERS * 2) {
        let client = client.clone();
        callers.spawn(async move {
            let mut answers = Vec::new();
            while Instant::now() < until {
                answers.push(ask(client.clone()).await);
            }
            answers
        });
    }
    let mut outcome = Outcome { time: duration, ..Outcome::new() };
    while let Some(answers) = callers.join_next().await {
        for (result, took) in answers.map_err(|_| BenchError::Panicked)? {
            outcome.add(result, took)?;
        }
    }
    Ok(outcome)
}

/// One request every so often, until `duration` is over; then all answers are waited for.
async fn open(clients: &[Client], every: Duration, duration: Duration) -> Result<Outcome, BenchError> {
    let began = Instant::now();
    let mut asked = JoinSet::new();
    let mut outcome = Outcome { time: duration, ..Outcome::new() };
    let mut due = began;
    let mut clients = clients.iter().cycle();
    while due < began + duration {
        tokio::time::sleep_until(due.into()).await;
        // The timer is exact to a millisecond: all that are due by now.
        while due <= Instant::now() {
            if let Some(client) = clients.next() {
                asked.spawn(ask(client.clone()));
            }
            due += every;
        }
        while let Some(answer) = asked.try_join_next() {
            let (result, took) = answer.map_err(|_| BenchError::Panicked)?;
            outcome.add(result, took)?;
        }
    }
    while let Some(answer) = asked.join_next().await {
        let (result, took) = answer.map_err(|_| BenchError::Panicked)?;
        outcome.add(result, took)?;
    }
    Ok(outcome)
}

async fn ask(client: Client) -> (Result<(), Code>, Duration) {
    let began = Instant::now();
    let result = client.ask().await;
    (result, began.elapsed())
}
