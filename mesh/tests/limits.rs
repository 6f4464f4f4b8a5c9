//! What a service does not let be done to it: messages that are too large, streams reset by the hundred,
//! more requests than it can work on.

#![allow(clippy::unwrap_used, clippy::panic)] // a test says what it expects by failing

use std::{sync::Arc, time::Duration};

use mesh::{
    Fault, Harness, Parts, Reason, Running, Service, ServiceContext, StartError, Upstream,
    fault::RETRY_PUSHBACK, identity::SpiffeId, testing::call_of, tls::Identity,
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};
use tonic::{Code, Request, Response, Status};

/// What its handlers wait for.
static LEAVE: Semaphore = Semaphore::const_new(0);

struct Echo;
struct Handler;

#[tonic::async_trait]
impl EchoService for Handler {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        if *request.get_ref().payload == *b"wait" {
            LEAVE.acquire().await.unwrap().forget();
        }
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Service for Echo {
    const NAME: &'static str = "svc-echo";
    const MESSAGE_BYTES_MAX: u32 = 1_000;
    type Config = ();

    async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(Handler)))
    }
}

async fn started() -> (tempfile::TempDir, Harness, Running) {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap();
    let running = harness.start::<Echo>(()).await.unwrap();
    (dir, harness, running)
}

async fn echo(upstream: Upstream, payload: Vec<u8>) -> Result<usize, Status> {
    let request = call_of("acme").request(EchoMessage { payload: payload.into() });
    EchoServiceClient::new(upstream).echo(request).await.map(|answer| answer.into_inner().payload.len())
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_a_reason() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    // Three bytes are the field's number and length.
    assert_eq!(echo(upstream.clone(), vec![7; 997]).await.unwrap(), 997);
    let status = echo(upstream.clone(), vec![7; 998]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let fault = Fault::from_status(&status);
    assert_eq!((fault.reason(), fault.violations()[0].field.as_str()), (Reason::MessageTooLarge, "message"));
    assert_eq!(echo(upstream, vec![7; 3]).await.unwrap(), 3, "the connection goes on");
    running.stop().await;
}

/// The harness admits 1,024 at once.
#[tokio::test]
async fn more_than_can_be_worked_on_are_refused_at_once_and_health_never_is() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..1_100 {
        calls.spawn(echo(upstream.clone(), b"wait".to_vec()));
    }
    // Nobody leaves before 76 have been refused.
    for _ in 0..76 {
        let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.metadata().get(RETRY_PUSHBACK).unwrap(), "1000");
        let fault = Fault::from_status(&refused);
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::Overloaded, Some(1)));
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(upstream.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    LEAVE.add_permits(1_024);
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), 4);
    }
    assert_eq!(echo(upstream, vec![7; 3]).await.unwrap(), 3);
    running.stop().await;
}

/// HEADERS of a request without a body's end, then RST_STREAM with CANCEL, for so many streams (RFC 9113,
/// sections 6.2 and 6.4). The fields are from HPACK's static table: POST, http, `/`.
fn rapid_resets(streams: u32) -> Vec<u8> {
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in 0..streams {
        let id = (stream * 2 + 1).to_be_bytes();
        frames.extend([0, 0, 3, 1, 4].iter().chain(&id).chain(&[0x83, 0x86, 0x84]));
        frames.extend([0, 0, 4, 3, 0].iter().chain(&id).chain(&[0, 0, 0, 8]));
    }
    frames
}

/// The error codes of the GOAWAY frames among what a server said.
fn goaways(mut said: &[u8]) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some((head, rest)) = said.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        if head[3] == 7 {
            codes.push(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        said = rest;
    }
    codes
}

#[tokio::test]
async fn rapid_resets_end_their_connection_and_no_other() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    assert_eq!(echo(upstream.clone(), vec![7; 3]).await.unwrap(), 3);
    let identity = Identity::load(&harness.certificate("operator").unwrap()).unwrap();
    let config = identity.client_config(&SpiffeId::of(running.name).unwrap()).unwrap();
    let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream =
        tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
    let _ = stream.write_all(&rapid_resets(2_000)).await;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the connection is still open");
    // 11 is ENHANCE_YOUR_CALM.
    assert_eq!(goaways(&said).last(), Some(&11), "{} bytes", said.len());
    assert_eq!(echo(upstream, vec![7; 3]).await.unwrap(), 3);
    running.stop().await;
}
