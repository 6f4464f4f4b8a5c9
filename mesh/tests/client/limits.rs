//! Deadlines and bounds.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mesh::{
    Fault, Reason, SpiffeId, Upstream, UpstreamParts,
    client::{Connect, Connecting},
};
use tonic::Code;

use crate::{
    raw::Clear,
    world::{Client, Load, Mode, Replica, World, settings, until},
};

#[tokio::test]
async fn nothing_is_sent_when_no_time_is_left() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    let status = client.read_within(Some(Duration::ZERO)).await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::DeadlineExceeded);
    assert_eq!((replica.state.calls(), world.count("connections")), (0, 0));
}

#[tokio::test]
async fn the_client_ends_a_call_at_its_deadline_whatever_the_server_does() {
    let world = World::new();
    // Takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let peer = SpiffeId::of("svc-replica").unwrap();
    let replica = world.replica().await;
    let names = world.client(settings(), &[&replica]).names;
    let upstream = Upstream::of(&peer, &address, world.parts(settings())).unwrap();
    let client = Client { upstream, names };
    let began = Instant::now();
    let status = client.read_within(Some(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(Fault::from_status(&status).reason(), Reason::DeadlineExceeded);
    assert!((100..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_one_and_the_service_is_told() {
    let world = World::new();
    let replica = world.replica().await;
    world.client(settings(), &[&replica]).read().await.unwrap();
    assert!((20_000..=30_000).contains(&told_ms(&replica)), "{}", told_ms(&replica));
    let short = mesh::UpstreamSettings { default_timeout_ms: 150, ..settings() };
    replica.state.now(Mode::Hangs);
    let status = world.client(short, &[&replica]).read().await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::DeadlineExceeded);
    replica.state.now(Mode::Answers);
    let none = mesh::UpstreamSettings { default_timeout_ms: 0, ..settings() };
    world.client(none, &[&replica]).read().await.unwrap();
    assert_eq!(replica.state.timeouts.lock().unwrap().len(), 2, "none where none is wanted");
}

/// As long as connecting took, as much less time has the service.
#[tokio::test]
async fn the_service_is_told_what_is_left_of_the_time() {
    let world = World::new();
    let replica = world.replica().await;
    let parts = world.parts(settings());
    let late = Arc::new(Late(Arc::clone(&parts.connect)));
    let parts = UpstreamParts { connect: late, ..parts };
    World::client_with(parts, &[&replica]).read_within(Some(Duration::from_secs(20))).await.unwrap();
    assert!((10_000..=19_900).contains(&told_ms(&replica)), "{}", told_ms(&replica));
}

/// How long the last call had, by its only `grpc-timeout`.
fn told_ms(replica: &Replica) -> u64 {
    let timeouts = replica.state.timeouts.lock().unwrap();
    timeouts.last().unwrap().strip_suffix('m').unwrap().parse().unwrap()
}

/// Connects after a tenth of a second.
struct Late(Arc<dyn Connect>);

impl Connect for Late {
    fn connect(&self, address: std::net::SocketAddr) -> Connecting {
        let connecting = self.0.connect(address);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            connecting.await
        })
    }

    fn scheme(&self) -> http::uri::Scheme {
        self.0.scheme()
    }

    fn renewed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.renewed()
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_at_the_server() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    replica.state.now(Mode::Hangs);
    let caller = tokio::spawn(async move { client.read().await });
    until("the server works on it", || replica.state.under_way() == 1).await;
    caller.abort();
    until("the server stops", || replica.state.given_up.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused_here() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(mesh::UpstreamSettings { in_flight_max: 2, ..settings() }, &[&replica]);
    replica.state.now(Mode::Hangs);
    let load = Load::start(2, &client, |client| async move { client.read().await });
    until("both are under way", || replica.state.under_way() == 2).await;
    let status = client.read().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(replica.state.calls(), 2);
    drop(load);
    replica.state.now(Mode::Answers);
    until("they are given up", || replica.state.under_way() == 0).await;
    client.read().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_soon() {
    let world = World::new();
    let mut replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    replica.kill();
    until("the port is closed", || std::net::TcpStream::connect(replica.address).is_err()).await;
    let began = Instant::now();
    let status = client.write().await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    client.names.now(&[]);
    let unnamed = world.client(settings(), &[]);
    assert_eq!(unnamed.read().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_not_flooded_with_connections() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let parts = world.parts(settings());
    let clear = Arc::new(Clear::default());
    let parts = UpstreamParts { connect: Arc::clone(&clear) as Arc<dyn Connect>, ..parts };
    let upstream = Upstream::of(&SpiffeId::of("svc-replica").unwrap(), &address, parts).unwrap();
    let names = world.client(settings(), &[]).names;
    let client = Client { upstream, names };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert!(client.read().await.is_err());
    }
    // At 20, 40, 80, 160, 250, … ms, up to a fifth less, and two at first.
    let made = clear.made.load(Ordering::SeqCst);
    assert!((3..=16).contains(&made), "{made}");
}
