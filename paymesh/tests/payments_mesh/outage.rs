//! A service that payments need is away: the request says so, and goes on with the same key later.

use mesh::{Fault, Reason};
use paymesh_proto::payments::v1::payment::{CaptureMethod, Status};
use svc_payments::config::Config;

use crate::{
    faults::{FaultyPayments, Rig},
    gate::until,
    world::{Answer, VISA, World, config, order, settled},
};

fn must_wait<M: std::fmt::Debug>(outcome: Result<Answer<M>, Fault>) {
    let fault = outcome.unwrap_err();
    assert_eq!((fault.reason(), fault.retry_after()), (Reason::Unavailable, Some(1)));
}

#[tokio::test]
async fn a_payment_waits_for_vault_fraud_and_ledger_and_goes_on() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let request = order(&token, CaptureMethod::Automatic);
    let gates = [
        ("vault", &world.crypto_gate, 0),
        ("fraud", &world.fraud_gate, 1),
        ("ledger", &world.ledger_gate, 1),
    ];
    for (away, gate, events) in gates {
        gate.shut();
        must_wait(edge.create(away, &request).await);
        must_wait(edge.create(away, &request).await);
        let other = order(&token, CaptureMethod::Manual);
        if events > 0 {
            let reused = edge.create(away, &other).await.unwrap_err();
            assert_eq!(reused.reason(), Reason::IdempotencyKeyReused);
        }
        gate.open();
        let answer = settled(async || edge.create(away, &request).await).await;
        assert_eq!(answer.message.status(), Status::Captured, "{away}");
        let again = edge.create(away, &request).await.unwrap();
        assert_eq!((again.bytes, again.replayed), (answer.bytes, true));
        assert_eq!(edge.events(&answer.message.id).await.len(), 3);
    }
    assert_eq!(world.effects("sale"), 3);
    world.books_become(0, 30_000, 0).await;
}

/// Nobody asks again: the background goes on by itself, without hurry.
#[tokio::test]
async fn a_payment_that_waits_is_taken_up_in_the_background() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    world.ledger_gate.shut();
    must_wait(edge.create("k", &order(&token, CaptureMethod::Automatic)).await);
    world.ledger_gate.open();
    until("the payment settles", async || {
        world.clock.advance_seconds(1);
        (world.effects("sale") == 1).then_some(())
    })
    .await;
    world.books_become(0, 10_000, 0).await;
}

/// What cannot be done is not tried all the time: it is due again only later.
#[tokio::test]
async fn what_cannot_be_done_now_is_put_off() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let captured = edge.create("c", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;
    world.ledger_gate.shut();
    // A payment that waits for its reservation, and a posting that waits to be made.
    must_wait(edge.create("k", &order(&token, CaptureMethod::Automatic)).await);
    edge.capture("c", &captured, None).await.unwrap();
    world.clock.advance_seconds(15);
    until("all is put off", async || world.nothing_is_due().then_some(())).await;
    let tried = world.ledger_gate.refused();
    world.clock.advance_seconds(4);
    // Ten looks for work, at one every five milliseconds.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
    for _ in 0..10 {
        ticks.tick().await;
    }
    assert_eq!(world.ledger_gate.refused(), tried);
    world.clock.advance_seconds(1);
    until("it is tried again", async || (world.ledger_gate.refused() > tried).then_some(())).await;
}

/// The money is taken and the ledger away: the answer is given, and the posting follows.
#[tokio::test]
async fn a_posting_follows_when_the_ledger_is_back() {
    let (world, _payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;
    world.ledger_gate.shut();
    let captured = edge.capture("c", &id, Some(8_000)).await.unwrap().message;
    assert_eq!(captured.status(), Status::PartiallyCaptured);
    edge.refund("r", &id, Some(3_000)).await.unwrap();
    world.ledger_gate.open();
    until("the ledger catches up", async || {
        world.clock.advance_seconds(1);
        (world.books().await.get("processor_clearing") == Some(&(0, 5_000))).then_some(())
    })
    .await;
    assert_eq!((world.effects("capture"), world.effects("refund")), (1, 1));
}

#[tokio::test]
async fn small_amounts_go_on_without_fraud_where_that_is_configured() {
    let mut world = World::new().await;
    let lenient = Config { fraud_unavailable_allow_up_to: 10_000, ..config() };
    let rig = Rig { config: lenient, ..Rig::default() };
    let running = world.harness.start::<FaultyPayments>(rig).await.unwrap();
    let edge = world.edge(&running);
    let token = world.token(VISA).await;
    world.fraud_gate.shut();
    let mut request = order(&token, CaptureMethod::Automatic);
    let payment = edge.create("small", &request).await.unwrap().message;
    assert_eq!(payment.status(), Status::Captured);
    assert_eq!(payment.fraud.unwrap().reasons, ["fraud_unavailable"]);
    request.amount += 1;
    must_wait(edge.create("large", &request).await);
    assert_eq!(world.effects("sale"), 1);
}
