//! A service beside a Linkerd proxy: who calls is whom the proxy names, and only the proxy is believed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{net::SocketAddr, time::Duration};

use http::{HeaderValue, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    Call, Fault, Harness, Parts, Reason, Running, Service, ServiceContext, SpiffeId, StartError, Upstream,
    identity::NAMESPACE,
    linkerd::{Linkerd, LinkerdConfig},
    testing::{
        call_of,
        linkerd::{client_id, inbound, opaque_inbound, outbound},
        log::Lines,
    },
    tls::Identity,
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
};
use tonic::{Code, Response, Status};

struct Echo;

struct EchoHandler;

#[tonic::async_trait]
impl EchoService for EchoHandler {
    /// Answers with what the call says of itself.
    async fn echo(&self, request: tonic::Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        let call = Call::of(&request)?;
        let left =
            call.deadline().map(|deadline| deadline.saturating_duration_since(std::time::Instant::now()));
        let text = format!(
            "{} {} {} {:032x} {}",
            call.peer().name(),
            call.tenant()?,
            call.request_id(),
            call.trace().trace_id,
            left.is_some_and(|left| left <= Duration::from_secs(30)),
        );
        Ok(Response::new(EchoMessage { payload: text.into() }))
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

async fn started() -> (tempfile::TempDir, Harness, Running) {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap().behind_linkerd();
    let running = harness.start::<Echo>(()).await.unwrap();
    (dir, harness, running)
}

async fn echo(upstream: Upstream, call: &Call) -> Result<String, Status> {
    let mut request = call.request(EchoMessage::default());
    request.set_timeout(Duration::from_secs(30));
    let answer = EchoServiceClient::new(upstream).echo(request).await?;
    Ok(String::from_utf8(answer.into_inner().payload.to_vec()).unwrap())
}

/// One request after the other over one connection in clear, each with what is claimed in its header: their
/// codes.
async fn claim_all(stream: TcpStream, claims: &[Vec<HeaderValue>]) -> Result<Vec<Code>, hyper::Error> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    let mut codes = Vec::new();
    for claims in claims {
        let mut request = Request::post("http://svc-echo/paymesh.echo.v1.EchoService/Echo")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("paymesh-tenant", "acme")
            .body(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5])))
            .unwrap();
        for claim in claims {
            request.headers_mut().append("l5d-client-id", claim.clone());
        }
        let response = sender.send_request(request).await?;
        let status = response.headers().get("grpc-status");
        codes.push(status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes())));
    }
    Ok(codes)
}

async fn claim(stream: TcpStream, claims: &[HeaderValue]) -> Result<Code, hyper::Error> {
    Ok(claim_all(stream, &[claims.to_vec()]).await?[0])
}

fn operator() -> HeaderValue {
    client_id("operator").unwrap()
}

#[tokio::test]
async fn the_proxys_word_is_the_callers_identity_and_what_is_ours_passes_through() {
    let (_dir, harness, running) = started().await;
    let call = call_of("acme");
    let said = echo(harness.upstream("operator", &running).unwrap(), &call).await.unwrap();
    assert_eq!(said, format!("operator acme {} {:032x} true", call.request_id(), call.trace().trace_id));
    running.stop().await;
}

#[tokio::test]
async fn policy_holds_for_each_workload_that_the_proxy_names() {
    let (_dir, harness, running) = started().await;
    for name in ["svc-tax", "edge-gateway", "stranger"] {
        let status = echo(harness.upstream(name, &running).unwrap(), &call_of("acme")).await.unwrap_err();
        assert_eq!(Fault::from_status(&status).reason(), Reason::PermissionDenied, "{name}");
    }
    // One connection carries the calls of many workloads: each is judged by its own name.
    let stream = TcpStream::connect(running.address).await.unwrap();
    let claims = ["operator", "svc-tax", "operator", "stranger"].map(|name| vec![client_id(name).unwrap()]);
    let codes = claim_all(stream, &claims).await.unwrap();
    assert_eq!(codes, [Code::Ok, Code::PermissionDenied, Code::Ok, Code::PermissionDenied]);
}

#[tokio::test]
async fn without_a_plain_word_of_the_proxy_nobody_calls() {
    let (_dir, _harness, running) = started().await;
    let of = |text: &'static str| HeaderValue::from_static(text);
    for (claims, code) in [
        (vec![operator()], Code::Ok),
        (vec![], Code::Unauthenticated),
        (vec![operator(), operator()], Code::Unauthenticated),
        (vec![operator(), client_id("svc-tax").unwrap()], Code::Unauthenticated),
        (vec![of("operator")], Code::Unauthenticated),
        (vec![of("operator.other.serviceaccount.identity.linkerd.cluster.local")], Code::Unauthenticated),
        (vec![of("spiffe://cluster.local/ns/paymesh/sa/operator")], Code::Ok),
    ] {
        let stream = TcpStream::connect(running.address).await.unwrap();
        assert_eq!(claim(stream, &claims).await.unwrap(), code, "{claims:?}");
    }
}

/// Each once a minute, without what was claimed; how many there were is a matter of metrics.
#[tokio::test]
async fn who_is_refused_leaves_a_line_in_the_log_and_not_a_flood() {
    let (_dir, _harness, running) = started().await;
    let (lines, _guard) = Lines::of_this_thread();
    let stranger = HeaderValue::from_static("planted.other.serviceaccount.identity.linkerd.cluster.local");
    let claims = [vec![stranger], vec![], vec![client_id("svc-tax").unwrap()]];
    for _ in 0..20 {
        let stream = TcpStream::connect(running.address).await.unwrap();
        claim_all(stream, &claims).await.unwrap();
    }
    let lines = lines.read();
    let all = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(all("l5d-client-id names no workload of this mesh"), 1, "{lines:?}");
    assert_eq!(all("an RPC was denied by policy"), 1, "{lines:?}");
    assert_eq!(all("rpc=\"paymesh.echo.v1.EchoService/Echo\""), 2, "{lines:?}");
    assert_eq!(all("planted"), 0, "{lines:?}");
}

#[tokio::test]
async fn what_a_client_claims_itself_the_proxy_takes_away() {
    let (_dir, harness, running) = started().await;
    // A client that is not meshed: the proxy names nobody.
    let clear = inbound(None, running.address).await.unwrap();
    let stream = TcpStream::connect(clear).await.unwrap();
    assert_eq!(claim(stream, &[operator()]).await.unwrap(), Code::Unauthenticated);
    // A meshed one that claims to be another: the proxy names whom its certificate names.
    let mut request = call_of("acme").request(EchoMessage::default());
    request.metadata_mut().insert("l5d-client-id", operator().to_str().unwrap().parse().unwrap());
    let mut client = EchoServiceClient::new(harness.upstream("svc-tax", &running).unwrap());
    let status = client.echo(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

/// What `linkerd.grpc_server_resource` vouches against: a proxy that takes the connection for opaque names
/// nobody, and whom the client names itself is believed. From here nothing can be seen of it.
#[tokio::test]
async fn behind_a_proxy_without_a_grpc_server_resource_a_client_names_itself_whom_it_likes() {
    let (_dir, harness, running) = started().await;
    let identity = |name: &str| Identity::load(&harness.certificate(name).unwrap()).unwrap();
    let service = SpiffeId::of(running.name).unwrap();
    let claims_to_be_the_operator = async |proxy: SocketAddr| {
        // Its own proxy, which does mutual TLS as svc-tax, and lets the header through.
        let own = outbound(identity("svc-tax"), service.clone(), proxy).await.unwrap();
        claim(TcpStream::connect(own).await.unwrap(), &[operator()]).await.unwrap()
    };
    let opaque = opaque_inbound(identity(running.name), running.address).await.unwrap();
    assert_eq!(claims_to_be_the_operator(opaque).await, Code::Ok);
    let grpc = inbound(Some(identity(running.name)), running.address).await.unwrap();
    assert_eq!(claims_to_be_the_operator(grpc).await, Code::PermissionDenied);
    // So nobody starts a service without having vouched for it.
    let config = LinkerdConfig::default();
    let refused = Linkerd::new(service, NAMESPACE, &config).unwrap_err();
    assert_eq!(refused.setting(), "grpc_server_resource");
}

#[tokio::test]
async fn who_is_forwarded_into_the_pod_is_not_the_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap().behind_linkerd().distrusting_loopback();
    let running = harness.start::<Echo>(()).await.unwrap();
    // As kubectl port-forward comes.
    let stream = TcpStream::connect(running.address).await.unwrap();
    assert!(claim(stream, &[operator()]).await.is_err());
    running.stop().await;
}

/// An address of this machine that is not loopback: a client there is to the service what a client on
/// another machine is.
fn outside_address() -> std::net::IpAddr {
    // Connecting a UDP socket sends nothing; it only chooses the source address. TEST-NET-1, RFC 5737.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this machine has no route, so no address of its own");
    socket.local_addr().unwrap().ip()
}

#[tokio::test]
async fn who_goes_round_the_proxy_is_refused_whatever_it_claims() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap().behind_linkerd();
    let running = harness.start::<Echo>(()).await.unwrap();
    let outside = outside_address();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(outside, 0)).unwrap();
    let mut stream = socket.connect(running.address).await.unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), outside, "a peer that is not loopback");
    // The connection is closed without a word, before any header could be believed.
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || answer.is_empty(), "{answer:?}");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(outside, 0)).unwrap();
    let stream = socket.connect(running.address).await.unwrap();
    assert!(claim(stream, &[operator()]).await.is_err());
}
