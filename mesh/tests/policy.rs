//! A policy file that changes while a service runs, as one of its open connections sees it.

#![allow(clippy::unwrap_used, clippy::panic)] // a test says what it expects by failing

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    Harness, Parts, Running, Service, ServiceContext, StartError, identity::SpiffeId, policy::PolicyConfig,
    tls::Identity,
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tonic::{Code, Response, Status};

struct Echo;

struct EchoHandler;

#[tonic::async_trait]
impl EchoService for EchoHandler {
    async fn echo(&self, request: tonic::Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: tonic::Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Service for Echo {
    const NAME: &'static str = "svc-echo";
    type Config = ();

    async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(EchoHandler)))
    }
}

/// One connection, for as long as it is open.
struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(harness: &Harness, running: &Running) -> Self {
        let identity = Identity::load(&harness.certificate("operator").unwrap()).unwrap();
        let config = identity.client_config(&SpiffeId::of(running.name).unwrap()).unwrap();
        let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn call(&mut self, method: &str) -> Code {
        let request = Request::post(format!("https://svc-echo/paymesh.echo.v1.EchoService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap();
        let response = self.0.send_request(request).await.unwrap();
        let status = response.headers().get("grpc-status");
        status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
    }

    /// Until a call ends so.
    async fn until(&mut self, method: &str, code: Code) {
        let called = async {
            while self.call(method).await != code {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), called).await.unwrap();
    }
}

fn grant(file: &Path, rpcs: &str) {
    let text = format!("[[grant]]\nworkload = \"operator\"\nrpcs = [{rpcs}]\n");
    std::fs::write(file, text).unwrap();
}

#[tokio::test]
async fn a_changed_file_decides_on_the_next_request_of_an_open_connection() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let (one, both) = ("\"paymesh.echo.v1.EchoService/Echo\"", "\"paymesh.echo.v1.EchoService/*\"");
    grant(&file, one);
    let policy = PolicyConfig { file: Some(file.clone()), reload_ms: 10, ..PolicyConfig::default() };
    let mut harness = Harness::new(dir.path()).unwrap().with_policy(policy);
    let running = harness.start::<Echo>(()).await.unwrap();
    let mut connection = Connection::open(&harness, &running).await;
    assert_eq!(connection.call("Echo").await, Code::Ok);
    assert_eq!(connection.call("BatchEcho").await, Code::PermissionDenied);

    grant(&file, both);
    connection.until("BatchEcho", Code::Ok).await;
    assert_eq!(connection.call("Echo").await, Code::Ok);

    grant(&file, "\"paymesh.echo.v1.EchoService/BatchEcho\"");
    connection.until("Echo", Code::PermissionDenied).await;
    assert_eq!(connection.call("BatchEcho").await, Code::Ok);

    // A file that cannot be used changes nothing; the next one that can is used.
    std::fs::write(&file, "[[grant]]\nworkload = \"operator\"\nrpcs = [\"none\"]\n").unwrap();
    assert_eq!(connection.call("BatchEcho").await, Code::Ok);
    grant(&file, one);
    connection.until("Echo", Code::Ok).await;
    assert_eq!(connection.call("BatchEcho").await, Code::PermissionDenied);
    running.stop().await;
}
