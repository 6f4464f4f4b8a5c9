//! svc-payments dies at each point between its commits and calls, and a new process goes on.

use std::sync::Arc;

use mesh::{Fault, Running};
use paymesh_proto::payments::v1::{
    ListPaymentsRequest,
    payment::{CaptureMethod, Status},
};
use svc_payments::config::Config;
use tokio::task::JoinSet;

use crate::{
    faults::{Faults, FaultyPayments, Rig},
    gate::{PATIENCE, until},
    world::{Answer, BLOCKED, Edge, VISA, World, call, config, order, settled},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Sale,
    Authorize,
    Capture,
    Cancel,
    Refund,
}

impl Request {
    /// The processor's word for it.
    fn kind(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Cancel => "void",
            Self::Refund => "refund",
        }
    }

    /// Before and after: the first commit, the processor call, the second commit, and, where something
    /// is posted then, crossing the posting off.
    fn steps(self) -> usize {
        if self == Self::Authorize { 6 } else { 8 }
    }

    async fn send(self, edge: &Edge, token: &str, id: &str) -> Result<Vec<u8>, Fault> {
        let bytes = |answer: Answer<_>| answer.bytes;
        match self {
            Self::Sale => edge.create("key", &order(token, CaptureMethod::Automatic)).await.map(bytes),
            Self::Authorize => edge.create("key", &order(token, CaptureMethod::Manual)).await.map(bytes),
            Self::Capture => edge.capture("key", id, Some(7_000)).await.map(bytes),
            Self::Cancel => edge.cancel("key", id).await.map(bytes),
            Self::Refund => edge.refund("key", id, Some(7_000)).await.map(|answer| answer.bytes),
        }
    }
}

/// svc-payments with faults, and a payment to go on with.
async fn prepared(
    world: &mut World,
    faults: &Arc<Faults>,
    request: Request,
) -> (Running, Edge, String, String) {
    let rig = Rig { config: config(), faults: Arc::clone(faults) };
    let running = world.harness.start::<FaultyPayments>(rig).await.unwrap();
    let edge = world.edge(&running);
    let token = world.token(VISA).await;
    let method = match request {
        Request::Sale | Request::Authorize => return (running, edge, token, String::new()),
        Request::Capture | Request::Cancel => CaptureMethod::Manual,
        Request::Refund => CaptureMethod::Automatic,
    };
    let id = edge.create("before", &order(&token, method)).await.unwrap().message.id;
    (running, edge, token, id)
}

async fn dies_and_goes_on(request: Request, step: usize) {
    let mut world = World::new().await;
    let faults = Arc::new(Faults::default());
    let (_dead, edge, token, id) = prepared(&mut world, &faults, request).await;
    if request == Request::Refund {
        world.books_become(0, 10_000, 0).await;
        // Crossing the sale's posting off is not part of what is counted.
        faults.quiet(8).await;
    }
    faults.stop_at(step);
    let lost = tokio::spawn({
        let (edge, token, id) = (edge.clone(), token.clone(), id.clone());
        async move { request.send(&edge, &token, &id).await }
    });
    tokio::time::timeout(PATIENCE, faults.stopped.notified()).await.expect("the step is reached");

    let (_payments, edge) = world.start_payments(config()).await;
    let answer = until("an answer", async || request.send(&edge, &token, &id).await.ok()).await;
    assert_eq!(request.send(&edge, &token, &id).await.unwrap(), answer, "the same answer again");
    if lost.is_finished()
        && let Ok(Ok(acknowledged)) = lost.await
    {
        assert_eq!(acknowledged, answer, "what was acknowledged is what stands");
    }
    assert_eq!(world.effects(request.kind()), 1, "{request:?} {step}");
    let (reserved, kept) = match request {
        Request::Sale => (0, 10_000),
        Request::Authorize => (10_000, 0),
        Request::Capture => (0, 7_000),
        Request::Cancel => (0, 0),
        Request::Refund => (0, 3_000),
    };
    world.books_become(reserved, kept, 0).await;
    if !id.is_empty() {
        edge.events(&id).await;
    }
}

#[tokio::test]
async fn a_sale_survives_death_at_every_step() {
    for step in 0..Request::Sale.steps() {
        dies_and_goes_on(Request::Sale, step).await;
    }
}

#[tokio::test]
async fn an_authorization_survives_death_at_every_step() {
    for step in 0..Request::Authorize.steps() {
        dies_and_goes_on(Request::Authorize, step).await;
    }
}

#[tokio::test]
async fn a_capture_survives_death_at_every_step() {
    for step in 0..Request::Capture.steps() {
        dies_and_goes_on(Request::Capture, step).await;
    }
}

#[tokio::test]
async fn a_cancel_survives_death_at_every_step() {
    for step in 0..Request::Cancel.steps() {
        dies_and_goes_on(Request::Cancel, step).await;
    }
}

#[tokio::test]
async fn a_refund_survives_death_at_every_step() {
    for step in 0..Request::Refund.steps() {
        dies_and_goes_on(Request::Refund, step).await;
    }
}

/// Without anyone asking again: the background alone settles what was left.
#[tokio::test]
async fn what_a_dead_process_began_is_settled_in_the_background() {
    let mut world = World::new().await;
    let faults = Arc::new(Faults::default());
    let (_dead, edge, token, id) = prepared(&mut world, &faults, Request::Capture).await;
    faults.stop_at(2);
    let lost = tokio::spawn(async move { Request::Capture.send(&edge, &token, &id).await.map(|_| id) });
    tokio::time::timeout(PATIENCE, faults.stopped.notified()).await.unwrap();
    lost.abort();
    let (_payments, _edge) = world.start_payments(config()).await;
    world.books_become(0, 7_000, 0).await;
    assert_eq!(world.effects("capture"), 1);
}

/// The processor was asked while fraud could not be, and approved. That fraud would block the payment
/// now does not undo it.
#[tokio::test]
async fn what_the_processor_did_stands_whatever_fraud_says_after_a_crash() {
    // Stopped before the processor is called, and after it has answered.
    for (step, status, kept) in [(2, Status::Failed, 0), (3, Status::Captured, 10_000)] {
        let mut world = World::new().await;
        world.fraud_gate.shut();
        let faults = Arc::new(Faults::default());
        let lenient = Config { fraud_unavailable_allow_up_to: 10_000, ..config() };
        let rig = Rig { config: lenient, faults: Arc::clone(&faults) };
        let dead = world.harness.start::<FaultyPayments>(rig).await.unwrap();
        let edge = world.edge(&dead);
        let request = order(&world.token(BLOCKED).await, CaptureMethod::Automatic);
        faults.stop_at(step);
        let lost = tokio::spawn({
            let request = request.clone();
            async move { edge.create("key", &request).await }
        });
        tokio::time::timeout(PATIENCE, faults.stopped.notified()).await.unwrap();
        lost.abort();

        world.fraud_gate.open();
        let (_payments, edge) = world.start_payments(config()).await;
        let answer = settled(async || edge.create("key", &request).await).await;
        assert_eq!(answer.message.status(), status);
        assert_eq!(world.effects("sale"), usize::from(kept > 0));
        // Nothing stays reserved either way.
        world.books_become(0, kept, 0).await;
    }
}

/// The card is gone when a new process takes the payment up: it ends, and as the processor knows it.
#[tokio::test]
async fn a_payment_whose_card_is_gone_after_a_crash_ends() {
    for (step, status, kept) in [(2, Status::Failed, 0), (3, Status::Captured, 10_000)] {
        let mut world = World::new().await;
        let faults = Arc::new(Faults::default());
        let (_dead, edge, token, _) = prepared(&mut world, &faults, Request::Sale).await;
        faults.stop_at(step);
        let lost = tokio::spawn({
            let (edge, token) = (edge.clone(), token.clone());
            async move { Request::Sale.send(&edge, &token, "").await }
        });
        tokio::time::timeout(PATIENCE, faults.stopped.notified()).await.unwrap();
        lost.abort();

        world.lose_cards();
        let (_payments, edge) = world.start_payments(config()).await;
        world.books_become(0, kept, 0).await;
        let list = edge.client().list_payments(call("").forward(ListPaymentsRequest::default())).await;
        let payment = list.unwrap().into_inner().payments.remove(0);
        assert_eq!(payment.status(), status);
        let code = payment.failure.map_or_else(String::new, |failure| failure.code);
        assert_eq!(code, if kept > 0 { "" } else { "TOKEN_NOT_FOUND" });
        assert_eq!(world.effects("sale"), usize::from(kept > 0));
    }
}

/// Told to stop in the middle of a crowd, it finishes what it has begun; what was cut off is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_in_the_middle_of_a_crowd_loses_and_doubles_nothing() {
    const CROWD: usize = 60;
    let (mut world, payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let request = order(&token, CaptureMethod::Automatic);
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let (edge, request) = (edge.clone(), request.clone());
        crowd.spawn(async move { (number, edge.create(&format!("k{number}"), &request).await) });
    }
    until("some are through", async || (world.effects("sale") > 5).then_some(())).await;
    payments.stop().await;
    let outcomes = crowd.join_all().await;

    let (_payments, edge) = world.start_payments(config()).await;
    for (number, outcome) in outcomes {
        let answer = settled(async || edge.create(&format!("k{number}"), &request).await).await;
        assert_eq!(answer.message.status(), Status::Captured);
        if let Ok(acknowledged) = outcome {
            assert_eq!(acknowledged.bytes, answer.bytes);
        }
    }
    assert_eq!(world.effects("sale"), CROWD);
    world.books_become(0, 10_000 * i64::try_from(CROWD).unwrap(), 0).await;
}
