//! The load: requests one after another on each connection, from a runtime of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
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
/// Over HTTP/2 so many connections carry all requests, as in the echo.
const HTTP2_CONNECTIONS: u32 = 4;

/// Which way a call takes.
pub(super) enum Case<'a> {
    /// REST to a hop, and on from there.
    Rest { url: &'a str, api_key: &'a str, version: Version },
    /// The edge's own call, made without it.
    Direct(Upstream),
}

/// Drives the load from a thread of its own; answers with the figures, and the number of all calls.
pub(super) fn drive(case: &Case<'_>, connections: u32, bound: Bound) -> Result<(Figures, u64), BenchError> {
    let driving = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("a runtime"))?;
        runtime.block_on(async {
            let mut clients: Vec<Client> = Vec::new();
            for at in 0..connections {
                let before = clients.get((at % HTTP2_CONNECTIONS) as usize);
                let shared = before.and_then(|before| match before {
                    Client::Rest(rest) => rest.sharing(),
                    Client::Direct(_) => None,
                });
                clients.push(match (shared, case) {
                    (Some(shared), _) => Client::Rest(shared),
                    (None, Case::Rest { url, api_key, version }) => {
                        Client::Rest(Rest::connect(url, api_key, *version).await?)
                    }
                    (None, Case::Direct(upstream)) => {
                        Client::Direct(PaymentServiceClient::new(upstream.clone()))
                    }
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
    std::thread::scope(|scope| scope.spawn(driving).join()).unwrap_or(Err(BenchError::Panicked))
}

async fn work(mut client: Client, run: Arc<Run>) -> Result<(), BenchError> {
    while let Some((number, due)) = run.next(Instant::now()) {
        match &mut client {
            Client::Rest(rest) => rest.pay(number).await?,
            Client::Direct(client) => pay_directly(client).await?,
        }
        run.answered(due, Instant::now());
    }
    Ok(())
}

enum Client {
    Rest(Rest),
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

/// A connection to a hop.
struct Rest {
    sender: Sender,
    target: Uri,
    host: HeaderValue,
    authorization: HeaderValue,
    body: Bytes,
}

enum Sender {
    /// One request after another.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// Shared with others.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn connect(stream: TcpStream, version: Version) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        Ok(if version == Version::HTTP_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Self::Http1(sender)
        })
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

fn broken(error: impl std::fmt::Display) -> BenchError {
    BenchError::Edge(format!("the connection broke: {error}"))
}

impl Rest {
    async fn connect(url: &str, api_key: &str, version: Version) -> Result<Self, BenchError> {
        let address = url.trim_start_matches("http://");
        let address: SocketAddr =
            address.parse().map_err(|_| BenchError::Edge(format!("{address} is no address")))?;
        let authorization = HeaderValue::try_from(format!("Bearer {api_key}")).map_err(broken)?;
        let failed = || BenchError::io(format!("connecting to the edge at {address}"));
        let stream = TcpStream::connect(address).await.map_err(failed())?;
        stream.set_nodelay(true).map_err(failed())?;
        let sender = Sender::connect(stream, version).await.map_err(broken)?;
        let body = format!(
            r#"{{"amount":11900,"currency":"CHF","reference":"{REFERENCE}","payment_method":{{"token":"{TOKEN}"}}}}"#
        );
        let host = HeaderValue::try_from(address.to_string()).map_err(broken)?;
        // HTTP/1.1 has the authority in a header, HTTP/2 in the target (RFC 9112, section 3.2; RFC 9113,
        // section 8.3.1).
        let authority = if version == Version::HTTP_2 { url } else { "" };
        let target = format!("{authority}/v1/payments").parse().map_err(broken)?;
        Ok(Self { sender, target, host, authorization, body: body.into() })
    }

    /// The same over HTTP/2, on the same connection.
    fn sharing(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            target: self.target.clone(),
            host: self.host.clone(),
            authorization: self.authorization.clone(),
            body: self.body.clone(),
        })
    }

    async fn pay(&mut self, number: u64) -> Result<(), BenchError> {
        let mut request =
            Request::post(self.target.clone()).body(Full::from(self.body.clone())).map_err(broken)?;
        let headers = request.headers_mut();
        if matches!(self.sender, Sender::Http1(_)) {
            headers.insert(HOST, self.host.clone());
        }
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("idempotency-key", HeaderValue::from(number));
        let answer = self.sender.send(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(BenchError::Edge(format!("{status}: {}", String::from_utf8_lossy(&body))))
    }
}
