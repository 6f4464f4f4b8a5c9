//! The load: requests one after another on each connection, from a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mesh::{Upstream, testing::call_of};
use paymesh_proto::payments::v1::payment_service_client::PaymentServiceClient;
use paymesh_proto::payments::v1::{CreatePaymentRequest, PaymentMethod};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

const TOKEN: &str = "tok_01a1fc0ddd127562ba4a6889f589c543";
const REFERENCE: &str = "INV-1001";

/// Which way a call takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Case {
    /// REST to the edge, and on from there.
    Edge,
    /// The edge's own call, made without it.
    Direct,
}

/// Drives the load from a thread of its own; answers with the figures, and the number of all calls.
pub(super) fn drive(
    case: Case,
    url: &str,
    api_key: &str,
    upstream: Upstream,
    connections: u32,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    let address = url.trim_start_matches("http://");
    let address = address.parse().map_err(|_| BenchError::Edge(format!("{address} is no address")))?;
    let authorization = HeaderValue::try_from(format!("Bearer {api_key}"))
        .map_err(|error| BenchError::Edge(error.to_string()))?;
    let driving = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("a runtime"))?;
        runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(match case {
                    Case::Edge => Client::Edge(Rest::connect(address, authorization.clone()).await?),
                    Case::Direct => Client::Direct(PaymentServiceClient::new(upstream.clone())),
                });
            }
            let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
            let mut workers = JoinSet::new();
            for client in clients {
                workers.spawn(work(client, Arc::clone(&run)));
            }
            while let Some(ended) = workers.join_next().await {
                ended.map_err(|_| BenchError::Panicked)??;
            }
            Ok((run.figures(), run.all()))
        })
    };
    std::thread::spawn(driving).join().unwrap_or(Err(BenchError::Panicked))
}

async fn work(mut client: Client, run: Arc<Run>) -> Result<(), BenchError> {
    while let Some((number, due)) = run.next(Instant::now()) {
        match &mut client {
            Client::Edge(rest) => rest.pay(number).await?,
            Client::Direct(client) => pay_directly(client).await?,
        }
        run.answered(due, Instant::now());
    }
    Ok(())
}

enum Client {
    Edge(Rest),
    Direct(PaymentServiceClient<Upstream>),
}

async fn pay_directly(client: &mut PaymentServiceClient<Upstream>) -> Result<(), BenchError> {
    let request = CreatePaymentRequest {
        amount: 11_900,
        currency: "CHF".to_owned(),
        payment_method: Some(PaymentMethod { token: TOKEN.to_owned() }),
        reference: REFERENCE.to_owned(),
        ..CreatePaymentRequest::default()
    };
    let answer = client.create_payment(call_of("bench").request(request)).await;
    answer.map(|_| ()).map_err(|status| BenchError::Edge(status.to_string()))
}

/// A connection to the edge.
struct Rest {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: HeaderValue,
    body: Bytes,
}

fn broken(error: impl std::fmt::Display) -> BenchError {
    BenchError::Edge(format!("the connection broke: {error}"))
}

impl Rest {
    async fn connect(address: SocketAddr, authorization: HeaderValue) -> Result<Self, BenchError> {
        let failed = || BenchError::io(format!("connecting to the edge at {address}"));
        let stream = TcpStream::connect(address).await.map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let body = format!(
            r#"{{"amount":11900,"currency":"CHF","reference":"{REFERENCE}","payment_method":{{"token":"{TOKEN}"}}}}"#
        );
        let host = HeaderValue::try_from(address.to_string()).map_err(broken)?;
        Ok(Self { sender, host, authorization, body: body.into() })
    }

    async fn pay(&mut self, number: u64) -> Result<(), BenchError> {
        let mut request =
            Request::post("/v1/payments").body(Full::from(self.body.clone())).map_err(broken)?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("idempotency-key", HeaderValue::from(number));
        self.sender.ready().await.map_err(broken)?;
        let answer = self.sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(BenchError::Edge(format!("{status}: {}", String::from_utf8_lossy(&body))))
    }
}
