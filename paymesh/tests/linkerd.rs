//! The whole mesh in the mode `linkerd`, each service beside stand-ins for its proxy: payments go through, and
//! nothing that a client outside says of Linkerd gets in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use edge_gateway::{ApiKeyConfig, Edge, EdgeConfig};
use http::{HeaderMap, Method, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    Harness, Running, server,
    testing::linkerd::{client_id, inbound},
    tls::Identity,
};
use paymesh::rest::Rest;
use serde_json::{Value, json};
use svc_crypto::Crypto;
use svc_fraud::Fraud;
use svc_ledger::Ledger;
use svc_payments::Payments;
use svc_tax::Tax;

use support::{Http, VISA, api_key, get, id_of, payment_body, post, token};

/// Starts the edge on a free port and says where.
async fn edge(harness: &mut Harness) -> (Running, String) {
    let listener = server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = api_key("acme");
    let config = EdgeConfig {
        listener: Some(listener),
        api_keys: vec![ApiKeyConfig::of_key(key.tenant.clone(), "acme", &key.key)],
        ..EdgeConfig::default()
    };
    (harness.start::<Edge>(config).await.unwrap(), url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_goes_through_and_the_books_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap().behind_linkerd();
    let mut running = vec![
        harness.start::<Crypto>(svc_crypto::config::Config::default()).await.unwrap(),
        harness.start::<Ledger>(svc_ledger::Config::default()).await.unwrap(),
        harness.start::<Fraud>(svc_fraud::Config::development().unwrap()).await.unwrap(),
        harness.start::<Tax>(svc_tax::Config::default()).await.unwrap(),
        harness.start::<Payments>(svc_payments::config::Config::default()).await.unwrap(),
    ];
    let (edge, url) = edge(&mut harness).await;
    running.push(edge);

    let rest = Rest::with_key(&url, &api_key("acme").key);
    let card = token(&rest, VISA).await;
    let payment = post(&rest, "/v1/payments", "k1", &payment_body(&card, 1_050, "EUR", "AUTOMATIC")).await;
    assert_eq!(payment["status"], "CAPTURED", "{payment}");
    let refund = format!("/v1/payments/{}/refunds", id_of(&payment));
    assert_eq!(post(&rest, &refund, "k2", &json!({"amount": 50})).await["status"], "SUCCEEDED");
    let balance = get(&rest, "/v1/ledger/trial_balance").await;
    assert_eq!(balance["lines"][0]["difference"].as_i64().unwrap_or_default(), 0, "{balance}");
    assert_eq!(balance["lines"][0]["debits_posted"], json!(1_100), "{balance}");
    // The ledger takes calls from whom its proxy names, and from nobody who talks to it directly.
    let direct = TokioIo::new(tokio::net::TcpStream::connect(running[1].address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), direct).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://svc-ledger/paymesh.ledger.v1.LedgerService/GetTrialBalance")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5])))
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().headers()["grpc-status"], "16");
    for service in running.into_iter().rev() {
        service.stop().await;
    }
}

/// An application that keeps the headers of what it is asked, and offers nothing.
async fn recorder() -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                kept.lock().unwrap().push(request.headers().clone());
                let answer = Response::builder()
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "12")
                    .body(http_body_util::Empty::<bytes::Bytes>::new());
                async move { Ok::<_, Infallible>(answer.unwrap()) }
            });
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_of_linkerds_or_of_the_mesh_gets_in_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap().behind_linkerd();
    let (recorder, seen) = recorder().await;
    for name in ["svc-crypto", "svc-ledger", "svc-payments", "svc-tax"] {
        let identity = Identity::load(&harness.certificate(name).unwrap()).unwrap();
        harness.add_upstream(name, &inbound(Some(identity), recorder).await.unwrap().to_string());
    }
    let (edge, url) = edge(&mut harness).await;
    let bearer = format!("Bearer {}", api_key("acme").key);
    let operator = client_id("operator").unwrap();
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
        ("l5d-client-id", operator.to_str().unwrap()),
        ("l5d-dst-override", "svc-ledger.paymesh.svc.cluster.local:1"),
        ("l5d-anything", "x"),
        ("paymesh-tenant", "umbrella"),
        ("grpc-timeout", "1H"),
    ];
    let url = format!("{url}/v1/ledger/trial_balance");
    let answer = Http::new().send(Method::GET, &url, &headers, bytes::Bytes::new()).await.unwrap();
    assert_eq!(answer.status, 501, "{}", answer.body);
    assert_ne!(answer.body, Value::Null);

    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    let of_linkerd: Vec<&str> =
        seen[0].keys().map(http::HeaderName::as_str).filter(|n| n.starts_with("l5d-")).collect();
    assert_eq!(of_linkerd, ["l5d-client-id"], "set by the stand-in, and no other");
    let all = |name: &str| seen[0].get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("l5d-client-id"), [client_id("edge-gateway").unwrap().to_str().unwrap()]);
    assert_eq!(all("paymesh-tenant"), ["acme"], "the credential's");
    let timeout = all("grpc-timeout");
    assert!(timeout.len() == 1 && timeout != ["1H"], "our own deadline: {timeout:?}");
    edge.stop().await;
}
