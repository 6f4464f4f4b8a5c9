//! The processor's answer does not come: the payment says so, and is asked about until it settles.

use std::sync::Arc;

use mesh::Reason;
use paymesh_proto::payments::v1::{
    ListRefundsRequest,
    payment::{CaptureMethod, Status, operation},
    refund,
};

use crate::{
    faults::{Faults, FaultyPayments, Line, Rig},
    gate::until,
    world::{Edge, SILENT, VISA, World, call, impatient, order},
};

#[tokio::test]
async fn the_silent_card_makes_an_unknown_that_settles_by_itself() {
    let mut world = World::new().await;
    let (_payments, edge) = world.start_payments(impatient()).await;
    let token = world.token(SILENT).await;
    for (key, method, end) in [
        ("k1", CaptureMethod::Automatic, Status::Captured),
        ("k2", CaptureMethod::Manual, Status::Authorized),
    ] {
        let request = order(&token, method);
        let first = edge.create(key, &request).await.unwrap();
        let id = first.message.id.clone();
        assert_eq!(first.message.status(), Status::Unknown);
        assert_eq!(first.message.failure, None, "nobody knows that it failed");
        let refused = edge.capture("c", &id, None).await;
        assert_eq!(refused.unwrap_err().reason(), Reason::PaymentStateConflict);
        // The processor knows only after 20 seconds; until then asking changes nothing.
        world.clock.advance_seconds(1);
        assert_eq!(edge.get(&id).await.status(), Status::Unknown);
        until("the payment settles", async || {
            world.clock.advance_seconds(1);
            (edge.get(&id).await.status() == end).then_some(())
        })
        .await;
        let replayed = edge.create(key, &request).await.unwrap();
        assert_eq!((replayed.bytes, replayed.replayed), (first.bytes, true), "the first answer stays");
        let mut events = vec!["payment.created", "payment.unknown", "payment.authorized"];
        events.extend((end == Status::Captured).then_some("payment.captured"));
        assert_eq!(edge.events(&id).await, events);
    }
    assert_eq!((world.effects("sale"), world.effects("authorize")), (1, 1));
    world.books_become(10_000, 10_000, 0).await;
}

#[tokio::test]
async fn an_unknown_is_still_asked_about_after_a_restart() {
    let mut world = World::new().await;
    let (payments, edge) = world.start_payments(impatient()).await;
    let token = world.token(SILENT).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Automatic)).await.unwrap().message.id;
    payments.stop().await;
    world.clock.advance_seconds(21);
    // No time passes from here on: what was under way is due at once in a new process.
    let (_payments, edge) = world.start_payments(impatient()).await;
    until("the payment settles", async || (edge.get(&id).await.status() == Status::Captured).then_some(()))
        .await;
    world.books_become(0, 10_000, 0).await;
}

/// What was given up while nobody knew is undone when it turns out to have succeeded.
#[tokio::test]
async fn what_succeeds_after_it_was_cancelled_is_undone() {
    let mut world = World::new().await;
    let (_payments, edge) = world.start_payments(impatient()).await;
    let token = world.token(SILENT).await;
    for (key, method, undone) in
        [("k1", CaptureMethod::Automatic, "refund"), ("k2", CaptureMethod::Manual, "void")]
    {
        let id = edge.create(key, &order(&token, method)).await.unwrap().message.id;
        let canceled = edge.cancel(&format!("{key}-c"), &id).await.unwrap().message;
        assert_eq!(canceled.status(), Status::Canceled);
        world.books_become(10_000, 0, 0).await;
        until("it is undone", async || {
            world.clock.advance_seconds(1);
            let last = edge.events(&id).await.pop().unwrap();
            (last == "payment.late_success_reversed").then_some(())
        })
        .await;
        assert_eq!(edge.get(&id).await.status(), Status::Canceled);
        assert_eq!(world.effects(undone), 1);
        world.books_become(0, 0, 0).await;
    }
}

/// A service whose line to the processor can fail, with a payment that was authorized while it was good.
async fn with_line(line: Line, capture: bool) -> (World, mesh::Running, Edge, String) {
    let mut world = World::new().await;
    let faults = Arc::new(Faults::default());
    let rig = Rig { config: impatient(), faults: Arc::clone(&faults) };
    let running = world.harness.start::<FaultyPayments>(rig).await.unwrap();
    let edge = world.edge(&running);
    let token = world.token(VISA).await;
    let method = if capture { CaptureMethod::Automatic } else { CaptureMethod::Manual };
    let id = edge.create("k", &order(&token, method)).await.unwrap().message.id;
    faults.set_line(line);
    (world, running, edge, id)
}

#[tokio::test]
async fn an_unknown_capture_or_void_settles_as_the_processor_says() {
    for (line, is_capture, end) in [
        (Line::AnswerLost, true, Status::Captured),
        (Line::RequestLost, true, Status::Authorized),
        (Line::AnswerLost, false, Status::Canceled),
        (Line::RequestLost, false, Status::Authorized),
    ] {
        let (mut world, running, edge, id) = with_line(line, false).await;
        let ask = async |edge: &Edge, key: &str| {
            if is_capture { edge.capture(key, &id, None).await } else { edge.cancel(key, &id).await }
        };
        let first = ask(&edge, "o").await.unwrap();
        assert_eq!(first.message.status(), Status::Authorized);
        assert_eq!(first.message.operations.last().unwrap().status(), operation::Status::Unknown);
        let refused = ask(&edge, "p").await.unwrap_err();
        assert_eq!(refused.reason(), Reason::PaymentStateConflict);
        running.stop().await;

        let (_payments, edge) = world.start_payments(impatient()).await;
        until("the operation settles", async || {
            let operation = edge.get(&id).await.operations.last().unwrap().status();
            (operation != operation::Status::Unknown).then_some(())
        })
        .await;
        assert_eq!(edge.get(&id).await.status(), end);
        let again = ask(&edge, "o").await.unwrap();
        assert_eq!((again.bytes, again.replayed), (first.bytes, true));
        if line == Line::RequestLost {
            // The reservation stands, so it can be tried anew.
            assert_eq!(edge.events(&id).await.last().unwrap(), "payment.operation_refused");
            let done = ask(&edge, "p").await.unwrap().message.status();
            assert_eq!(done, if is_capture { Status::Captured } else { Status::Canceled });
        }
        world.books_become(0, if is_capture { 10_000 } else { 0 }, 0).await;
        assert_eq!(world.effects(if is_capture { "capture" } else { "void" }), 1);
    }
}

#[tokio::test]
async fn an_unknown_refund_keeps_its_promise_until_it_settles() {
    for (line, end) in
        [(Line::AnswerLost, refund::Status::Succeeded), (Line::RequestLost, refund::Status::Failed)]
    {
        let (mut world, running, edge, id) = with_line(line, true).await;
        let first = edge.refund("r", &id, Some(7_000)).await.unwrap();
        assert_eq!(first.message.status(), refund::Status::Unknown);
        let refused = edge.refund("s", &id, Some(7_000)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RefundExceedsCaptured);
        running.stop().await;

        let (_payments, edge) = world.start_payments(impatient()).await;
        until("the refund settles", async || {
            let request =
                call("").forward(ListRefundsRequest { payment_id: id.clone(), ..Default::default() });
            let refunds = edge.client().list_refunds(request).await.unwrap().into_inner().refunds;
            (refunds[0].status() == end).then_some(())
        })
        .await;
        let again = edge.refund("r", &id, Some(7_000)).await.unwrap();
        assert_eq!((again.bytes, again.replayed), (first.bytes, true));
        let rest = edge.refund("s", &id, None).await.unwrap().message;
        assert_eq!(rest.amount, if end == refund::Status::Succeeded { 3_000 } else { 10_000 });
        assert_eq!(edge.get(&id).await.status(), Status::Refunded);
        world.books_become(0, 0, 0).await;
    }
}
