//! The same request many times at once, and different requests that exclude each other.

use std::sync::Arc;

use mesh::Reason;
use paymesh_proto::payments::v1::{
    payment::{CaptureMethod, Status},
    refund,
};
use tokio::task::JoinSet;

use crate::{
    faults::{Faults, FaultyPayments, Line, Rig},
    gate::until,
    world::{Answer, Edge, VISA, World, config, order, settled},
};

const DUPLICATES: usize = 100;

/// Sends a request so often at once, and checks that all answers are one.
async fn one_answer<M, F>(edge: &Edge, ask: impl Fn(Edge) -> F + Clone + Send + 'static) -> M
where
    M: Send + 'static,
    F: Future<Output = Result<Answer<M>, mesh::Fault>> + Send,
{
    let mut tasks = JoinSet::new();
    for _ in 0..DUPLICATES {
        let (edge, ask) = (edge.clone(), ask.clone());
        // Spelled out: a closure that is asked again and again would not be known to be `Send`.
        tasks.spawn(async move {
            loop {
                match ask(edge.clone()).await {
                    Ok(answer) => return answer,
                    Err(fault) => assert_eq!(fault.reason(), Reason::IdempotencyInProgress, "{fault}"),
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let mut answers = tokio::time::timeout(crate::gate::PATIENCE, tasks.join_all()).await.unwrap();
    assert!(answers.windows(2).all(|pair| pair[0].bytes == pair[1].bytes), "one answer for all");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1, "one is the first");
    answers.swap_remove(0).message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_duplicates_of_each_request_have_one_effect_and_one_answer() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let request = order(&token, CaptureMethod::Manual);
    let create = |key: &'static str| {
        let request = request.clone();
        move |edge: Edge| {
            let request = request.clone();
            async move { edge.create(key, &request).await }
        }
    };
    let payment = one_answer(&edge, create("k1")).await;
    assert_eq!((payment.status(), world.effects("authorize")), (Status::Authorized, 1));

    let id = payment.id.clone();
    let capture = move |edge: Edge| {
        let id = id.clone();
        async move { edge.capture("c", &id, Some(9_000)).await }
    };
    let captured = one_answer(&edge, capture).await;
    assert_eq!((captured.amount_captured, world.effects("capture")), (9_000, 1));

    let id = payment.id.clone();
    let refund = move |edge: Edge| {
        let id = id.clone();
        async move { edge.refund("r", &id, Some(100)).await }
    };
    let refunded = one_answer(&edge, refund).await;
    assert_eq!((refunded.amount, world.effects("refund")), (100, 1));
    assert_eq!(edge.get(&payment.id).await.amount_refunded, 100);

    let second = one_answer(&edge, create("k2")).await;
    let id = second.id.clone();
    let cancel = move |edge: Edge| {
        let id = id.clone();
        async move { edge.cancel("x", &id).await }
    };
    let canceled = one_answer(&edge, cancel).await;
    assert_eq!(
        (canceled.status(), world.effects("void"), world.effects("authorize")),
        (Status::Canceled, 1, 2)
    );
    world.books_become(0, 8_900, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_refunds_that_are_too_much_together_one_succeeds() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    for round in 0..10 {
        let request = order(&token, CaptureMethod::Automatic);
        let id = edge.create(&format!("k{round}"), &request).await.unwrap().message.id;
        let (one, two) = (format!("a{round}"), format!("b{round}"));
        let outcomes: [_; 2] =
            tokio::join!(edge.refund(&one, &id, Some(6_000)), edge.refund(&two, &id, Some(6_000))).into();
        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{outcomes:?}");
        assert_eq!(refused[0].reason(), Reason::RefundExceedsCaptured);
        assert_eq!(edge.get(&id).await.amount_refunded, 6_000);
    }
    assert_eq!(world.effects("refund"), 10);
    world.books_become(0, 40_000, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_capture_and_a_cancel_at_once_one_wins() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let mut captured = 0;
    for round in 0..10 {
        let request = order(&token, CaptureMethod::Manual);
        let id = edge.create(&format!("k{round}"), &request).await.unwrap().message.id;
        let (one, two) = (format!("c{round}"), format!("x{round}"));
        let (capture, cancel) = tokio::join!(edge.capture(&one, &id, None), edge.cancel(&two, &id));
        assert!(capture.is_ok() != cancel.is_ok(), "{capture:?} {cancel:?}");
        let status = edge.get(&id).await.status();
        assert_eq!(status == Status::Captured, capture.is_ok());
        assert_eq!(status == Status::Canceled, cancel.is_ok());
        let fault = capture.err().or(cancel.err()).unwrap();
        assert_eq!(fault.reason(), Reason::PaymentStateConflict);
        captured += i64::from(status == Status::Captured);
        let loser = edge.events(&id).await.len();
        assert_eq!(loser, 3, "created, authorized, and one end");
    }
    assert_eq!(world.effects("capture") + world.effects("void"), 10);
    world.books_become(0, captured * 10_000, 0).await;
}

/// While the processor is being asked, every other request learns exactly why it cannot go on.
#[tokio::test]
async fn while_a_request_is_under_way_others_are_told_why_they_must_wait() {
    let mut world = World::new().await;
    let faults = Arc::new(Faults::default());
    let rig = Rig { config: config(), faults: Arc::clone(&faults) };
    let running = world.harness.start::<FaultyPayments>(rig).await.unwrap();
    let edge = world.edge(&running);
    let token = world.token(VISA).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;

    faults.set_line(Line::Held);
    let first = tokio::spawn({
        let (edge, id) = (edge.clone(), id.clone());
        async move { edge.capture("c", &id, Some(5_000)).await }
    });
    faults.arrived.notified().await;
    for (outcome, reason) in [
        (edge.capture("c", &id, Some(5_000)).await, Reason::IdempotencyInProgress),
        (edge.capture("c", &id, Some(6_000)).await, Reason::IdempotencyKeyReused),
        (edge.capture("other", &id, Some(5_000)).await, Reason::PaymentStateConflict),
        (edge.cancel("c", &id).await, Reason::PaymentStateConflict),
    ] {
        assert_eq!(outcome.unwrap_err().reason(), reason);
    }
    assert_eq!(edge.refund("r", &id, None).await.unwrap_err().reason(), Reason::PaymentStateConflict);

    // The caller goes away; the capture goes on, and its answer is kept.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    faults.release.notify_one();
    let answer = settled(async || edge.capture("c", &id, Some(5_000)).await).await;
    assert_eq!(answer.message.status(), Status::PartiallyCaptured);
    let again = edge.capture("c", &id, Some(5_000)).await.unwrap();
    assert_eq!((again.bytes, again.replayed), (answer.bytes, true));
    assert_eq!(world.effects("capture"), 1);

    // Several refunds of one payment may be under way at once.
    let refund = |key: &'static str| {
        let (edge, id) = (edge.clone(), id.clone());
        tokio::spawn(async move { edge.refund(key, &id, Some(2_000)).await })
    };
    let (one, two) = (refund("r1"), refund("r2"));
    faults.arrived.notified().await;
    until("both refunds are promised", async || (edge.get(&id).await.sequence == 5).then_some(())).await;
    assert_eq!(
        edge.refund("r3", &id, Some(2_000)).await.unwrap_err().reason(),
        Reason::RefundExceedsCaptured
    );
    assert_eq!(
        edge.refund("r1", &id, Some(2_000)).await.unwrap_err().reason(),
        Reason::IdempotencyInProgress
    );
    faults.set_line(Line::Good);
    for _ in 0..2 {
        faults.release.notify_one();
        tokio::task::yield_now().await;
    }
    let release = async {
        loop {
            faults.release.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let both = async { (one.await.unwrap().unwrap(), two.await.unwrap().unwrap()) };
    let (one, two) = tokio::select! {
        both = both => both,
        () = release => unreachable!(),
    };
    for answer in [one, two] {
        assert_eq!(answer.message.status(), refund::Status::Succeeded);
    }
    world.books_become(0, 1_000, 0).await;
}
